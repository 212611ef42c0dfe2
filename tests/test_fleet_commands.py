"""What ``fleet heal``, ``resume`` and ``stop`` say and end with, and what Ansible is given."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from fleetworkers import invoke, standing_in

from conftest import wait_for
from miyabi_healing.cli.fleet import report_file
from miyabi_healing.fleet import ansible_tools, ansible_worker, collection, inventory, wording
from miyabi_healing.fleet.ansible_worker import answer_of
from miyabi_healing.fleet.inventory import inventory_hosts
from miyabi_healing.fleet.telling import Teller
from miyabi_healing.fleet.waves import make_slices
from miyabi_healing.fleet.worker import WorkerError
from miyabi_healing.model.rollout import Answer, Claim, HostState, Rollout, Slice

ISSUE = {"name": "large_log_files", "target": "/srv/*.log", "severity": "medium", "healed": False}
STEP = {"kind": "trim log", "target": "/srv/a.log", "reason": "it is long", "status": "planned"}
REPORT = {
    "summary": "1 issue(s) remain.",
    "run_id": "r1",
    "version": "1",
    "issues_detected": [ISSUE],
    "actions_taken": [
        {
            "issue": ISSUE["name"],
            "target": ISSUE["target"],
            "message": "Dry run: 1 step",
            "steps": [STEP],
        }
    ],
}
BAD = Answer("b", HostState.ISSUES, 1, "1 issue(s) remain: large_log_files, medium.", REPORT)
AWAY = Answer("b", HostState.UNREACHABLE, None, "ssh: no route")
SILENT = Answer("b", HostState.UNTOUCHED)
ALL = ("--waves", "100%", "--no-canary", "--max-fail", "100")

pytestmark = pytest.mark.usefixtures("home")


# What a rollout comes to


@pytest.mark.parametrize(
    ("second", "code", "said"),
    [
        ("b", 0, "2 hosts: 2 well."),
        (BAD, 1, "b: 1 issue(s) remain: large_log_files, medium."),
        (AWAY, 3, "b: unreachable: ssh: no route"),
        (Answer("b", HostState.BUSY, 75, "another run"), 3, "b: busy: another run"),
        (Answer("b", HostState.FAILED, 9, "no report"), 3, "b: failed: no report"),
        (Answer("b", HostState.UNKNOWN, 3, "Not all could be checked."), 3, "b: Not all could be"),
        (SILENT, 3, "b: unreachable: it gave no answer"),
    ],
)
def test_exit_status_says_what_hosts_have_answered(
    monkeypatch: pytest.MonkeyPatch, second: str | Answer, code: int, said: str
) -> None:
    with standing_in(monkeypatch, "a", second):
        assert (ended := invoke("fleet", "heal", "x", *ALL))[0] == code
    assert said in ended[1]
    assert "x is finished" in ended[1]


def test_lines_in_a_pipe_say_waves_slices_and_who_is_not_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hosts = ("a", "b", "c", Answer("d", AWAY.state, None, "ssh: no route"), "e")
    with standing_in(monkeypatch, *hosts):
        _, text = invoke("fleet", "heal", "x", "--waves", "1,100%", "--slice", "2", *ALL[3:])
    assert text.splitlines()[0] == "rollout x"
    lines = [each for each in text.splitlines()[2:] if not each.startswith("   ")]
    assert lines[:7] == [
        "wave 1 of 2: 1 host, all of which must be well",
        "wave 1 of 2: 1 well",
        "wave 2 of 2: 4 hosts",
        "wave 2 of 2, slice 2: 2 well",
        "d: unreachable: ssh: no route",
        "wave 2 of 2, slice 3: 1 unreachable, 1 well",
        "❓ x is finished.",
    ]


@pytest.mark.parametrize(("bad", "touched"), [(BAD, ["b"]), (AWAY, ["b"]), (SILENT, ["b"])])
def test_canary_that_is_not_well_stops_the_rollout(
    monkeypatch: pytest.MonkeyPatch, bad: Answer, touched: list[str]
) -> None:
    with standing_in(monkeypatch, bad, "a", "c") as worker:
        code, text = invoke("fleet", "heal", "x")
        assert (code, worker.asked) == (4, touched)
        assert "x was stopped by a rule in wave 1 of 2: canary" in text
        code, text = invoke("fleet", "heal", "x")
        assert (code, worker.asked) == (4, touched)
        assert "x was stopped: canary" in text
        assert "fleet resume x" in text
        # once seen to, it goes on with the next wave, and does not ask the canary again
        code, _ = invoke("fleet", "resume", "x")
    assert worker.asked == [*touched, "a", "c"]
    assert code == (1 if bad is BAD else 3)


def test_canary_that_is_asked_again_has_to_be_well_then(monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in(monkeypatch, AWAY, "a") as worker:
        assert invoke("fleet", "heal", "x")[0] == 4
        code, text = invoke("fleet", "resume", "x", "--again")
        assert (code, worker.asked) == (4, ["b", "b"])
        assert "x was stopped by a rule in wave 1 of 2: canary" in text
        worker.answers = {**worker.answers, "b": Answer("b", HostState.WELL, 0)}
        assert invoke("fleet", "resume", "x", "--again")[0] == 0
    assert worker.asked == ["b", "b", "b", "a"]


def test_no_canary_lets_the_first_wave_be_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in(monkeypatch, BAD, "a") as worker:
        assert invoke("fleet", "heal", "x", "--no-canary", "--max-fail", "100")[0] == 1
    assert worker.asked == ["b", "a"]


def test_label_that_is_finished_is_shown_again_and_another_question_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with standing_in(monkeypatch, "a", BAD) as worker:
        assert invoke("fleet", "heal", "x", *ALL)[0] == 1
        code, text = invoke("fleet", "heal", "x", *ALL)
        assert code == 1
        assert "x was finished before; nothing is done now" in text
        assert "large_log_files is left on 1 host: b" in text
        code, text = invoke("fleet", "heal", "x", *ALL, "--lease", "9s")
        assert code == 2
        assert "a rollout x is there, with other lease" in text
    with standing_in(monkeypatch, "a"):
        code, text = invoke("fleet", "heal", "x", *ALL)
        assert (code, "with other hosts" in text) == (2, True)
    assert worker.asked == ["a", "b"]


def test_label_that_was_not_given_is_the_time_and_the_way_back_is_said_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with standing_in(monkeypatch, "a"):
        _, text = invoke("fleet", "heal")
    head = text.splitlines()[0]
    label = head.split()[1].rstrip(";")
    assert len(label) == len("20261126T103000Z")
    assert f"if this is interrupted: miyabi-healing fleet resume {label}" in head


def test_resume_again_asks_those_that_gave_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in(monkeypatch, "a", AWAY) as worker:
        assert invoke("fleet", "heal", "x", *ALL)[0] == 3
        code, text = invoke("fleet", "resume", "x")
        assert (code, "there is nothing left to do" in text) == (3, True)
        worker.answers = {**worker.answers, "b": Answer("b", HostState.WELL, 0)}
        code, text = invoke("fleet", "resume", "x", "--again")
        assert (code, "wave 1 of 1: 1 of 2 hosts left to ask" in text) == (0, True)
    assert worker.asked == ["a", "b", "b"]


def test_rollout_that_is_stopped_meanwhile_asks_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with standing_in(monkeypatch, "a", "b") as worker:
        worker.during = lambda claim: stopped.append(invoke("fleet", "stop", "--reason", "lunch"))
        stopped: list[tuple[int, str]] = []
        code, text = invoke("fleet", "heal", "x", "--waves", "1")
    assert [each[0] for each in stopped] == [0]
    assert "x is stopped. Hosts that were asked go on." in stopped[0][1]
    assert (code, worker.asked) == (4, ["a"])
    assert "x was stopped by somebody in wave 1 of 2: lunch" in text
    code, text = invoke("fleet", "stop", "x", "--reason", "dinner")
    assert (code, "was stopped before: lunch" in text) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("stop", "--reason", "x"), "no rollout runs"),
        (("stop", "first", "--reason", " "), "for a reason"),
        (("stop", "frist", "--reason", "x"), "there is no rollout 'frist'; did you mean first?"),
        (("resume", "frist"), "there is no rollout 'frist'; did you mean first?"),
        (("heal", "--waves", "0"), "'0' is no wave"),
        (("heal", "x" * 201), "at most 200"),
        (("heal", "{{ x }}"), "has no {{ in it"),
        (("heal", "second", "--", "-b", "--check"), "that is --dry-run"),
        (("heal", "--lease", "0.5"), "a second at least"),
        (("stop", "--reason", "x", "--store", "host=h password=pw"), "must not hold a password"),
        (("heal", "--report", "/nowhere/a.jsonl"), "/nowhere/a.jsonl: its folder cannot"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    with standing_in(monkeypatch, "a") as worker:
        assert invoke("fleet", "heal", "first")[0] == 0
        worker.asked.clear()
        code, text = invoke("fleet", *arguments)
    assert (code, worker.asked) == (2, []), text
    assert said in text


def test_finished_rollout_cannot_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in(monkeypatch, "a"):
        invoke("fleet", "heal", "x")
    code, text = invoke("fleet", "stop", "x", "--reason", "y")
    assert (code, "x does not run: it is finished" in text) == (1, True)


def test_hosts_that_cannot_be_asked_at_all_leave_the_rollout_to_be_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with standing_in(monkeypatch, "a") as worker:
        worker.error = "ansible-playbook could not begin: no such option"
        code, text = invoke("fleet", "heal", "x", "--inventory", "i.ini", "--", "--nonsense")
        assert code == 3
        assert "could not begin: no such option. To go on: miyabi-healing fleet resume x" in text
        assert "--inventory i.ini -- --nonsense" in text
        worker.error = ""
        assert invoke("fleet", "resume", "x")[0] == 0
    assert worker.asked == ["a"]


# Where it is written


EARLIER = '{"kind": "fleet"}\n'


def test_report_is_in_the_file_as_it_comes_and_whole_at_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report, seen = tmp_path / "report.jsonl", []
    with standing_in(monkeypatch, "a", BAD) as worker:
        report.write_text(EARLIER)
        worker.during = lambda claim: seen.append(report.read_text())
        code, text = invoke(
            "fleet", "heal", "x", "--report", report, "--json", "--waves", "1", *ALL[3:]
        )
    assert seen[0] == EARLIER
    assert [json.loads(line)["host"] for line in seen[1].splitlines()] == ["a"]
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert [each["kind"] for each in rows] == ["fleet", "host", "host"]
    assert (code, rows[0]["exit_status"], rows[2]["issues"][0]["name"]) == (1, 1, "large_log_files")
    printed = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert printed == rows
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["report.jsonl"]


@pytest.mark.parametrize("words", ["notes\n", "[1]\n", '{"kind": "letter"}\n', "[" * 100_000])
def test_report_never_takes_the_place_of_somebody_elses_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str
) -> None:
    file = tmp_path / "file"
    file.write_text(words)
    with standing_in(monkeypatch, "a") as worker:
        code, text = invoke("fleet", "heal", "x", "--report", file)
        assert (code, worker.asked, file.read_text()) == (2, [], words)
        assert "it is there, and no fleet report" in text
        file.write_text("")
        assert invoke("fleet", "heal", "x", "--report", file)[0] == 0


@pytest.mark.parametrize("place", ["pipe", "link"])
def test_what_has_come_in_the_place_of_a_report_is_neither_followed_nor_waited_for(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "report").write_text(EARLIER)
    assert report_file._is_report(tmp_path / "report")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("report")
    said: list[bool] = []
    look = threading.Thread(
        target=lambda: said.append(report_file._is_report(tmp_path / place)), daemon=True
    )
    look.start()
    look.join(10)
    assert said == [False]


@pytest.mark.parametrize("place", ["pipe", "folder", "link"])
def test_report_never_takes_the_place_of_what_is_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with standing_in(monkeypatch, "a") as worker:
        code, text = invoke("fleet", "heal", "x", "--report", tmp_path / place)
    assert (code, worker.asked) == (2, [])
    assert "it is no regular file" in text
    assert not (tmp_path / "elsewhere").exists()


def test_report_that_cannot_be_written_any_more_is_said_and_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (folder := tmp_path / "reports").mkdir()
    with standing_in(monkeypatch, "a", "b") as worker:
        worker.during = lambda claim: shutil.rmtree(folder, ignore_errors=True)
        code, text = invoke("fleet", "heal", "x", "--report", folder / "r.jsonl")
    assert (code, worker.asked) == (0, ["a", "b"])
    assert text.count("the report is not whole in") == 2, "when it happened, and at the end"


def test_dry_run_shows_waves_and_plans_and_is_remembered_nowhere(
    monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> None:
    report = tmp_path / "plan.jsonl"
    with standing_in(monkeypatch, "a", BAD) as worker:
        code, text = invoke("--dry-run", "fleet", "heal", "x", "--waves", "1", "--report", report)
        assert invoke("fleet", "heal", "--dry-run", "--json")[0] == 1
    assert (code, worker.asked) == (1, ["a", "b", "a", "b"])
    assert text.splitlines() == [
        "wave 1 of 2: 1 host: a",
        "wave 2 of 2: 1 host: b",
        "  b: large_log_files (/srv/*.log): Dry run: 1 step",
        "    trim log /srv/a.log: it is long",
        "Dry run: nothing was changed. 1 with issues that remain, 1 well.",
    ]
    head = json.loads(report.read_text().splitlines()[0])
    assert (head["dry_run"], head["plan"], head["exit_status"]) == (True, [["a"], ["b"]], 1)
    assert not (home / ".local/state/miyabi-healing/fleet.sqlite3").exists()


def test_settings_hold_where_no_option_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[fleet]\nwaves = ["2"]\nslice = 1\nmax_fail = 100\n')
    with standing_in(monkeypatch, "a", BAD, "c"):
        code, text = invoke("--config", file, "fleet", "heal", "x", "--no-canary")
    assert code == 1
    assert "wave 1 of 2, slice 2: 1 with issues that remain" in text


# What events say


def event(kind: str, action: str = ansible_worker.MODULE, **result: Any) -> Mapping[str, Any]:
    return {"event": kind, "event_data": {"host": "a", "task_action": action, "res": result}}


@pytest.mark.parametrize(
    ("heard", "answer"),
    [
        (
            event("runner_on_ok", state="well", code=0, msg="Fine.", report={"a": 1}),
            Answer("a", HostState.WELL, 0, "Fine.", {"a": 1}),
        ),
        (
            event("runner_on_failed", state="issues", code=1, msg="One\nissue.", report={}),
            Answer("a", HostState.ISSUES, 1, "One issue.", None),
        ),
        (
            event("runner_on_ok", state="superseded", code=75, msg="a higher token"),
            Answer("a", HostState.FAILED, 75, "a higher token"),
        ),
        (
            event("runner_on_ok", state=["well"], code="0", msg=["x"], report={"a": 1}),
            Answer("a", HostState.FAILED, None, "['x']"),
        ),
        (
            event("runner_on_ok", state="at work", code=2**70, msg="x" * 5000),
            Answer("a", HostState.FAILED, None, "x" * 1000 + "…"),
        ),
        (
            event("runner_on_failed", msg="MODULE FAILURE"),
            Answer("a", HostState.FAILED, None, "MODULE FAILURE"),
        ),
        (event("runner_on_ok", state="splendid", code=0), Answer("a", HostState.FAILED, 0, "")),
        (
            event("runner_on_unreachable", msg="Task failed: … over ssh: ssh: refused"),
            Answer("a", HostState.UNREACHABLE, None, "ssh: refused"),
        ),
        (
            event("runner_on_unreachable", msg="Timed out."),
            Answer("a", HostState.UNREACHABLE, None, "Timed out."),
        ),
        (
            event("runner_on_failed", "ansible.builtin.assert", msg="not today"),
            Answer("a", HostState.FAILED, None, "not today"),
        ),
        (event("runner_on_ok", "ansible.builtin.ping", msg="pong"), None),
        (event("runner_on_start"), None),
        ({"event": "verbose", "stdout": "hello"}, None),
    ],
)
def test_event_is_an_answer(heard: Mapping[str, Any], answer: Answer | None) -> None:
    assert answer_of(heard) == answer


# What Ansible is given


def test_settings_of_the_user_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runner = pytest.importorskip("ansible_runner")
    assert runner
    monkeypatch.setattr(ansible_tools, "ansible_tool", lambda name: f"/opt/{name}")
    monkeypatch.delenv("ANSIBLE_HOST_KEY_CHECKING", raising=False)
    monkeypatch.chdir(tmp_path)
    worker = ansible_worker.AnsibleWorker("a,b", "/opt/miyabi", True, ("--become", "-e", "x=a b"))
    claim = Claim("label", Slice(1, 1, ("a", "b")), 7, 30)
    (folder := tmp_path / "run").mkdir()
    playbook = ansible_worker._Playbook(worker, claim, folder, print, lambda: False)
    config = playbook._prepared("/opt/ansible-playbook").config
    words = shlex.split(shlex.join(config.command))
    assert words[:5] == ["/opt/ansible-playbook", "--become", "-e", "x=a b", "--check"]
    assert words[words.index("-i") + 1] == "a,b"
    assert words[words.index("--forks") + 1] == "2"
    assert Path(words[words.index("--limit") + 1].removeprefix("@")).read_text() == "a\nb\n"
    variables = json.loads(words[words.index("--limit") + 3])
    assert variables == {
        "miyabi_hosts": "all",
        "miyabi_fleet_run": "label",
        "miyabi_fleet_token": 7,
        "miyabi_executable": "/opt/miyabi",
    }
    assert config.cwd == str(tmp_path), "ansible.cfg is looked for there"
    assert "ANSIBLE_HOST_KEY_CHECKING" not in config.env, "it is on, unless the user says no"
    assert config.env["ANSIBLE_PIPELINING"] == "True"
    assert "ANSIBLE_CACHE_PLUGIN" not in config.env


@pytest.mark.parametrize(
    ("file", "variables", "is_set"),
    [
        ("", {}, False),
        ("[defaults]\nforks = 9\n", {}, False),
        ("[ssh_connection]\npipelining = False\n", {}, True),
        ("[connection]\npipelining = True\n", {}, True),
        ("", {"ANSIBLE_PIPELINING": "False"}, True),
        ("", {"ANSIBLE_SSH_PIPELINING": "False"}, True),
        ("this is none\n", {}, True),
    ],
)
def test_pipelining_is_the_users_where_she_has_set_it(
    tmp_path: Path, file: str, variables: Mapping[str, str], is_set: bool
) -> None:
    (tmp_path / "ansible.cfg").write_text(file)
    found = ansible_tools.user_has_set(variables, tmp_path, "pipelining", "ssh_pipelining")
    assert found is is_set


def test_settings_of_ours_give_way_to_those_of_the_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    claim = Claim("label", Slice(1, 1, ("a",)), 7, 30)
    playbook = ansible_worker._Playbook(
        ansible_worker.AnsibleWorker(), claim, Path("/run/x"), print, lambda: False
    )
    ours = {
        "ANSIBLE_PIPELINING", "ANSIBLE_SSH_ARGS", "ANSIBLE_SSH_EXTRA_ARGS",
        "ANSIBLE_TASK_TIMEOUT",
    }  # fmt: skip
    assert ours <= set(playbook._environment())
    settings = "pipelining = no\ncontrol_path_dir = ~/.ssh/mine\nssh_extra_args = -C\n"
    (tmp_path / "ansible.cfg").write_text(
        f"[defaults]\ntask_timeout = 0\n[ssh_connection]\n{settings}"
    )
    assert set(playbook._environment()) == {"MAX_EVENT_RES"}


@pytest.mark.parametrize(
    "setting", ["ssh_args = -F mine", "control_path = %(directory)s/x", "control_path_dir = ~/x"]
)
def test_connections_are_kept_open_where_the_user_says_how(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str
) -> None:
    monkeypatch.chdir(tmp_path)
    claim = Claim("label", Slice(1, 1, ("a",)), 7, 30)
    playbook = ansible_worker._Playbook(
        ansible_worker.AnsibleWorker(), claim, Path("/run/x"), print, lambda: False
    )
    assert playbook._environment()["ANSIBLE_SSH_ARGS"] == "-C"
    (tmp_path / "ansible.cfg").write_text(f"[ssh_connection]\n{setting}\n")
    assert "ANSIBLE_SSH_ARGS" not in playbook._environment()


def test_settings_in_a_folder_that_everybody_writes_are_not_heeded(
    tmp_path: Path, home: Path
) -> None:
    (tmp_path / "ansible.cfg").write_text("[connection]\npipelining = True\n")
    (home / "ansible.cfg").write_text("[defaults]\n")
    assert ansible_tools.config_file({}, tmp_path) == tmp_path / "ansible.cfg"
    named = {"ANSIBLE_CONFIG": str(home)}
    assert ansible_tools.config_file(named, tmp_path) == home / "ansible.cfg"
    tmp_path.chmod(0o777)
    assert ansible_tools.config_file({}, tmp_path) != tmp_path / "ansible.cfg"


def test_without_ansible_the_way_to_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorkerError, match=r"installed as miyabi-healing\[fleet\]"):
        inventory_hosts("a,b")
    code, text = invoke("fleet", "heal", "--inventory", "a,b")
    assert (code, "which " in text, "miyabi-healing[fleet]" in text) == (2, True, True)
    (tmp_path / "ansible").write_text("#!/bin/sh\n")
    (tmp_path / "ansible").chmod(0o755)
    assert ansible_tools.ansible_tool("ansible") == str(tmp_path / "ansible")


def test_hosts_that_no_inventory_has_any_more_do_not_keep_a_rollout_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Runner:
        stdout = io.StringIO("[ERROR]: … and/or --limit leaves us with no hosts to target.\n")

        def run(self) -> tuple[str, int]:
            return "failed", 1

    monkeypatch.setattr(ansible_tools, "ansible_tool", str)
    monkeypatch.setattr(ansible_worker._Playbook, "_prepared", lambda *_: Runner())
    told: list[Answer] = []
    claim = Claim("label", Slice(1, 1, ("a", "b")), 7, 30)
    ansible_worker.AnsibleWorker().work(claim, told.append, lambda: False)
    assert [(each.host, each.state, each.message) for each in told] == [
        ("a", HostState.UNREACHABLE, "no inventory has it"),
        ("b", HostState.UNREACHABLE, "no inventory has it"),
    ]


def test_resume_needs_an_inventory_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in(monkeypatch, BAD, "a") as worker:
        assert invoke("fleet", "heal", "x")[0] == 4
        monkeypatch.setattr(worker, "hosts", nobody)
        code, text = invoke("fleet", "resume", "x")
        assert (code, "name one by --inventory" in text) == (2, True)
        assert invoke("fleet", "status", "x")[0] == 4, "it is as it was"
        assert invoke("fleet", "resume", "x", "--inventory", "i.ini")[0] == 1


def nobody(pattern: str) -> tuple[str, ...]:
    raise WorkerError("there is no inventory: name one by --inventory")


def test_inventory_that_never_answers_is_given_up_with_all_that_it_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A vault's program that hangs holds the errors of Ansible open."""
    program = tmp_path / "ansible"
    program.write_text("#!/bin/sh\nsleep 60 & echo $! >" + f"{tmp_path}/pid\nwait\n")
    program.chmod(0o755)
    monkeypatch.setattr(inventory, "ansible_tool", lambda name: str(program))
    monkeypatch.setattr(inventory, "_TIME_LIMIT", 0.2)
    with pytest.raises(WorkerError, match=r"no answer within 0\.2 s"):
        inventory_hosts("a,b")
    left = int((tmp_path / "pid").read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        wait_for(lambda: psutil.Process(left).status() == psutil.STATUS_ZOMBIE, 5)


def test_host_that_a_pattern_would_take_for_all_others_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "ansible"
    program.write_text("#!/bin/sh\nprintf '  hosts (2):\\n    a\\n    !b\\n'\n")
    program.chmod(0o755)
    monkeypatch.setattr(inventory, "ansible_tool", lambda name: str(program))
    with pytest.raises(WorkerError, match="a host cannot be called !b"):
        inventory_hosts("a,!b")


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("[WARNING]: odd\n[ERROR]: Unable to parse\nmore", "Unable to parse"),
        ("usage: x\n\nansible-playbook: error: unrecognized arguments: -q", "unrecognized argum"),
        ("ERROR! the playbook", "the playbook"),
        ("one\ntwo\n", "two"),
        ("", "it said nothing"),
    ],
)
def test_first_error_of_ansible_is_found(output: str, line: str) -> None:
    assert ansible_tools.first_error(output).startswith(line)


