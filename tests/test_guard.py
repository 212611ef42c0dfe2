"""A run that is held up in the kernel, or ended from inside, ends all the same, and says so in
every format.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from program import SCHEMA, environment, report, run, settings

from conftest import PROJECT, Served, wait_for

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere, system libraries may break in a fork"
)
Serve = Callable[[Path], Served]
CHECK = """
import os, pathlib, pytest, signal, sys, time

@pytest.mark.heal("tidy")
@pytest.mark.limit(0)
def test_things(measure, limit):
    ACT
    assert measure(VALUE, "Found a thing") <= limit

@pytest.mark.limit(0)
def test_others(measure, limit):
    assert measure(0, "Found nothing") <= limit
"""
HEALER = """
import os
from miyabi_healing.model.plan import Goal, Plan

def tidy(context, issue, options):
    HEAL
    return Plan((), Goal("never", lambda: False))
"""


def make(
    home: Path, act: str = "pass", top: str = "", heal: str = "pass", value: int = 0
) -> tuple[str, ...]:
    """Checks of the user's own; returns the program's arguments."""
    folder = home / "mine"
    (folder / "healers").mkdir(parents=True, exist_ok=True)
    (folder / "test_things.py").write_text(
        CHECK.replace("ACT", act).replace("VALUE", str(value)) + top
    )
    (folder / "healers" / "tidy.py").write_text(HEALER.replace("HEAL", heal))
    return ("--config", settings(home), "--checks", str(folder))


def begin(home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROJECT / "self_healer.py"), *arguments]
    return subprocess.Popen(
        command,
        env=environment(),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


# Asked to stop


@pytest.mark.root
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_run_that_waits_in_the_kernel_is_over_five_seconds_after_it_was_asked(
    home: Path, served: Serve, number: int, code: int
) -> None:
    import jsonschema

    mount = served(home / "nas")
    (home / "link").symlink_to(mount.point / "x")
    program = begin(
        home,
        *make(home, f"(pathlib.Path.home() / 'began').touch(); os.stat('{mount.point}/x')"),
        "--json",
    )
    mount.stop()
    wait_for((home / "began").exists)
    time.sleep(0.3)
    began = time.monotonic()
    program.send_signal(number)
    output, errors = program.communicate(timeout=20)
    assert (program.returncode, time.monotonic() - began < 5) == (code, True)
    document = json.loads(output)
    jsonschema.validate(document, SCHEMA)
    assert (
        f"stopped by {signal.Signals(number).name} before the run had reported"
        in document["summary"]
    )
    assert (
        "had not ended 4 s later and was killed; the next run repairs what is half done" in errors
    )
    mount.end()
    assert run(*make(home)).returncode == 0  # the lock is free again


@pytest.mark.root
def test_watch_whose_run_waits_in_the_kernel_is_over_five_seconds_after_it_was_asked(
    home: Path, served: Serve
) -> None:
    mount = served(home / "nas")
    act = f"(pathlib.Path.home() / 'began').touch(); os.stat('{mount.point}/x')"
    program = begin(home, "--watch", "--interval", "60", *make(home, act))
    mount.stop()
    wait_for((home / "began").exists)
    time.sleep(0.3)
    began = time.monotonic()
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=20)
    assert (program.returncode, time.monotonic() - began < 5) == (143, True)


def test_run_that_is_asked_twice_in_a_group_reports_by_itself_and_once(home: Path) -> None:
    program = begin(
        home, "--json", *make(home, "(pathlib.Path.home() / 'began').touch(); time.sleep(60)")
    )
    wait_for((home / "began").exists)
    os.killpg(program.pid, signal.SIGTERM)
    output, errors = program.communicate(timeout=20)
    assert (program.returncode, errors) == (143, "")
    assert json.loads(output)["errors"][-1]["message"] == "the run was interrupted"


def test_killing_the_program_ends_the_run(home: Path) -> None:
    program = begin(home, *make(home, "(pathlib.Path.home() / 'began').touch(); time.sleep(60)"))
    wait_for((home / "began").exists)
    (child,) = psutil.Process(program.pid).children()
    program.kill()
    program.communicate()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


# Ended from inside

ENDINGS = [
    ("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
    ("os.kill(os.getpid(), signal.SIGKILL)", "was killed"),
    ("os.execv('/bin/true', ['true'])", "ended with status 0"),
    ("os.execv('/bin/sleep', ['sleep', '60'])", "was killed"),
]


@pytest.mark.parametrize(("act", "how"), ENDINGS)
def test_run_without_a_report_is_never_healthy(home: Path, act: str, how: str) -> None:
    began = time.monotonic()
    code, document = report(*make(home, act))
    assert time.monotonic() - began < 12
    assert (code, document["overall_success"]) == (3, False)
    assert document["errors"] == [
        {
            "check": "",
            "message": f"the run {how} before it had reported; a check or healer may have ended it",
        }
    ]


@pytest.mark.parametrize(
    "options", [(), ("--quiet",), ("--nagios",), ("--json",), ("--junitxml", "out.xml")]
)
def test_it_is_said_in_every_format(home: Path, options: tuple[str, ...]) -> None:
    done = run(*make(home, top="\nos._exit(0)\n"), *options)
    assert done.returncode == 3
    words = "the run ended with status 0 before it had reported"
    assert words in (
        done.stdout if options and options[0] in ("--nagios", "--json") else done.stderr
    )


def test_folder_of_the_configuration_is_guarded_as_well(home: Path) -> None:
    make(home, top="\nos._exit(0)\n")
    done = run("--nagios", "--config", settings(home, f"[extend]\nfolders = ['{home}/mine']\n"))
    assert (
        done.returncode,
        done.stdout.startswith("MIYABI HEALING UNKNOWN") or "UNKNOWN" in done.stdout,
    ) == (3, True)


def test_check_that_would_end_the_program_is_an_error_and_the_others_run(home: Path) -> None:
    code, document = report(*make(home, "os._exit(0)"))
    assert (code, [each["name"] for each in document["metrics"]][-1]) == (3, "others")
    assert [(each["check"], each["message"]) for each in document["errors"]] == [
        ("things", "EndedItself: it called os._exit(0)")
    ]


def test_healer_that_would_end_the_program_has_failed(home: Path) -> None:
    code, document = report(*make(home, heal="os._exit(0)", value=1))
    (action,) = document["actions_taken"]
    assert (code, action["status"], document["metrics"][-1]["name"]) == (1, "failed", "others")
    assert "EndedItself: it called os._exit(0)" in action["message"]


def test_child_of_a_check_may_end_itself(home: Path) -> None:
    act = (
        "pid = os.fork()\n    if pid == 0: os._exit(7)\n    assert "
        "os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7"
    )
    code, document = report(*make(home, act))
    assert (code, document["errors"]) == (0, [])


# Otherwise the same


@pytest.mark.parametrize("value", [0, 1])
def test_guarded_run_says_what_any_run_says(home: Path, value: int) -> None:
    arguments = make(home, value=value)
    for options in ((), ("--quiet",), ("--nagios",)):
        done = run(*arguments, *options, "--dry-run")
        assert bool(done.returncode) == bool(value)
        assert done.stderr == ""
        assert bool(done.stdout) == (bool(value) or options != ("--quiet",))
    code, document = report(*arguments, "--dry-run", "--junitxml", str(home / "out.xml"))
    assert (code, (home / "out.xml").exists()) == (value, True)
    assert [each["name"] for each in document["metrics"]][-2:] == ["things", "others"]
