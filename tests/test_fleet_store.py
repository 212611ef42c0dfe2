"""Where coordinators meet: the same promises in Postgres and in a file, and what each has alone."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fleet_standins import CutLine, in_background
from fleetwork import Postgres, needs_postgres

from conftest import wait_for
from miyabi_healing.fleet import sql_store
from miyabi_healing.fleet.database import Transaction
from miyabi_healing.fleet.open_store import open_store
from miyabi_healing.fleet.owner import new_owner
from miyabi_healing.fleet.postgres_store import PostgresDatabase
from miyabi_healing.fleet.sql_store import SqlStore
from miyabi_healing.fleet.store import NO_ANSWER, FleetStore, Led, StoreError
from miyabi_healing.fleet.waves import make_slices
from miyabi_healing.model.rollout import Answer, Claim, HostState, Rollout, RolloutState, Rules

WELL, ISSUES, UNREACHABLE = HostState.WELL, HostState.ISSUES, HostState.UNREACHABLE
UNTOUCHED, AT_WORK, FAILED = HostState.UNTOUCHED, HostState.AT_WORK, HostState.FAILED
Opener = Callable[[], FleetStore]


@pytest.fixture(params=["file", pytest.param("postgres", marks=needs_postgres)])
def another(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store once more."""
    where = "" if request.param == "file" else request.getfixturevalue("where")
    opened = []

    def open_one() -> FleetStore:
        opened.append(open_store(where, tmp_path / "fleet/rollouts"))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def store(another: Opener) -> FleetStore:
    return another()


def rollout_of(
    hosts: int = 4, waves: tuple[str, ...] = ("100%",), size: int = 2, **changes: Any
) -> Rollout:
    names = [f"h{number}" for number in range(hosts)]
    at_once = changes.pop("at_once", 50)
    slices = make_slices(names, waves, size, at_once)
    return Rollout("a", slices, at_once, **changes)


def claim(store: FleetStore, owner: str = "one") -> Claim:
    found = store.claim("a", owner)
    assert found is not None
    return found


def report(**changes: object) -> dict[str, object]:
    document = {"ended": 100.0, "run_id": "r1", "summary": "Healthy.", "version": "1.0"}
    return {**document, "issues_detected": [], "actions_taken": [], **changes}


def everything(store: FleetStore) -> list[list[tuple[Any, ...]]]:
    tables = ("rollout", "slice", "host", "report")
    return [store.rows(f"select * from fleet_{name} order by 1, 2") for name in tables]


def states(store: FleetStore) -> dict[str, HostState]:
    return {each.host: each.state for each in store.answers("a", reports=False)}


def pass_time(store: FleetStore, seconds: float) -> None:
    """As if it had passed for all leases."""
    change(store, f"update fleet_slice set expires = expires - {seconds}")


def change(store: FleetStore, sql: str) -> None:
    store._database.write((sql, ()))  # type: ignore[attr-defined]


def work_off(store: FleetStore, state: HostState = WELL) -> None:
    """All that can be claimed now."""
    while found := store.claim("a", "one"):
        for host in found.slice.hosts:
            assert store.record(found, Answer(host, state, 0))
        assert store.finish(found)


# -- what was asked ------------------------------------------------------------------------------


def test_rollout_is_read_as_it_was_asked(store: FleetStore) -> None:
    asked = rollout_of(9, ("1", "50%"), lease=3.5, rules=Rules(False, 1.5, 99), dry_run=True)
    assert store.rollout("a") is None
    assert store.standing("a") is None
    assert store.create(asked, "me")
    assert store.rollout("a") == asked
    standing = store.standing("a")
    assert standing is not None
    assert (standing.state, standing.wave, standing.waves) == (RolloutState.RUNNING, 1, 3)
    assert standing.counts == {UNTOUCHED: 9}
    assert standing.made_by == "me"
    assert standing.ended is None
    assert abs(standing.made - store.now()) < 60


