"""Adding an element to a list in a JSON text, and taking it out again, with every other character
left as it is: order, indentation, line ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\r\n]*")


class Unfit(Exception):
    """The text is no JSON, or not of the form that is needed; the message ends with what is wrong.

    `line` is where, counted from 1.
    """

    def __init__(self, words: str, line: int) -> None:
        super().__init__(words)
        self.line = line


@dataclass(frozen=True)
class _Item:
    """A member or an element: from where to where it is written, and where its value begins."""

    start: int
    value: int
    end: int
    key: str = ""


def append(text: str, keys: Sequence[str], make: Callable[[int], object]) -> str:
    """Have ``make(missing)`` last in the list at `keys` (objects' keys from the top on), where
    `missing` is how many of the objects and lists on the way are not there, and are made. Raises
    Unfit.
    """
    _parse(text)
    at, depth = _skip(text, 0), 0
    for key in keys:
        _expect(text, at, "{", keys[:depth])
        member = _member(text, at, key)
        if member is None:
            break
        at, depth = member.value, depth + 1
    else:
        _expect(text, at, "[", keys)
    rest = keys[depth:]
    new = make(len(rest))
    if not rest:
        return _insert_last(text, at, depth, _written(text, new, depth))
    nested: object = [new]
    for key in reversed(rest[1:]):
        nested = {key: nested}
    return _insert_last(text, at, depth, f"{json.dumps(rest[0])}: {_written(text, nested, depth)}")


def remove(text: str, keys: Sequence[str], depth_of: Callable[[Any], int | None]) -> str:
    """Take out each element of the list at `keys` for which `depth_of` is not None, and as many of
    the objects and lists around it as that number, where they are empty then. Raises Unfit.
    """
    _parse(text)
    while (found := _first(text, keys, depth_of)) is not None:
        at, number, made = found
        text = _cut(text, at, number, len(keys))
        for depth in range(len(keys), max(len(keys) - made, 0), -1):
            *_, outer, inner = _way(text, keys[:depth])
            if list(_items(text, inner)):
                break
            names = [each.key for each in _items(text, outer)]
            place = len(names) - 1 - names[::-1].index(keys[depth - 1])
            text = _cut(text, outer, place, depth - 1)
    return text


def _first(
    text: str, keys: Sequence[str], depth_of: Callable[[Any], int | None]
) -> tuple[int, int, int] | None:
    """Where the list begins, the number of an element in it to take out, and how much around it."""
    way = _way(text, keys)
    if not way or text[way[-1]] != "[":
        return None
    for number, element in enumerate(_items(text, way[-1])):
        made = depth_of(_DECODER.raw_decode(text, element.value)[0])
        if made is not None:
            return way[-1], number, made
    return None


def _parse(text: str) -> None:
    try:
        json.loads(text)
    except ValueError as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise Unfit(f"it is no JSON: {error}", line) from None
    except RecursionError:
        raise Unfit("it is nested too deeply", 1) from None


def _way(text: str, keys: Sequence[str]) -> list[int]:
    """Where the top begins, and what is at each of the keys; empty where one is not there."""
    found = [_skip(text, 0)]
    for key in keys:
        member = _member(text, found[-1], key) if text[found[-1]] == "{" else None
        if member is None:
            return []
        found.append(member.value)
    return found


def _expect(text: str, at: int, bracket: str, keys: Sequence[str]) -> None:
    if text[at] != bracket:
        kind = "an object" if bracket == "{" else "a list"
        what = f"{'.'.join(keys)} is" if keys else "what it holds is"
        raise Unfit(f"{what} not {kind}", text.count("\n", 0, at) + 1)


def _member(text: str, at: int, key: str) -> _Item | None:
    """The last member of that name, which is the one that counts."""
    found = [each for each in _items(text, at) if each.key == key]
    return found[-1] if found else None


def _items(text: str, at: int) -> Iterator[_Item]:
    """What an object or a list that begins at `at` holds."""
    is_object, place = text[at] == "{", _skip(text, at + 1)
    while text[place] not in "]}":
        start, key = place, ""
        if is_object:
            key, place = _DECODER.raw_decode(text, place)
            place = _skip(text, _skip(text, place) + 1)
        end = _DECODER.raw_decode(text, place)[1]
        yield _Item(start, place, end, key)
        place = _skip(text, end)
        place = _skip(text, place + 1) if text[place] == "," else place


def _skip(text: str, at: int) -> int:
    matched = _BLANK.match(text, at)
    assert matched
    return matched.end()


def _insert_last(text: str, at: int, depth: int, piece: str) -> str:
    inner, outer = _line(text, depth + 1), _line(text, depth)
    items = list(_items(text, at))
    if items:
        end = items[-1].end
        return f"{text[:end]},{inner or ' '}{piece}{text[end:]}"
    return f"{text[: at + 1]}{inner}{piece}{outer}{text[at + 1 :]}"


def _cut(text: str, at: int, number: int, depth: int) -> str:
    """Without one item, as if `_insert_last` had never put it there."""
    items = list(_items(text, at))
    if number:
        return text[: items[number - 1].end] + text[items[number].end :]
    if len(items) > 1:
        return text[: items[0].start] + text[items[1].start :]
    rest = text[items[0].end :]
    return text[: at + 1] + rest.removeprefix(_line(text, depth))


def _written(text: str, value: object, depth: int) -> str:
    """A value as it stands in such a text, from its second line on."""
    if not _line(text, depth):
        return json.dumps(value)
    lines = json.dumps(value, indent=_indent(text)).split("\n")
    return _line(text, depth + 1).join(lines)


def _line(text: str, depth: int) -> str:
    """What begins a line at some depth; empty for a text that is all on one line."""
    if "\n" not in text.strip() and text.strip() != "{}":
        return ""
    return ("\r\n" if "\r\n" in text else "\n") + _indent(text) * depth


def _indent(text: str) -> str:
    found = re.match(r'\s*\{[ \t]*\r?\n([ \t]+)"', text)
    return found[1] if found else "  "
