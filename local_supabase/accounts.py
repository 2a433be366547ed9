"""The account that PostgreSQL and the gateway run under: one without rights when we are root, else our own."""

import os
import pwd
import stat
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from local_supabase.errors import LocalSupabaseError

UNPRIVILEGED = "nobody"


@dataclass(frozen=True)
class Account:
    """A user id and its group, to give files to and to start programs under."""

    uid: int
    gid: int
    drop: bool
    """Whether starting a program under it means to give up root's rights."""

    def own(self, path: Path) -> None:
        """Give a folder and all below it to the account (nothing to do unless we are root).

        Args:
            path: The folder.
        """
        if not self.drop:
            return
        for directory, _, names in os.walk(path):
            os.chown(directory, self.uid, self.gid)
            for name in names:
                os.chown(Path(directory, name), self.uid, self.gid, follow_symlinks=False)

    def popen_options(self) -> dict[str, object]:
        """Return the arguments of `subprocess.Popen` that start a program under this account.

        Returns:
            An empty dictionary unless root's rights are to be dropped.
        """
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.drop else {}

    def require_passage(self, path: Path) -> None:
        """Check that the account can walk down to a path, as far as the way exists.

        Args:
            path: Where to.

        Raises:
            LocalSupabaseError: A folder above `path` is closed to the account.
        """
        if not self.drop:
            return
        for folder in path.resolve().parents:
            if not folder.exists():
                continue
            status = folder.stat()
            if not (status.st_mode & stat.S_IXOTH or status.st_uid == self.uid):
                raise LocalSupabaseError(
                    f"{path} cannot be used: PostgreSQL runs as {UNPRIVILEGED}, since root must not run it, and "
                    f"{folder} is closed to that account. Choose a folder that every account can pass through."
                )


@cache
def service_account() -> Account:
    """Return the account for PostgreSQL and the gateway.

    Returns:
        `nobody` if we are root, else our own.

    Raises:
        LocalSupabaseError: We are root and the machine has no account `nobody`.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), drop=False)
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise LocalSupabaseError(f"PostgreSQL refuses to run as root, and there is no account {UNPRIVILEGED}") from None
    return Account(entry.pw_uid, entry.pw_gid, drop=True)
