"""Where this project's own `supabase/` is; needs no other package, so that a bare install can copy the SQL."""

from pathlib import Path

from local_supabase.errors import LocalSupabaseError

PACKAGE = Path(__file__).parent


def bundled_project() -> Path:
    """Return the folder that holds the project's own `supabase/`.

    Returns:
        That of the checkout, or the copy inside the installed package.

    Raises:
        LocalSupabaseError: Neither is there.
    """
    for folder in (PACKAGE.parent / "supabase", PACKAGE / "_supabase"):
        if (folder / "config.toml").is_file():
            return folder
    raise LocalSupabaseError("supabase/config.toml is missing; give a project folder")
