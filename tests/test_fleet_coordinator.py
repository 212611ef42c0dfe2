"""What a coordinator does, and what others do where it dies, stands still, or is cut off."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from fleet_standins import Coordinators, CutLine, StandIns, in_background
from fleetwork import Postgres, needs_postgres

from conftest import wait_for
from miyabi_healing.fleet import coordinator, slice_work
from miyabi_healing.fleet.coordinator import lead
from miyabi_healing.fleet.lease import LeaseWatch
from miyabi_healing.fleet.open_store import open_store
from miyabi_healing.fleet.store import NO_ANSWER, FleetStore, StoreError
from miyabi_healing.fleet.waves import make_slices
from miyabi_healing.fleet.worker import WorkerError
from miyabi_healing.model.rollout import Answer, Claim, HostState, Rollout, RolloutState
from miyabi_healing.support import interrupts

WELL, UNREACHABLE = HostState.WELL, HostState.UNREACHABLE
Telling = Callable[[Answer], None]
Cancelled = Callable[[], bool]


def rollout_of(count: int, *waves: str, size: int = 3, at_once: int = 6, lease: float = 30) -> Any:
    names = [f"h{number:02}" for number in range(count)]
    return Rollout("a", make_slices(names, waves or ("100%",), size, at_once), at_once, lease)


class Asking:
    """A worker whose hosts say at once what `answer` makes of their name; None is silence."""

    def __init__(self, answer: Callable[[str], HostState | None] = lambda host: WELL) -> None:
        self.answer, self.asked = answer, list[str]()

    def work(self, claim: Claim, told: Telling, cancelled: Cancelled) -> None:
        for host in claim.slice.hosts:
            if cancelled():
                return
            self.asked.append(host)
            if state := self.answer(host):
                told(Answer(host, state, 0))


class Wrapped:
    """A store of which single methods are replaced."""

    def __init__(self, store: FleetStore, **methods: Callable[..., Any]) -> None:
        self._store = store
        vars(self).update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def wrapped(store: FleetStore, **methods: Callable[..., Any]) -> Any:
    return Wrapped(store, **methods)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FleetStore]:
    with closing(open_store("", tmp_path / "state/rollouts")) as opened:
        yield opened


def states(store: FleetStore) -> Counter[HostState]:
    return Counter(each.state for each in store.answers("a"))


# -- one coordinator -----------------------------------------------------------------------------


def test_all_hosts_are_asked_once_and_each_answer_is_told(store: FleetStore) -> None:
    store.create(rollout_of(10, "1", "50%"), "me")
    worker, told = Asking(), list[Answer]()
    standing = lead(store, "a", worker, "one", told=told.append)
    assert standing.state is RolloutState.FINISHED
    assert standing.counts == {WELL: 10}
    assert worker.asked == [each.host for each in told] == [f"h{n:02}" for n in range(10)]
    assert lead(store, "a", worker, "one") == standing, "nothing is left"
    assert len(worker.asked) == 10


@pytest.mark.parametrize("bad", [UNREACHABLE, None, HostState.ISSUES])
def test_canary_that_is_not_well_is_the_only_host_that_is_touched(
    store: FleetStore, bad: HostState | None
) -> None:
    store.create(rollout_of(30, "1", "5", "50%"), "me")
    worker = Asking(lambda host: bad)
    standing = lead(store, "a", worker, "one")
    assert (standing.state, standing.by_rule) == (RolloutState.STOPPED, True)
    assert standing.reason.startswith("canary: 1 of 1 host not well: h00")
    assert worker.asked == ["h00"]


def test_wave_in_which_too_many_cannot_be_reached_is_the_last(store: FleetStore) -> None:
    store.create(rollout_of(30, "1", "5", "50%"), "me")
    worker = Asking(lambda host: UNREACHABLE if host in ("h03", "h04") else WELL)
    standing = lead(store, "a", worker, "one")
    assert standing.reason.startswith("max_fail: 2 of 5 hosts in wave 2 not well (40 %")
    assert len(worker.asked) == 6
    assert store.reopen("a", again=True)
    assert lead(store, "a", Asking(), "one").counts == {WELL: 30}


def test_wave_that_goes_wrong_is_stopped_before_its_last_slice_unless_somebody_goes_on(
    store: FleetStore,
) -> None:
    store.create(rollout_of(31, "1", "100%"), "me")
    worker = Asking(lambda host: WELL if host < "h04" else HostState.ISSUES)
    moments = itertools.count()
    standing = lead(store, "a", worker, "one", clock=lambda: next(moments))
    assert standing.reason.startswith("max_fail: ")
    assert standing.by_rule
    asked = len(worker.asked)
    assert 10 < asked < 31
    assert store.reopen("a", again=False)
    standing = lead(store, "a", worker, "one", clock=lambda: next(moments))
    assert standing.state is RolloutState.FINISHED, "a person has seen this wave, and went on"
    assert len(worker.asked) == 31


def test_host_that_nothing_was_told_of_counts_as_unreachable(store: FleetStore) -> None:
    store.create(rollout_of(10, size=10, at_once=10), "me")
    told: list[Answer] = []
    silent = Asking(lambda host: None if host == "h01" else WELL)
    assert lead(store, "a", silent, "one", told=told.append).counts == {WELL: 9, UNREACHABLE: 1}
    assert Answer("h01", UNREACHABLE, message=NO_ANSWER) in told
    assert len(told) == 10


def test_worker_that_cannot_ask_gives_the_slice_back_with_what_it_knows(store: FleetStore) -> None:
    store.create(rollout_of(4), "me")

    class Broken(Asking):
        def work(self, claim: Claim, told: Telling, cancelled: Cancelled) -> None:
            told(Answer(claim.slice.hosts[0], WELL, 0))
            raise WorkerError("no ansible here")

    with pytest.raises(WorkerError, match="no ansible here"):
        lead(store, "a", Broken(), "one")
    assert store.open_slices("a") == (2, 0)
    worker = Asking()
    assert lead(store, "a", worker, "two").counts == {WELL: 4}
    assert "h00" not in worker.asked


def test_worker_that_does_not_end_when_it_is_cancelled_ends_its_coordinator(
    store: FleetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slice_work, "_LONGEST_END", 0.05)
    store.create(rollout_of(2), "me")
    free = threading.Event()

    class Deaf:
        def work(self, claim: Claim, told: Telling, cancelled: Cancelled) -> None:
            free.wait(10)

    away = wrapped(store, renew=lambda claim: False)
    clock = itertools.count(step=5)
    with pytest.raises(WorkerError, match="did not end"):
        lead(away, "a", Deaf(), "one", clock=lambda: next(clock))
    free.set()
    assert store.open_slices("a") == (0, 1), "it may go on asking: nobody has the slice before"


def test_who_asks_it_to_end_leaves_nothing_behind(store: FleetStore) -> None:
    """The worker is told to end, what it knows is kept, the slice is free at once."""
    store.create(rollout_of(3), "me")
    ended = threading.Event()

    class Long(Asking):
        def work(self, claim: Claim, told: Telling, cancelled: Cancelled) -> None:
            told(Answer("h00", WELL, 0))
            while not cancelled():
                time.sleep(0.005)
            told(Answer("h01", WELL, 0))
            ended.set()

    def end(_answer: Answer) -> None:
        if not ended.is_set():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lead(store, "a", Long(), "one", told=end)
    assert ended.is_set()
    assert states(store) == {WELL: 2, HostState.AT_WORK: 1}
    assert store.open_slices("a") == (1, 0)


@pytest.mark.parametrize("fails", [False, True])
def test_signal_in_the_middle_of_a_claim_is_heeded_and_the_slice_is_free(
    store: FleetStore, fails: bool
) -> None:
    store.create(rollout_of(3), "me")

    def claim(label: str, owner: str) -> Claim | None:
        assert not interrupts.received, "it goes on as if nobody had asked"
        found = store.claim(label, owner)
        os.kill(os.getpid(), signal.SIGTERM)
        if fails:
            raise StoreError("and the store is away")
        return found

    worker = Asking()
    with pytest.raises(KeyboardInterrupt), interrupts.in_order():
        lead(wrapped(store, claim=claim), "a", worker, "one")
    assert worker.asked == []
    assert store.open_slices("a") == ((0, 1) if fails else (1, 0))


def test_store_that_is_away_for_a_while_loses_nothing(store: FleetStore) -> None:
    """Every second call fails, half of those only after it was made."""
    store.create(rollout_of(12, "1", "50%", lease=3), "me")
    calls = Counter[str]()

    def shaky(name: str) -> Callable[..., Any]:
        def call(*arguments: object, **options: object) -> Any:
            calls[name] += 1
            if calls[name] % 4 == 2:
                raise StoreError("away")
            result = getattr(store, name)(*arguments, **options)
            if calls[name] % 4 == 0:
                raise StoreError("nobody knows whether it was made")
            return result

        return call

    names = ("running_wave", "claim", "take_over", "renew", "record", "finish", "open_slices")
    names += ("advance", "stop")
    shaken = wrapped(store, **{name: shaky(name) for name in names})
    worker = Asking()
    standing = lead(shaken, "a", worker, "one", sleep=lambda seconds: None)
    assert standing.counts == {WELL: 12}
    assert len(worker.asked) == 12


def test_store_that_cannot_be_reached_at_the_beginning_is_an_error_at_once() -> None:
    def away(_label: str) -> Rollout:
        raise StoreError("away")

    nowhere: Any = None
    with pytest.raises(StoreError, match="away"):
        lead(wrapped(nowhere, rollout=away), "a", Asking(), "one")


def test_store_that_stays_away_is_given_up(store: FleetStore) -> None:
    store.create(rollout_of(1), "me")
    now = [0.0]

    def away(*_arguments: object) -> None:
        raise StoreError("away")

    def sleep(_seconds: float) -> None:
        now[0] += 10

    shut = wrapped(store, claim=away)
    with pytest.raises(StoreError, match="away"):
        lead(shut, "a", Asking(), "one", clock=lambda: now[0], sleep=sleep)
    assert now[0] == 300
    with pytest.raises(StoreError, match="there is no rollout b"):
        lead(store, "b", Asking(), "one")


@pytest.mark.parametrize(("claiming", "asked"), [(0, 3), (10, 2)])
def test_worker_ends_before_anybody_else_may_have_the_slice(
    store: FleetStore, claiming: float, asked: int
) -> None:
    """Neither renewed nor told: the store is away. Every host takes 10 of 30 seconds, and at 28 it
    is over, counted from before the slice was asked for.
    """
    store.create(rollout_of(9, size=9, at_once=9), "me")
    now, lost = [0.0], list[int]()

    def away(*_arguments: object) -> bool:
        raise StoreError("away")

    def any_of(name: str) -> Callable[..., Any]:
        return lambda *arguments: (getattr(store, name) if lost else away)(*arguments)

    def claim(label: str, owner: str) -> Claim | None:
        now[0] += 0 if lost else claiming
        return store.claim(label, owner)

    class Slow(Asking):
        def work(self, claim: Claim, told: Telling, cancelled: Cancelled) -> None:
            super().work(claim, told, cancelled)
            lost.append(len(self.asked))  # from here on all is well

    def answer(_host: str) -> HostState:
        now[0] += 0 if lost else 10
        return WELL

    worker = Slow(answer)
    shaken = wrapped(store, claim=claim, **{each: any_of(each) for each in ("renew", "record")})
    standing = lead(shaken, "a", worker, "one", clock=lambda: now[0])
    assert lost[0] == asked
    assert standing.counts == {WELL: 9}


def test_renewed_lease_counts_from_before_it_was_asked_for(store: FleetStore) -> None:
    store.create(rollout_of(1), "me")
    now, calls = [0.0], list[float]()
    twice = threading.Event()

    def renew(claim: Claim) -> bool:
        calls.append(now[0])
        if len(calls) > 1:
            twice.set()
            raise StoreError("away")
        now[0] = 25  # it was a slow answer
        return store.renew(claim)

    seen: list[bool] = []

    class Watching(Asking):
        def work(self, claim: Claim, told: Telling, cancelled: Cancelled) -> None:
            if not seen:
                now[0] = 10
                assert twice.wait(20)
                for now[0] in (37.9, 38):
                    seen.append(cancelled())
            else:
                super().work(claim, told, cancelled)

    slow = wrapped(store, renew=renew)
    assert lead(slow, "a", Watching(), "one", clock=lambda: now[0]).counts == {WELL: 1}
    assert calls[:2] == [10, 25]
    assert seen == [False, True]


def test_lease_that_was_said_to_be_over_stays_so() -> None:
    """The worker has ended then: hosts that it left out must not count as unreachable."""
    now = [0.0]
    lease = LeaseWatch(0, 30, lambda: now[0])
    assert not lease.is_over()
    now[0] = 28
    assert lease.is_over()
    lease.renewed(28)
    assert lease.is_over()


def test_process_that_stood_still_asks_nobody_for_a_slice_that_it_may_have_lost(
    store: FleetStore,
) -> None:
    """It was stopped after it had asked for the slice, and before it began with it."""
    store.create(rollout_of(3), "me")
    now = [0.0]
    asked_at: list[float] = []

    def claim(label: str, owner: str) -> Claim | None:
        found = store.claim(label, owner)
        if not now[0]:
            now[0] = 75
        return found

    worker = Asking(lambda host: asked_at.append(now[0]) or WELL)  # type: ignore[func-returns-value]
    slow = wrapped(store, claim=claim)
    assert lead(slow, "a", worker, "one", clock=lambda: now[0]).counts == {WELL: 3}
    assert worker.asked == ["h00", "h01", "h02"]
    assert store.rows("select claims from fleet_slice") == [(2,)]


def test_what_was_stopped_by_somebody_finishes_the_slice_in_hand_and_no_other(
    store: FleetStore,
) -> None:
    store.create(rollout_of(9), "me")
    worker = Asking()
    standing = lead(
        store, "a", worker, "one", told=lambda answer: [store.stop("a", "enough")].clear()
    )
    assert (standing.state, standing.reason) == (RolloutState.STOPPED, "enough")
    assert standing.counts == {WELL: 3, HostState.UNTOUCHED: 6}


def test_slice_of_which_only_the_end_was_not_written_asks_nobody(store: FleetStore) -> None:
    store.create(rollout_of(3), "me")
    mine = store.claim("a", "dead")
    assert mine is not None
    for host in mine.slice.hosts:
        store.record(mine, Answer(host, WELL, 0))
    store.release(mine)
    worker = Asking()
    assert lead(store, "a", worker, "one").state is RolloutState.FINISHED
    assert worker.asked == []


def test_who_does_not_wait_leaves_the_rest_to_whoever_has_it(store: FleetStore) -> None:
    store.create(rollout_of(6), "me")
    assert store.claim("a", "other")
    standing = lead(store, "a", Asking(), "one", wait=False)
    assert standing.state is RolloutState.RUNNING
    assert standing.counts == {WELL: 3, HostState.AT_WORK: 3}


def test_who_waits_takes_over_what_others_do_not_finish(store: FleetStore) -> None:
    store.create(rollout_of(6, lease=0.5), "me")
    assert store.claim("a", "other")
    rested: list[float] = []

    def sleep(seconds: float) -> None:
        rested.append(seconds)
        time.sleep(seconds)

    assert lead(store, "a", Asking(), "one", sleep=sleep).counts == {WELL: 6}
    assert all(0 < each <= 0.05 for each in rested)


class Abreast(Asking):
    """Each slice ends when `together` slices are asked at the same time."""

    def __init__(self, together: int) -> None:
        super().__init__()
        self._barrier = threading.Barrier(together)

    def work(self, claim: Claim, told: Telling, cancelled: Cancelled) -> None:
        self._barrier.wait(20)
        super().work(claim, told, cancelled)


def test_who_is_at_work_takes_over_what_others_lose_meanwhile(store: FleetStore) -> None:
    store.create(rollout_of(9, at_once=9, lease=0.5), "me")
    assert store.claim("a", "dead")
    assert store.claim("a", "dead too")
    assert lead(store, "a", Abreast(3), "one").counts == {WELL: 9}
    assert store.rows("select claims from fleet_slice order by number") == [(2,), (2,), (1,)]


def test_no_more_slices_are_in_hand_than_fit(store: FleetStore) -> None:
    store.create(rollout_of(18, at_once=18, lease=0.3), "me")
    for number in range(5):
        assert store.claim("a", f"dead {number}")
    worker = Most()
    assert lead(store, "a", worker, "one").counts == {WELL: 18}
    assert worker.most == coordinator._MOST_IN_HAND


class Most(Asking):
    """Each slice takes longer than a lease; `most` have been asked at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self._now = 0

    def work(self, claim: Claim, told: Telling, cancelled: Cancelled) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        time.sleep(0.6)
        super().work(claim, told, cancelled)
        self._now -= 1


