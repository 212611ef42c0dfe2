"""Where in a JSON text the values lie that pointers lead to (RFC 6901), so that some can be
replaced and every other byte stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

Span = tuple[int, int]
_BLANK = re.compile(r"[ \t\r\n]*")
_decoder = json.JSONDecoder(strict=False)


def tokens(pointer: str) -> list[str]:
    """The names and numbers of a pointer, which is known to be one."""
    return [each.replace("~1", "/").replace("~0", "~") for each in pointer.split("/")[1:]]


def resolve(value: Any, pointer: str) -> Any:
    """What a pointer leads to. Raises LookupError where there is nothing."""
    for each in tokens(pointer):
        if isinstance(value, list):
            if not re.fullmatch(r"0|[1-9][0-9]*", each):
                raise LookupError(pointer)
            value = value[int(each)]
        elif isinstance(value, dict):
            value = value[each]
        else:
            raise LookupError(pointer)
    return value


def span(text: str, pointer: str, within: Span | None = None) -> Span:
    """Where the value lies that a pointer leads to, from the value at `within` (None: the whole
    text) on. Of a name that is there twice it is the last, as for who reads it. Raises LookupError,
    ValueError.
    """
    found = within or (_skip(text, 0), len(text))
    for each in tokens(pointer):
        inner = [place for name, place in members(text, found) if name == each]
        if not inner:
            raise LookupError(pointer)
        found = inner[-1]
    return found


def member_spans(text: str, pointer: str) -> dict[str, Span]:
    """Where each member lies of what a pointer leads to, by its name or number. Raises LookupError,
    ValueError.
    """
    return dict(members(text, span(text, pointer)))


def members(text: str, of: Span) -> Iterator[tuple[str, Span]]:
    """The members of an object by name, those of an array by number. Raises ValueError."""
    at = of[0]
    if text[at] not in "[{":
        return
    named, at, number = text[at] == "{", _skip(text, at + 1), 0
    while text[at] not in "]}":
        name = str(number)
        if named:
            name, at = scanstring(text, at + 1, False)
            at = _skip(text, _skip(text, at) + 1)
        end = _decoder.raw_decode(text, at)[1]
        yield name, (at, end)
        number, at = number + 1, _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def replaced(text: str, values: Mapping[Span, str]) -> str:
    """The text with other values in some places, which do not overlap."""
    pieces, at = [], 0
    for (start, end), value in sorted(values.items()):
        pieces += [text[at:start], value]
        at = end
    return "".join([*pieces, text[at:]])
