"""What leaves the quarantine: what has been there for long enough, and the oldest of too much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from miyabi_healing import config
from miyabi_healing.files import Identity, display, size_text
from miyabi_healing.host.quarantine import Held
from miyabi_healing.plan import Purge

DAY = 86_400


def due(held: Sequence[Held], rules: config.Quarantine, now: float) -> Iterator[Purge]:
    """Steps that purge what is over its time, and then the oldest until the rest fits; `held` comes oldest first.

    What one step took goes together: half of a worktree is of no use to anybody.
    """
    steps: dict[tuple[str, int], list[Held]] = {}
    for each in held:
        if each.facts:  # without a manifest nobody can say what it is
            steps.setdefault((each.run, each.step), []).append(each)
    sizes = {key: sum(each.bytes for each in things) for key, things in steps.items()}
    total, limit = sum(sizes.values()), rules.gigabytes * 1e9
    for key, things in steps.items():
        days = (now - things[0].time) / DAY
        if days >= rules.days:
            reason = f"kept for {days:.0f} days; its time is {rules.days:g}"
        elif total > limit:
            reason = f"the quarantine holds {size_text(total)}; its limit is {size_text(limit)}"
        else:
            continue
        total -= sizes[key]
        yield from [purge(each, reason) for each in things]


def purge(held: Held, reason: str) -> Purge:
    """The step that deletes one thing for good. Raises OSError where it is gone."""
    return Purge(
        target=held.name,
        reason=f"{reason}; it was {display(held.original)}",
        bytes=held.bytes,
        folder=held.folder,
        identity=Identity.at(held.folder),
    )
