"""Stores of a fleet with rollouts and reports in them, for tests of what is said about both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fleetwork import needs_postgres

from miyabi_healing.fleet.open_store import open_store
from miyabi_healing.fleet.sql_store import SqlStore
from miyabi_healing.fleet.status import (
    FleetStatus,
    OpenIssue,
    OpenRollout,
    SilentHost,
    SomeHosts,
    VersionInUse,
)
from miyabi_healing.model.rollout import Answer, HostState, Rollout, Slice, state_of

LABEL = "2026-11-26/build"


def issue(name: str, target: str = "/", severity: str = "high", healed: bool = False) -> Any:
    return {
        "name": name, "description": f"{name} is over its limit", "severity": severity,
        "metric_value": 95.0, "threshold": 90.0, "unit": "%", "target": target, "healed": healed,
    }  # fmt: skip


def document(
    *issues: Any, version: str = "0.1.0", blocked: bool = False, made: float = 0, **more: Any
) -> dict[str, Any]:
    """A host's report; `blocked` is whether a policy kept its issues from being healed."""
    actions = [
        {"issue": each["name"], "target": each["target"], "brake": "cooldown"}
        for each in (issues if blocked else ())
    ]
    return {
        "ended": made or time.time(), "version": version, "run_id": "20261126T100000-7",
        "fleet": {"run": LABEL}, "issues_detected": list(issues), "actions_taken": actions,
        "summary": f"{len(issues)} issue(s).", **more,
    }  # fmt: skip


@contextmanager
def opened(where: str, folder: Path) -> Iterator[SqlStore]:
    """A store: of a Postgres by its connection string, or in a file."""
    with closing(open_store(where, folder / "fleet.sqlite3")) as store:
        assert isinstance(store, SqlStore)
        yield store


STORES = ["file", pytest.param("Postgres", marks=needs_postgres)]


@contextmanager
def empty(request: pytest.FixtureRequest, folder: Path) -> Iterator[SqlStore]:
    """An empty store of the kind that a fixture's parameter says, one of STORES."""
    where = ""
    if request.param == "Postgres":
        import psycopg

        where = request.getfixturevalue("server").dsn
        with psycopg.connect(where, autocommit=True) as to:
            to.execute("drop schema public cascade; create schema public")
    with opened(where, folder) as store:
        yield store


def rolled_out(
    store: SqlStore, answers: list[Answer], untouched: tuple[str, ...] = (), at_work: str = ""
) -> None:
    """A rollout whose hosts have answered, but for some; its waves are of these three kinds."""
    slices = (
        Slice(1, 1, tuple(each.host for each in answers)),
        Slice(2, 2, (at_work or "hostw",)),
        Slice(3, 3, untouched or ("hostu",)),
    )
    assert store.create(Rollout(LABEL, slices), "ana@ctl")
    claim = store.claim(LABEL, "ctl-1")
    assert claim
    for each in answers:
        assert store.record(claim, each)
    assert store.finish(claim)
    if at_work:
        assert store.advance(LABEL, 1)
        assert store.claim(LABEL, "ctl-2")


def answer(host: str, code: int, *issues: Any, **more: Any) -> Answer:
    return Answer(host, state_of(code), code, "", document(*issues, **more))


def mixed(*, extra: tuple[Answer, ...] = ()) -> list[Answer]:
    """A host in each state that a host can have answered with."""
    return [
        answer("host1", 0),
        answer("host2", 1, issue("disk", "/"), issue("disk", "/data"), issue("logs", healed=True)),
        answer("host3", 1, issue("disk"), issue("memory")),
        answer("host4", 3, issue("memory")),
        Answer("host5", HostState.BUSY, 75, "another run holds the lock (pid 4711)"),
        Answer("host6", HostState.FAILED, 127, "miyabi-healing: command not found"),
        Answer("host7", HostState.UNREACHABLE, None, "connect to 10.0.0.7 port 22: timed out"),
        *extra,
    ]


def age(store: SqlStore, host: str, seconds: float) -> None:
    """Let a host's report be so old."""
    sql = "update fleet_report set kept = kept - ?, since = since - ? where host = ?"
    store._database.run(lambda to: to.write(sql, seconds, seconds, host))


def large(hosts: int = 100_000) -> FleetStatus:
    """A fleet in which everything is there, some of it with endless or evil names."""
    names = tuple(f"web{each:05}.dc{each * 7 % 13}.example" for each in range(500))
    evil = "<script>alert(1)</script>\x1b[2J\u202e" + "x" * 300
    return FleetStatus(
        now=1.8e9, silent_after=7200, hosts=hosts, well=hosts - 60_000, issues=40_000,
        unknown=SomeHosts(10_000, names), silent=10_000, never=2000,
        silent_hosts=tuple(
            SilentHost(each, None if at < 50 else at * 3600, "" if at < 50 else "well", "0.1.0")
            for at, each in enumerate((evil, *names))
        ),
        open_issues=tuple(
            OpenIssue(f"{evil}{at}" if at == 3 else f"issue_{at}", "high", 900 - at, names, 1.7e9)
            for at in range(100)
        ),
        blocked=SomeHosts(4000, names),
        versions=tuple(VersionInUse(f"{evil}{at}", 10, names if at else ()) for at in range(100)),
        rollouts=tuple(
            OpenRollout(f"{evil}{at}", "stopped", True, evil, 1, 3, 1.79e9,
                               {"untouched": 5, "unreachable": 1}, False) for at in range(20)
        ),
    )  # fmt: skip