def test_same_rollout_is_made_once_and_another_of_its_name_never(store: FleetStore) -> None:
    asked = rollout_of()
    assert store.create(asked, "me")
    before = everything(store)
    assert not store.create(asked, "somebody else")
    for other, word in (
        (rollout_of(5), "hosts"),
        (replace(asked, lease=1), "lease"),
        (replace(asked, dry_run=True), "dry_run"),
    ):
        with pytest.raises(ValueError, match=f"with other {word};"):
            store.create(other, "me")
    assert everything(store) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": ""}, "has a label"),
        ({"label": "a\nb"}, "printable"),
        ({"slices": ()}, "has hosts"),
        ({"slices": rollout_of().slices * 2}, "once"),
        ({"at_once": 1}, "slice of 2 hosts"),
        ({"lease": 0}, "lease"),
    ],
)
def test_rollout_that_could_never_be_done_is_refused(
    store: FleetStore, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        store.create(replace(rollout_of(), **changes), "me")
    assert store.standings() == []


# -- who has a slice -----------------------------------------------------------------------------


def test_slices_of_the_wave_in_hand_are_given_as_long_as_hosts_may_be_at_work(
    store: FleetStore, another: Opener
) -> None:
    store.create(rollout_of(7, ("6",), at_once=4), "me")
    first, second = claim(store, "one"), claim(store, "two")
    assert (first.slice.hosts, second.slice.hosts) == (("h0", "h1"), ("h2", "h3"))
    assert second.token > first.token
    assert store.claim("a", "three") is None, "four hosts are at work"
    assert store.open_slices("a") == (1, 2)
    assert states(store)["h3"] is AT_WORK
    assert store.finish(first)
    assert claim(store, "three").slice.number == 3
    assert store.claim("a", "one") is None, "the next wave is not in hand"
    assert store.claim("b", "one") is None


def test_owner_that_asks_again_has_lost_the_answer_and_is_given_its_slice(
    store: FleetStore,
) -> None:
    store.create(rollout_of(), "me")
    first = claim(store)
    again = claim(store)
    assert again.slice == first.slice
    assert again.token > first.token
    assert not store.renew(first)
    assert claim(store, "two").slice != first.slice


def test_slice_is_taken_over_when_its_lease_has_run_out_and_not_before(store: FleetStore) -> None:
    store.create(rollout_of(2, lease=300), "me")
    dead = claim(store, "dead")
    assert store.record(dead, Answer("h0", WELL, 0))
    assert store.claim("a", "heir") is None
    pass_time(store, 200)
    assert store.renew(dead)
    pass_time(store, 200)
    assert store.claim("a", "heir") is None, "it was renewed"
    pass_time(store, 101)
    assert store.open_slices("a") == (1, 0)
    heir = claim(store, "heir")
    assert heir.slice.hosts == ("h1",), "h0 has answered"
    assert heir.token > dead.token


def test_expired_slice_comes_before_one_that_nobody_has_had(store: FleetStore) -> None:
    store.create(rollout_of(6), "me")
    claim(store, "one"), claim(store, "two")
    pass_time(store, 31)
    assert claim(store, "three").slice.number == 1
    assert store.rows("select claims from fleet_slice order by number") == [(2,), (1,), (0,)]


def test_who_has_slices_in_hand_takes_over_lost_ones_and_nothing_else(
    store: FleetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(rollout_of(8), "me")
    mine, _dead, theirs = claim(store), claim(store, "dead"), claim(store, "other")
    assert store.take_over("a", "one", [1]) is None, "nothing is lost, and new ones are for others"
    pass_time(store, 31)
    assert store.renew(theirs)
    taken = store.take_over("a", "one", [1])
    assert taken is not None
    assert taken.slice.number == 2
    assert taken.token > theirs.token
    assert store.take_over("a", "one", [1, 2]) is None, "its own are late, and in its hand"
    again = store.take_over("a", "one", [1])
    assert again is not None
    assert again.slice == taken.slice, "it does not know that it has that one"
    assert store.renew(mine), "nobody else has it"
    assert store.renew(again)
    monkeypatch.setattr(store, "rows", lambda *_: [(1,)])
    assert store.take_over("a", "one", [1, 2]) is None, "somebody else was first"
    monkeypatch.undo()
    assert store.stop("a", "enough")
    pass_time(store, 31)
    assert store.take_over("a", "one", [1]) is None


def test_late_ones_change_nothing(store: FleetStore) -> None:
    store.create(rollout_of(2), "me")
    late = claim(store, "late")
    pass_time(store, 31)
    claim(store, "heir")
    before = everything(store)
    assert not store.record(late, Answer("h0", ISSUES, 1, "late", report()))
    assert not store.renew(late)
    assert not store.finish(late)
    store.release(late)
    assert everything(store) == before


def test_nothing_is_accepted_for_a_slice_that_is_done(store: FleetStore) -> None:
    store.create(rollout_of(2), "me")
    mine = claim(store)
    assert store.record(mine, Answer("h0", ISSUES, 1, "one left"))
    assert store.finish(mine)
    assert store.finish(mine), "the first answer may have been lost"
    before = everything(store)
    assert not store.record(mine, Answer("h1", WELL, 0))
    assert not store.renew(mine)
    store.release(mine)
    assert everything(store) == before
    assert list(store.answers("a")) == [
        Answer("h0", ISSUES, 1, "one left"),
        Answer("h1", UNREACHABLE, None, NO_ANSWER),
    ]


def test_slice_that_was_given_back_is_free_at_once_and_still_counts(store: FleetStore) -> None:
    store.create(rollout_of(4, at_once=2), "me")
    mine = claim(store)
    store.release(mine)
    assert store.open_slices("a") == (2, 0)
    heir = claim(store, "heir")
    assert heir.slice == mine.slice, "its hosts may go on: no others beside them"
    assert store.claim("a", "third") is None


def test_answer_of_a_host_that_is_not_of_the_slice_is_a_mistake(store: FleetStore) -> None:
    store.create(rollout_of(), "me")
    with pytest.raises(ValueError, match="h3 is no host of slice 1"):
        store.record(claim(store), Answer("h3", WELL, 0))
    assert states(store)["h3"] is UNTOUCHED


def test_owners_are_never_the_same() -> None:
    owners = {new_owner() for _ in range(100)}
    assert len(owners) == 100, "two coordinators on one host"
    assert all(each.startswith(f"{os.uname().nodename}/{os.getpid()}/") for each in owners)


# -- on to the next wave, stopped, opened again --------------------------------------------------


def test_rollout_goes_on_wave_by_wave_once_each_until_it_is_finished(store: FleetStore) -> None:
    store.create(rollout_of(3, ("1", "2")), "me")
    mine = claim(store)
    assert not store.advance("a", 1), "a slice is open"
    assert store.finish(mine)
    assert store.advance("a", 1)
    assert not store.advance("a", 1), "somebody did"
    work_off(store)
    assert [each.host for each in store.answers_of_wave("a", 2)] == ["h1", "h2"]
    assert store.advance("a", 2)
    standing = store.standing("a")
    assert standing is not None
    assert standing.state is RolloutState.FINISHED
    assert standing.ended is not None
    assert not store.advance("a", 2)
    assert store.claim("a", "one") is None
    assert not store.stop("a", "too late")


def test_stopped_rollout_begins_nothing_and_finishes_what_is_in_hand(store: FleetStore) -> None:
    store.create(rollout_of(), "me")
    mine = claim(store)
    assert store.stop("a", "somebody\nsaid so")
    assert not store.stop("a", "again")
    assert store.claim("a", "two") is None
    assert store.renew(mine)
    assert store.record(mine, Answer("h0", WELL, 0))
    assert store.finish(mine)
    standing = store.standing("a")
    assert standing is not None
    assert (standing.state, standing.by_rule) == (RolloutState.STOPPED, False)
    assert standing.reason == "somebody\\nsaid so"
    assert standing.ended is not None
    assert store.reopen("a", again=False)
    assert claim(store).slice.number == 2
    standing = store.standing("a")
    assert standing is not None
    assert (standing.state, standing.reason, standing.ended) == (RolloutState.RUNNING, "", None)


@pytest.mark.parametrize(("again", "wave", "hosts"), [(False, 2, ("h1",)), (True, 1, ("h0",))])
def test_canary_that_failed_is_passed_or_asked_again(
    store: FleetStore, again: bool, wave: int, hosts: tuple[str, ...]
) -> None:
    store.create(rollout_of(2, ("1",)), "me")
    work_off(store, UNREACHABLE)
    assert store.stop("a", "canary", by_rule=True)
    assert store.reopen("a", again=again)
    mine = claim(store)
    assert (mine.slice.wave, mine.slice.hosts) == (wave, hosts)


def test_hosts_without_an_answer_are_asked_again_also_of_a_finished_rollout(
    store: FleetStore,
) -> None:
    store.create(rollout_of(4), "me")
    first = claim(store)
    store.record(first, Answer("h0", ISSUES, 1))
    store.record(first, Answer("h1", HostState.BUSY, 75, "busy"))
    store.finish(first)
    work_off(store)
    assert store.advance("a", 1)
    assert not store.reopen("a", again=False), "nothing is left"
    assert store.reopen("a", again=True)
    assert states(store) == {"h0": ISSUES, "h1": UNTOUCHED, "h2": WELL, "h3": WELL}
    assert claim(store).slice.hosts == ("h1",)
    assert not store.reopen("a", again=True), "it runs"
    work_off(store)
    assert store.advance("a", 1)
    assert not store.reopen("a", again=True), "every host has answered"
    assert not store.reopen("b", again=True)


def test_last_wave_that_a_rule_stopped_has_nothing_after_it(store: FleetStore) -> None:
    store.create(rollout_of(2), "me")
    work_off(store, ISSUES)
    store.stop("a", "max_fail", by_rule=True)
    assert not store.reopen("a", again=False)
    assert not store.reopen("a", again=True)


# -- answers and reports -------------------------------------------------------------------------


def test_answers_come_by_name_however_many(
    store: FleetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_store, "_AT_A_TIME", 3)
    store.create(rollout_of(8), "me")
    mine = claim(store)
    store.record(mine, Answer("h1", WELL, 0, "fine", report(summary="ü\0\ud800")))
    found = list(store.answers("a"))
    assert [each.host for each in found] == [f"h{number}" for number in range(8)]
    assert found[1] == Answer("h1", WELL, 0, "fine", report(summary="ü\0\ud800"))
    assert found[0].state is AT_WORK
    assert found[7] == Answer("h7", UNTOUCHED)
    assert list(store.answers("a", reports=False))[1].report is None


def test_latest_report_of_a_host_is_kept_however_it_came(store: FleetStore) -> None:
    def kept() -> tuple[Any, ...]:
        (row,) = store.rows("select made, code, run, label, summary from fleet_report")
        return row

    store.create(rollout_of(2), "me")
    mine = claim(store)
    store.record(mine, Answer("h0", ISSUES, 1, report=report(fleet={"run": "a"})))
    assert kept() == (100, 1, "r1", "a", "Healthy.")
    store.keep_report("h0", 0, report(ended=99.0, run_id="older"))
    assert kept()[2] == "r1"
    store.keep_report("h0", 0, report(ended=101.0, run_id="r2"))
    assert kept() == (101, 0, "r2", "", "Healthy.")


def test_report_of_the_future_does_not_stay_for_ever(store: FleetStore) -> None:
    """The host's clock was wrong, and was set."""
    store.keep_report("h0", 0, report(ended=store.now() + 10_000, run_id="wrong"))
    store.keep_report("h0", 0, report(ended=store.now(), run_id="right"))
    assert store.rows("select run from fleet_report") == [("right",)]


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        {"ended": "x"},
        report(ended=float("nan")),
        report(issues_detected=3),
        report(ended=None),
        report(dry_run=True),
        report(ended=10**400),
    ],
)
def test_host_that_says_nonsense_holds_nobody_up(
    store: FleetStore, nonsense: dict[str, object]
) -> None:
    store.create(rollout_of(2), "me")
    assert store.record(claim(store), Answer("h0", WELL, 0, "\0\ud800", nonsense))
    assert states(store)["h0"] is WELL
    store.keep_report("h0", 0, nonsense)
    assert store.rows("select * from fleet_report") == []


