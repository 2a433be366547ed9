"""A typed client, sync and async, for daily streaks kept by PostgreSQL on Supabase.

Example::

    from streak_client import StreakClient

    with StreakClient.from_env() as streaks:
        print(streaks.update_user_streak(user_id, "Europe/Paris").current_streak)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streak_client._public import *  # noqa: F403 - the list is kept there
else:
    # supabase-py takes a second or more to import. The command must be up before that, to heed Ctrl-C.
    def __getattr__(name: str) -> Any:
        if name != "__all__" and name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from streak_client import _public  # noqa: PLC0415

        found = getattr(_public, name, None)
        # Loading the names has made the modules attributes of this package.
        found = globals().get(name) if found is None else found
        if found is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})
