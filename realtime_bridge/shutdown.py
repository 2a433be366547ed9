"""Stopping under somebody else's server, which tells an application of its end when all connections have gone."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def told_of_signals(begin: Callable[[], None]) -> Iterator[None]:
    """Call a function on the running loop when the process is told to end while the block runs.

    Listeners' connections last until the bridge ends them: a server that waits for them first would wait for ever. The
    server's own handlers are called, too, and are back afterwards. A signal without one is left alone, and so are all
    where the loop is not that of the main thread, which alone hears of signals.

    Args:
        begin: Begins the end; must not block or raise.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}

    def told(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(begin)
        handler = handlers[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    ours = [number for number, handler in handlers.items() if callable(handler)]
    for number in ours:
        signal.signal(number, told)
    try:
        yield
    finally:
        for number in ours:
            if signal.getsignal(number) is told:
                signal.signal(number, handlers[number])
