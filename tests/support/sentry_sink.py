"""A server that takes what sentry-sdk sends, on a loopback port of its own."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Sink:
    """What came in.

    Attributes:
        dsn: Where to send.
        bodies: The envelopes, unpacked, as text.
    """

    def __init__(self, port: int) -> None:
        self.dsn = f"http://publickey@127.0.0.1:{port}/1"
        self.bodies: list[str] = []
        self.arrived = threading.Event()

    def events(self) -> list[dict[str, Any]]:
        """The error events among them."""
        lines = [json.loads(line) for body in self.bodies for line in body.splitlines() if line.startswith("{")]
        return [line for line in lines if "level" in line and "event_id" in line]


@contextmanager
def sentry_sink() -> Iterator[Sink]:
    """Keep a sink open inside the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            sink.bodies.append(body.decode())
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")
            sink.arrived.set()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sink = Sink(server.server_port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield sink
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
