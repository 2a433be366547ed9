"""The project's migrations: which there are, and how they get into somebody's own ``supabase/`` folder."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streak_client.errors import ConfigurationError, InvalidInputError

Status = Literal["new", "unchanged", "replaced"]
NAME = re.compile(r"(?P<version>\d+)_(?P<title>.+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration.

    Attributes:
        path: The file.
        version: Its timestamp, by which the Supabase CLI orders and remembers it.
        title: What the name says after that.
    """

    path: Path
    version: str
    title: str

    def text(self) -> bytes:
        """Read it.

        Returns:
            The file, with the line ends of the repository: git may have written others.
        """
        return self.path.read_bytes().replace(b"\r\n", b"\n")

    def sha256(self) -> str:
        """Identify what it holds.

        Returns:
            The hash of its text, in hexadecimal digits.
        """
        return hashlib.sha256(self.text()).hexdigest()


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of one file.

    Attributes:
        file: Its name below the folder.
        status: What was done.
    """

    file: str
    status: Status


def bundled() -> list[Migration]:
    """List the migrations of this release.

    Returns:
        In the order in which they are applied.

    Raises:
        ConfigurationError: The installation is not complete.
    """
    return migrations_in(_project() / "migrations")


def migrations_in(folder: Path) -> list[Migration]:
    """List the migrations in a folder.

    Args:
        folder: Such as ``supabase/migrations``; it may be missing.

    Returns:
        In the order in which they are applied; what is not named as the CLI wants it is left out.
    """
    found = [(path, NAME.fullmatch(path.name)) for path in sorted(folder.glob("*.sql"))]
    return [Migration(path, match["version"], match["title"]) for path, match in found if match]


def copy(target: Path, *, force: bool = False) -> list[Copied]:
    """Copy the migrations of this release into a project, all or none; a missing ``config.toml`` comes with them.

    Args:
        target: The project's folder ``supabase/``, made where it is missing.
        force: Whether files that differ are replaced; files that are not ours are never touched.

    Returns:
        What became of each file.

    Raises:
        InvalidInputError: A file differs, or another one has the same version; nothing was copied.
        ConfigurationError: The folder cannot be written, or the installation is not complete.
    """
    migrations = bundled()
    statuses = _compare(migrations, target / "migrations")
    _refuse_namesakes(migrations, target / "migrations")
    differing = [file for file, status in statuses.items() if status == "replaced"]
    if differing and not force:
        raise InvalidInputError(
            f"{', '.join(differing)} in {target / 'migrations'} differ from this release; nothing was copied. If a "
            "database has applied them, keep them; if not, --force replaces them.",
            field="target",
        )
    try:
        return _write(migrations, statuses, target)
    except OSError as error:
        raise ConfigurationError(f"{error.filename or target} cannot be written: {error.strerror}.") from error


def out_of_order(target: Path, copied: Sequence[Copied]) -> bool:
    """Say whether the CLI would refuse the new files because later ones are there.

    Args:
        target: The folder ``supabase/``.
        copied: What `copy` returned.

    Returns:
        Whether ``supabase db push`` needs ``--include-all`` if those later ones were applied.
    """
    ours = {migration.path.name for migration in bundled()}
    added = [name for each in copied if each.status == "new" and (name := Path(each.file).name) in ours]
    others = [each.version for each in migrations_in(target / "migrations") if each.path.name not in ours]
    return bool(added and others) and max(others) > min(added)


def _project() -> Path:
    from local_supabase.bundle import bundled_project  # noqa: PLC0415 - only these commands need the SQL
    from local_supabase.errors import LocalSupabaseError  # noqa: PLC0415

    try:
        return bundled_project()
    except LocalSupabaseError as error:
        raise ConfigurationError("The SQL is missing from this installation; install supabase-streaks anew.") from error


def _compare(migrations: Sequence[Migration], folder: Path) -> dict[str, Status]:
    statuses: dict[str, Status] = {}
    for migration in migrations:
        name = migration.path.name
        there = folder / name
        if not there.exists():
            statuses[name] = "new"
        else:
            same = Migration(there, migration.version, migration.title).text() == migration.text()
            statuses[name] = "unchanged" if same else "replaced"
    return statuses


def _refuse_namesakes(migrations: Sequence[Migration], folder: Path) -> None:
    ours = {migration.version: migration.path.name for migration in migrations}
    for other in migrations_in(folder):
        name = ours.get(other.version, other.path.name)
        if name != other.path.name:
            raise InvalidInputError(
                f"{other.path} has the version of {name}, and the CLI knows a migration by its version; nothing was "
                "copied. Rename it if no database has applied it.",
                field="target",
            )


def _write(migrations: Sequence[Migration], statuses: dict[str, Status], target: Path) -> list[Copied]:
    (target / "migrations").mkdir(parents=True, exist_ok=True)
    copied = []
    for migration in migrations:
        name = migration.path.name
        if statuses[name] != "unchanged":
            _replace(target / "migrations" / name, migration.text())
        copied.append(Copied(f"migrations/{name}", statuses[name]))
    if not (target / "config.toml").exists():
        _replace(target / "config.toml", (_project() / "config.toml").read_bytes())
        copied.append(Copied("config.toml", "new"))
    return copied


def _replace(path: Path, text: bytes) -> None:
    """Write a file so that it is whole or absent."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            umask = os.umask(0)
            os.umask(umask)
            Path(file.name).chmod(0o666 & ~umask)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