def test_collection_is_where_the_checkout_has_it() -> None:
    folder = collection.collections_folder()
    assert (folder / "ansible_collections/miyabi/healing/playbooks/heal_slice.yml").is_file()
    assert os.path.basename(folder) == "ansible"


def test_commands_that_go_on_name_the_store_where_an_option_did() -> None:
    counts = {HostState.UNREACHABLE.value: 1, HostState.UNTOUCHED.value: 1}
    where = "--store service=fleet"
    for state in ("running", "stopped"):
        found = [command for command, _ in wording.next_steps("x", state, counts, where=where)]
        assert found
        assert all(each.endswith(where) for each in found)
    (_, more) = wording.next_steps("x", "stopped", counts, "--inventory i", where)
    assert more[0].endswith("resume x --again --inventory i")


def test_stopped_rollout_whose_hosts_were_all_asked_is_gone_on_with_by_asking_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = Answer("b", HostState.UNREACHABLE, None, "no route")
    with standing_in(monkeypatch, "a", gone):
        assert invoke("fleet", "heal", "x", "--waves", "1")[0] == 4
        code, text = invoke("fleet", "heal", "x", "--waves", "1")
    assert code == 4
    assert "To go on: miyabi-healing fleet resume x --again" in " ".join(text.split())


def test_resume_without_ansible_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with standing_in(monkeypatch, "a", Answer("b", HostState.UNREACHABLE, None, "no route")):
        assert invoke("fleet", "heal", "x", "--waves", "1")[0] == 4
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    code, text = invoke("fleet", "resume", "x", "--again", "--inventory", "a,b")
    assert (code, "reaching hosts needs Ansible" in text) == (2, True)
    code, text = invoke("fleet", "status", "x")
    assert (code, "x was stopped by a rule" in text) == (4, True)


