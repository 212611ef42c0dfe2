"""What lies in quarantine as people see it: what one step took is one thing. A worktree has two
entries, its folder and git's administrative folder, of which neither is of use without the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from miyabi_healing.state.quarantine import QuarantineEntry
from miyabi_healing.state.run_clock import Moment


@dataclass(frozen=True)
class QuarantinedThing:
    """The entries of one step, that of what it is called by first."""

    entries: tuple[QuarantineEntry, ...]

    @property
    def first(self) -> QuarantineEntry:
        return self.entries[0]

    @property
    def run(self) -> str:
        return self.first.run

    @property
    def names(self) -> set[str]:
        """What it may be called on the command line: any of its entries stands for all of it."""
        return {each.name for each in self.entries}

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.entries)

    @property
    def damage(self) -> str:
        """Why it cannot be relied on; empty where it can."""
        return next(
            (each.damage or "it has no manifest" for each in self.entries if not each.manifest), ""
        )

    @property
    def noun(self) -> str:
        """What it is, in a word: ``worktree``, ``log``, ``lock``, ``file``."""
        kind = self.first.kind
        if kind.startswith("worktree"):
            return "worktree"
        if "log" in kind:
            return "log"
        if kind == "unknown":
            return "thing"
        if self.first.original.endswith(".lock"):
            return "lock"
        return "folder" if self.first.payload.is_dir() else "file"

    @property
    def count(self) -> int:
        """How many of these it is: of logs that were archived together, all of them."""
        return int(self.first.manifest.get("files", 1)) or 1

    def end_of(self, days: float, now: Moment) -> tuple[float, bool]:
        """When at the earliest all of it has been there for so many days, and whether the run clock
        decides that.
        """
        return max(each.end_of(days, now) for each in self.entries)

    def is_older(self, days: float, now: Moment) -> bool:
        return all(each.is_older(days, now) for each in self.entries)


def things(held: Iterable[QuarantineEntry]) -> list[QuarantinedThing]:
    """Everything in quarantine, in the order in which it is given. What cannot be said to belong
    to a step is a thing by itself.
    """
    found: dict[tuple[str, object], list[QuarantineEntry]] = {}
    for each in held:
        found.setdefault((each.run, each.step or each.folder), []).append(each)
    return [
        QuarantinedThing(tuple(sorted(parts, key=lambda each: each.kind.endswith("-admin"))))
        for parts in found.values()
    ]
