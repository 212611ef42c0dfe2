"""Watch mode goes on, whatever happens to its runs, and is the same after many as after the
first.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from program import SCHEMA, environment, run, settings

from conftest import PROJECT, wait_for
from miyabi_healing.runner.watch import run_process
from miyabi_healing.runner.watch.loop import Schedule, offset_of

PASSES = int(os.environ.get("WATCH_PASSES", "60"))
CHECK = """
import os, pathlib, pytest, signal, time

@pytest.mark.limit(5, unit="things")
def test_things(measure, limit):
    ACT
    assert measure(VALUE, "Found some things") <= limit
"""


class Watching:
    """A watch of the test's own: its documents as they come, one a line."""

    def __init__(
        self,
        home: Path,
        *more: str,
        interval: str = "0.2",
        text: str = "",
        env: dict[str, str] | None = None,
        own_only: bool = False,
    ) -> None:
        self.home, self.folder = home, home / "mine"
        self.folder.mkdir(exist_ok=True)
        self.edit()
        self.errors = home / "errors"
        options = ("--config", settings(home, text), "--watch", "--interval", interval, *more)
        options = options if own_only else (*options, "--checks", str(self.folder))
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(PROJECT / "self_healer.py"), *options],
                cwd=home, env=environment(**(env or {})), stdout=subprocess.PIPE, stderr=errors,
                start_new_session=True,  # with a terminal, SIGHUP means something else
            )  # fmt: skip

    def edit(self, act: str = "pass", value: int = 1) -> None:
        """Change the check; the next run has it."""
        (self.folder / "new").write_text(CHECK.replace("ACT", act).replace("VALUE", str(value)))
        (self.folder / "new").rename(self.folder / "test_things.py")

    def line(self, seconds: float = 15) -> str:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], seconds)[0], "no report came"
        line: bytes = self.process.stdout.readline()
        assert line, self.errors.read_text()
        return line.decode().rstrip("\n")

    def next(self, seconds: float = 15) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.line(seconds))
        import jsonschema

        jsonschema.validate(document, SCHEMA)
        return document

    def until(self, summary: str) -> dict[str, Any]:
        return self.when(lambda document: document["summary"].startswith(summary))

    def when(self, right: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first of the next reports that is `right`."""
        for _ in range(100):
            if right(document := self.next()):
                return document
        raise AssertionError(f"the last of 100 reports: {document}")

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture
def watching(home: Path) -> Iterator[Any]:
    started: list[Watching] = []

    def watch(*more: str, **options: Any) -> Watching:
        started.append(Watching(home, *(more or ("--json",)), **options))
        return started[-1]

    yield watch
    for each in started:
        each.process.kill()
        each.process.communicate()


HEALTHY = "No issues detected. System is healthy."


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_one_document_a_line_until_it_is_asked_to_stop(
    watching: Any, number: int, code: int
) -> None:
    watch = watching()
    first, second = watch.next(), watch.next()
    assert first["summary"] == second["summary"] == HEALTHY
    assert first["run_id"] != second["run_id"]
    assert watch.end(number) == code
    assert watch.errors.read_text() == ""


def test_edited_check_takes_effect_at_the_next_pass(watching: Any) -> None:
    watch = watching()
    watch.next()
    watch.edit(value=7)
    assert watch.until("1 issue(s) detected")["issues_detected"][0]["metric_value"] == 7
    watch.edit(value=2)
    watch.until(HEALTHY)


def test_added_and_removed_checks_take_effect_at_the_next_pass(watching: Any) -> None:
    watch = watching()
    names = [metric["name"] for metric in watch.next()["metrics"]]
    assert "others" not in names
    (watch.folder / "test_others.py").write_text(
        CHECK.replace("things", "others").replace("ACT", "pass").replace("VALUE", "1")
    )
    watch.when(lambda document: "others" in [metric["name"] for metric in document["metrics"]])
    (watch.folder / "test_others.py").unlink()
    watch.when(lambda document: "others" not in [metric["name"] for metric in document["metrics"]])


def test_edited_module_that_a_check_imports_takes_effect_at_the_next_pass(
    watching: Any, home: Path
) -> None:
    (home / "helper.py").write_text("VALUE = 1\n")
    watch = watching()
    watch.edit(f"import sys; sys.path.insert(0, {str(home)!r}); import helper")
    watch.until(HEALTHY)
    (watch.folder / "test_things.py").write_text(
        f"import sys\nsys.path.insert(0, {str(home)!r})\nimport helper\n"
        + CHECK.replace("ACT", "pass").replace("VALUE", "helper.VALUE")
    )
    watch.until(HEALTHY)
    watch.until(HEALTHY)
    (home / "helper.py").write_text("VALUE = 70\n")
    assert watch.until("1 issue(s) detected")["issues_detected"][0]["metric_value"] == 70


def test_new_repository_is_looked_at_in_the_next_pass(watching: Any, home: Path) -> None:
    git = ["git", "init", "-q"]
    subprocess.run([*git, str(home / "src" / "one")], check=True)
    watch = watching(text=f'[git]\nrepos = ["{home}/src/*"]\n')

    def repositories(document: dict[str, Any]) -> list[str]:
        return [
            Path(each["target"]).name
            for each in document["metrics"]
            if each["name"] == "excessive_worktrees"
        ]

    assert repositories(watch.next()) == ["one"]
    subprocess.run([*git, str(home / "src" / "two")], check=True)
    watch.when(lambda document: repositories(document) == ["one", "two"])
    # at once: one that is being deleted is unknown meanwhile, and so is one that goes in a pass
    (home / "src" / "one").rename(home / "gone")
    watch.when(lambda document: (repositories(document), document["errors"]) == (["two"], []))


def test_folder_that_others_may_write_to_is_refused_from_the_next_pass_on(watching: Any) -> None:
    watch = watching()
    watch.next()
    watch.folder.chmod(0o777)
    assert (
        "can be written by everybody"
        in watch.until("The checks could not run")["errors"][0]["message"]
    )
    watch.folder.chmod(0o755)
    watch.until(HEALTHY)


def test_check_that_cannot_be_loaded_is_told_until_it_can(watching: Any, home: Path) -> None:
    watch = watching()
    watch.next()
    code = f"import sys\nsys.path.insert(0, {str(home)!r})\nimport missing_so_far\n"
    (watch.folder / "test_more.py").write_text(code)
    for _ in range(2):
        assert (
            "missing_so_far"
            in watch.until("No issues detected, but 1 check(s) could not run.")["errors"][0][
                "message"
            ]
        )
    (home / "missing_so_far.py").touch()  # nothing that was read before has changed
    watch.until(HEALTHY)
    (watch.folder / "test_more.py").write_text("import os\nos._exit(0)\n")
    assert (
        "ended with status 0 before"
        in watch.until("The checks could not run")["errors"][0]["message"]
    )
    (watch.folder / "test_more.py").unlink()
    watch.until(HEALTHY)


def test_process_that_keeps_the_checks_may_be_killed(watching: Any) -> None:
    watch = watching(interval="3600")
    watch.next()
    (keeper,) = psutil.Process(watch.process.pid).children()
    keeper.kill()
    wait_for(lambda: keeper.status() == psutil.STATUS_ZOMBIE)
    watch.process.send_signal(signal.SIGHUP)
    assert watch.next()["summary"] == HEALTHY
    assert watch.errors.read_text() == ""
    assert psutil.Process(watch.process.pid).children() != [keeper]


def test_pass_ends_with_the_process_that_keeps_the_checks(watching: Any, home: Path) -> None:
    """Nobody else would end one that hangs, and it has the lock."""
    watch = watching()
    watch.next()
    watch.edit("open(os.path.expanduser('~/began'), 'w').close(); time.sleep(100)")
    wait_for((home / "began").exists)
    (keeper,) = psutil.Process(watch.process.pid).children()
    (pass_,) = keeper.children()
    watch.edit()
    keeper.kill()
    wait_for(lambda: not pass_.is_running())
    watch.until(HEALTHY)


def test_watch_that_is_killed_leaves_nobody_behind(watching: Any) -> None:
    watch = watching(interval="3600")
    watch.next()
    (keeper,) = psutil.Process(watch.process.pid).children()
    watch.process.kill()
    wait_for(lambda: not keeper.is_running() or keeper.status() == psutil.STATUS_ZOMBIE)


def test_own_checks_are_rehearsed_without_a_trace(home: Path, watching: Any) -> None:
    """With our own checks alone, they are run once beforehand: nothing of that is healed, recorded
    or reported.
    """
    (home / "logs").mkdir()
    (home / "logs" / "old.log").write_bytes(b"line\n" * 400_000)
    os.utime(home / "logs" / "old.log", (1, 1))
    watch = watching(
        own_only=True, interval="0.5", text="[checks.large_log_files]\nthreshold = 1\n"
    )
    documents = [watch.next() for _ in range(3)]
    assert [len(each["actions_taken"]) for each in documents] == [1, 0, 0]
    assert documents[0]["summary"] == "Successfully healed 1 issue(s)."
    assert watch.end() == 143
    database = sqlite3.connect(home / ".local" / "state" / "miyabi-healing" / "journal.sqlite3")
    with contextlib.closing(database):
        measured = database.execute(
            "select count(*) from measurement where name = 'large_log_files' group by pass"
        ).fetchall()
        assert set(measured) == {(1,)}
        assert database.execute("select count(*) from step").fetchone() == (1,)


def test_bad_configuration_keeps_the_old_one_and_is_told_once(watching: Any, home: Path) -> None:
    watch = watching()
    watch.next()
    good = (home / "config.toml").read_text()
    (home / "config.toml").write_text("[nonsense]\n")
    for _ in range(3):
        assert watch.next()["summary"] == HEALTHY
    assert watch.errors.read_text().count("unknown section") == 1
    assert "the configuration read before stays in force" in watch.errors.read_text()
    (home / "config.toml").write_text(good + "[checks.things]\nthreshold = 0\n")
    watch.until("1 issue(s) detected")


def test_sighup_begins_the_next_pass_at_once(watching: Any) -> None:
    watch = watching(interval="3600")
    watch.next()
    watch.process.send_signal(signal.SIGHUP)
    assert watch.next()["summary"] == HEALTHY


@pytest.mark.parametrize(
    ("act", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV before it had reported"),
        ("os.execv('/bin/true', ['true'])", "ended with status 0 before it had reported"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL before it had reported"),
    ],
)
def test_check_that_ends_its_process_does_not_end_the_watch(
    watching: Any, act: str, said: str
) -> None:
    watch = watching()
    watch.next()
    watch.edit(act)
    assert said in watch.until("The checks could not run")["errors"][0]["message"]
    watch.edit()
    watch.until(HEALTHY)


def test_check_that_would_end_its_process_is_an_error_and_the_others_run(watching: Any) -> None:
    watch = watching()
    watch.next()
    watch.edit("os._exit(0)")
    (error,) = watch.until("No issues detected, but")["errors"]
    assert (error["check"], error["message"]) == ("things", "EndedItself: it called os._exit(0)")


def test_program_that_a_check_leaves_behind_holds_up_nothing(watching: Any) -> None:
    watch = watching(text="[watch]\ntime_limit = 60\n")
    watch.next()
    watch.edit("pid = os.fork(); pid or (time.sleep(5), os._exit(0))")
    began = time.monotonic()
    for _ in range(4):
        assert watch.next()["summary"] == HEALTHY
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    "act", ["time.sleep(100)", "signal.pthread_sigmask(signal.SIG_BLOCK, [15, 2]); time.sleep(100)"]
)
def test_check_that_hangs_is_ended(watching: Any, act: str) -> None:
    watch = watching(text="[watch]\ntime_limit = 1\n")
    watch.next()
    watch.edit(act)
    document = watch.next(40)
    while not document["errors"]:
        document = watch.next(40)
    assert "took longer than 1 s and is being ended" in watch.errors.read_text()
    watch.edit()
    watch.until(HEALTHY)


def test_state_folder_that_vanishes_is_made_again(watching: Any, home: Path) -> None:
    watch = watching()
    watch.next()
    state = home / ".local" / "state"
    shutil.rmtree(state, ignore_errors=True)
    watch.next()
    watch.next()
    assert watch.next()["summary"] == HEALTHY
    assert (state / "miyabi-healing" / "journal.sqlite3").exists()


def test_stopped_for_a_while_it_goes_on_without_making_up(watching: Any) -> None:
    watch = watching(interval="0.5")
    watch.next()
    watch.process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    watch.process.send_signal(signal.SIGCONT)
    began = time.monotonic()
    for _ in range(4):
        watch.next()
    assert time.monotonic() - began > 0.8


def test_killed_in_the_middle_of_a_pass_the_next_watch_goes_on_where_it_was(
    watching: Any, home: Path
) -> None:
    first = watching()
    first.edit(value=7)
    first.until("1 issue(s) detected")
    first.edit("time.sleep(1)")
    time.sleep(0.6)
    first.process.kill()
    first.process.wait()
    second = watching()  # the run that was at work holds the lock until it has ended
    assert second.until(HEALTHY)["errors"] == []
    course = json.loads(run("history", "--issue", "things", "--json").stdout)
    assert {row["value"] for row in course} == {1, 7}


CLOCK = """
import pathlib, time
real, offset = time.time, pathlib.Path(OFFSET)
time.time = lambda: real() + float(offset.read_text())
"""


@pytest.mark.parametrize("jump", [86_400, -86_400])
def test_clock_that_jumps_a_day_changes_neither_schedule_nor_results(
    watching: Any, home: Path, jump: int
) -> None:
    (home / "offset").write_text("0")
    (home / "site").mkdir()
    (home / "site" / "sitecustomize.py").write_text(
        CLOCK.replace("OFFSET", repr(str(home / "offset")))
    )
    watch = watching(env={"PYTHONPATH": str(home / "site")}, interval="0.3")
    watch.next()
    (home / "new").write_text(str(jump))
    (home / "new").rename(home / "offset")
    before = time.monotonic()
    assert [watch.next()["summary"] for _ in range(5)] == [HEALTHY] * 5
    assert 0.8 < time.monotonic() - before < 10
    watch.edit(value=7)
    watch.until("1 issue(s) detected")
    watch.edit()
    watch.until(HEALTHY)
    began = [row["began"] for row in json.loads(run("history", "--json", "--since", "3d").stdout)]
    assert max(began) - min(began) > 80_000, "the clock did not jump"


def test_status_knows_the_next_pass_while_a_watch_runs(watching: Any) -> None:
    watch = watching(interval="3600")
    watch.next()
    wait_for(lambda: json.loads(run("status", "--json").stdout)["next_pass"])
    document = json.loads(run("status", "--json").stdout)
    assert document["watch_pid"] == watch.process.pid
    assert "Next run: 2" in run("status").stdout
    watch.process.kill()
    watch.process.wait()
    assert json.loads(run("status", "--json").stdout)["next_pass"] is None


def test_parent_stays_the_same_size(watching: Any) -> None:
    watch = watching(interval="0")
    process = psutil.Process(watch.process.pid)
    for _ in range(10):
        watch.next()
    before = (process.memory_info().rss, process.num_fds(), process.num_threads())
    for _ in range(PASSES):
        watch.next()
    after = (process.memory_info().rss, process.num_fds(), process.num_threads())
    print(f"after 10 runs {before}, after {PASSES + 10} {after}")
    assert after[0] < before[0] * 1.05
    assert abs(after[1] - before[1]) <= 1  # a run at work has a pipe
    assert after[2] == before[2] == 1
    assert [each for each in process.children() if each.status() == psutil.STATUS_ZOMBIE] == []


def test_quiet_says_nothing_until_something_is_wrong(watching: Any) -> None:
    watch = watching("--quiet")
    wait_for(lambda: json.loads(run("history", "--json").stdout))  # a run has been made
    watch.edit(value=9)
    assert "things: " in (line := watch.line())
    assert line.endswith("over the limit (9 of 5 things: no healer)")
    watch.edit()
    watch.edit(value=8)
    assert watch.end() == 143
    assert watch.errors.read_text() == ""


def test_pipe_gets_a_line_for_each_change_and_no_other(watching: Any) -> None:
    watch = watching("--interval", "0.1")
    assert "2 checks" in watch.line() or "within" in watch.line()
    watch.edit(value=9)
    line = watch.line()
    assert line.endswith("things: within the limit → over the limit (9 of 5 things: no healer)")
    watch.edit(value=2)
    line = watch.line()
    assert line.endswith("things: over the limit → within the limit (2 of 5 things)")


def test_watch_ends_when_its_reader_is_gone(watching: Any) -> None:
    watch = watching(interval="3600")
    watch.next()
    watch.process.stdout.close()
    watch.process.stdout = None
    assert watch.process.wait(30) == 141
    assert watch.errors.read_text() == ""


def test_systemd_is_told_that_it_is_ready_alive_and_stopping(watching: Any, home: Path) -> None:
    here = os.getcwd()
    os.chdir(home)  # the path to bind to may be a hundred bytes long at most
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind("notify")
    os.chdir(here)
    with listener:
        listener.settimeout(15)
        short = str(home / "notify")
        if len(short) > 100:
            pytest.skip("the temporary folder's name is too long for a socket")
        watch = watching(
            "--json", interval="0.3", env={"NOTIFY_SOCKET": short, "WATCHDOG_USEC": "300000"}
        )
        said: set[str] = set()
        while not {"READY=1", f"STATUS={HEALTHY}", "WATCHDOG=1"} <= said:
            said |= set(listener.recv(4096).decode().split("\n"))
        watch.process.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in said:
            said |= set(listener.recv(4096).decode().split("\n"))


# The schedule


def test_schedule_neither_drifts_nor_makes_up() -> None:
    schedule = Schedule(10, began=100)
    assert [schedule.next_after(now) for now in (100, 103, 110, 119.9, 157)] == [
        110,
        110,
        120,
        120,
        160,
    ]


def test_schedule_is_shorter_while_issues_remain_and_every_host_has_its_place() -> None:
    assert Schedule(300, began=0, wrong=True).next_after(5) == 60
    assert Schedule(30, began=0, wrong=True).next_after(5) == 30
    assert Schedule(0, began=0).next_after(5) == 5
    offsets = {offset_of(f"host{number}", 300) for number in range(50)}
    assert len(offsets) > 40
    assert max(offsets) < 30
    assert offset_of("host1", 300) == offset_of("host1", 300)


# Signals to a run that is no child of ours


def test_stranger_with_the_pid_of_a_pass_that_has_ended_is_not_signalled(start: Any) -> None:
    stranger, keeper = start("sleep", "30"), start("sleep", "30")
    pass_ = run_process.Ordered(keeper.pid, -1, source=run_process.RunSource([], pid=keeper.pid))
    pass_.hear({"pid": stranger.pid})  # the keeper is not its parent
    pass_.ask_to_end(signal.SIGTERM)
    pass_.ask_to_end(signal.SIGTERM)
    time.sleep(0.2)
    assert stranger.poll() is None
    assert keeper.poll() is None
    pass_.answer, pass_.reported = {"document": {}, "code": 0}, True
    pass_.end()


def test_pass_that_was_asked_to_end_before_it_began_is_asked_again(start: Any) -> None:
    script = """import os, time
pid = os.fork() or (time.sleep(30), os._exit(0))
print(pid, flush=True)
print(os.wait()[1], flush=True)"""
    keeper = start(sys.executable, "-c", script, stdout=subprocess.PIPE)
    pass_ = run_process.Ordered(
        keeper.pid, -1, source=run_process.RunSource([], pid=keeper.pid), asked=time.monotonic()
    )
    pass_.hear({"pid": int(keeper.stdout.readline())})
    assert int(keeper.stdout.readline()) == signal.SIGTERM
    pass_.answer, pass_.reported = {"document": {}, "code": 0}, True
    pass_.end()
