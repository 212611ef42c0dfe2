"""What a fleet's store takes, and how many hosts a rollout touches that a rule stops: each function
is a program of its own that prints its figures as JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from miyabi_healing.fleet.coordinator import lead
from miyabi_healing.fleet.open_store import open_store
from miyabi_healing.fleet.owner import new_owner
from miyabi_healing.fleet.store import FleetStore
from miyabi_healing.fleet.waves import make_slices
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.rollout import Answer, Claim, HostState, Rollout, Rules, state_of
from miyabi_healing.report import documents, fleet_store

_WRITERS = 3  # coordinators


def report_of(host: str, names: int = 12) -> dict[str, Any]:
    """A report of a usual size, some 5 kB, with one issue that remains."""
    metrics = [
        {"name": f"check_{number}", "target": f"/srv/{number}", "value": number, "threshold": 90}
        | {"critical": 95, "unit": "%", "description": "so much of it is in use", "outcome": "ok"}
        for number in range(names)
    ]
    issue = {"name": "disk_space_critical", "target": "/", "severity": "high", "healed": False}
    more = {"description": "so much of it is in use" * 20, "metric_value": 97, "threshold": 90}
    found: dict[str, Any] = {**documents.failed_report("-"), "host": host, "run_id": f"run-{host}"}
    return {**found, "metrics": metrics, "issues_detected": [{**issue, **more, "unit": "%"}]}


def _made(store: FleetStore, hosts: int, waves: list[str], slice_size: int, rules: Rules) -> str:
    names = [f"host{number:06}" for number in range(hosts)]
    label = f"costs {os.getpid()} {time.time():.3f}"
    slices = make_slices(names, waves, slice_size, hosts)
    store.create(Rollout(label, slices, hosts, 30, rules), "the benchmark")
    return label


def reports(dsn: str, count: str) -> None:
    """Answers that coordinators, each a process, have the store keep: every one in a transaction of
    its own.
    """
    hosts, store = int(count), open_store(dsn, Path(os.devnull))
    label = _made(store, hosts, ["100%"], -(-hosts // _WRITERS), Rules(canary=False))
    with multiprocessing.Pool(_WRITERS) as pool:
        spans = pool.starmap(_write, [(dsn, label)] * _WRITERS, chunksize=1)
    took = max(end for _, end in spans) - min(begin for begin, _ in spans)
    kept = sum(each.report is not None for each in store.answers(label))
    print(json.dumps({"lost": hosts - kept, "thousand": took * 1000 / hosts}))


def _write(dsn: str, label: str) -> tuple[float, float]:
    """One slice; when it began and ended, by the monotonic clock."""
    store = open_store(dsn, Path(os.devnull))
    claim = store.claim(label, new_owner())
    assert claim
    began = time.monotonic()
    for host in claim.slice.hosts:
        assert store.record(claim, Answer(host, HostState.ISSUES, 1, "", report_of(host)))
    return began, time.monotonic()


def own_reports(dsn: str, count: str) -> None:
    """Reports that hosts send by themselves: each with a connection of its own."""
    began = time.monotonic()
    for number in range(int(count)):
        host = f"own{number:06}"
        fleet_store.keep(dsn, host, 1, report_of(host), 60)
    print(json.dumps({"thousand": (time.monotonic() - began) * 1000 / int(count)}))


class _Answering:
    """Hosts that all answer alike, or cannot be reached."""

    def __init__(self, code: int | None) -> None:
        self.code, self.touched = code, set[str]()

    def work(
        self, claim: Claim, told: Callable[[Answer], None], cancelled: Callable[[], bool]
    ) -> None:
        for host in claim.slice.hosts:
            self.touched.add(host)
            if self.code is None:
                told(Answer(host, HostState.UNREACHABLE))
            else:
                told(Answer(host, state_of(self.code), self.code, "", report_of(host)))


def stopped(dsn: str, what: str) -> None:
    """How many hosts a rollout over 30 touches before a rule stops it: `what` is ``canary``, that
    is not healed, ``unreachable``, a canary that cannot be reached, or ``share``: 20 per cent in
    waves of six.
    """
    store = open_store(dsn, Path(os.devnull))
    hosts = _Answering(None if what == "unreachable" else ExitCode.ISSUES)
    share = what == "share"
    rules = Rules(canary=not share, max_fail=20, same_issue=100)
    label = _made(store, 30, ["6"] if share else ["1", "5", "50%"], 3, rules)
    standing = lead(store, label, hosts, new_owner())
    untouched = standing.counts.get(HostState.UNTOUCHED, 0)
    agree = len(hosts.touched) == 30 - untouched and standing.by_rule
    print(json.dumps({"touched": len(hosts.touched) if agree else 30}))


def fill(dsn: str, count: int) -> None:
    """Latest reports of so many hosts: one in fifty has an issue, one in a thousand is silent."""
    import psycopg

    issue = json.dumps(
        [{"name": "disk_space_critical", "target": "/", "severity": "high", "healed": False}]
    )
    well, ill = json.dumps(report_of("well")), json.dumps(report_of("ill"))
    with psycopg.connect(dsn, autocommit=True) as to:
        to.execute(
            "insert into fleet_report (host, made, kept, code, version, run, label, issues, "
            "blocked, summary, report) select 'host' || n, t, t, (n %% 50 = 0)::int, '0.1.0', "
            "'run' || n, '', case when n %% 50 = 0 then %s else '[]' end, 0, 'so', "
            "case when n %% 50 = 0 then %s else %s end from (select n, extract(epoch from now()) "
            "- (n %% 3600) - case when n %% 1000 = 0 then 900000 else 0 end as t "
            "from generate_series(1, %s) n) as hosts",
            (issue, ill, well, count),
        )
        to.execute("vacuum analyze")
