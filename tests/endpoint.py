"""An HTTP server on loopback that plays a monitor: well-behaved, or as bad as one can be."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Endpoint(ThreadingHTTPServer):
    """Keeps what was posted in `got`. What it does is the first part of the path: ``/ok/…``,
    ``/status500/…``, ``/hang/…``.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[str, str]] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.got]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is nothing to print."""


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.server.got.append((self.path, body))
        # a proxy gets the whole URL
        act = "ok" if self.path.startswith("http:") else self.path.split("/")[1]
        getattr(self, act.rstrip("0123456789"))(act)

    do_GET = do_POST

    def answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def ok(self, _act: str) -> None:
        self.answer(200)

    def status(self, act: str) -> None:
        self.answer(int(act.removeprefix("status")))

    def hang(self, _act: str) -> None:
        self.server.over.wait(60)

    def trickle(self, _act: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.server.over.wait(0.1):
            self.wfile.write(b"X-More: more\r\n")

    def die(self, _act: str) -> None:
        self.wfile.write(b"HTTP/1.1 2")
        self.connection.shutdown(socket.SHUT_RDWR)

    def nonsense(self, _act: str) -> None:
        self.wfile.write(b"220 mail.example ESMTP\r\n")

    def away(self, _act: str) -> None:
        self.answer(302, Location=f"http://localhost:{self.server.server_port}/ok/elsewhere")

    def file(self, _act: str) -> None:
        self.answer(302, Location="file:///etc/passwd")

    def near(self, _act: str) -> None:
        self.answer(302, Location="/ok/near")

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@contextlib.contextmanager
def serving() -> Iterator[Endpoint]:
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def closed_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def took_less_than(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds
