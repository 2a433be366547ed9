"""One subscription to Supabase Realtime, debounced and fanned out to any number of listeners.

In process::

    async with Bridge(BridgeSettings.from_env()) as bridge:
        async for message in bridge.listen(user_ids=[user_id], debounce=0):
            print(message.type, message.event, message.streak)

With its HTTP surfaces in the same process (what ``streaks up`` does)::

    async with serve(BridgeSettings(supabase_url=..., supabase_secret_key=..., port=0)) as served:
        print(served.url)                  # http://127.0.0.1:43121
        await served.bridge.wait_live()    # subscribed and synchronised
        await served.wait()                # until the server stops; raises when it failed

As a process of its own: ``python -m realtime_bridge`` (settings from the environment and ``.env``).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realtime_bridge.bridge import Bridge
    from realtime_bridge.health import BridgeState, Health
    from realtime_bridge.iteration import Listener
    from realtime_bridge.listeners import ListenerClosed
    from realtime_bridge.messages import BoardMessage, EventName, Message, MessageType, Place, Streak
    from realtime_bridge.server import ServedBridge, serve
    from realtime_bridge.settings import BridgeSettings, SettingsError

__all__ = [
    "BoardMessage",
    "Bridge",
    "BridgeSettings",
    "BridgeState",
    "EventName",
    "Health",
    "Listener",
    "ListenerClosed",
    "Message",
    "MessageType",
    "Place",
    "ServedBridge",
    "SettingsError",
    "Streak",
    "serve",
]

# Loaded when they are asked for: `python -m realtime_bridge` must be able to say what is not installed.
_MODULES = {
    "bridge": ("Bridge",),
    "health": ("BridgeState", "Health"),
    "iteration": ("Listener",),
    "listeners": ("ListenerClosed",),
    "messages": ("BoardMessage", "EventName", "Message", "MessageType", "Place", "Streak"),
    "server": ("ServedBridge", "serve"),
    "settings": ("BridgeSettings", "SettingsError"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
