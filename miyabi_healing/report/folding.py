"""Many names in few words: those of one folder together, numbered ones as first and last."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_LEAST_RUN = 3  # names in a row that are worth folding


class Names(NamedTuple):
    """Some names, said in one text, and how many they are."""

    text: str
    number: int


class Place(NamedTuple):
    """Names that lie in one folder, empty where they are no paths, or the only one of theirs."""

    folder: str
    names: tuple[Names, ...]


def home_folded(path: str) -> str:
    """A path with ``~`` for the home that it is in."""
    home = os.path.expanduser("~")
    below = home != "/" and (path == home or path.startswith(home + "/"))
    return f"~{path[len(home) :]}" if below else path


def home_in(text: str) -> str:
    """A sentence with ``~`` for the home in the paths that it names."""
    home = os.path.expanduser("~")
    if home in ("/", "~"):
        return text
    return re.sub(rf"(?<![\w/.-]){re.escape(home)}(?=[/\s,;:)]|$)", "~", text)


def places(targets: Sequence[str]) -> list[Place]:
    """Targets by the folder that they lie in; first those that are no path, or alone in theirs."""
    found: dict[str, list[str]] = {}
    for each in targets:
        folder, _, name = each.rpartition("/")
        is_path = each.startswith("/") and bool(name) and ": " not in each
        found.setdefault(folder if is_path else "", []).append(name if is_path else each)
    made = []
    alone: list[str] = []
    for folder, names in found.items():
        if folder and len(set(names)) > 1:
            made.append(Place(home_folded(folder), tuple(folded(names))))
        else:
            alone += [home_folded(f"{folder}/{name}") if folder else name for name in names]
    return [Place("", tuple(folded(alone))), *made] if alone else made


def folded(names: Sequence[str]) -> Iterator[Names]:
    """Names in their order; of three and more that differ by a running number alone, the first and
    the last stand for all, and a name that comes several times is said once.
    """
    times = Counter(names)
    left = dict(times)
    for name in times:
        if name not in left:
            continue
        run = _run(name, left) if times[name] == 1 else [name]
        if len(run) >= _LEAST_RUN:
            yield Names(f"{run[0]} … {run[-1]} ({len(run)})", len(run))
        else:
            run = [name]
            more = f" ({times[name]} times)" if times[name] > 1 else ""
            yield Names(f"{name}{more}", times[name])
        for each in run:
            del left[each]


def _run(name: str, left: dict[str, int]) -> list[str]:
    """The names around one that differ from it by a number that runs on."""
    parts = re.fullmatch(r"(.*?)([0-9]{1,9})([^0-9]*)", name)
    if not parts:
        return [name]
    before, digits, after = parts.groups()

    def at(number: int) -> str | None:
        text = f"{before}{number:0{len(digits)}}{after}" if number >= 0 else ""
        return text if left.get(text) == 1 else None

    first = last = int(digits)
    while at(first - 1):
        first -= 1
    while at(last + 1):
        last += 1
    return [text for number in range(first, last + 1) if (text := at(number))]
