"""Connection strings of libpq (its manual, "Connection Strings"): whether one holds a secret.

A configuration may be read by others, is shown and is copied, so there a password has no place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

_SCHEMES = ("postgresql://", "postgres://")
_SECRETS = frozenset(
    ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
)
_WAY_OUT = "libpq reads it from ~/.pgpass, from a passfile=, or from a service file"
# keyword = value, the value in quotes or without spaces; a backslash takes the next one as it is
_PAIR = re.compile(r"\s*([^\s=]+)\s*=\s*(?:'(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)", re.S)


def store_objection(store: str) -> str:
    """Why it cannot be where a fleet's store is, without a word of what it holds; empty where it
    can.
    """
    if store.startswith(_SCHEMES):
        has_password, keywords = _of_uri(store.partition("://")[2])
    else:
        has_password, keywords = False, list(_of_pairs(store))
    if has_password or _SECRETS & set(keywords):
        return f"store must not hold a password; {_WAY_OUT}"
    if (not keywords and not store.startswith(_SCHEMES)) or "" in keywords:
        return (
            "store must be a connection string of libpq, like postgresql://fleet@db.example/fleet"
        )
    return ""


def _of_uri(rest: str) -> tuple[bool, list[str]]:
    """Whether what follows the scheme has a password before the host, and its keywords."""
    user, at, place = rest.partition("@")
    if not at or "/" in user:  # as libpq looks for it
        user, place = "", rest
    query = place.partition("?")[2]
    return ":" in user, [unquote(each.partition("=")[0]) for each in query.split("&") if each]


def _of_pairs(text: str) -> Iterator[str]:
    """The keywords; an empty one where libpq could not read on."""
    place, text = 0, text.rstrip()
    while place < len(text):
        if not (found := _PAIR.match(text, place)):
            yield ""
            if "password" in text[place:]:
                yield "password"
            return
        yield found[1]
        place = found.end()
