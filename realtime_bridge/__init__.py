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
