"""The file that ``streaks up --env-file`` keeps while it runs, so that other commands find the service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from streak_client.cli._common import WRONG_INPUT, CommandError

MARK = "# Written by `streaks up --env-file`, which removes it at its end."


def check_env_file(path: Path) -> None:
    """Refuse a file that is not ours to write.

    Args:
        path: The file.

    Raises:
        CommandError: It exists and was not left behind by a killed `streaks up`, or cannot be read.
    """
    try:
        ours = not path.exists() or path.read_text(encoding="utf-8").startswith(MARK)
    except (OSError, UnicodeDecodeError):
        ours = False
    if not ours or not path.parent.is_dir():
        raise CommandError(f"--env-file: {path} is another file or cannot be written; name a new one.", WRONG_INPUT)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@contextmanager
def env_file(path: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Keep a file of variables while the block runs, readable by its owner alone.

    Args:
        path: The file; one that `check_env_file` lets pass.
        variables: Names and values.

    Yields:
        Nothing.
    """
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text("\n".join([MARK, *(f"{name}={_quoted(value)}" for name, value in variables.items()), ""]))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
