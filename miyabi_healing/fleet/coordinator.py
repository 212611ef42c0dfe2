"""What one coordinator does until a rollout does not run any more.

All are equal: any may die, stand still or be cut off, and whoever is left goes on.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from miyabi_healing.fleet.lease import longest_absence, since_boot
from miyabi_healing.fleet.rules import why_to_stop
from miyabi_healing.fleet.slice_work import SliceWork, end_all
from miyabi_healing.fleet.store import FleetStore, Led, StoreError
from miyabi_healing.fleet.worker import Worker
from miyabi_healing.model.rollout import OPEN, Answer, Claim, Rollout, Standing
from miyabi_healing.support import interrupts

_Result = TypeVar("_Result")
_LONGEST_REST = 1.0  # seconds between two looks at what there is to do
_LONGEST_WAIT = 0.5  # seconds, so that signals and the clock are heeded
_MOST_IN_HAND = 4  # slices: what asks the hosts takes a process with some 100 MB for each


def lead(
    store: FleetStore,
    label: str,
    worker: Worker,
    owner: str,
    *,
    wait: bool = True,
    begun: Callable[[Claim], None] = lambda claim: None,
    told: Callable[[Answer], None] = lambda answer: None,
    waits: Callable[[], None] = lambda: None,
    stopped: Callable[[], None] = lambda: None,
    away: Callable[[StoreError], None] = lambda error: None,
    clock: Callable[[], float] = since_boot,
    sleep: Callable[[float], None] = time.sleep,
) -> Standing:
    """Work on a rollout until it is finished or stopped, and say where it stands. Where others have
    all that is left, `wait` for it to be done, or to be taken over; else it is still running then.
    `begun` is told of each slice that is begun, and `told` of each answer that the store has kept,
    in the calling thread; `waits` is called where others have all that is left, once before there
    is something to do again; `stopped` where a rule has stopped the rollout, by that coordinator
    alone whose stop the store took.

    A store that is away is waited for, but not at the beginning; `away` is told why, once each
    time. Raises StoreError, Led; WorkerError where hosts cannot be asked; KeyboardInterrupt. What
    was in hand is given back then.
    """
    rollout = store.rollout(label)
    if rollout is None:
        raise StoreError(f"there is no rollout {label}")
    calls = _Calls(begun, told, waits, stopped, away)
    return _Coordinator(store, rollout, worker, owner, calls, clock, sleep).run(wait=wait)


@dataclass(frozen=True)
class _Calls:
    begun: Callable[[Claim], None]
    told: Callable[[Answer], None]
    waits: Callable[[], None]
    stopped: Callable[[], None]
    away: Callable[[StoreError], None]


@dataclass
class _Coordinator:
    store: FleetStore
    rollout: Rollout
    worker: Worker
    owner: str
    calls: _Calls
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    judge_at: float = 0  # by `clock`: a wave that is at work is judged once in a lease
    look_at: float = 0  # for slices that others have lost, while there are some in hand
    unsure: str | None = None  # it asked to stop for that reason, and knows no answer
    works: list[SliceWork] = field(default_factory=list)  # in hand
    news: threading.Event = field(default_factory=threading.Event)  # of one of them

    def run(self, *, wait: bool) -> Standing:
        try:
            return self._run(wait=wait)
        except BaseException:
            end_all(self.works)
            raise

    def _run(self, *, wait: bool) -> Standing:
        label, is_said = self.rollout.label, False
        while True:
            self._patiently(self._claim)
            if self.works:
                is_said = False
                self._work()
                if self.clock() < self.judge_at:
                    continue
            wave = self._patiently(lambda: self.store.running_wave(label))
            if wave is None:
                return self._standing()
            waiting, held = self._patiently(lambda: self.store.open_slices(label))
            is_done = not waiting and not held
            if is_done or self.clock() >= self.judge_at:
                self.judge_at = self.clock() + self.rollout.lease
                judge = self._judge if is_done else self._judge_early
                if self._patiently(partial(judge, wave)):
                    self.calls.stopped()  # not where it would be tried again: people are told once
            elif held and not wait:
                return self._standing()
            else:
                if held and not is_said:
                    self.calls.waits()
                    is_said = True
                self._rest()

    def _standing(self) -> Standing:
        found = self._patiently(lambda: self.store.standing(self.rollout.label))
        if found is None:
            raise StoreError(f"the rollout {self.rollout.label} is not there any more")
        return found

    def _claim(self) -> None:
        """Have one more slice in hand, if there is one for us. Raises StoreError."""
        label, in_hand = self.rollout.label, [each.claim.slice.number for each in self.works]
        error: StoreError | None = None
        with interrupts.put_off():  # else a slice is ours, and nobody knows
            sent = self.clock()
            try:
                if in_hand:
                    found = self.store.take_over(label, self.owner, in_hand)
                else:
                    found = self.store.claim(label, self.owner)
                if found:
                    self.works.append(self._slice_work(found, sent))
            except StoreError as caught:  # it must not take the signal's place
                error = caught
        if error is not None:
            raise error

    def _work(self) -> None:
        """Until nothing is in hand any more. What others lose meanwhile is taken over at once: with
        long runs, nobody may be free for it in time.
        """
        for each in self.works:
            self._begin(each)
        self._look_later()
        while self.works:
            self.news.clear()
            for each in tuple(self.works):
                if not each.go_on():
                    self.works.remove(each)
            if len(self.works) in range(1, _MOST_IN_HAND) and self.clock() >= self.look_at:
                self._take_over()
            if self.works:
                due = min(each.due() for each in self.works)
                self.news.wait(min(max(due - self.clock(), 0), _LONGEST_WAIT))

    def _take_over(self) -> None:
        before = len(self.works)
        with contextlib.suppress(StoreError):  # it is away: those in hand notice
            self._claim()
        for each in self.works[before:]:
            self._begin(each)
        self._look_later()

    def _begin(self, work: SliceWork) -> None:
        self.calls.begun(work.claim)
        work.begin()

    def _look_later(self) -> None:
        self.look_at = self.clock() + self._pause()

    def _slice_work(self, claim: Claim, sent: float) -> SliceWork:
        return SliceWork(
            self.store, self.worker, claim, sent, self.calls.told, self.news, self.clock
        )

    def _judge(self, wave: int) -> bool:
        """Go on to the next wave, or stop. Whoever is second changes nothing. Whether it was this
        one that stopped it.
        """
        label = self.rollout.label
        answers = self.store.answers_of_wave(label, wave)
        if any(each.state in OPEN for each in answers):
            return False  # it was opened again meanwhile
        if not self.store.is_accepted(label, wave):
            reason = why_to_stop(self.rollout, wave, answers, self.store.answers(label))
            if reason is not None:
                return self._stop(reason)
        self.store.advance(label, wave)
        return False

    def _judge_early(self, wave: int) -> bool:
        """Stop where what the wave's hosts have said so far is enough for a rule: a last wave may
        be half of all. Whether it was this one that stopped it.
        """
        label = self.rollout.label
        if self.store.is_accepted(label, wave):
            return False
        hosts = {host for each in self.rollout.slices if each.wave == wave for host in each.hosts}
        answers = self.store.brief_answers(label)
        of_wave = [each for each in answers if each.host in hosts]
        reason = why_to_stop(self.rollout, wave, of_wave, answers)
        return reason is not None and self._stop(reason)

    def _stop(self, reason: str) -> bool:
        """Whether it was this one that stopped it, or may have been: where the store's answer was
        lost before. People are told twice then rather than not at all.
        """
        label, before = self.rollout.label, self.unsure
        self.unsure = reason
        is_ours = self.store.stop(label, reason, by_rule=True)
        if not is_ours and before is not None:
            found = self.store.standing(label)
            is_ours = found is not None and found.by_rule and found.reason == before
        self.unsure = None
        return is_ours

    def _patiently(self, ask: Callable[[], _Result]) -> _Result:
        """Ask the store until it answers. Raises its last StoreError."""
        give_up, is_told = self.clock() + longest_absence(self.rollout.lease), False
        while True:
            try:
                return ask()
            except Led:
                raise
            except StoreError as error:
                if self.clock() >= give_up:
                    raise
                if not is_told:
                    self.calls.away(error)
                    is_told = True
            self._rest()

    def _rest(self) -> None:
        """A tenth of the lease, with full jitter: coordinators must not ask in step."""
        self.sleep(self._pause())

    def _pause(self) -> float:
        longest = min(_LONGEST_REST, self.rollout.lease / 10)
        return random.uniform(longest / 10, longest)
