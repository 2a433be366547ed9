"""Where things are kept: installed programs in a cache folder, a running stack in a temporary one."""

import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import platformdirs

from local_supabase.accounts import service_account
from local_supabase.bundle import PACKAGE, bundled_project
from local_supabase.errors import LocalSupabaseError
from local_supabase.locks import exclusive

__all__ = ["CACHE_VARIABLE", "PACKAGE", "bundled_project", "cache_dir", "data_home", "new_run_dir", "new_staging"]

CACHE_VARIABLE = "LOCAL_SUPABASE_CACHE_DIR"
_NAME = "local-supabase"
# One that was just killed needs a moment to end.
_PATIENCE = 2.0


def cache_dir() -> Path:
    """Return the folder of what is installed once, created if need be.

    Returns:
        `$LOCAL_SUPABASE_CACHE_DIR`; or `/var/cache/local-supabase` for root (the unprivileged account that runs
        PostgreSQL must be able to read it), or the user's cache folder; or, where that cannot be written, a folder of
        our own in the system's temporary one.

    Raises:
        LocalSupabaseError: None of these can be used.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        folder = Path(chosen).absolute()
        problem = _prepare(folder)
        if problem:
            raise LocalSupabaseError(f"{CACHE_VARIABLE}={folder} cannot be used: {problem}")
        return folder
    problems = []
    for folder in _candidates():
        problem = _prepare(folder)
        if not problem:
            return folder
        problems.append(f"{folder}: {problem}")
    raise LocalSupabaseError(f"no folder to install into; set {CACHE_VARIABLE} ({'; '.join(problems)})")


def _candidates() -> list[Path]:
    fallback = Path(tempfile.gettempdir(), f"{_NAME}-{os.geteuid()}")
    if os.geteuid() == 0:
        return [Path("/var/cache", _NAME), fallback]
    return [platformdirs.user_cache_path(_NAME), fallback]


def _prepare(folder: Path) -> str | None:
    """Creates the folder; says what is wrong with it, if anything is."""
    try:
        _make(folder, 0o755)
        status = folder.lstat()
        # Programs are run from here: nobody else may be able to put one there, not even through a link.
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return "it belongs to another account"
        if status.st_mode & stat.S_IWOTH:
            return "every account can write to it"
        if not os.access(folder, os.W_OK | os.X_OK):
            return "it cannot be written"
        service_account().require_passage(folder / "x")
    except (OSError, LocalSupabaseError) as error:
        return str(error)
    return None


def _make(folder: Path, mode: int) -> None:
    """Creates the folder and those above it; for root with `mode` whatever the umask, which may shut others out."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    if service_account().drop:
        for place in missing:
            place.chmod(mode)


def new_staging(target: Path) -> Path:
    """Make a folder beside another, to become it when it is complete; the caller holds the lock of that one.

    Args:
        target: What it will become.

    Returns:
        The new folder.
    """
    # Under the lock nobody else is at work, so these are what a killed start left half-done.
    for abandoned in target.parent.glob(f"{target.name}.*"):
        if abandoned.is_dir():
            shutil.rmtree(abandoned, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))


def new_run_dir() -> Path:
    """Make a temporary folder for one running stack, which the service account can pass through.

    Returns:
        The folder.

    Raises:
        LocalSupabaseError: The system's temporary folder is closed to that account.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{_NAME}-"))
    try:
        if service_account().drop:
            folder.chmod(0o711)
            service_account().require_passage(folder / "x")
    except BaseException:
        folder.rmdir()
        raise
    return folder


@asynccontextmanager
async def data_home(data_dir: Path | None, run_dir: Path) -> AsyncIterator[Path]:
    """Open the folder with the data and the keys, ours alone inside the block.

    Args:
        data_dir: The user's choice.
        run_dir: What to use without one.

    Yields:
        The folder.

    Raises:
        LocalSupabaseError: Another stack uses `data_dir`, or it cannot be used.
    """
    if data_dir is None:
        yield run_dir
        return
    home = _make_home(data_dir)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(exclusive(home / "lock", patience=_PATIENCE))
        except TimeoutError:
            raise LocalSupabaseError(f"the data folder {home} is in use by another local Supabase") from None
        yield home


def _make_home(data_dir: Path) -> Path:
    home = data_dir.absolute()
    service_account().require_passage(home)
    try:
        _make(home, 0o711)
    except OSError as error:
        raise LocalSupabaseError(f"the data folder {home} cannot be used: {error}") from error
    service_account().require_passage(home / "postgres")
    return home
