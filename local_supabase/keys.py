"""The secrets of one stack: new for every run, or kept beside the data."""

import json
import os
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from local_supabase.errors import LocalSupabaseError


@dataclass(frozen=True)
class Keys:
    """Everything that opens a stack.

    Attributes:
        publishable_key: The API as `anon` (`sb_publishable_...`).
        secret_key: The API as `service_role` (`sb_secret_...`).
        jwt_secret: Signs and checks the users' tokens (HS256).
        database_password: Of the superuser `postgres`.
    """

    publishable_key: str = field(default_factory=lambda: f"sb_publishable_{secrets.token_urlsafe(24)}")
    secret_key: str = field(default_factory=lambda: f"sb_secret_{secrets.token_urlsafe(24)}", repr=False)
    jwt_secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    database_password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)


def kept_keys(file: Path) -> Keys:
    """Return the keys in a file, which is written (readable by us alone) if it does not exist.

    Args:
        file: A JSON file.

    Returns:
        The keys.

    Raises:
        LocalSupabaseError: The file is damaged.
    """
    if not file.exists():
        keys = Keys()
        staging = file.with_suffix(".new")
        staging.unlink(missing_ok=True)
        with os.fdopen(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            json.dump(asdict(keys), handle)
        staging.rename(file)
        return keys
    wanted = {entry.name for entry in fields(Keys)}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if set(found) == wanted and all(isinstance(value, str) and value for value in found.values()):
            return Keys(**found)
    except (ValueError, TypeError):
        pass
    raise LocalSupabaseError(f"{file} is damaged: it must hold {', '.join(sorted(wanted))}")
