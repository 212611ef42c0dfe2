"""``fleet heal``, ``resume`` and ``stop`` as people run them: real ssh, real stores, and hosts that
are judged by their own records. What needs no host is in ``test_fleet_commands.py``.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from ansiblework import Play, Stand
from fleetwork import Host, Hosts, needs_postgres, needs_sshd, ssh_hosts
from fleetworkers import invoke, standing_in
from program import environment, run

from conftest import PROJECT, wait_for
from miyabi_healing.fleet import ansible_worker
from miyabi_healing.fleet.ansible_worker import AnsibleWorker
from miyabi_healing.fleet.coordinator import lead
from miyabi_healing.fleet.inventory import inventory_hosts
from miyabi_healing.fleet.open_store import open_store
from miyabi_healing.fleet.waves import make_slices
from miyabi_healing.fleet.worker import WorkerError
from miyabi_healing.model.rollout import Answer, Claim, HostState, Rollout, Slice

needs_ansible = pytest.mark.skipif(
    find_spec("ansible_runner") is None, reason="needs Ansible: the extra fleet"
)
pytestmark = needs_ansible

_WELL = {
    "run_id": "a", "overall_success": True, "summary": "Looked.", "errors": [],
    "issues_detected": [], "actions_taken": [],
}  # fmt: skip
# Takes its time on host1, and then is the real program, or says that all is well.
_SLOW = """\
#!/bin/sh
echo "$@" >>"$HOME/asked"
n=0
while [ "$(hostname)" = host1 ] && [ ! -e {go} ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n+1)); done
if [ -e {real} ]; then exec miyabi-healing "$@"; fi
echo '{well}'
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with ssh_hosts(tmp_path_factory.mktemp("hosts"), 2) as started:
        yield started


@pytest.fixture
def slow(hosts: Hosts, home: Path) -> Iterator[Path]:
    """A program that waits on the first host until the file ``go`` is beside it; with a file
    ``real`` it is ours.
    """
    program = home / "slow/miyabi"
    program.parent.mkdir()
    go, real = program.parent / "go", program.parent / "real"
    program.write_text(_SLOW.format(go=go, real=real, well=json.dumps(_WELL)))
    program.chmod(0o755)
    yield program
    go.touch()  # nobody waits any longer
    for each in hosts.hosts:
        (each.home / "asked").unlink(missing_ok=True)


def runs_of(host: Host) -> list[str]:
    """The labels of the runs that a host has made, by its own journal."""
    file = host.home / ".local/state/miyabi-healing/journal.sqlite3"
    if not file.exists():
        return []
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as journal:
        rows = journal.execute("select label from fleet_run order by finished").fetchall()
        (made,) = journal.execute("select count(*) from pass").fetchone()
    assert made == len(rows), "a run that no rollout has asked for, or one that was made twice"
    return [label for (label,) in rows]


def asked(host: Host) -> list[str]:
    file = host.home / "asked"
    return file.read_text().splitlines() if file.exists() else []


def rows_of(report: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in report.read_text().splitlines()]


