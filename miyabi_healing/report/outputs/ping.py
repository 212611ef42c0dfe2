"""A ping to a monitor that raises the alarm when none comes (healthchecks.io and its like): at the
start, and at the end.

``URL/start``, then ``URL/<exit status>`` with the summary as body
(https://healthchecks.io/docs/http_api/). The URL is a secret.
"""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import IO

from miyabi_healing import __version__
from miyabi_healing.model.config import Config, ConfigError
from miyabi_healing.report.outputs.output import OutputError, OutputRequest
from miyabi_healing.support import secrets
from miyabi_healing.support.bounded_wait import within

_BODY = 10_000  # bytes of a body that such monitors keep
_LONGEST_URL = 4096  # bytes of a URL


def start(settings: Config) -> None:
    """Say that a run begins. Raises OutputError."""
    post_ping(_url_of(settings), "start", "", settings.ping.time_limit)


def send(given: OutputRequest) -> None:
    """Say how a run ended. Raises OutputError."""
    post_ping(
        _url_of(given.settings),
        str(given.code),
        given.document["summary"],
        given.settings.ping.time_limit,
    )


def _url_of(settings: Config) -> str:
    """The URL, from the environment or from its file. Raises OutputError."""
    try:
        found = secrets.find_secret(secrets.PING, settings.ping.url_file)
    except ConfigError as error:
        raise OutputError(str(error)) from None
    return found.value if found else ""


def _address(url: str, what: str) -> str:
    """Where to send `what`: below the path, before a query. Raises OutputError."""
    try:
        parts = urllib.parse.urlsplit(url)
        good = (
            parts.scheme in ("http", "https")
            and parts.hostname
            and parts.port != 0
            and "@" not in parts.netloc
        )
    except ValueError:
        good = False
    if (
        not good
        or len(url) >= _LONGEST_URL
        or not url.isascii()
        or not url.isprintable()
        or " " in url
    ):
        raise OutputError(
            "the URL must be one line: http:// or https://, a host without a user, a path"
        )
    return urllib.parse.urlunsplit(
        parts._replace(path=f"{parts.path.rstrip('/')}/{what}", fragment="")
    )


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects that stay on the host they come from, and never from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if (old.hostname, old.port) != (new.hostname, new.port) or new.scheme not in (
            "https",
            old.scheme,
        ):
            raise OutputError("the server redirects to another one, which was not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def post_ping(url: str, what: str, body: str, limit: float) -> None:
    """Post `body` within `limit` seconds, whatever the server or the resolver of names do. Raises
    OutputError.
    """
    data = body.encode("utf-8", "replace")[:_BODY].decode("utf-8", "ignore").encode()
    headers = {
        "User-Agent": f"miyabi-healing/{__version__}",
        "Content-Type": "text/plain; charset=utf-8",
    }
    request = urllib.request.Request(_address(url, what), data=data, headers=headers)
    try:
        problem = within(limit, lambda: _try_ping(request, limit))
    except TimeoutError:
        problem = f"no answer within {limit:g} s"
    if problem:
        raise OutputError(problem)


def _try_ping(request: urllib.request.Request, limit: float) -> str:
    """Post once; what went wrong, in words of our own: those of libraries may hold the URL."""
    try:
        with urllib.request.build_opener(_SameHost).open(request, timeout=limit):
            return ""
    except OutputError as problem:
        return str(problem)
    except urllib.error.HTTPError as error:
        error.close()
        return f"the server answered with status {error.code}"
    except Exception as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, TimeoutError):
            return f"no answer within {limit:g} s"
        if isinstance(cause, ssl.SSLError):
            return f"no secure connection: {cause.reason}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        return f"no proper answer ({type(cause).__name__})"
