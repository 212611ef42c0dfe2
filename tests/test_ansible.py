"""The Ansible collection: hosts are judged by their own journals and logs, not by what Ansible
says of them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansiblework import (
    COLLECTION,
    INSTALL,
    ISSUE,
    Play,
    Stand,
    document,
    needs_ansible,
    plugin,
    recap,
)
from fleetwork import Host, Hosts, needs_postgres, needs_sshd, postgres, ssh_hosts
from foresightwork import journal_of

from conftest import PROJECT, wait_for
from miyabi_healing.fleet import schema
from miyabi_healing.report.fleet_row import fleet_row

LINE = "2026-01-01 00:00:00 a line of a log that nobody writes\n"
LOGS = """
[checks.large_log_files]
threshold = 1
[logs]
patterns = ["~/logs/*.log"]
[safety]
ours_alone = ["{folder}"]
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("hosts")
    with ssh_hosts(folder, 3, LOGS.format(folder=folder)) as started:
        for each in started.hosts:
            log_of(each).parent.mkdir()
            log_of(each).write_text(LINE * 40_000)
        yield started


@pytest.fixture
def play(hosts: Hosts, tmp_path: Path) -> Play:
    return Play(tmp_path / "play", hosts)


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return plugin("filter/broken_rule", monkeypatch)


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return plugin("callback/reports", monkeypatch)


def log_of(host: Host) -> Path:
    return host.home / "logs" / "a.log"


def state_of(host: Host) -> Path:
    return host.home / ".local" / "state" / "miyabi-healing"


def labels_of(host: Host) -> list[str]:
    """The runs that a host has on record, by its own journal."""
    with closing(journal_of(state_of(host))) as journal:
        assert journal.one("select count(*) from pass") == (1,)
        rows = journal.database.execute("select label from fleet_run").fetchall()
    return [label for (label,) in rows]


@needs_ansible
@needs_sshd
@pytest.mark.root
def test_check_mode_shows_the_plan_and_changes_nothing_then_killed_it_goes_on(
    hosts: Hosts, play: Play
) -> None:
    inventory = hosts.inventory()
    before = log_of(hosts.hosts[0]).read_bytes()
    wanted: dict[str, Any] = {"miyabi_serial": 1, "miyabi_fleet_run": "tonight"}
    look = ("--check", "--diff", "--limit", "host1")
    looked = play.run("heal", *look, inventory=inventory, **wanted)
    assert looked.returncode == 0, looked.stdout + looked.stderr
    assert "-large_log_files (" in looked.stdout
    assert "+trim log " in looked.stdout
    assert recap(looked.stdout)["host1"]["changed"] == 1, "it would be"
    for each in hosts.hosts:
        assert log_of(each).read_bytes() == before
        assert not state_of(each).exists()
    assert [line["state"] for line in play.lines("tonight")] == ["issues"]

    with subprocess.Popen(
        play.command("heal", inventory=inventory, **wanted),
        cwd=play.folder, env=play.environment, start_new_session=True,
        stdout=subprocess.DEVNULL,
    ) as killed:  # fmt: skip
        wait_for(lambda: len(play.lines("tonight")) > 1, 60)
        os.killpg(killed.pid, signal.SIGKILL)
    told = play.lines("tonight")[1:]
    assert told[0]["host"] == "host1"
    assert (told[0]["state"], told[0]["report"]["fleet"]["run"]) == ("well", "tonight")
    assert len(told) < 3, "it was killed in the middle"

    done = play.run("heal", inventory=inventory, **wanted)
    assert done.returncode == 0, done.stdout + done.stderr
    assert recap(done.stdout)["host1"]["changed"] == 0, "the run was made before"
    assert recap(done.stdout)["host3"]["changed"] == 1
    last = play.lines("tonight")[-3:]
    assert [line["report"].get("again", False) for line in last][0::2] == [True, False]
    for each in hosts.hosts:
        assert log_of(each).stat().st_blocks * 512 < 1_000_000, "healed"
        assert labels_of(each) == ["tonight"], "once"


@needs_ansible
@needs_sshd
@pytest.mark.root
def test_canary_that_is_not_healed_is_the_only_host_that_is_touched(play: Play) -> None:
    stands = play.stands(Stand("a", found=("full",)), *map(Stand, "bcdefgh"))
    done = play.run("heal", inventory=stands, miyabi_max_fail=100, miyabi_fleet_run="r")
    assert done.returncode == 2
    assert play.started() == ["a"]
    assert (
        "The canary rule: 1 of 1 host(s) of the first wave not well (a issues: full). 1 of 8"
        in (done.stdout)
    )


@needs_ansible
@needs_sshd
@pytest.mark.root
def test_canary_that_cannot_be_reached_is_the_only_host_that_is_tried(play: Play) -> None:
    stands = play.stands(Stand("a", reachable=False), *map(Stand, "bcdefgh"))
    done = play.run("heal", inventory=stands, miyabi_max_fail=100, miyabi_fleet_run="r")
    assert done.returncode == 2
    assert play.started() == []
    assert [(line["host"], line["state"]) for line in play.lines("r")] == [("a", "unreachable")]
    assert "(a unreachable). 1 of 8 host(s) asked, 7 untouched" in done.stdout