def test_slice_that_is_lost_is_given_up_and_the_other_one_goes_on(store: FleetStore) -> None:
    """The worker of the lost one takes its time to end; the other's lease is renewed meanwhile."""
    store.create(rollout_of(6, lease=1), "me")
    assert store.claim("a", "dead")
    both, renewed, asking = threading.Barrier(2), Counter[int](), Counter[int]()

    def renew(claim: Claim) -> bool:
        renewed[claim.slice.number] += 1
        return claim.slice.number != 1 and store.renew(claim)

    class Late(Asking):
        def work(self, claim: Claim, told: Telling, cancelled: Cancelled) -> None:
            asking[claim.slice.number] += 1
            assert asking[claim.slice.number] == 1, "two at a time ask more hosts than one may"
            self._ask(claim, told, cancelled)
            asking[claim.slice.number] -= 1

        def _ask(self, claim: Claim, told: Telling, cancelled: Cancelled) -> None:
            if claim.slice.number == 1 and renewed[1]:
                super().work(claim, told, cancelled)
                return
            both.wait(20)
            end = time.monotonic() + 20
            if claim.slice.number == 1:
                while not cancelled() and time.monotonic() < end:
                    time.sleep(0.005)
                time.sleep(1.5)
            else:
                while not (renewed[1] and renewed[2] > 4) and time.monotonic() < end:
                    time.sleep(0.005)
                super().work(claim, told, cancelled)

    assert lead(wrapped(store, renew=renew), "a", Late(), "one").counts == {WELL: 6}
    assert store.rows("select claims from fleet_slice order by number") == [(3,), (1,)]


