"""Whether something comes and goes (Nagios Core, "Detection and Handling of State Flapping")."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

WINDOW = 21  # results that tell


def changes(states: Sequence[bool]) -> float:
    """How much of the last results were changes, in per cent, the newest weighing half as much
    again as the oldest.
    """
    window = states[-WINDOW:]
    weights = (
        [0.8 + 0.4 * place / (WINDOW - 2) for place in range(WINDOW - 1)][-(len(window) - 1) :]
        if len(window) > 1
        else []
    )
    changed = [one != other for one, other in itertools.pairwise(window)]
    return (
        100
        * sum(weight for weight, change in zip(weights, changed, strict=True) if change)
        / (WINDOW - 1)
    )


def is_flapping(states: Sequence[bool], on: float, off: float) -> bool:
    """Whether it flaps now: that began above `on` per cent of changes and has not been below `off`
    since.
    """
    flapping = False
    for end in range(1, len(states) + 1):
        much = changes(states[:end])
        flapping = much >= on or (flapping and much >= off)
    return flapping