@needs_ansible
@needs_sshd
@pytest.mark.root
def test_hosts_that_cannot_be_reached_count_for_the_share_of_a_wave(play: Play) -> None:
    gone = [Stand(name, reachable=False) for name in "bc"]
    stands = play.stands(Stand("a"), *gone, *map(Stand, "defgh"))
    done = play.run("heal", inventory=stands, miyabi_fleet_run="r")
    assert done.returncode == 2
    assert play.started() == ["a", "d", "e", "f"]
    assert "miyabi_max_fail: 2 of 5 host(s) of this wave (40 %, more than 20 %)" in done.stdout
    assert sorted(line["host"] for line in play.lines("r")) == list("abcdef")


@needs_ansible
@needs_sshd
@pytest.mark.root
def test_issue_that_is_found_everywhere_stops_also_where_it_was_healed(play: Play) -> None:
    same = [Stand(name, found=("full",), healed=True) for name in "cdef"]
    stands = play.stands(Stand("a"), Stand("b"), *same)
    done = play.run("heal", inventory=stands, miyabi_fleet_run="r", miyabi_serial=5)
    assert done.returncode == 2
    assert play.started() == list("abcde")
    assert "miyabi_same_issue: full found on 3 of 5 hosts that have answered" in done.stdout


@needs_ansible
@needs_sshd
@pytest.mark.root
def test_slice_asks_all_hosts_whatever_they_say(play: Play) -> None:
    stands = play.stands(
        Stand("a", reachable=False),
        Stand("b", there=False),
        Stand("c", found=("full",)),
        Stand("d"),
    )
    play.run("heal_slice", inventory=stands, miyabi_fleet_run="r", miyabi_fleet_token=7)
    assert play.started() == ["c", "d"]
    assert "--fleet-run=r --fleet-token=7" in (play.folder / "log-c").read_text()
    said = {line["host"]: (line["state"], line["code"]) for line in play.lines("r")}
    assert said == {
        "a": ("unreachable", None), "b": ("failed", None), "c": ("issues", 1), "d": ("well", 0),
    }  # fmt: skip


def answers(**states: Mapping[str, Any] | str) -> dict[str, dict[str, Any]]:
    """Results by host: a state, or a whole result."""
    return {
        host: {"state": found} if isinstance(found, str) else dict(found)
        for host, found in states.items()
    }


SICK = {"state": "issues", "issues": [ISSUE]}
HEALED = {"state": "well", "issues": [{**ISSUE, "healed": True}]}
GONE = {"unreachable": True}


@pytest.mark.parametrize("bad", [SICK, GONE, {"state": "busy"}, {"state": "unknown"}, {}])
def test_canary_has_to_be_well(rules: ModuleType, bad: Mapping[str, Any]) -> None:
    assert rules.judge(answers(a=bad), "abc", "a", max_fail=100).startswith("The canary rule")
    assert not rules.judge(answers(a=bad), "abc", "a", canary=False, max_fail=100)
    assert not rules.judge(answers(a="well"), "abc", "a")
    assert not rules.judge(answers(a="well", b=bad, c="well"), "abc", "bc", max_fail=50)


def test_more_than_the_share_of_a_wave_stops(rules: ModuleType) -> None:
    four = answers(a="well", b="well", c="well", d="well")
    for bad in (SICK, GONE, {"state": "failed"}):
        one, two = answers(e=bad), answers(e=bad, d=bad)
        assert not rules.judge({**four, **one}, "abcde", "abcde", canary=False), "20 %"
        assert "2 of 5 host(s)" in rules.judge({**four, **two}, "abcde", "abcde", canary=False)


def test_one_issue_on_more_than_the_share_of_all_answers_stops(rules: ModuleType) -> None:
    def judge(**found: Mapping[str, Any] | str) -> str:
        text: str = rules.judge(answers(**found), list(found), ["e"], max_fail=100)
        return text

    assert "3 of 5 hosts" in judge(a=SICK, b=HEALED, c=SICK, d="well", e="well")
    assert not judge(a=SICK, b=HEALED, c="well", d="well", e="well"), "40 %"
    assert not judge(a=SICK, b=HEALED, c=SICK, e="well"), "too few answers"
    assert not judge(a=SICK, b=HEALED, c=SICK, d=GONE, e="well"), "too few answers"
    assert not judge(a={**SICK, "issues": [{**ISSUE, "name": "x"}]}, b=SICK, c=SICK, d="well",
                     e="well")  # fmt: skip


def test_dry_run_with_a_plan_counts_as_well(rules: ModuleType) -> None:
    planned, none = {**SICK, "changed": True}, {**SICK, "changed": False}
    assert not rules.judge(answers(a=planned), "a", "a", check_mode=True)
    assert rules.judge(answers(a=none), "a", "a", check_mode=True)
    assert rules.judge(answers(a=planned), "a", "a")