def test_who_is_asked_to_end_hands_all_its_slices_over(store: FleetStore) -> None:
    store.create(rollout_of(6, lease=300), "me")
    for each in [store.claim("a", "dead"), store.claim("a", "dead too")]:
        assert each is not None
        store.release(each)

    class Long(Abreast):
        def work(self, claim: Claim, told: Telling, cancelled: Cancelled) -> None:
            self._barrier.wait(20)
            told(Answer(claim.slice.hosts[0], WELL, 0))
            while not cancelled():
                time.sleep(0.005)

    told: list[Answer] = []

    def end(answer: Answer) -> None:
        told.append(answer)
        if len(told) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lead(store, "a", Long(2), "one", told=end)
    assert len(told) == 2
    assert states(store) == {WELL: 2, HostState.AT_WORK: 4}
    assert store.open_slices("a") == (2, 0)


def test_store_that_renews_leases_and_keeps_no_answer_is_given_up(
    store: FleetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise StoreError("permission denied for table fleet_report")

    monkeypatch.setattr(coordinator, "_LONGEST_WAIT", 0.001)
    store.create(rollout_of(3, lease=30), "me")
    clock = itertools.count(0, 1.0)
    with pytest.raises(StoreError, match="permission denied"):
        lead(wrapped(store, record=refuse), "a", Asking(), "one", clock=lambda: next(clock))
    assert 300 < next(clock) < 700
    assert lead(store, "a", Asking(), "two").counts == {WELL: 3}, "it was given back"


@pytest.mark.parametrize(
    ("is_made", "others", "told"), [(True, 0, 1), (False, 0, 1), (False, 1, 0)]
)
def test_people_are_told_of_a_stop_whose_answer_was_lost(
    store: FleetStore, is_made: bool, others: int, told: int
) -> None:
    store.create(rollout_of(6, "1"), "me")
    tries = itertools.count()

    def stop(label: str, reason: str, *, by_rule: bool = False) -> bool:
        if next(tries) == 0:
            if is_made:
                assert store.stop(label, reason, by_rule=by_rule)
            if others:
                assert store.stop(label, "by somebody")
            raise StoreError("nobody knows whether it was made")
        return store.stop(label, reason, by_rule=by_rule)

    stops: list[None] = []
    standing = lead(
        wrapped(store, stop=stop), "a", Asking(lambda host: UNREACHABLE), "one",
        stopped=lambda: stops.append(None), sleep=lambda seconds: None,
    )  # fmt: skip
    assert standing.state is RolloutState.STOPPED
    assert len(stops) == told


def test_store_that_is_away_is_said_once(store: FleetStore) -> None:
    tries = iter(range(3))

    def claim(label: str, owner: str) -> Claim | None:
        if next(tries, None) is not None:
            raise StoreError("no route")
        return store.claim(label, owner)

    said: list[str] = []
    store.create(rollout_of(3), "me")
    again = wrapped(store, claim=claim)
    lead(
        again, "a", Asking(), "one", away=lambda error: said.append(str(error)),
        sleep=lambda seconds: None,
    )  # fmt: skip
    assert said == ["no route"]


# -- several, and their faults -------------------------------------------------------------------


class World:
    """Hosts that stand in, a store, and coordinators as processes."""

    def __init__(self, folder: Path, where: str, rollout: Rollout, seconds: float) -> None:
        self.folder, self.where, self.rollout = folder, where, rollout
        self.hosts = StandIns(folder / "hosts", seconds)
        self.store = open_store(where, folder / "rollouts")
        self.store.create(rollout, "test")
        self._stack = ExitStack()

    def serve(self, *lines: CutLine) -> None:
        hosts = asyncio.start_unix_server(self.hosts.answer, self.hosts.place)
        cuts = [asyncio.start_server(each.connected, "127.0.0.1", each.port) for each in lines]
        self._stack.enter_context(in_background(hosts, *cuts))

    def start(self, *wheres: str) -> Coordinators:
        started = Coordinators(self.folder, list(wheres), self.rollout, self.hosts)
        self._stack.callback(started.end)
        return started

    def end(self) -> None:
        self._stack.close()
        self.store.close()

    def in_the_middle_of_it(self, done: int) -> int:
        """Wait until so many hosts are done and others are at work, which they stay; the token of
        whoever asked one of those.
        """
        wait_for(lambda: self.hosts.count("end") >= done)
        self.hosts.hold()
        wait_for(self.hosts.at_work)
        ended = {each.host for each in self.hosts.log if each.what == "end"}
        begun = [each for each in self.hosts.log if each.what == "begin"]
        return next(each.token for each in begun if each.host not in ended)

    def judge(self, coordinators: Coordinators) -> None:
        """By the hosts' own logs: none was lost, none ran twice, never too many at a time; no
        answer was taken from one that had lost its slice.
        """
        once = dict.fromkeys(self.rollout.hosts, 1)
        assert Counter(each.host for each in self.hosts.log if each.what == "begin") == once
        assert Counter(each.host for each in self.hosts.log if each.what == "end") == once
        assert self.hosts.most_at_work() <= self.rollout.at_once
        standing = self.store.standing(self.rollout.label)
        assert standing is not None
        assert standing.state is RolloutState.FINISHED
        assert standing.counts == {WELL: len(once)}
        kept = dict(self.store.rows("select host, token from fleet_host"))
        accepted = {(each.host, each.token) for each in coordinators.told() if each.kept}
        assert {(host, token) for host, token in accepted if host} <= set(kept.items())


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(where: str, rollout: Rollout, seconds: float = 0.1) -> World:
        made.append(World(tmp_path, where, rollout, seconds))
        return made[-1]

    yield make
    for each in made:
        each.end()


@needs_postgres
def test_killed_coordinators_are_replaced_by_others_and_by_later_ones(
    world: Callable[..., World], where: str
) -> None:
    fleet = world(where, rollout_of(30, lease=1))
    fleet.serve()
    first = fleet.start(where, where, where)
    victim = first.holder(fleet.in_the_middle_of_it(4))
    first.signal(victim, signal.SIGKILL)
    fleet.hosts.let_go()
    fleet.in_the_middle_of_it(12)
    for each in {0, 1, 2} - {victim}:
        first.signal(each, signal.SIGKILL)
    assert first.wait() == [-9, -9, -9]
    second = fleet.start(where, where)
    fleet.hosts.let_go()
    assert second.wait() == [0, 0]
    fleet.judge(second)


@needs_postgres
def test_coordinator_that_stood_still_finds_its_way_back(
    world: Callable[..., World], where: str
) -> None:
    fleet = world(where, rollout_of(60, lease=1))
    fleet.serve()
    both = fleet.start(where, where)
    stopped = both.holder(fleet.in_the_middle_of_it(4))
    both.signal(stopped, signal.SIGSTOP)
    fleet.hosts.let_go()
    time.sleep(2.5)
    both.signal(stopped, signal.SIGCONT)
    assert both.wait() == [0, 0]
    fleet.judge(both)


@needs_postgres
def test_coordinators_outlast_a_line_that_is_cut_and_a_store_that_is_away(
    world: Callable[..., World], server: Postgres, where: str
) -> None:
    fleet = world(where, rollout_of(60, lease=1))
    line = CutLine(server.port)
    fleet.serve(line)
    both = fleet.start(where, where.replace(f":{server.port}/", f":{line.port}/"))
    wait_for(lambda: fleet.hosts.count("end") >= 6)
    line.cut()
    cut_at = time.monotonic()
    time.sleep(0.5)
    server.stop()
    time.sleep(1)
    server.start()
    time.sleep(max(cut_at + 3 - time.monotonic(), 0))
    line.mend()
    assert both.wait() == [0, 0]
    fleet.judge(both)


def test_file_goes_on_at_once_after_a_kill_and_lets_nobody_else_in(
    world: Callable[..., World],
) -> None:
    fleet = world("", rollout_of(15, lease=300))
    fleet.serve()
    first = fleet.start("")
    fleet.in_the_middle_of_it(4)
    assert fleet.start("").wait() == [75]
    first.signal(0, signal.SIGKILL)
    fleet.hosts.let_go()
    second = fleet.start("")
    assert second.wait() == [0]
    fleet.judge(second)


@needs_postgres
def test_coordinator_that_is_asked_to_end_leaves_its_slice_to_others_at_once(
    world: Callable[..., World], where: str
) -> None:
    fleet = world(where, rollout_of(15, lease=300))
    fleet.serve()
    both = fleet.start(where, where)
    asked = both.holder(fleet.in_the_middle_of_it(4))
    both.signal(asked, signal.SIGTERM)
    fleet.hosts.let_go()
    statuses = both.wait()
    assert statuses[asked] == 100 + signal.SIGTERM
    assert statuses[1 - asked] == 0
    fleet.judge(both)
    # two on one host do not take each other's slices
    assert fleet.store.rows("select sum(claims) from fleet_slice") == [(5 + 1,)]
