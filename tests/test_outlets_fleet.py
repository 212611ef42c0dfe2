"""A host's own reports in a fleet's store: what has changed, else once in an interval; and whatever
the store does, the run ends as it would have.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sqlite3
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint import closed_port, took_less_than
from fleetwork import Postgres, needs_postgres
from program import run, settings

from miyabi_healing.cli.setup import diagnosis
from miyabi_healing.fleet.schema import TABLES
from miyabi_healing.model.config import Config, ConfigError, FleetSettings
from miyabi_healing.model.conninfo import store_objection
from miyabi_healing.report import documents, fleet_row, fleet_store
from miyabi_healing.report.outputs import dispatch, fleet
from miyabi_healing.state.fleet_told import Told
from miyabi_healing.support import paths
from miyabi_healing.support.config_loader import load_config

HERE = os.uname().nodename
LONG = 1e9  # seconds: no host's moment comes while a test lasts
SECRET = "0a1b2c3d-secret"
CHECK = """
import pytest

@pytest.mark.limit(5, unit="things")
def test_things(measure, limit):
    assert measure(VALUE, "Found some things") <= limit
"""


@pytest.fixture
def store(server: Postgres) -> str:
    """The connection string of a store with empty tables."""
    ask(server.dsn, "drop schema public cascade; create schema public")
    for each in TABLES:
        ask(server.dsn, each)
    return server.dsn


def ask(dsn: str, query: str) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(dsn, autocommit=True) as to:
        done = to.execute(query.encode())
        return done.fetchall() if done.description else []


def kept(store: str, columns: str = "host, code, label") -> list[tuple[Any, ...]]:
    return ask(store, f"select {columns} from fleet_report")


def world(home: Path, store: str, more: str = "", value: int = 1) -> tuple[str, ...]:
    """The arguments of a program that reports there, with a check that finds so many things."""
    (home / "mine").mkdir(exist_ok=True)
    (home / "mine/test_things.py").write_text(CHECK.replace("VALUE", str(value)))
    text = f'[fleet]\nreport = true\nstore = "{store}"\nreport_every = {LONG:.0f}\n{more}\n'
    return "--quiet", "--config", settings(home, text), "--checks", str(home / "mine")


def tell(
    store: str, monkeypatch: pytest.MonkeyPatch, code: int = 0, label: str = "", **rules: Any
) -> str:
    """Send what came of a run, as one does; returns what is said about it."""
    said: list[str] = []
    monkeypatch.setattr(dispatch.console, "complain", said.append)
    wanted = {"report_every": LONG, "report_time_limit": 20, **rules}
    chosen = Config(fleet=FleetSettings(store=store, report=True, **wanted))
    document = documents.failed_report("odd")
    if label:
        document["fleet"] = {"run": label, "token": 3}
    dispatch.send_outputs(document, code, chosen, dry_run=False, seconds=1)
    assert len(said) <= 1
    return "".join(said)


@contextlib.contextmanager
def journal() -> Iterator[sqlite3.Connection]:
    file = paths.state_folder() / paths.JOURNAL
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
        yield database


def told() -> Told:
    with journal() as database:
        return Told(
            *database.execute(f"select {', '.join(Told._fields)} from fleet_told").fetchone()
        )


def later(seconds: float) -> None:
    """As if so much time had passed since the journal was written."""
    with journal() as database:
        database.execute(
            "update fleet_told set kept = kept - ?, not_before = not_before - ?", (seconds, seconds)
        )


# What is kept, and when


@needs_postgres
def test_what_changes_is_kept_at_once_and_the_rest_once_in_the_interval(
    home: Path, store: str
) -> None:
    moments = []

    def make(value: int) -> None:
        done = run(*world(home, store, value=value))
        assert done.stderr == ""
        assert done.returncode == (value > 5)
        moments.append(kept(store, "kept")[0][0])

    make(1)
    assert kept(store) == [(HERE, 0, "")]
    make(2)  # another value is no change
    make(7)
    ((issues, summary),) = kept(store, "issues, summary")
    assert '"name": "things"' in issues
    assert summary.startswith("1 issue(s) detected")
    later(LONG)
    make(8)
    assert [now > before for before, now in itertools.pairwise(moments)] == [False, True, True]


@needs_postgres
def test_only_whole_runs_that_change_something_are_told_and_a_fleets_with_its_label(
    home: Path, store: str
) -> None:
    arguments = world(home, store)
    run("--dry-run", *arguments)
    run("--only", "things", *arguments)
    assert kept(store) == []
    run("--fleet-run", "monday", "--fleet-token", "3", *arguments)
    assert kept(store) == [(HERE, 0, "monday")]


@needs_postgres
def test_what_a_fleet_asked_for_is_told_also_where_it_is_no_news(
    home: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("", "monday", ""):
        tell(store, monkeypatch, label=label)
    assert kept(store) == [(HERE, 0, "monday")]
    tell(store, monkeypatch, label="tuesday", name="build7")
    assert set(kept(store)) == {(HERE, 0, "monday"), ("build7", 0, "tuesday")}


@needs_postgres
def test_interrupted_run_says_nothing_of_the_host(
    home: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tell(store, monkeypatch, code=143) == ""
    assert kept(store) == []
    assert tell(store, monkeypatch, code=3) == ""
    assert kept(store) == [(HERE, 3, "")]


@needs_postgres
def test_another_store_is_told_as_well(
    home: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(store, monkeypatch)
    ask(store, "delete from fleet_report")
    tell(store, monkeypatch)
    assert kept(store) == []
    tell(f"{store}?application_name=other", monkeypatch)
    assert kept(store) == [(HERE, 0, "")]


def test_moment_of_a_host_is_steady_and_passes_once_in_the_interval() -> None:
    before = Told("same", kept=10_000)
    assert fleet.is_due(before, "other", 10_001, 3600, 0)
    due = [fleet.is_due(before, "same", now, 3600, 900) for now in (10_001, 11_699, 11_701)]
    assert due == [False, False, True]  # 900 + 3 * 3600 = 11,700
    assert fleet.is_due(before, "same", 8_000, 3600, 900), "a clock that was set back"


def test_hosts_are_spread_over_the_whole_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [fleet.own_place(f"build-{number:03}") for number in range(1000)]
    assert places == [fleet.own_place(f"build-{number:03}") for number in range(1000)]
    tenths = [sum(int(each * 10) == tenth for each in places) for tenth in range(10)]
    assert sum(tenths) == 1000
    assert 60 < min(tenths) <= max(tenths) < 140
    monkeypatch.setattr(fleet, "_MACHINE", Path("/nonexistent"))
    assert 0 <= fleet.own_place("build-001") < 1


# The store that is not there


@needs_postgres
def test_store_that_is_away_is_said_once_and_told_the_newest_when_it_is_back(
    home: Path, store: str, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(store, monkeypatch, code=0)
    server.stop()
    try:
        assert "Connection refused" in tell(store, monkeypatch, code=1)
        assert (told().failures, told().kept > 0) == (1, True)
        with journal() as database:
            database.execute("update fleet_told set not_before = ?", (time.time() + 1000,))
        assert tell(store, monkeypatch, code=1) == ""
        assert told().failures == 1, "it was too early"
        later(2000)
        assert tell(store, monkeypatch, code=1) == "", "it was said before"
        assert told().failures == 2
    finally:
        server.start()
    later(LONG)
    assert tell(store, monkeypatch, code=3) == ""
    assert kept(store) == [(HERE, 3, "")]
    assert told()._replace(kept=0, outcome="") == Told()


def test_retry_waits_anything_up_to_a_bound_that_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [fleet.full_jitter(2, 3600) for _ in range(2000)]
    assert 0 <= min(drawn) < 10
    assert 230 < max(drawn) <= 240
    assert 110 < statistics.mean(drawn) < 130
    monkeypatch.setattr(fleet.random, "uniform", lambda _, most: most)
    assert [fleet.full_jitter(failed, 3600) for failed in range(8)] == [
        60, 120, 240, 480, 960, 1920, 3600, 3600
    ]  # fmt: skip
    assert fleet.full_jitter(100_000, 3600) == 3600


def test_wait_that_only_a_wrong_clock_can_mean_is_none() -> None:
    before = Told(failures=3, not_before=5000)
    assert [fleet.is_early(before, now, 3600) for now in (5001, 4999, 1401, 1399)] == [
        False, True, True, False
    ]  # fmt: skip


def test_store_that_never_answers_holds_no_run_up(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        address = f"host=127.0.0.1 port={hole.getsockname()[1]} user=fleet"
        with took_less_than(15):
            done = run(*world(home, address, "report_time_limit = 0.5"))
        assert (done.returncode, done.stdout) == (0, "")
        assert "fleet: no answer within 0.5 s" in done.stderr
        assert told().problem == "no answer within 0.5 s"


@needs_postgres
def test_store_without_tables_is_named_with_the_way_out(
    home: Path, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(server.dsn, "drop schema public cascade; create schema public")
    said = tell(server.dsn, monkeypatch)
    assert "no table fleet_report that this user can see; the first rollout makes it" in said
    assert ask(server.dsn, "select to_regclass('fleet_report')") == [(None,)]


@needs_postgres
def test_password_is_libpqs_own_business_and_in_no_message(
    home: Path, store: str, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = server.folder / "data/pg_hba.conf"
    before = access.read_text()
    try:
        access.write_text(f"host all host 127.0.0.1/32 scram-sha-256\n{before}")
        ask(store, f"select pg_reload_conf(); create role host login password '{SECRET}'")
        ask(store, "grant usage on schema public to host")
        dsn = store.replace("fleet@", "host@")
        file = home / ".pgpass"
        file.touch(0o600)
        file.write_text(f"*:*:*:host:{SECRET}-wrong\n")
        said = tell(dsn, monkeypatch)
        assert "password authentication failed" in said
        assert SECRET not in said
        file.write_text(f"*:*:*:host:{SECRET}\n")
        later(LONG)
        assert "may not write the table fleet_report; grant" in tell(dsn, monkeypatch)
        ask(store, "grant select, insert, update on fleet_report to host")
        later(LONG)
        assert tell(dsn, monkeypatch) == ""
        assert kept(store) == [(HERE, 0, "")]
    finally:
        access.write_text(before)
        ask(store, "drop owned by host; drop role host; select pg_reload_conf()")


def test_what_is_missing_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "store does not say where to" in tell("", monkeypatch)
    assert tell("", monkeypatch) == ""
    later(LONG)
    assert "libpq can read" in tell("nonsense=1", monkeypatch)
    later(LONG)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "pip install 'miyabi-healing[fleet]'" in tell("host=127.0.0.1", monkeypatch)


@pytest.mark.parametrize(
    "store",
    [
        f"postgresql://fleet:{SECRET}@db/fleet", f"postgres://:{SECRET}?@db", "host=db password=x",
        f"postgresql://db/fleet?%70assword={SECRET}", f"host = db  password = '{SECRET} x'",
        f"sslpassword={SECRET}", f"host='a\\' b' password={SECRET}", f"host=' password={SECRET}",
    ],
)  # fmt: skip
def test_password_in_the_configuration_is_refused(home: Path, store: str) -> None:
    objection = store_objection(store)
    assert "must not hold a password; libpq reads it from ~/.pgpass" in objection
    assert SECRET not in objection


@pytest.mark.parametrize(
    ("store", "objection"),
    [
        ("postgresql://fleet@db:5432/fleet?target_session_attrs=any", ""),
        ("postgresql:///fleet", ""),
        ("host=db passfile='/etc/pg pass' options='-c password_encryption=on'", ""),
        ("service = fleet", ""),
        ("/var/lib/fleet.sqlite3", "must be a connection string"),
        ("mysql://db/fleet", "must be a connection string"),
    ],
)
def test_other_stores_are_refused_by_their_form_alone(store: str, objection: str) -> None:
    found = store_objection(store)
    assert objection in found
    assert bool(objection) == bool(found)


def test_configuration_with_a_password_in_it_is_refused(home: Path) -> None:
    store = f"postgresql://fleet:{SECRET}@db/fleet"
    with pytest.raises(ConfigError, match="store must not hold a password") as raised:
        load_config(settings(home, f'[fleet]\nstore = "{store}"\n'))
    assert SECRET not in str(raised.value)


# The statement, in both databases


def keep(store: str, made: float, summary: str) -> None:
    """Keep a report of `made`, in Postgres or in a file."""
    document = {**documents.failed_report("odd"), "ended": made, "summary": summary}
    if not store.startswith("postgresql:"):
        with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as file:
            values = fleet_row.keep_values("a", 3, document)
            file.execute(fleet_row.keep_statement(fleet_row.SQLITE), values)
    else:
        fleet_store.keep(store, "a", 3, document, 20)


def check_keeping(store: str, read: Any) -> None:
    now = time.time()
    keep(store, now - 50, "first")
    keep(store, now - 60, "older")
    ((said, made, stored),) = read("select summary, made, kept from fleet_report")
    assert (said, made) == ("first", now - 50)
    assert abs(stored - now) < 60
    keep(store, now + 1e6, "ahead")
    ((said, made),) = read("select summary, made from fleet_report")
    assert said == "ahead"
    assert made < now + 60
    time.sleep(0.01)
    keep(store, time.time(), "right again")
    assert read("select summary from fleet_report") == [("right again",)]


@needs_postgres
def test_postgres_keeps_the_newest_and_believes_nothing_of_the_future(store: str) -> None:
    check_keeping(store, lambda query: ask(store, query))


def test_file_keeps_the_newest_and_believes_nothing_of_the_future(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "store")) as file:
        for each in TABLES:
            file.execute(each)
        check_keeping(str(tmp_path / "store"), lambda query: file.execute(query).fetchall())


# The doctor


def doctor(store: str, report: bool = True) -> list[tuple[str, str]]:
    chosen = Config(fleet=FleetSettings(store=store, report=report))
    found = list(diagnosis._fleet(chosen))
    return [(each.state, each.message) for each in found]


@needs_postgres
def test_doctor_says_whether_the_store_takes_reports(home: Path, store: str) -> None:
    assert doctor(store, report=False) == []
    whole = Config(fleet=FleetSettings(store=store, report=True))
    (found,) = [each for each in diagnosis.diagnose(whole, "") if each.topic == "fleet"]
    state, words = found.state, found.message
    assert state == "ok"
    assert "takes this host's reports" in words
    ask(store, "drop table fleet_report")
    ((state, words),) = doctor(store)
    assert state == "problem"
    assert "no table fleet_report" in words
    assert doctor("") == [("problem", "report is on, and store does not say where to")]
    ((state, words),) = doctor(f"host=127.0.0.1 port={closed_port()}")
    assert state == "problem"
    assert "cannot be reached" in words
