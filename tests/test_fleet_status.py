"""How a fleet stands: silent hosts first, what is left where, blocked, versions, rollouts; as text,
as JSON and as a page.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import fleetstories
import pytest
from click.testing import CliRunner
from fleetstories import LABEL, age, answer, document, issue, mixed, rolled_out
from fleetwork import Postgres, needs_postgres
from rich.cells import cell_len
from slackserver import Slack, slack

from miyabi_healing.cli.main import command
from miyabi_healing.fleet import notice, page, status, status_text
from miyabi_healing.fleet.coordinator import lead
from miyabi_healing.fleet.sql_store import SqlStore
from miyabi_healing.fleet.status import FleetStatus
from miyabi_healing.fleet.wording import hosts_text, next_steps
from miyabi_healing.model.config import AlertSettings, Config
from miyabi_healing.model.rollout import Rollout, Slice
from miyabi_healing.report import fleet_row
from miyabi_healing.report.alerts import queue
from miyabi_healing.report.alerts.message import Mail
from miyabi_healing.report.style import Style
from miyabi_healing.state import run_lock

HOUR, DAY = 3600.0, 86_400.0
SILENT_AFTER = 2 * HOUR


@pytest.fixture(params=fleetstories.STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    """An empty store of each kind."""
    with fleetstories.empty(request, tmp_path) as made:
        yield made


@pytest.fixture
def one(tmp_path: Path) -> Iterator[SqlStore]:
    """An empty store in a file."""
    with fleetstories.opened("", tmp_path) as made:
        yield made


def read(store: SqlStore, most: int | None = 500) -> FleetStatus:
    return status.read_status(store, SILENT_AFTER, most)


def text(found: FleetStatus, style: Style | None = None) -> str:
    return "\n".join(status_text.status_lines(found, style or Style(width=200)))


# What is known


def test_silent_hosts_come_first_and_count_as_that_alone(store: SqlStore) -> None:
    rolled_out(store, mixed(), untouched=("host8",))
    age(store, "host1", 3 * DAY)
    age(store, "host3", 5 * HOUR)
    found = read(store)
    silent = [(each.host, each.state) for each in found.silent_hosts]
    never = ["host5", "host6", "host7", "host8", "hostw"]
    assert silent == [*((host, "") for host in never), ("host1", "well"), ("host3", "issues")]
    assert found.silent_hosts[5].seconds == pytest.approx(3 * DAY, abs=60)
    assert (found.never, found.silent) == (5, 7)
    assert (found.hosts, found.well, found.issues, found.unknown.number) == (9, 0, 1, 1)
    assert [each.name for each in found.open_issues] == ["disk", "memory"]
    assert found.open_issues[0].hosts == ("host2",), "what host3 said is too old to count"
    lines = text(found).splitlines()
    assert lines[0] == "❓ 9 hosts: 7 silent, 1 not known, 1 with issues that remain."
    assert lines[1:5] == [
        "❓ Silent for more than 2 h, or never heard of: 7 hosts",
        "   never: host5 … host8 (4), hostw",
        "   3 d: host1",
        "   5 h: host3",
    ]


def test_host_is_silent_only_after_its_time(store: SqlStore) -> None:
    store.keep_report("host1", 0, document())
    age(store, "host1", SILENT_AFTER - 60)
    assert (read(store).silent, read(store).well) == (0, 1)
    age(store, "host1", 120)
    assert (read(store).silent, read(store).well) == (1, 0)


def test_host_that_is_untouched_and_reports_by_itself_is_not_silent(store: SqlStore) -> None:
    rolled_out(store, [answer("host1", 0)], untouched=("host2",), at_work="hostw")
    store.keep_report("host2", 0, document())
    assert [each.host for each in read(store).silent_hosts] == ["hostw"]


@pytest.mark.parametrize(
    ("codes", "silent", "code"),
    [((0, 0), False, 0), ((0, 1), False, 1), ((1, 3), False, 3), ((0, 75), False, 3),
     ((0, 0), True, 3), ((), False, 3)],
)  # fmt: skip
def test_exit_status_is_of_the_worst_that_is_known(
    one: SqlStore, codes: tuple[int, ...], silent: bool, code: int
) -> None:
    for number, each in enumerate(codes):
        one.keep_report(f"host{number}", each, document())
    if silent:
        age(one, "host0", DAY)
    assert read(one).exit_status == code


def test_issue_names_its_hosts_with_those_longest_not_well_first(store: SqlStore) -> None:
    for host, days in (("ada", 1), ("bob", 9), ("cyd", 3)):
        store.keep_report(host, 1, document(issue("disk"), issue("disk", "/data")))
        age(store, host, days * DAY)
        store.keep_report(host, 1, document(issue("disk", severity="critical")))  # still
    store.keep_report("host4", 0, document(issue("disk", healed=True)))
    found = read(store)
    (left,) = found.open_issues
    assert (left.number, left.hosts) == (3, ("bob", "cyd", "ada"))
    assert left.severity == "critical"
    assert found.now - (left.since or 0) == pytest.approx(9 * DAY, abs=60)
    words = "❌ disk (critical) is left on 3 hosts, one of them not well for 9 d: bob, cyd, ada"
    assert words in text(found)


def test_not_well_begins_anew_after_a_report_that_was_well(store: SqlStore) -> None:
    store.keep_report("host1", 1, document(issue("disk")))
    age(store, "host1", 5 * DAY)
    store.keep_report("host1", 0, document())
    store.keep_report("host1", 3, document(issue("disk")))
    found = read(store)
    assert found.now - (found.open_issues[0].since or 0) < HOUR


@needs_postgres
def test_report_that_a_host_sends_by_itself_keeps_since_when_too(server: Postgres) -> None:
    import psycopg

    with psycopg.connect(server.dsn, autocommit=True) as to:
        to.execute("drop schema public cascade; create schema public")
        with fleetstories.opened(server.dsn, Path("/nowhere")) as store:
            store.keep_report("host1", 1, document(issue("disk")))
            age(store, "host1", 5 * DAY)
            statement = fleet_row.keep_statement(fleet_row.POSTGRES)
            to.execute(statement, fleet_row.keep_values("host1", 1, document(issue("disk"))))
            found = read(store)
            assert found.now - (found.open_issues[0].since or 0) == pytest.approx(5 * DAY, abs=60)
            to.execute(statement, fleet_row.keep_values("host1", 0, document()))
            assert store.rows("select since from fleet_report") == [(None,)]


def test_blocked_and_versions_are_named_but_for_the_usual_one(store: SqlStore) -> None:
    for number in range(1, 6):
        store.keep_report(f"host{number}", 0, document())
    store.keep_report("old1", 1, document(issue("disk"), version="0.0.9", blocked=True))
    store.keep_report("old2", 0, document(version="0.0.9"))
    found = read(store)
    assert (found.blocked.number, found.blocked.hosts) == (1, ("old1",))
    usual, odd = found.versions
    assert (usual.version, usual.number, usual.hosts) == ("0.1.0", 5, ())
    assert (odd.version, odd.number, odd.hosts) == ("0.0.9", 2, ("old1", "old2"))
    assert "⛔ Blocked by policy on 1 host: old1" in text(found)
    assert "   version 0.0.9: 2 hosts: old1, old2" in text(found)


def test_rollouts_that_are_not_finished_come_with_what_goes_on(store: SqlStore) -> None:
    rolled_out(store, mixed(), untouched=("host8",))
    assert store.create(Rollout("to do", (Slice(1, 1, ("host1",)),)), "ana@ctl")
    assert store.stop(LABEL, "canary: host2 not well", by_rule=True)
    found = read(store)
    assert [(each.label, each.state) for each in found.rollouts] == [
        ("to do", "running"),
        (LABEL, "stopped"),
    ]
    said = text(found)
    assert "🔧 to do: no coordinator works on wave 1 of 1. 0 of 1 host asked." in said
    assert "fleet resume 'to do'\n   goes on with the next hosts." in said
    assert "fleet stop 'to do' --reason WHY\n" in said
    claim = store.claim("to do", "one")
    assert claim is not None
    assert "🔧 to do is at work in wave 1 of 1. 1 of 1 host asked." in text(read(store))
    assert "fleet resume 'to do'" not in text(read(store))
    assert store.standing("to do").in_hand  # type: ignore[union-attr]
    store.release(claim)
    assert not store.standing("to do").in_hand  # type: ignore[union-attr]
    assert "no coordinator works on wave 1 of 1" in text(read(store))
    assert "was stopped by a rule in wave 1 of 3: canary: host2 not well. 7 of 9 hosts" in said
    assert f"fleet resume {LABEL}\n   goes on" in said


def test_all_is_well_in_one_line(one: SqlStore) -> None:
    for number in range(1, 31):
        one.keep_report(f"host{number}", 0, document())
    assert text(read(one)) == "✅ 30 hosts: 30 well."


def test_reports_stay_unread_and_tables_are_asked_by_index(one: SqlStore) -> None:
    rolled_out(one, mixed())
    asked: list[tuple[str, tuple[object, ...]]] = []

    class Spy:
        def now(self) -> float:
            return one.now()

        def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
            asked.append((sql, values))
            return one.rows(sql, *values)

    status.read_status(Spy(), SILENT_AFTER)
    used: set[str] = set()
    for sql, values in asked:
        assert not re.search(r"\breport\b", sql), sql
        for *_, plan in one.rows(f"explain query plan {sql}", *values):
            # a rollout is a short row, and there are few
            assert not re.match(r"SCAN fleet_(report|host)(?! USING COVERING INDEX)", plan), sql
            used |= set(re.findall(r"INDEX (fleet_\w+)", plan))
    assert used >= {
        "fleet_report_by_age",
        "fleet_report_by_code",
        "fleet_report_by_version",
        "fleet_host_by_state",
    }


@pytest.mark.parametrize(
    "words",
    ["no JSON", '{"name": 1}', "[1, null]", '[{"name": []}]', "[" * 100_000, '[{"name": ""}]'],
)
def test_nonsense_of_one_host_hides_no_other(one: SqlStore, words: str) -> None:
    one.keep_report("evil", 1, document())
    one.keep_report("host1", 1, document(issue("disk")))
    one._database.run(
        lambda to: to.write("update fleet_report set issues = ? where host = 'evil'", words)
    )
    found = read(one)
    assert (found.issues, [each.name for each in found.open_issues]) == (2, ["disk"])


# As text


def test_names_are_folded_and_those_left_out_are_counted() -> None:
    hosts = [*(f"web{each}" for each in range(1, 31)), "db1", "db2"]
    assert hosts_text(hosts, 32, 100) == "web1 … web30 (30), db1, db2"
    assert hosts_text(hosts, 40, 100) == "web1 … web30 (30), db1, db2 … and 8 more"
    assert hosts_text(hosts, 1232, 20) == "web1 … web30 (30) … and 1,202 more"
    assert hosts_text(hosts[:1], 1, 1) == "web1"


@pytest.mark.parametrize("width", [40, 60, 100, 200])
@pytest.mark.parametrize("emoji", [True, False])
def test_text_fits_the_screen_and_names_a_part(width: int, emoji: bool) -> None:
    lines = text(fleetstories.large(), Style(width=width, emoji=emoji)).splitlines()
    assert all(line.isprintable() for line in lines)
    plain = map(click.unstyle, lines)
    # a command is whole on its line, to be copied
    assert all(cell_len(line) <= width or " fleet " in line for line in plain)
    said = " ".join(lines)
    assert re.search(r"… and \d,\d{3} more", re.sub(r"\s+", " ", said))
    assert emoji == any(mark in said for mark in "❌❓⛔💡")


def test_text_of_a_large_fleet_is_a_screenful(one: SqlStore) -> None:
    plain = {"open_issues": fleetstories.large().open_issues[4:], "versions": (), "rollouts": ()}
    found = replace(
        fleetstories.large(), **plain, silent_hosts=fleetstories.large().silent_hosts[1:]
    )  # type: ignore[arg-type]
    assert len(text(found, Style(width=100)).splitlines()) <= 40


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"untouched": 1}, ["goes on with the next hosts"]),
        ({"untouched": 1, "busy": 1}, ["goes on with the next hosts", "asks those once more"]),
        ({"well": 1, "unreachable": 1}, ["asks those once more"]),
        ({"well": 1, "issues": 1}, ["ends it: no host is left to ask"]),
    ],
)
def test_what_goes_on_with_a_stopped_rollout_is_what_there_is_to_do(
    counts: dict[str, int], said: list[str]
) -> None:
    steps = [what for _, what in next_steps(LABEL, "stopped", counts)]
    assert [each.removesuffix(" that gave no answer") for each in steps] == said


# As a page


def test_page_escapes_what_hosts_say_and_loads_nothing() -> None:
    made = page.render(page.page_of(fleetstories.large()))
    assert "<script" not in made
    assert "\x1b" not in made
    assert "\u202e" not in made
    assert "&lt;script&gt;" in made
    assert "default-src 'none'" in made
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(?!data:)https?:""", made)