def heal(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run("fleet", "heal", *map(str, arguments))


def resume(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run("fleet", "resume", *map(str, arguments))


def start_heal(
    start: Callable[..., psutil.Popen], output: Path, *arguments: object
) -> psutil.Popen:
    with output.open("w") as file:
        return start(
            sys.executable, str(PROJECT / "self_healer.py"), "fleet", "heal",
            *map(str, arguments), stdout=file, stderr=file, env=environment(),
        )  # fmt: skip


def left_of_ansible() -> list[psutil.Process]:
    """What this test has started of Ansible and ssh, connections that are kept open included."""
    found = []
    for each in psutil.process_iter():
        try:
            if each.status() == psutil.STATUS_ZOMBIE:
                continue
            variables, words = each.environ(), " ".join(each.cmdline())
            ours = variables.get("HOME") == os.environ["HOME"]
            if (ours and "AWX_ISOLATED_DATA_DIR" in variables) or (
                words.startswith("ssh: ") and os.environ["HOME"] in words
            ):
                found.append(each)
        except psutil.Error:
            pass
    return found


@needs_sshd
def test_whole_way(hosts: Hosts, home: Path) -> None:
    report = home / "report.jsonl"
    done = heal("first", "--inventory", hosts.inventory(), "--waves", "1", "--report", report)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the store is a file here" in done.stderr
    assert done.stdout.splitlines()[:5] == [
        "rollout first",
        "wave 1 of 2: 1 host, all of which must be well",
        "wave 1 of 2: 1 well",
        "wave 2 of 2: 1 host",
        "wave 2 of 2: 1 well",
    ]
    assert "first is finished" in done.stdout
    head, *rows = rows_of(report)
    assert (head["kind"], head["exit_status"], head["hosts"]) == ("fleet", 0, 2)
    assert [(row["host"], row["state"]) for row in rows] == [("host1", "well"), ("host2", "well")]
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    assert [runs_of(each) for each in hosts.hosts] == [["first"], ["first"]]


@needs_sshd
@pytest.mark.parametrize(
    ("canary", "touched", "why"),
    [
        (Stand("a", found=("large_log_files",)), ["a"], "a (issues)"),
        pytest.param(Stand("a", reachable=False), [], "a (unreachable)"),
    ],
)
def test_canary_that_is_not_well_is_the_only_host_that_is_touched(
    hosts: Hosts, home: Path, canary: Stand, touched: list[str], why: str
) -> None:
    play = Play(home / "play", hosts)
    done = heal("x", "--inventory", play.stands(canary, Stand("b"), Stand("c")))
    assert done.returncode == 4, done.stdout + done.stderr
    assert f"canary: 1 of 1 host not well: {why}" in " ".join(done.stdout.split())
    assert play.started() == touched


@needs_sshd
def test_killed_coordinator_keeps_others_out_and_its_rollout_is_resumed(
    hosts: Hosts, home: Path, slow: Path, start: Callable[..., psutil.Popen],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    report = home / "report.jsonl"
    (slow.parent / "real").touch()
    options = ("--inventory", hosts.inventory(), "--executable", slow)
    before = [len(runs_of(each)) for each in hosts.hosts]
    rollout = ("killed", "--waves", "100%", "--no-canary")
    first = start_heal(start, home / "output", *rollout, *options, "--report", report)
    wait_for(lambda: report.exists() and report.read_text().count("\n") == 1, 120)
    wait_for(lambda: all(asked(each) for each in hosts.hosts), 120)
    with standing_in(monkeypatch, "host1", "host2") as other:
        code, text = invoke("fleet", "heal", *rollout)
    assert (code, other.asked) == (75, []), text
    assert "another coordinator is at work" in text
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert [row["host"] for row in rows_of(report)] == ["host2"], "what was told is on disk"
    (slow.parent / "go").touch()

    done = resume("killed", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    made = [len(runs_of(each)) - count for each, count in zip(hosts.hosts, before, strict=True)]
    assert made == [1, 1]
    assert len(asked(hosts.hosts[1])) == 1, "who has answered is not asked again"
    tokens = [int(line.split("--fleet-token=")[1].split()[0]) for line in asked(hosts.hosts[0])]
    assert len(set(tokens)) == 2, "the second request has a token of its own"
    assert tokens == sorted(tokens)


@needs_sshd
@needs_postgres
def test_interrupted_coordinator_leaves_nothing_behind_and_somebody_else_goes_on(
    hosts: Hosts, home: Path, slow: Path, start: Callable[..., psutil.Popen],
    monkeypatch: pytest.MonkeyPatch, where: str,
) -> None:  # fmt: skip
    store = ("--store", where)
    inventory = home / "hosts.ini"  # Ansible's own default keeps connections open
    inventory.write_text(hosts.inventory().read_text().replace("ansible_ssh_args=-C", ""))
    options = ("--inventory", inventory, "--executable", slow, *store)
    rollout = ("shared", "--waves", "100%", "--no-canary", *store)
    first = start_heal(start, home / "output", *rollout, *options)
    wait_for(lambda: all(asked(each) for each in hosts.hosts), 120)
    with standing_in(monkeypatch, "host1", "host2") as other:
        code, text = invoke("fleet", "heal", *rollout, "--no-wait")
    assert (code, other.asked) == (75, []), text
    assert "shared is at work in wave 1 of 1" in text
    assert left_of_ansible()
    first.send_signal(signal.SIGINT)
    assert first.wait(120) == 130
    wait_for(lambda: not left_of_ansible(), 5)  # what was killed takes a moment to be gone
    text = (home / "output").read_text()
    assert "stopped by SIGINT; to go on: python3" in text
    assert "fleet resume shared --store" in text
    assert "the store is a file" not in text

    code, text = invoke("fleet", "stop", "--reason", "wrong day", *store)
    assert code == 0, text
    with standing_in(monkeypatch, "host1", "host2") as other:
        code, text = invoke("fleet", "heal", *rollout)
    assert (code, other.asked) == (4, [])
    assert "shared was stopped: wrong day" in text
    assert len(asked(hosts.hosts[0])) == 1
    (slow.parent / "go").touch()
    done = resume("shared", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(asked(hosts.hosts[0])) == 2


@needs_sshd
def test_host_that_takes_too_long_is_given_up_and_asked_again_later(
    hosts: Hosts, slow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--inventory", hosts.inventory(), "--executable", slow)
    monkeypatch.setenv("ANSIBLE_TASK_TIMEOUT", "6")
    done = heal("hangs", "--waves", "100%", "--no-canary", "--max-fail", "50", *options)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "host1: failed: Task failed: Timed out after 6 second(s)." in done.stdout
    assert not left_of_ansible(), "what asked it would wait for good"
    (slow.parent / "go").touch()
    assert resume("hangs", "--again", *options).returncode == 0
    assert [len(asked(each)) for each in hosts.hosts] == [2, 1]


def test_whether_to_end_is_asked_while_hosts_are_silent(home: Path) -> None:
    program, begun = home / "program", home / "begun"
    program.write_text(f"#!/bin/sh\ntouch {begun}\nsleep 3\necho '{json.dumps(_WELL)}'\n")
    program.chmod(0o755)
    inventory = home / "hosts.ini"
    inventory.write_text("here ansible_connection=local\n")
    questions, told = 0, list[Answer]()

    def is_to_end() -> bool:
        nonlocal questions
        questions += begun.exists()
        return questions >= 3

    worker = AnsibleWorker(str(inventory), str(program))
    worker.work(Claim("x", Slice(1, 1, ("here",)), 1, 30), told.append, is_to_end)
    assert (questions, told) == (3, [])


def test_what_a_run_on_this_host_starts_outlives_the_slice(home: Path) -> None:
    program, pid = home / "program", home / "pid"
    program.write_text(
        f"#!/bin/sh\nsetsid sleep 100 </dev/null >/dev/null 2>&1 & echo $! >{pid}\n"
        f"echo '{json.dumps(_WELL)}'\n"
    )
    program.chmod(0o755)
    inventory = home / "hosts.ini"
    inventory.write_text("here ansible_connection=local\n")
    done = heal("here", "--inventory", inventory, "--executable", program)
    assert done.returncode == 0, done.stdout + done.stderr
    started = psutil.Process(int(pid.read_text()))
    assert started.status() == psutil.STATUS_SLEEPING, "and no zombie"
    started.kill()


def test_ssh_of_our_task_alone_is_ended_after_a_slice(
    start: Callable[..., psutil.Popen], tmp_path: Path
) -> None:
    """Not what connections of the user's go through, nor a run on this host."""
    environment = {**os.environ, "AWX_ISOLATED_DATA_DIR": f"{tmp_path}/run"}
    code = "import time; time.sleep(100)"
    ours = "/bin/sh -c 'echo miyabi-healing-0 begin'"
    alike = (("/usr/bin/ssh", "-tt", "a", ours), ("ssh", "-W", "a:22", "b"), ("sh", "-c", ours))
    left = [
        start(*words, executable=sys.executable, env=environment, stdin=subprocess.PIPE)
        for words in [(program, "-c", code, *more) for program, *more in alike]
    ]
    wait_for(lambda: all(each.cmdline()[1:2] == ["-c"] for each in left))
    ansible_worker.end_marked(str(tmp_path), ansible_worker._asks_a_host)
    assert [each.poll() is None for each in left] == [False, True, True]
    ansible_worker.end_marked(str(tmp_path))
    assert [each.wait(5) for each in left] == [-signal.SIGKILL] * 3


@needs_sshd
@needs_postgres
def test_slice_that_another_one_lost_is_asked_beside_ones_own(
    hosts: Hosts, slow: Path, where: str
) -> None:
    """The first host stays at work until the second one has answered."""
    told: list[str] = []

    def hear(answer: Answer) -> None:
        told.append(answer.host)
        (slow.parent / "go").touch()

    with closing(open_store(where, slow)) as store:
        store.create(Rollout("beside", make_slices(["host1", "host2"], ("100%",), 1, 2), 2), "me")
        for each in [store.claim("beside", "dead"), store.claim("beside", "dead too")]:
            assert each is not None
            store.release(each)
        worker = AnsibleWorker(str(hosts.inventory()), str(slow))
        standing = lead(store, "beside", worker, "me", told=hear)
    assert standing.counts == {HostState.WELL: 2}
    assert told == ["host2", "host1"]
    assert [len(asked(each)) for each in hosts.hosts] == [1, 1]


@pytest.mark.parametrize(
    ("inventory", "pattern", "said"),
    [
        ("nowhere.ini", "all", "there is no inventory nowhere.ini"),
        ("", "all", "there is no inventory: name one by --inventory"),
        ("a,b", "c", "no host of the inventory is meant by c"),
    ],
)
def test_inventory_without_hosts_is_an_error(
    home: Path, inventory: str, pattern: str, said: str
) -> None:
    with pytest.raises(WorkerError, match=said):
        inventory_hosts(inventory, pattern)


def test_ansible_that_cannot_begin_says_why(home: Path) -> None:
    worker = AnsibleWorker("a,b", arguments=("--nonsense",))
    with pytest.raises(WorkerError, match="could not begin: unrecognized arguments: --nonsense"):
        worker.work(Claim("x", Slice(1, 1, ("a",)), 1, 30), print, lambda: False)
