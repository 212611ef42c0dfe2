"""What a connection string of libpq says, and messages that do not give its password away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from miyabi_healing.fleet.store import StoreError

MISSING = "a store in Postgres needs psycopg: pip install 'miyabi-healing[fleet]'"
# What a host, a name or a port looks like. An odd one may be a piece of a password, as where an @
# in it was not written as %40.
_ODD = re.compile(r"[^\w.,:/\\-]")


def parse(where: str) -> dict[str, Any]:
    """Its parameters. Raises StoreError, also where psycopg is missing."""
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise StoreError(MISSING) from None
    try:
        return conninfo_to_dict(where)
    except psycopg.Error:
        # libpq's message quotes a part of the string, which may be a part of the password
        raise StoreError("[fleet] store is no connection string that libpq can read") from None


def without_secrets(message: str, given: Mapping[str, Any]) -> str:
    """libpq's message on one line, or what is left of it where it could quote a password."""
    shown = [str(given.get(key, "")) for key in ("host", "hostaddr", "port", "user", "dbname")]
    if any(_ODD.search(each) for each in shown) or not re.fullmatch(r"[\d,]*", shown[2]):
        return "it cannot be reached as its connection string says; is a character of it unescaped?"
    line = " ".join(message.split())
    for key in ("password", "sslpassword"):
        if secret := str(given.get(key, "")):
            line = line.replace(secret, "***")
    return line
