"""A bridge in a process of its own, as `python -m realtime_bridge` runs it, that also says what it holds.

Prints a JSON object with its URL, then answers each line on standard input with a JSON object of counts.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys

from realtime_bridge import BridgeSettings, serve


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    async with serve(BridgeSettings.from_env(dotenv=None, port=0)) as served:
        await served.bridge.wait_live(60)
        print(json.dumps({"url": served.url}), flush=True)  # noqa: T201 - the protocol
        while await loop.run_in_executor(None, sys.stdin.readline):
            gc.collect()
            counts = {"tasks": len(asyncio.all_tasks()), "listeners": served.bridge.listeners}
            print(json.dumps({**counts, **served.bridge.counters.as_dict()}), flush=True)  # noqa: T201 - the protocol


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main())