def test_what_cannot_be_kept_holds_nobody_up(store: FleetStore) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    store.create(rollout_of(4, size=4), "me")
    mine = claim(store)
    odd = (
        Answer("h0", WELL, 2**70, report=report()),
        Answer("h1", WELL, 0, report=report(deep=deep)),
        Answer("h2", WELL, 0, report=report(version=os.urandom(50_000).hex())),
    )
    assert all(store.record(mine, each) for each in odd)
    assert states(store) == {"h0": FAILED, "h1": FAILED, "h2": WELL, "h3": AT_WORK}


# -- its tables ----------------------------------------------------------------------------------


def test_many_may_make_the_tables_at_the_same_time(another: Opener) -> None:
    stores, errors = [another() for _ in range(6)], []

    def begin(store: FleetStore) -> None:
        try:
            store.create(rollout_of(), "me")
        except Exception as error:
            errors.append(error)

    at_the_same_time([lambda store=each: begin(store) for each in stores])
    assert errors == []
    assert stores[0].rows("select count(*) from fleet_token") == [(1,)]
    assert stores[5].rows("select count(*) from fleet_host") == [(4,)]


def test_token_is_the_time_so_that_hosts_may_be_asked_from_several_stores(
    store: FleetStore,
) -> None:
    store.create(rollout_of(), "me")
    change(store, "update fleet_token set last = 5")
    assert abs(claim(store).token / 1000 - store.now()) < 60
    change(store, f"update fleet_token set last = {10**15}")
    assert claim(store).token == 10**15 + 1, "whatever the clock says"


