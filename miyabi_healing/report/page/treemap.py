"""A treemap: areas as large as what they stand for, as near to squares as can be.

Bruls, Huizing and van Wijk, "Squarified treemaps", 2000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Area:
    """A rectangle, in the units of the whole one."""

    x: float
    y: float
    width: float
    height: float


def squarify(sizes: Sequence[float], width: float, height: float) -> list[Area]:
    """A rectangle of `width` by `height` in areas of these sizes, the largest first, all of them
    positive.
    """
    total = sum(sizes)
    scale = width * height / total if total else 0
    areas: list[Area] = []
    rest = Area(0, 0, width, height)
    left = [size * scale for size in sizes]
    while left:
        side = min(rest.width, rest.height)
        count = 1
        while count < len(left) and _worst(left[: count + 1], side) <= _worst(left[:count], side):
            count += 1
        placed, rest = _row(left[:count], rest)
        areas += placed
        left = left[count:]
    return areas


def _worst(row: Sequence[float], side: float) -> float:
    """The most unlike a square that one of a row along a side is: 1 for a square."""
    total = sum(row)
    if total <= 0 or side <= 0:
        return 1
    return max(side * side * max(row) / total**2, total**2 / (side * side * min(row)))


def _row(row: Sequence[float], rest: Area) -> tuple[list[Area], Area]:
    """A row along the shorter side, and what is left beside it."""
    total, placed, at = sum(row), [], 0.0
    if rest.width >= rest.height:
        thick = total / rest.height if rest.height else 0
        for each in row:
            length = each / thick if thick else 0
            placed.append(Area(rest.x, rest.y + at, thick, length))
            at += length
        return placed, Area(rest.x + thick, rest.y, max(rest.width - thick, 0), rest.height)
    thick = total / rest.width if rest.width else 0
    for each in row:
        length = each / thick if thick else 0
        placed.append(Area(rest.x + at, rest.y, length, thick))
        at += length
    return placed, Area(rest.x, rest.y + thick, rest.width, max(rest.height - thick, 0))