# What is said meanwhile


def teller() -> tuple[Teller, list[str], Callable[[int], Claim]]:
    """Of two waves, the second one of two slices of two hosts each."""
    rollout = Rollout("x", make_slices(["a", "b", "c", "d", "e"], ("1", "100%"), 2, 4), 4)
    said: list[str] = []
    made = Teller(
        rollout, lambda line, bad: said.append(line), lambda text: said.append(f"~{text}")
    )
    return made, said, lambda number: Claim("x", rollout.slices[number - 1], 1, 30)


def test_two_slices_in_hand_are_told_apart() -> None:
    made, said, claim = teller()
    made.begins(claim(2))
    made.begins(claim(3))
    for host in ("d", "b", "e", "c"):
        made.hears(Answer(host, HostState.WELL, 0))
    made.ends()
    assert said == [
        "wave 2 of 2: 4 hosts", "~wave 2 of 2: 0 of 2 hosts have answered",
        "~wave 2 of 2: 0 of 4 hosts have answered", "~wave 2 of 2: 1 of 4 hosts have answered",
        "~wave 2 of 2: 2 of 4 hosts have answered", "~wave 2 of 2: 3 of 4 hosts have answered",
        "wave 2 of 2, slice 3: 2 well",
        "~wave 2 of 2: 2 of 2 hosts have answered", "wave 2 of 2, slice 2: 2 well",
    ]  # fmt: skip


