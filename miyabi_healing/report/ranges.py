"""Texts that differ in their numbers alone, said as one: ``step 1–16``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

# A number or a moment, not the digits of a commit's name.
_NUMBER = re.compile(r"(?<!\w)[0-9](?:[0-9.,:-]*[0-9])?(?: [0-9]{2}:[0-9]{2})?(?!\w)")


def template(text: str) -> str:
    """A text without its numbers."""
    return _NUMBER.sub("#", text)


def ranged(texts: Sequence[str]) -> str:
    """Texts that are the same but for their numbers as one, with the least and the largest of each;
    empty where they are not.
    """
    if len(set(map(template, texts))) != 1:
        return ""
    columns = zip(*(_NUMBER.findall(text) for text in texts), strict=True)
    ranges = iter([_range(column) for column in columns])
    return _NUMBER.sub(lambda _: next(ranges), texts[0])


def counted(texts: Iterable[str]) -> list[tuple[str, int]]:
    """Each different text and how often it came, the most frequent first; those that differ in
    their numbers alone as one.
    """
    times = Counter(texts)
    alike: dict[str, list[str]] = {}
    for text in times:
        alike.setdefault(template(text), []).append(text)
    found = [(ranged(each), sum(times[text] for text in each)) for each in alike.values()]
    return sorted(found, key=lambda each: -each[1])


def step_ranges(numbers: Sequence[int]) -> str:
    """Numbers as ``rollback --step`` takes them: ``1-19,23``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, each)) for each in parts)


def _range(numbers: Sequence[str]) -> str:
    try:
        ordered = sorted(set(numbers), key=float)
    except ValueError:  # a moment
        ordered = sorted(set(numbers))
    first, last = ordered[0], ordered[-1]
    day, _, hour = last.partition(" ")
    if hour and first.startswith(f"{day} "):
        last = hour
    return first if len(ordered) == 1 else f"{first}–{last}"
