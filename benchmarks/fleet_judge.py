"""What came of a rollout in which something befell coordinators, by what its hosts have noted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Judgement:
    """`lost`: hosts that have not done it to the end, or that the store does not know of as well.
    `second`: runs that were made again. `late`: answers that the store kept for a token that was
    not the slice's any more. `most` hosts were at work at once. `first` and `last` are when, after
    the fault, a host of a slice that was lost was asked by whoever took over: in seconds, None
    where none was lost.
    """

    lost: int
    second: int
    late: int
    most: int
    first: float | None = None
    last: float | None = None


def judge(
    noted: Sequence[Mapping[str, Any]],
    well: Sequence[str],
    hosts: Sequence[str],
    late: int = 0,
    fault: float = 0,
    taken: Mapping[str, int] | None = None,
) -> Judgement:
    """`noted` are the hosts' own events, `well` those hosts that the store knows as well. `taken`
    are the hosts in the hands of coordinators that something has befallen at `fault`, each with
    the token that it was asked with.
    """
    begun = Counter(each["host"] for each in noted if each["what"] == "begin")
    done = {each["host"] for each in noted if each["what"] == "end"}
    steps = sorted(
        (each["at"], 1 if each["what"] == "begin" else -1)
        for each in noted
        if each["what"] in ("begin", "end")
    )
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    over: dict[int, float] = {}
    for each in noted:
        before = (taken or {}).get(each["host"])
        if before is not None and each["what"] == "asked" and each["token"] > before:
            over[before] = min(over.get(before, each["at"]), each["at"])
    waits = [at - fault for at in over.values()]
    return Judgement(
        len(set(hosts) - (done & set(well))),
        sum(count - 1 for count in begun.values()),
        late,
        most,
        min(waits, default=None),
        max(waits, default=None),
    )