def test_page_says_silent_hosts_first_and_stays_small() -> None:
    made = page.render(page.page_of(fleetstories.large()))
    titles = re.findall(r"<h2[^>]*>([^<]*)", made)
    assert titles == [
        "Silent hosts", "What is left, by issue", "Blocked, and not known", "Versions",
        "Rollouts that are not finished",
    ]  # fmt: skip
    assert len(made.encode()) < 300_000
    assert "100,000 hosts: 10,000 silent, 10,000 not known, 40,000 with issues" in made
    assert "web00499" not in made, "it names the worst and counts the rest"
    assert "60 more issues" in made


def test_page_of_a_fleet_in_which_all_is_well_says_so(one: SqlStore) -> None:
    one.keep_report("host1", 0, document())
    made = html.unescape(page.render(page.page_of(read(one))))
    assert '<p class="verdict good">' in made
    assert "Every host has reported within 2 h." in made
    assert "No host that was heard of has an issue left." in made
    assert "None is at work, and none is stopped." in made


# The command


def invoke(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(command, ["fleet", "status", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def test_command_shows_the_fleet_in_three_ways(home: Path) -> None:
    with fleetstories.opened("", home / ".local/state/miyabi-healing") as store:
        rolled_out(store, mixed())
        age(store, "host1", 3 * HOUR)
    code, said, _ = invoke()
    assert (code, said.splitlines()[1]) == (
        3,
        "❓ Silent for more than 2 h, or never heard of: 6 hosts",
    )
    code, said, _ = invoke("--silent-after", "4h")
    assert "Silent for more than 4 h, or never heard of: 5 hosts" in said
    code, said, _ = invoke("--json")
    found = json.loads(said)
    assert (code, found["exit_status"], found["schema_version"]) == (3, 3, 1)
    assert found["well"] + found["issues"] + found["unknown"]["number"] + found["silent"] == 9
    assert [each["host"] for each in found["silent_hosts"]][-1] == "host1"
    file = home / "fleet.html"
    code, said, _ = invoke("--html", str(file))
    assert (code, said.strip()) == (3, str(file))
    assert "Silent hosts" in file.read_text()
    assert invoke("--html", "-")[1].startswith("<!doctype html>")
    assert invoke("--html", "-", "--json")[0] == 2


def test_command_takes_the_place_of_no_file_of_somebodys(home: Path) -> None:
    with fleetstories.opened("", home / ".local/state/miyabi-healing") as store:
        store.keep_report("host1", 0, document())
    file = home / "thesis.html"
    file.write_text("<p>years of work</p>")
    code, _, error = invoke("--html", str(file))
    assert (code, "is no page of ours" in error) == (3, True)
    assert file.read_text() == "<p>years of work</p>"


def test_command_makes_no_store_where_there_is_none(home: Path) -> None:
    code, _, error = invoke()
    assert (code, "there is no fleet here yet" in error) == (3, True)
    assert not list(home.rglob("fleet.sqlite3"))


# People are told


class Worker:
    """Hosts that all are left with an issue."""

    def work(self, claim: Any, told: Any, cancelled: Any) -> None:
        for host in claim.slice.hosts:
            told(answer(host, 1, issue("disk")))


def alerting(limit: float = 5) -> AlertSettings:
    url = Path.home() / "webhook"
    return AlertSettings(slack=True, slack_url_file=str(url), time_limit=limit)


def stopped_by_rule(store: SqlStore, state: Path, limit: float = 5) -> list[str]:
    """Two coordinators lead a rollout whose canary is not well; what they have to say."""
    assert store.create(Rollout(LABEL, (Slice(1, 1, ("h1",)), Slice(2, 2, ("h2",)))), "ana@ctl")
    said: list[str] = []
    settings = Config(alerts=alerting(limit))

    def stopped() -> None:
        notice.tell_stop(store, LABEL, settings, state, said.append)

    for owner in ("ctl-1", "ctl-2"):
        found = lead(store, LABEL, Worker(), owner, stopped=stopped)
        assert found.by_rule
    return said


@pytest.fixture
def told(home: Path) -> Iterator[Slack]:
    with slack() as server:
        (home / "webhook").write_text(server.url)
        (home / "webhook").chmod(0o600)
        yield server


def test_people_are_told_once_that_a_rule_has_stopped_it(one: SqlStore, told: Slack) -> None:
    assert stopped_by_rule(one, Path("/nowhere")) == []
    (message,) = told.got
    assert "stopped by a rule: rollout 2026-11-26/build" in message["text"]
    assert "canary: 1 of 1 host not well: h1 (issues)" in message["text"]
    assert "disk is left on 1 host" in message["text"]
    assert "fleet resume 2026-11-26/build" in json.dumps(message["blocks"])


def test_coordinator_whose_stop_came_second_tells_nobody(
    one: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert one.create(Rollout(LABEL, (Slice(1, 1, ("h1",)),)), "ana@ctl")
    stop = one.stop

    def second(label: str, reason: str, *, by_rule: bool = False) -> bool:
        assert stop(label, reason, by_rule=by_rule)  # another one's
        return stop(label, reason, by_rule=by_rule)

    monkeypatch.setattr(one, "stop", second)
    assert lead(one, LABEL, Worker(), "ctl-1", stopped=lambda: pytest.fail("it tells")).by_rule


def test_what_cannot_be_sent_waits_for_the_next_run(
    one: SqlStore, told: Slack, tmp_path: Path
) -> None:
    told.acts = ["503"]
    state = tmp_path / "state"
    said = stopped_by_rule(one, state)
    assert said[-1] == "alerts: the next run on this host tries again"
    assert told.got == []
    told.acts = ["ok"]
    channels = queue.configured_channels(alerting(), False, said.append)
    assert queue.deliver(Mail(channels, state), alerting()) == []
    assert [LABEL in each["text"] for each in told.got] == [True]


def test_rollout_does_not_wait_for_a_channel_that_hangs(
    one: SqlStore, told: Slack, tmp_path: Path
) -> None:
    """Nor for a run that has the journal."""
    told.acts = ["hang"]
    state = tmp_path / "state"
    lock = run_lock.acquire(state)
    try:
        first, second = stopped_by_rule(one, state, limit=0.3)
    finally:
        run_lock.release(lock)
    assert first == "alerts: could not be sent to slack: no answer in time"
    assert second.startswith("alerts: it could not be queued either: ")


def test_nobody_is_told_where_no_alerts_are_set_up(one: SqlStore, home: Path) -> None:
    assert one.create(Rollout(LABEL, (Slice(1, 1, ("h1",)),)), "ana@ctl")
    one.stop(LABEL, "canary", by_rule=True)
    found = one.standing(LABEL)
    assert found
    notice.tell_stopped(found, {}, Config(), Path("/nowhere"), pytest.fail)
