"""Orphans: helper servers that an agent or editor has left behind. Looks only.

An orphan has lost its parent (`host.reparented`), runs no program that is meant to stay and was not
started to outlive its session (`host.deliberate`), has nobody living at the other end of its pipes
and sockets (`host.clients`), and is an hour old. One alone may well be somebody's job: it counts
where the same program was left more than once, or where it is large and does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from miyabi_healing.host.process_status import LINUX

if TYPE_CHECKING:  # a run that finds none needs no words for them
    from miyabi_healing.host.orphan_groups import Family, Group

_NOTED = 3  # of one program, that a note names
_NAMED = 3


@dataclass(frozen=True, repr=False)
class Orphans:
    """One look: `groups` are left and count, the largest first; `young` are not old enough to
    count; `in_use` have a live client, or could have.
    """

    groups: tuple[Group, ...] = ()
    young: tuple[Group, ...] = ()
    in_use: tuple[Group, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.groups)

    @property
    def megabytes(self) -> float:
        return self.bytes / 1e6

    @property
    def families(self) -> tuple[Family, ...]:
        """Those that count, the largest first."""
        found = [family for group in self.groups for family in group.families]
        return tuple(sorted(found, key=lambda each: -each.bytes))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known though it is no issue: many of one program."""
        kinds = (
            (self.groups, "left without parent or client"),
            (self.young, "left without parent or client, and too young to count"),
        )
        return tuple(
            f"{each.text}: {words}"
            for groups, words in kinds
            for each in groups
            if len(each.families) >= _NOTED
        )

    def __str__(self) -> str:
        if not LINUX:
            return "Orphaned processes are looked for on Linux only"
        if not self.groups:
            return "No orphaned helper process is old enough to count"
        from miyabi_healing.support.formatting import size_text

        number = sum(len(each.families) for each in self.groups)
        named = ", ".join(each.text for each in self.groups[:_NAMED])
        more = len(self.groups) - _NAMED
        rest = f", and {more} more program(s)" if more > 0 else ""
        return f"{number} orphaned process(es) take {size_text(self.bytes)}: {named}{rest}"