def test_file_is_named_by_the_label(reports: ModuleType) -> None:
    names = [reports.file_of(label, 0) for label in ("a/b", "../x", "ü" * 200, "ü" * 199)]
    assert names[:2] == ["miyabi-reports/a%2Fb.jsonl", "miyabi-reports/%2Fx.jsonl"]
    assert all(len(name) < 240 for name in names)
    assert len(set(names)) == 4
    assert reports.file_of("", 0).startswith("miyabi-reports/19")


def test_line_that_was_cut_off_spoils_no_other(reports: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.jsonl"
    reports.append(str(file), {"host": "a"})
    with file.open("a") as open_file:
        open_file.write('{"host": "b"')
    reports.append(str(file), {"host": "c"})
    assert file.read_text().splitlines() == ['{"host": "a"}', '{"host": "b"', '{"host": "c"}']
    assert file.stat().st_mode & 0o077 == 0


def run_of(host: str, ended: float, **changes: object) -> dict[str, Any]:
    """A report with what a fleet's store keeps of it: one issue was left to a person."""
    action = {"issue": "large_log_files", "target": "/a.log", "brake": "budget", "steps": []}
    return document(
        host=host, ended=ended, version="1", fleet={"run": "r", "token": 1},
        actions_taken=[action], **changes,
    )  # fmt: skip


def test_row_of_the_store_is_what_the_program_keeps(reports: ModuleType) -> None:
    found = run_of("a", 5.0)
    host, made, code, *rest = reports.values_of("h", 1, found)
    assert (host, code, *fleet_row(found), code) == (host, 1, made, *rest)


@needs_postgres
def test_store_keeps_the_latest_report_and_what_waited_for_it(reports: ModuleType) -> None:
    import psycopg

    with postgres() as server:
        store = reports.Store(server.dsn)
        assert "fleet_report" in store.keep(reports.values_of("a", 1, run_of("a", 5))), "no table"
        with psycopg.connect(server.dsn, autocommit=True) as database:
            for statement in schema.TABLES:
                database.execute(statement)
        assert store.keep(reports.values_of("b", 0, run_of("b", 6))) == "", "it was said just now"
        assert sorted(store.waiting) == ["a", "b"]
        assert store.flush() == ""
        server.control("restart", "-m", "immediate")  # an open connection is lost
        for code, ended in ((3, 8), (1, 7)):
            assert store.keep(reports.values_of("a", code, run_of("a", ended))) == ""
        odd = run_of("odd", 5, summary="\0")
        assert store.keep(reports.values_of("odd", 1, odd)) == "", "it holds no others up"
        assert (list(store.refused), store.waiting) == (["odd"], {})
        store.close()
        with psycopg.connect(server.dsn) as database:
            columns = "host, made, code, since is null"
            rows = database.execute(f"select {columns} from fleet_report order by host".encode())
            assert rows.fetchall() == [("a", 8, 3, False), ("b", 6, 0, True)]
    assert "server" in store.keep(reports.values_of("a", 1, run_of("a", 9))), "it is gone"
    for dsn in ("passwort=secret", "postgresql://a:x/secret@127.0.0.1:1/d"):
        why = reports.Store(dsn).keep(("a",))
        assert why
        assert "secret" not in why


@needs_ansible
@needs_sshd
@pytest.mark.root
@pytest.mark.parametrize("state", ["present", "absent"])
def test_role_leaves_a_folder_alone_that_it_did_not_make(play: Play, state: str) -> None:
    mine = play.hosts.hosts[0].home / f"mine-{state}"
    (mine / "bin").mkdir(parents=True)
    (mine / "thesis").write_text("years of work")
    own = mine / "bin/miyabi-healing"  # an environment of a user's own, where the program starts
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755 if state == "absent" else 0o644)
    inventory, site = play.hosts.inventory(), play.folder / "site.yml"
    play.folder.mkdir()
    site.write_text(INSTALL)
    wanted = {"miyabi_venv": str(mine), "miyabi_system": False, "miyabi_state": state}
    done = play.run(str(site), "--limit", "host1", inventory=inventory, **wanted)
    assert sorted(each.name for each in mine.rglob("*")) == ["bin", "miyabi-healing", "thesis"]
    assert recap(done.stdout)["host1"]["failed"] == 1, done.stdout + done.stderr
    assert f"{mine} was not made by this role, and is left as it is" in done.stdout


def test_documents_name_every_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    role, page = COLLECTION / "roles" / "install", (PROJECT / "docs" / "ansible.md").read_text()
    variables = re.findall(r"^(miyabi_\w+):", (role / "defaults/main.yml").read_text(), re.M)
    specified = (role / "meta/argument_specs.yml").read_text()
    assert variables == re.findall(r"^      (miyabi_\w+):", specified, re.M)
    plays = "".join(file.read_text() for file in (COLLECTION / "playbooks").iterdir())
    asked = set(re.findall(r"(miyabi_\w+) \| default", plays))
    options = set(plugin("action/heal", monkeypatch).OPTIONS) - set(re.findall(r"(\w+):", plays))
    asked |= {f"miyabi_{name}" for name in options}
    assert not {name for name in (*variables, *asked) if f"`{name}`" not in page}
    of_playbooks = (COLLECTION / "README.md").read_text()
    assert not {name for name in asked if f"`{name}`" not in of_playbooks}
