"""What a mistyped name was probably meant to be: for whoever typed it, loaded only then."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST = 3  # that are named
_LEAST, _MARGIN = 0.6, 0.15  # how alike (difflib's ratio), and how much less than the nearest


def near_matches(wrong: str, valid: Iterable[str]) -> list[str]:
    """The few names that a wrong one is nearest to, the nearest first: those that begin with it or
    hold it as a word (``disk`` in ``disk_space_critical``), then those spelt like it.
    """
    names, plain = sorted(set(valid)), wrong.lower().replace("-", "_")
    words = [
        each
        for each in names
        if plain and (each.lower().startswith(plain) or plain in each.lower().split("_"))
    ]
    alike = sorted(names, key=lambda each: -_likeness(plain, each)) if plain else []
    best = _likeness(plain, alike[0]) if alike else 0
    alike = [each for each in alike if _likeness(plain, each) >= max(_LEAST, best - _MARGIN)]
    return list(dict.fromkeys([*words, *alike]))[:_MOST]


def did_you_mean(wrong: str, valid: Iterable[str]) -> str:
    """``did you mean a, b or c?``; all the names where none is near."""
    names = sorted(set(valid))
    *most, last = near_matches(wrong, names) or [""]
    if not last:
        return f"there are {', '.join(names)}" if names else "there is none"
    return f"did you mean {', '.join(most)}{' or ' if most else ''}{last}?"


def _likeness(wrong: str, name: str) -> float:
    """How alike they are, from 0 to 1: to the whole of the name, or a little less to a word."""
    whole, *words = (
        difflib.SequenceMatcher(None, wrong, each).ratio()
        for each in (name.lower(), *name.lower().split("_"))
    )
    return max(whole, *(each - _MARGIN for each in words))
