"""Stands in until realtime.py is there."""
import asyncio
from typing import Any
class RealtimeServer:
    port = 9
    def __init__(self, **_: Any) -> None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def wait(self) -> None: await asyncio.Event().wait()
    async def fault(self, name: str, **_: Any) -> dict[str, Any]: return {}