def test_slice_that_was_lost_and_won_again_is_told_with_what_it_had() -> None:
    made, said, claim = teller()
    made.begins(claim(2))
    made.hears(Answer("b", HostState.WELL, 0))
    made.waits(30)
    left = claim(2)
    made.begins(replace(left, slice=replace(left.slice, hosts=("c",))))
    made.hears(Answer("c", HostState.UNREACHABLE, None, "no route"))
    made.ends()
    assert [each for each in said if not each.startswith("~")] == [
        "wave 2 of 2: 4 hosts",
        "wave 2 of 2, slice 2: 1 well",
        "waiting for hosts that others have; without a sign of life for 30 s, they are taken over",
        "wave 2 of 2, slice 2: 1 of 2 hosts left to ask",
        "c: unreachable: no route",
        "wave 2 of 2, slice 2: 1 unreachable",
    ]


def test_what_was_healed_is_said_but_not_of_a_run_that_was_made_before() -> None:
    made, said, claim = teller()
    issue = {"name": "large_log_files", "target": "~/logs/*.log", "severity": "low", "healed": True}
    made.begins(claim(2))
    made.hears(Answer("b", HostState.WELL, 0, report={"issues_detected": [issue]}))
    again = {"issues_detected": [issue], "again": True}
    made.hears(Answer("c", HostState.WELL, 0, report=again))
    assert [each for each in said if "healed" in each] == [
        "b: healed: large_log_files (~/logs/*.log)"
    ]
    many = {"issues_detected": [{**issue, "target": "x" * 10_000}] * 10_000}
    made.hears(Answer("d", HostState.WELL, 0, report=many))
    (line,) = [each for each in said if each.startswith("d: ")]
    assert (len(line) < 1200, line.endswith(" and 9995 more")) == (True, True)
