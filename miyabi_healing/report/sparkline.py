"""The course of a value as a line of bars, drawn against its limit."""

from __future__ import annotations

import math
from collections.abc import Sequence

# up to the limit, then over it, then unknown
_BARS = ("▁▂▃▄▅▆", "▇█", "·")
_PLAIN = ("_.,-=+", "#@", " ")


def over_limit(bar: str) -> bool:
    """Whether a bar stands for a value over its limit."""
    return bar in "▇█#@"


def sparkline(
    values: Sequence[float | None], threshold: float | None, width: int, blocks: bool = True
) -> str:
    """The last values that fit into so many columns, the newest at the end; None is one that was
    not measured.

    Two of the eight heights are for what is over the limit, the highest from half as much again: so
    that a glance tells how far the limit is, and not only how much a value moves. Where no limit is
    known, all are within the highest.
    """
    within, over, unknown = _BARS if blocks else _PLAIN
    known = [each for each in values if each is not None]
    top = max(known, default=0) if threshold is None else threshold

    def bar(value: float | None) -> str:
        if value is None or math.isnan(value):
            return unknown
        if value > top:
            return over[value > 1.5 * top]
        share = max(value, 0) / top if top > 0 else 0
        return within[min(int(share * len(within)), len(within) - 1)]

    return "".join(map(bar, values[-width:] if width > 0 else ()))