def test_tables_of_a_newer_version_are_refused(store: FleetStore, another: Opener) -> None:
    store.create(rollout_of(), "me")
    change(store, "update fleet_version set version = 99")
    with pytest.raises(StoreError, match=r"of version 99, and this program knows 1"):
        another().standing("a")


def at_the_same_time(work: list[Callable[[], object]]) -> None:
    barrier = threading.Barrier(len(work))

    def begin(each: Callable[[], object]) -> None:
        barrier.wait()
        each()

    threads = [threading.Thread(target=begin, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# -- a file --------------------------------------------------------------------------------------


def test_file_has_one_coordinator_and_others_may_look_and_stop(tmp_path: Path) -> None:
    file = tmp_path / "state/fleet"
    with closing(open_store("", file)) as first, closing(open_store("", file)) as second:
        assert not first.shared
        first.create(rollout_of(2), "me")
        mine = claim(first)
        with pytest.raises(Led, match="another coordinator is at work"):
            second.claim("a", "two")
        assert second.standing("a") is not None
        assert second.stop("a", "enough")
        assert second.reopen("a", again=False)
        first.close()  # as the system does for one that dies
        assert claim(second, "two").slice == mine.slice, "no lease is waited for"
    assert file.stat().st_mode & 0o777 == 0o600


def test_file_that_is_none_is_an_error_of_one_line(tmp_path: Path) -> None:
    file = tmp_path / "fleet"
    file.write_bytes(b"no database" * 100)
    file.chmod(0o600)
    with closing(open_store("", file)) as store, pytest.raises(StoreError, match="not a database"):
        store.standings()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with (
        closing(open_store("", tmp_path / "shared/fleet")) as store,
        pytest.raises(StoreError, match="shared"),
    ):
        store.standings()


# -- Postgres ------------------------------------------------------------------------------------


@needs_postgres
def test_coordinators_that_waited_for_each_other_do_not_exceed_the_limit(where: str) -> None:
    """Each has to count after it waited. All of them wait here, for a row that is ours."""
    import psycopg

    stores = [open_store(where, Path()) for _ in range(6)]
    stores[0].create(rollout_of(12, at_once=6), "me")
    for each in stores[1:]:
        each.now()  # is connected
    claims: list[Claim | None] = []
    work = [
        lambda store=each, owner=str(number): claims.append(store.claim("a", owner))
        for number, each in enumerate(stores)
    ]
    with psycopg.connect(where) as ours, psycopg.connect(where, autocommit=True) as looking:
        ours.execute("select * from fleet_rollout for update")
        all_of_them = threading.Thread(target=at_the_same_time, args=(work,))
        all_of_them.start()
        waiting = b"select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        wait_for(lambda: looking.execute(waiting).fetchall() == [(6,)], 5)
        ours.rollback()
        all_of_them.join()
    for each in stores:
        each.close()
    given = [each.slice.number for each in claims if each]
    assert sorted(given) == [1, 2, 3]


@needs_postgres
def test_late_answer_that_waited_for_whoever_took_over_is_not_accepted(where: str) -> None:
    import psycopg

    with closing(open_store(where, Path())) as late, closing(open_store(where, Path())) as heir:
        late.create(rollout_of(2), "me")
        mine = claim(late, "late")
        late.release(mine)
        accepted: list[bool] = []
        with psycopg.connect(where) as ours:
            ours.execute("select * from fleet_host for update")  # keeps the heir in its claim
            taking = threading.Thread(target=lambda: heir.claim("a", "heir"))
            taking.start()
            with psycopg.connect(where, autocommit=True) as looking:
                waiting = b"select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
                wait_for(lambda: looking.execute(waiting).fetchall() == [(1,)], 5)
                telling = threading.Thread(
                    target=lambda: accepted.append(late.record(mine, Answer("h0", WELL, 0)))
                )
                telling.start()
                wait_for(lambda: looking.execute(waiting).fetchall() == [(2,)], 5)
            ours.rollback()
            taking.join()
            telling.join()
        assert accepted == [False]
        assert states(heir)["h0"] is AT_WORK


@needs_postgres
def test_lost_line_is_made_anew(server: Postgres, where: str) -> None:
    import psycopg

    with closing(open_store(where, Path())) as store:
        store.create(rollout_of(), "me")
        with psycopg.connect(where, autocommit=True) as other:
            other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name = 'miyabi-healing'"
            )
        mine = claim(store)
        server.stop()
        with pytest.raises(StoreError, match=r"the fleet's store: .*refused"):
            store.renew(mine)
        server.start()
        assert store.record(mine, Answer("h0", WELL, 0))


@needs_postgres
def test_line_on_which_nothing_comes_any_more_is_given_up(server: Postgres, where: str) -> None:
    """A proxy that stands still takes whatever is sent: the kernel sees nothing wrong."""
    line = CutLine(server.port)
    served = asyncio.start_server(line.connected, "127.0.0.1", line.port)
    store = SqlStore(PostgresDatabase(where.replace(f":{server.port}/", f":{line.port}/"), 0.5))
    with closing(store), in_background(served):
        store.create(rollout_of(), "me")
        line.cut()
        late = threading.Timer(15, line.mend)
        late.start()
        with pytest.raises(StoreError):
            claim(store)
        late.cancel()
        assert line.cut_at is not None, "it waited until the line was whole again"
        line.mend()
        assert claim(store).slice.number == 1


@needs_postgres
def test_session_that_stands_still_does_not_keep_others_waiting(where: str) -> None:
    """Its process was stopped, or its line broke, in the middle of a claim."""
    stuck = PostgresDatabase(where, 0.3)
    with closing(open_store(where, Path())) as other:
        other.create(rollout_of(), "me")
        claims = []

        def stand_still(sql: Transaction) -> None:
            sql.rows("select * from fleet_rollout for update")
            stuck._watchdog.end()  # all of the process stands still
            claims.append(claim(other, "other"))
            sql.rows("select 1")

        with pytest.raises(StoreError), closing(stuck):
            stuck.run(stand_still)
    assert claims


@pytest.mark.parametrize(
    "where",
    [
        "postgresql://fleet:hunter2@127.0.0.1:1/db",
        "postgresql://fleet:x/hunter2@127.0.0.1:1/db",
        "postgresql://fleet:x@hunter2@127.0.0.1:1/db",
        "postgresql://fleet:x@hunter2/y@127.0.0.1:1/db",
        "postgresql://fleet:hunter2%zz@127.0.0.1:1/db",
        "host=127.0.0.1 port=1 password=hunter2",
        "host=127.0.0.1 port=1 password=x hunter2",
        "host=127.0.0.1 port=hunter2 password=x",
        "host=127.0.0.1 port=1 hunter2=x",
    ],
)
def test_password_is_in_no_message(where: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError) as caught, closing(open_store(where, Path())) as store:
        store.standings()
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"
    assert "\n" not in str(caught.value)


def test_missing_psycopg_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'miyabi-healing\[fleet\]'"):
        open_store("postgresql://127.0.0.1:1/db", Path())
