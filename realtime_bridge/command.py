"""The bridge as a process of its own."""

import asyncio
import logging
import os
import signal
import sys

from dotenv import dotenv_values

from realtime_bridge import error_reports
from realtime_bridge.server import fast_loop, serve
from realtime_bridge.settings import BridgeSettings, SettingsError


async def _run(settings: BridgeSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serve(settings) as served:
        logging.getLogger("realtime_bridge").info("bridge: listening on %s", served.url)
        waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(served.wait())]
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        for task in done:
            task.result()


def main() -> int:
    """Run until SIGINT or SIGTERM.

    Returns:
        The exit status: 2 for wrong settings, 1 for a failure.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = BridgeSettings.from_env()
        error_reports.start("bridge", {**dotenv_values(".env"), **os.environ})
        with asyncio.Runner(loop_factory=fast_loop()) as runner:
            runner.run(_run(settings))
    except (SettingsError, error_reports.ErrorReportsError) as error:
        print(f"realtime_bridge: {error}", file=sys.stderr)  # noqa: T201 - a program may print
        return 2
    except (OSError, RuntimeError) as error:
        print(f"realtime_bridge: {error}", file=sys.stderr)  # noqa: T201 - a program may print
        error_reports.stop(error)
        return 1
    error_reports.stop()
    return 0
