"""Where coordinators meet: what a store of rollouts has to be able to do.

All times are by the store's clock: those of coordinators differ. A token is never given twice, and
it is the time in ms where that is higher than the last one: hosts may be asked from several stores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from miyabi_healing.model.rollout import Answer, Claim, Rollout, Standing

NO_ANSWER = "it gave no answer"  # of a host that nothing was told of when its slice was done


class StoreError(Exception):
    """Why the store did not do it: it cannot be reached, or is no store; one line, no secret."""


class Refused(StoreError):
    """The store is there, and cannot hold what it was given."""


class Led(StoreError):
    """Another coordinator leads, and this store has room for one."""


class FleetStore(Protocol):
    """Every method is one durable transaction, and raises StoreError where it was not made, or
    where that is not known.
    """

    @property
    def shared(self) -> bool:
        """Whether several coordinators may meet there; else there is one, and no failover."""

    def now(self) -> float:
        """Seconds since the epoch, by the store's clock."""

    def create(self, rollout: Rollout, made_by: str) -> bool:
        """Write a rollout down, with all its hosts untouched. False where that label is there, and
        asks the same of the same hosts; raises ValueError where it asks something else.
        """

    def rollout(self, label: str) -> Rollout | None:
        """What was asked by that label."""

    def standing(self, label: str) -> Standing | None:
        """Where it stands now."""

    def standings(self) -> Sequence[Standing]:
        """Of all rollouts, the latest first."""

    def claim(self, label: str, owner: str) -> Claim | None:
        """A slice of the wave in hand for `owner`, with a new token: first one whose lease has run
        out, then one that nobody has had, where no more than `at_once` hosts are at work with it.
        None where there is none now, or the rollout does not run.

        Its hosts are those without an answer so far; none, where only the end was not written. An
        owner that asks again has none in hand: the answer was lost, and it is given the same slice
        with a new token. Raises Led.
        """

    def take_over(self, label: str, owner: str, in_hand: Collection[int]) -> Claim | None:
        """The same, for an `owner` that has the slices `in_hand`, by their numbers: only one whose
        lease has run out, and none of those.
        """

    def renew(self, claim: Claim) -> bool:
        """Begin the lease anew. False where somebody else has the slice, or it is finished."""

    def record(self, claim: Claim, answer: Answer) -> bool:
        """Keep what a host has said. False, and nothing is kept, where the claim's token is not the
        slice's any more: it came too late. Its report is the host's latest one, too. What cannot be
        kept counts as no report. Raises ValueError for a host that is not of the slice.
        """

    def finish(self, claim: Claim) -> bool:
        """The slice is done: hosts that are still at work count as unreachable. False as above."""

    def release(self, claim: Claim) -> None:
        """Give a slice back that is not done, for anybody to take at once. It still counts as hosts
        at work: those that were asked may go on. Nothing happens where it is somebody else's.
        """

    def running_wave(self, label: str) -> int | None:
        """The wave in hand; None where the rollout does not run. It counts no hosts, so it may be
        asked often.
        """

    def is_accepted(self, label: str, wave: int) -> bool:
        """Whether somebody has gone on with that wave although a rule had stopped it."""

    def open_slices(self, label: str) -> tuple[int, int]:
        """How many slices of the wave in hand wait for somebody, those whose lease has run out
        included, and how many somebody has.
        """

    def answers(self, label: str, *, reports: bool = True) -> Iterator[Answer]:
        """Of every host, by name, the untouched as well."""

    def brief_answers(self, label: str) -> Sequence[Answer]:
        """The same, with no more of a report than the names of its issues: cheap enough to be asked
        while a wave is at work.
        """

    def answers_of_wave(self, label: str, wave: int) -> Sequence[Answer]:
        """Of the hosts of one wave, with reports."""

    def advance(self, label: str, wave: int) -> bool:
        """Go on to the wave after `wave`, or end as finished where it was the last. False where
        somebody else has done so.
        """

    def stop(self, label: str, reason: str, *, by_rule: bool = False) -> bool:
        """Start no more slices; those in hand are finished. False where it does not run."""

    def reopen(self, label: str, *, again: bool) -> bool:
        """Let a stopped rollout run; with `again`, hosts that gave no answer are asked once more,
        also of a finished one, and their wave is judged anew. Without, one that a rule stopped goes
        on to the next wave: the hosts of this one are as they are. False where there is nothing to
        do.
        """

    def keep_report(self, host: str, code: int, document: Mapping[str, Any]) -> None:
        """Keep the latest report of a host, however it came; an older one changes nothing."""

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Read by a query in the SQL that all stores share (docs/fleet-store.md has the tables)."""

    def close(self) -> None: ...
