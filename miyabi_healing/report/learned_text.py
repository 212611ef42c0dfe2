"""What repairs came to, in words: why one healer is tried before another."""

from __future__ import annotations

from miyabi_healing.model.learned import Sums, Swap
from miyabi_healing.support.formatting import duration_text, plain_number

_MUCH = 2  # times the cost of the other, from which on it is named


def swap_text(swap: Swap) -> str:
    """Why a healer comes before its documented neighbour, in numbers."""
    one, other = swap.first, swap.second
    text = f"{one.healer} before {other.healer}: {often_text(one)} against {often_text(other)}"
    if one.lasts is not None and other.lasts is not None:
        text += f"; lasts {lasts_text(one)} against {lasts_text(other)}"
    if max(one.cost, other.cost) >= _MUCH * min(one.cost, other.cost):
        text += f"; takes {effort_text(one)} against {effort_text(other)}"
    return text


def often_text(known: Sums) -> str:
    """How often it healed: ``9 of 11``."""
    return f"{plain_number(round(known.gains, 1))} of {known.count}"


def worth_text(known: Sums) -> str:
    """The same in a sentence that is true of parts, too: ``worth 2.3 heals in 7 tries``."""
    heals, tries = plain_number(round(known.gains, 1)), known.count
    return (
        f"worth {heals} heal{'' if heals == '1' else 's'} "
        f"in {tries} {'try' if tries == 1 else 'tries'}"
    )


def effort_text(known: Sums) -> str:
    """How long a healer is at work: ``4 min``."""
    return duration_text(known.effort) if known.effort >= 1 else "less than 1 s"


def lasts_text(known: Sums) -> str:
    """For how long a heal lasts: ``6 d``, ``over 6 d`` where none has ended."""
    if known.lasts is None:
        return "not known"
    return f"{'' if known.relapses else 'over '}{duration_text(known.lasts)}"
