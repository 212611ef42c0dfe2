"""A Slack of the tests' own: a real HTTP endpoint on loopback that does what it is told, and Block
Kit's limits.
"""

from __future__ import annotations

import http.server
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from conftest import wait_for

PATH = "/services/T0SECRET/B0SECRET/topsecretword"


class Slack(http.server.ThreadingHTTPServer):
    """`acts` are done in turn, one a request; the last one for ever. `got` is what was accepted,
    `asked` every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.acts = ["ok"]
        self.got: list[dict[str, Any]] = []
        self.asked = 0
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{PATH}"

    def settle(self, threads: set[threading.Thread]) -> None:
        """Wait until all that was asked is answered, also where whoever asked has given up.

        `threads` are those that were there before. Connections are accepted in their order, so
        that none from before is left once ours is answered.
        """
        wait_for(lambda: {*threading.enumerate()} <= threads)
        urllib.request.urlopen(self.url).close()
        wait_for(lambda: {*threading.enumerate()} <= threads)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what some tests are about."""


class Answer(http.server.BaseHTTPRequestHandler):
    server: Slack

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        act = self.server.acts.pop(0) if len(self.server.acts) > 1 else self.server.acts[0]
        self.server.asked += 1
        if act == "ok":
            self.server.got.append(json.loads(body))
            self.say(200, "ok")
        elif act == "hang":
            self.server.over.wait(30)
        elif act == "trickle":
            self.send_response(200)
            self.end_headers()
            while not self.server.over.wait(0.2):
                self.wfile.write(b"o")
        elif act == "die":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nok")
        elif act == "html":
            self.say(200, f"<html>sign in to see {self.path}</html>")
        elif act == "elsewhere":
            self.send_response(302)
            self.send_header("Location", f"{self.path}/moved")
            self.end_headers()
        elif act.startswith("429"):
            self.say(429, "rate_limited", **{"Retry-After": act.split()[1]})
        else:
            code, _, word = act.partition(" ")
            self.say(int(code), word or f"what is {self.path}?")

    def do_GET(self) -> None:
        self.say(200, "ok at another place")

    def say(self, code: int, text: str, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Nothing: the tests look at `asked` and `got`."""


@contextmanager
def slack() -> Iterator[Slack]:
    with Slack() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


TEXTS = {"header": 150, "section": 3000, "context": 3000}


def check_limits(payload: dict[str, Any]) -> None:
    """Slack's rules for a message (docs.slack.dev, Block Kit reference), as far as ours could break
    them.
    """
    assert set(payload) == {"text", "blocks"}
    assert 0 < len(payload["text"]) <= 4000
    assert 1 <= len(payload["blocks"]) <= 50
    assert len(json.dumps(payload["blocks"], ensure_ascii=False)) <= 13_000
    for block in payload["blocks"]:
        kind = block["type"]
        assert kind in ("header", "section", "context", "divider")
        texts = [block["text"]] if "text" in block else []
        if kind == "context":
            assert 1 <= len(block["elements"]) <= 10
            texts += block["elements"]
        if "fields" in block:
            assert 1 <= len(block["fields"]) <= 10
            assert all(len(field["text"]) <= 2000 for field in block["fields"])
            texts += block["fields"]
        for text in texts:
            assert text["type"] == ("plain_text" if kind == "header" else text["type"])
            assert text["type"] in ("plain_text", "mrkdwn")
            assert 1 <= len(text["text"]) <= TEXTS[kind]
            assert text["type"] == "plain_text" or "<" not in text["text"]
    assert "<" not in payload["text"]
