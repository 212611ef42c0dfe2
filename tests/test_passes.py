"""Whole runs over checks and healers of our own: what is healed, what is told, and what the
program refuses.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from gitworld import merged_worktree, repository
from program import environment, report, run, run_pytest, settings

from conftest import PROJECT

CHECK = """
import pathlib, pytest, types

@pytest.fixture
def folder():
    here = types.SimpleNamespace(path=pathlib.Path.home() / "things", ended=False)
    yield here
    here.ended = True

@pytest.mark.heal("tidy")
@pytest.mark.limit(1, severity="low", high=3, unit="things")
def test_things(folder, measure, limit):
    count = len(list(folder.path.glob("thing*")))
    assert measure(count, f"Found {count} things") <= limit
"""
HEALER = """
import os, pathlib
from miyabi_healing.support.files import identity_at
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.steps import Quarantine

def tidy(context, issue, options):
    fixture = context.fixtures["folder"]
    assert not fixture.ended, "the check's fixtures had ended"
    folder = fixture.path
    steps = tuple(
        Quarantine(
            target=str(path), reason="too many", undo="moved back", counts="tidied",
            path=path, identity=identity_at(path),
        )
        for path in sorted(folder.glob("thing*"))
    )
    goal = Goal("few are left", lambda: len(list(folder.glob("thing*"))) <= 0)
    return Plan(steps, goal, done=lambda n: f"Tidied {n['tidied']}")
"""


@pytest.fixture
def mine(home: Path) -> Path:
    """A folder with a check that three things trip and a healer that takes them away."""
    folder = home / "mine"
    (folder / "healers").mkdir(parents=True)
    (folder / "test_things.py").write_text(CHECK)
    (folder / "healers" / "tidy.py").write_text(HEALER)
    (home / "things").mkdir()
    for number in range(3):
        (home / "things" / f"thing {number}").write_text("precious")
    return folder


def arguments(mine: Path, text: str = "") -> tuple[str, ...]:
    return ("--config", settings(mine.parent, text), "--checks", str(mine))


def things(mine: Path) -> list[str]:
    return sorted(path.name for path in (mine.parent / "things").glob("thing*"))


def test_issue_is_healed_verified_and_reported(mine: Path) -> None:
    code, document = report(*arguments(mine))
    assert code == 0
    assert document["overall_success"] is True
    assert document["summary"] == "Successfully healed 1 issue(s)."
    (issue,) = document["issues_detected"]
    assert issue["name"] == "things"
    assert (issue["metric_value"], issue["threshold"], issue["severity"]) == (3.0, 1, "high")
    (action,) = document["actions_taken"]
    assert (action["action"], action["status"], action["message"]) == (
        "tidy",
        "success",
        "Tidied 3",
    )
    assert action["details"]["tidied"] == 3
    assert action["details"]["metric_after"] == 0
    assert things(mine) == []


def test_second_pass_finds_nothing_to_do(mine: Path) -> None:
    report(*arguments(mine))
    code, document = report(*arguments(mine))
    assert (code, document["summary"], document["actions_taken"]) == (
        0,
        "No issues detected. System is healthy.",
        [],
    )


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {
        str(path): path.lstat()
        for path in [folder, *folder.rglob("*")]
        if "__pycache__" not in str(path)
    }
    return {
        path: (status.st_mode, status.st_mtime_ns, status.st_ctime_ns)
        for path, status in found.items()
    }


def test_dry_run_lists_the_same_steps_and_changes_nothing(mine: Path) -> None:
    chosen = arguments(mine)
    before = tree(mine.parent)
    code, planned = report("--dry-run", *chosen, PYTHONDONTWRITEBYTECODE="1")
    assert tree(mine.parent) == before
    assert (code, planned["overall_success"], planned["dry_run"]) == (1, False, True)
    assert planned["actions_taken"][0]["status"] == "skipped"
    _, real = report(*chosen)
    same = ("kind", "target", "reason", "bytes", "undo")
    steps = [
        [[step[key] for key in same] for step in each["actions_taken"][0]["steps"]]
        for each in (planned, real)
    ]
    assert steps[0] == steps[1]
    assert {step["status"] for step in planned["actions_taken"][0]["steps"]} == {"planned"}


def test_dry_run_prints_each_step_with_its_undo(mine: Path) -> None:
    short = run("--dry-run", *arguments(mine))
    assert "can be undone" in short.stdout
    assert "moved back" not in short.stdout
    done = run("--dry-run", "-v", *arguments(mine))
    assert "quarantine" in done.stdout
    assert "undo: moved back" in done.stdout
    assert "stops when few are left" in done.stdout
    assert "\x1b" not in done.stdout


def test_run_that_looks_after_no_repository_says_so_and_what_to_do(home: Path) -> None:
    """Where none is named, outside of one; and where a pattern finds none, which was asked for."""
    _code, document = report("--config", settings(home), cwd=home)
    (note,) = (each for each in document["notes"] if "no repository is looked after" in each)
    assert "[git] repos" in note
    file = settings(home, f'[git]\nrepos = ["{home}/src/*"]\n')
    code, document = report("--config", file, cwd=home)
    assert (code, document["notes"]) == (3, [])
    assert {each["message"] for each in document["errors"]} == {
        f"git.repos: {home}/src/* finds no repository: mend or remove it"
    }


def test_check_that_cannot_be_loaded_is_unknown_and_the_others_run(mine: Path) -> None:
    (mine / "test_broken.py").write_text("def test_broken(:\n")
    code, document = report(*arguments(mine))
    (error,) = document["errors"]
    assert (code, "test_broken.py" in error["check"]) == (3, True)
    assert "could not be loaded" in error["message"]
    assert [each["name"] for each in document["issues_detected"]] == ["things"]


def test_check_that_fails_without_a_measurement_is_unknown_and_not_healed(mine: Path) -> None:
    (mine / "test_things.py").write_text(
        CHECK.replace("measure(count, ", "(lambda n, _: n)(count, ")
    )
    code, document = report(*arguments(mine))
    (error,) = document["errors"]
    assert (code, error["check"], document["actions_taken"]) == (3, "things", [])
    assert "call measure(value, description) before the assertion" in error["message"]
    assert len(things(mine)) == 3


def test_healer_that_does_not_help_leaves_the_issue(mine: Path) -> None:
    (mine / "healers" / "tidy.py").write_text(HEALER.replace("<= 0", "<= 2"))
    code, document = report(*arguments(mine))
    assert (code, document["summary"]) == (1, "Healed 0/1 issues. 1 partly healed.")
    assert document["actions_taken"][0]["status"] == "partial"
    assert [step["status"] for step in document["actions_taken"][0]["steps"]] == [
        "applied",
        "not needed",
        "not needed",
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise RuntimeError('no idea')", "no idea"),
        ("return None", "returned NoneType, not a Plan"),
        ("import no_such_module", "no_such_module"),
    ],
)
def test_healer_that_breaks_is_a_failed_action(mine: Path, body: str, said: str) -> None:
    (mine / "healers" / "tidy.py").write_text(f"def tidy(context, issue, options):\n    {body}\n")
    code, document = report(*arguments(mine))
    assert code == 1
    assert document["actions_taken"][0]["status"] == "failed"
    assert said in document["actions_taken"][0]["message"]
    assert len(things(mine)) == 3


def test_nothing_safe_to_do_is_skipped_with_what_was_kept(mine: Path) -> None:
    (mine / "healers" / "tidy.py").write_text(
        "from miyabi_healing.model.plan import Goal, Kept, Plan\n"
        "def tidy(context, issue, options):\n"
        "    kept = (Kept('a', 'dirty'), Kept('b', 'dirty'), Kept('c', 'in use'))\n"
        "    return Plan((), Goal('none', lambda: False), kept=kept)\n"
    )
    code, document = report(*arguments(mine))
    assert code == 1
    (action,) = document["actions_taken"]
    assert (action["status"], action["message"]) == (
        "skipped",
        "Nothing safe to do; kept 3: 2 dirty, 1 in use",
    )
    assert action["details"]["kept"] == {"dirty": 2, "in use": 1}


@pytest.mark.parametrize(
    "broken",
    [
        "raise TypeError('oops')",
        "pytest.fail('oops')",
        "undefined_name",
        "import sys; sys.exit(4)",
        "raise KeyError",
    ],
)
def test_check_that_errs_is_unknown_and_never_healed(mine: Path, broken: str) -> None:
    (mine / "test_things.py").write_text(CHECK.replace("    count =", f"    {broken}\n    count ="))
    code, document = report(*arguments(mine))
    assert code == 3
    assert document["overall_success"] is False
    assert document["errors"][0]["check"] == "things"
    assert document["actions_taken"] == []
    assert len(things(mine)) == 3


def test_fixture_that_errs_is_unknown(mine: Path) -> None:
    (mine / "test_things.py").write_text(
        CHECK.replace("    yield here", "    raise OSError('no view')\n    yield here")
    )
    code, document = report(*arguments(mine))
    assert (code, document["actions_taken"]) == (3, [])
    assert "no view" in document["errors"][0]["message"]


def test_check_that_cannot_be_loaded_is_told_and_the_others_do_not_pass_for_it(mine: Path) -> None:
    (mine / "test_broken.py").write_text("import no_such_module\n")
    code, document = report(*arguments(mine))
    assert code == 3
    assert "no_such_module" in json.dumps(document["errors"])
    assert document["overall_success"] is False


def test_folder_of_disk_mounts_that_is_missing_makes_its_own_check_unknown(mine: Path) -> None:
    text = (
        f"[disk]\nmounts = ['/nowhere/at/all', '{mine}']\n[checks.disk_space_critical]\n"
        "threshold = 100\n"
    )
    code, document = report("--dry-run", *arguments(mine, text))
    (error,) = document["errors"]
    assert (code, error["check"], error["target"]) == (3, "disk_space_critical", "/nowhere/at/all")
    assert error["message"] == "disk.mounts: /nowhere/at/all: no such folder"
    measured = {(each["name"], each["target"]) for each in document["metrics"]}
    assert {("things", ""), ("disk_space_critical", str(mine))} <= measured


def test_switched_off_check_and_healer(mine: Path) -> None:
    code, document = report(*arguments(mine, "[healers.tidy]\nenabled = false\n"))
    assert (code, document["actions_taken"][0]["status"]) == (1, "skipped")
    assert "switched off" in document["actions_taken"][0]["message"]
    code, document = report(*arguments(mine, "[checks.things]\nenabled = false\n"))
    assert (code, document["issues_detected"]) == (0, [])


def test_threshold_comes_from_the_configuration_and_the_environment(mine: Path) -> None:
    assert report(*arguments(mine, "[checks.things]\nthreshold = 3\n"))[0] == 0
    assert len(things(mine)) == 3
    code, document = report(
        *arguments(mine, "[checks.things]\nthreshold = 3\n"),
        MIYABI_HEALING__CHECKS__THINGS__THRESHOLD="2",
    )
    assert (code, document["issues_detected"][0]["threshold"]) == (0, 2)


def test_causes_are_healed_before_consequences(mine: Path) -> None:
    after = CHECK.replace('heal("tidy")', 'heal("tidy", after=("things",))').replace(
        "test_things", "test_a_consequence"
    )
    (mine / "test_a_consequence.py").write_text(after)
    code, document = report(*arguments(mine))
    assert code == 0
    assert [issue["name"] for issue in document["issues_detected"]] == ["things"]


def test_causes_of_causes_come_first_and_all_others_stay_in_their_order(mine: Path) -> None:
    (mine / "test_things.py").unlink()
    order = {"a": "b c", "b": "d", "c": "", "d": "c unknown", "e": ""}
    for name, causes in order.items():
        heal = f'heal("tidy", after={causes.split()})'
        check = CHECK.replace('heal("tidy")', heal).replace("test_things", f"test_{name}")
        (mine / f"test_{name}.py").write_text(check.replace("limit(1", "limit(9"))
    _, document = report(*arguments(mine))
    ours = [row["name"] for row in document["metrics"] if row["name"] in order]
    assert ours == ["c", "e", "d", "b", "a"]


def test_checks_that_wait_for_each_other_are_refused(mine: Path) -> None:
    for name, cause in (("things", "others"), ("others", "things"), ("more", "things")):
        heal = f'heal("tidy", after=("{cause}",))'
        check = CHECK.replace('heal("tidy")', heal).replace("test_things", f"test_{name}")
        (mine / f"test_{name}.py").write_text(check)
    done = run(*arguments(mine))
    assert done.returncode == 2
    message = "these checks each want to come after the other: "
    circles = (f"{message}things, others, things", f"{message}others, things, others")
    assert any(each in done.stderr for each in circles), done.stderr


def test_two_healers_are_tried_one_after_the_other(mine: Path) -> None:
    (mine / "test_things.py").write_text(CHECK.replace('heal("tidy")', 'heal("shrug", "tidy")'))
    (mine / "healers" / "shrug.py").write_text(
        "def shrug(context, issue, options):\n    raise RuntimeError('not today')\n"
    )
    code, document = report(*arguments(mine))
    assert code == 0
    assert [action["status"] for action in document["actions_taken"]] == ["failed", "success"]
    assert document["summary"] == "Successfully healed 1 issue(s)."


def test_step_outside_the_roots_is_refused(mine: Path) -> None:
    code, document = report(*arguments(mine, f'[caches]\nhomes = ["{mine}"]\n'))
    assert code == 1
    assert {step["message"] for step in document["actions_taken"][0]["steps"]} == {
        "outside the allowed roots"
    }
    assert len(things(mine)) == 3


# What the terminal, JUnit XML and the JSON report say when plain pytest is used.


def direct(mine: Path, *more: str, **changes: str) -> subprocess.CompletedProcess[str]:
    file = settings(mine.parent)
    return run_pytest(
        *more, str(mine), f"--checks={mine}", f"--healing-config={file}", cwd=mine.parent, **changes
    )


@pytest.fixture
def wired(mine: Path) -> Path:
    """The project's own conftest.py, for plain pytest."""
    (mine / "conftest.py").write_text('pytest_plugins = ["miyabi_healing.runner.plugin"]\n')
    return mine


def test_plain_pytest_heals_and_all_its_reports_agree(wired: Path) -> None:
    out = wired.parent / "out"
    out.mkdir()
    done = direct(
        wired,
        "-v",
        f"--junitxml={out / 'junit.xml'}",
        "--json-report",
        f"--json-report-file={out / 'report.json'}",
        PYTHONPATH=str(PROJECT),
    )
    assert done.returncode == 0, done.stdout
    assert "HEALED" in done.stdout
    assert "1 healed" in done.stdout
    assert "Successfully healed 1 issue(s)." in done.stdout
    suite = ElementTree.parse(out / "junit.xml").getroot()[0]
    assert (suite.attrib["tests"], suite.attrib["failures"], suite.attrib["errors"]) == (
        "1",
        "0",
        "0",
    )
    tests = json.loads((out / "report.json").read_text())
    assert tests["summary"]["healed"] == 1
    assert tests["tests"][0]["outcome"] == "healed"
    assert things(wired) == []


@pytest.mark.parametrize(
    ("more", "changes"),
    [
        (("--dry-run",), {}),
        (("--pdb",), {}),
        ((str(PROJECT / "tests" / "gitworld.py"),), {}),
        (("-n", "1"), {}),
        (("--dist=load", "--tx=popen"), {}),
        ((), {"PYTEST_CURRENT_TEST": "an outer test"}),
    ],
    ids=[
        "dry run",
        "debugger",
        "other tests too",
        "parallel workers",
        "workers by --tx",
        "inside a test",
    ],
)
def test_plain_pytest_repairs_nothing_unless_it_is_armed(
    wired: Path, more: tuple[str, ...], changes: dict[str, str]
) -> None:
    done = direct(wired, *more, PYTHONPATH=str(PROJECT), **changes)
    assert done.returncode != 0
    assert len(things(wired)) == 3
    assert "Overall: Success" not in done.stdout
    has_workers = bool({"-n", "--tx=popen"} & {*more})
    assert ("no report, as workers ran the checks" in done.stdout) == has_workers


@pytest.mark.parametrize("argument", [None, "."])
def test_bare_pytest_never_repairs(wired: Path, argument: str | None) -> None:
    file = settings(wired.parent)
    chosen = [*([argument] if argument else []), f"--healing-config={file}", f"--checks={wired}"]
    done = run_pytest(*chosen, cwd=wired.parent, PYTHONPATH=str(PROJECT))
    assert done.returncode != 0
    assert len(things(wired)) == 3


def test_selection_and_last_failed_work_as_always(wired: Path) -> None:
    (wired / "healers" / "tidy.py").write_text(HEALER.replace("<= 0", "<= 2"))
    file = settings(wired.parent, "[brakes]\ncooldown = 0\n")

    def once(*more: str) -> str:
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                str(wired),
                f"--checks={wired}",
                f"--healing-config={file}",
                *more,
            ],
            cwd=wired.parent,
            capture_output=True,
            text=True,
            env={
                **{k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
                "PYTHONPATH": str(PROJECT),
            },
        ).stdout

    assert "1 failed" in once()
    assert "1 failed" in once("--lf", "-x")
    assert "1 deselected" in once("-k", "not things")
    (wired / "healers" / "tidy.py").write_text(HEALER)
    assert "1 healed" in once("--lf")
    assert "1 passed" in once("--lf")


def test_vanishing_asserts_are_refused(wired: Path) -> None:
    done = direct(wired, "--assert=plain", PYTHONPATH=str(PROJECT))
    assert done.returncode == 4
    assert "--assert=plain" in done.stderr
    assert len(things(wired)) == 3


# What the program does not let itself be talked into.


def test_files_in_the_current_folder_have_no_say(mine: Path) -> None:
    here = mine.parent / "hostile"
    (here / "healers").mkdir(parents=True)
    (here / "pytest.ini").write_text("[pytest]\naddopts = --collect-only\n")
    (here / "conftest.py").write_text(
        "raise SystemExit('conftest.py of the current folder was run')\n"
    )
    (here / "healers" / "tidy.py").write_text(
        "raise SystemExit('a healer of the current folder was run')\n"
    )
    (here / "sh.py").write_text("raise SystemExit('sh.py of the current folder was run')\n")
    code, document = report(
        *arguments(mine), cwd=here, PYTEST_ADDOPTS="--collect-only", PYTEST_PLUGINS="nonsense"
    )
    assert (code, document["overall_success"]) == (0, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[chekcs.things]\n", "chekcs: unknown section; did you mean 'checks'?"),
        ("[checks.thing]\nthreshold = 1\n", "checks.thing: no such check; did you mean 'things'?"),
        (
            "[checks.things]\ntreshold = 1\n",
            "checks.things.treshold: unknown key; did you mean 'threshold'?",
        ),
        ('[checks.things]\nthreshold = "many"\n', "checks.things.threshold: expected `float"),
        ("[checks.things]\nthreshold = -1\n", "threshold must be zero or more, not -1"),
        ("[budgets]\nfiles = -1\n", "budgets: files must be zero or more, not -1"),
        ("[policy]\ncooldown = -2.5\n", "policy: cooldown must be zero or more, not -2.5"),
        ("[policy]\nforget = inf\n", "policy: forget must be zero or more, not inf"),
        ("[brakes]\nattempts = -1\n", "brakes: attempts must be zero or more, not -1"),
        ("[healers.tidy]\ncooldown = -1\n", "healers.tidy: cooldown must be zero or more, not -1"),
        (
            "[healers.cleanup_worktrees]\nidle_days = nan\n",
            "healers.cleanup_worktrees: idle_days must be zero or more, not nan",
        ),
        (
            "[healers.cleanup_worktrees]\nidle_days = -1\n",
            "healers.cleanup_worktrees: idle_days must be zero or more, not -1",
        ),
        ("[policy]\nattempts = 1\n[brakes]\nattempts = 1\n", "keep [policy] alone"),
        ("[healers.tidi]\nenabled = false\n", "healers.tidi: no such healer; did you mean 'tidy'?"),
        ("[healers.tidy]\nfast = true\n", "healers.tidy.fast: unknown key"),
        (
            "[healers.cleanup_worktrees]\nidle_days = true\n",
            "healers.cleanup_worktrees.idle_days: expected `float`, got `bool`",
        ),
        ("[healers.cleanup_worktrees]\nidle_day = 1\n", "did you mean 'idle_days'?"),
        ("[caches]\nalso = ['maven2']\n", "did you mean 'maven'?"),
        ("[extend]\nfolders = ['/nowhere/at/all']\n", "/nowhere/at/all: no such folder"),
        ("[disk\n", "not valid TOML"),
        ("disk = 3\n", "disk: expected a table"),
    ],
)
def test_bad_configuration_is_one_clear_line_and_touches_nothing(
    mine: Path, text: str, said: str
) -> None:
    done = run(*arguments(mine, text))
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert len(things(mine)) == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--interval", "-3"), "-3"),
        (("--nope",), "--nope"),
        (("--config", "/nowhere/at/all"), "/nowhere/at/all: no such file"),
        (("--checks", "/nowhere/at/all"), "no such folder"),
        (("surplus",), "surplus"),
        (("rollback", "--nope"), "No such option '--nope'.\n"),
        (("rollback", "--config", "x"), "self_healer.py --config ... rollback\n"),
    ],
)
def test_bad_usage_is_told_and_touches_nothing(
    mine: Path, wrong: tuple[str, ...], said: str
) -> None:
    done = run("--config", settings(mine.parent), "--checks", str(mine), *wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.endswith(said) or not said.endswith("\n")
    assert len(things(mine)) == 3


def test_check_without_a_limit_and_with_an_unknown_healer(mine: Path) -> None:
    (mine / "test_things.py").write_text(
        CHECK.replace('@pytest.mark.limit(1, severity="low", high=3, unit="things")\n', "")
    )
    done = run(*arguments(mine))
    assert (done.returncode, "needs a limit" in done.stderr) == (2, True)
    (mine / "test_things.py").write_text(CHECK.replace('heal("tidy")', 'heal("tidi")'))
    done = run(*arguments(mine))
    assert done.returncode == 2
    assert "no healer 'tidi' in the healers folders; did you mean 'tidy'?" in done.stderr


def test_another_pass_at_work_means_75(mine: Path) -> None:
    from miyabi_healing.state import run_lock

    held = run_lock.acquire(mine.parent / ".local" / "state" / "miyabi-healing")
    try:
        done = run(*arguments(mine))
    finally:
        run_lock.release(held)
    assert done.returncode == 75
    assert f"pid {os.getpid()}" in done.stderr
    assert len(things(mine)) == 3
    assert run(*arguments(mine)).returncode == 0


def test_state_folder_that_cannot_be_written_blocks_repairs_but_not_checks(mine: Path) -> None:
    (mine.parent / ".local").write_text("in the way")
    code, document = report(*arguments(mine))
    assert (code, document["actions_taken"][0]["status"]) == (1, "skipped")
    assert "cannot be written" in document["summary"]
    for name in things(mine):
        (mine.parent / "things" / name).unlink()
    assert report(*arguments(mine))[0] == 0


def test_quiet_says_nothing_when_all_is_well_and_all_when_not(mine: Path) -> None:
    assert "Issues Detected" in run("--quiet", "--dry-run", *arguments(mine)).stdout
    run(*arguments(mine))
    done = run("--quiet", *arguments(mine))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_code_that_others_can_write_is_not_run(mine: Path) -> None:
    (mine / "healers" / "tidy.py").chmod(0o666)
    done = run(*arguments(mine))
    assert (done.returncode, "tidy.py can be written by everybody" in done.stderr) == (2, True)


def test_repository_that_is_not_there_leaves_its_checks_unknown_and_all_others_run(
    mine: Path,
) -> None:
    code, document = report(*arguments(mine, "[git]\nrepos = ['/nowhere/at/all']\n"), "--dry-run")
    assert code == 3
    assert {(row["check"], row["message"]) for row in document["errors"]} == {
        (name, "git.repos: /nowhere/at/all is gone: mend or remove it")
        for name in ("excessive_worktrees", "stale_git_lock")
    }
    assert [issue["name"] for issue in document["issues_detected"]] == ["things"]


@pytest.mark.parametrize(
    ("text", "code"), [("[disk\n", 2), ("[extend]\nfolders = ['/nowhere/at/all']\n", 2)]
)
def test_json_is_printed_even_when_nothing_could_run(mine: Path, text: str, code: int) -> None:
    got, document = report(*arguments(mine, text))
    assert (got, document["overall_success"]) == (code, False)
    assert document["errors"][0]["message"] in document["summary"]


def test_missing_git_leaves_what_it_would_have_judged(mine: Path, tmp_path: Path) -> None:
    repo = repository(mine.parent / "src" / "app")
    for number in range(3):
        merged_worktree(repo, f"w{number}")
    text = (
        f'[git]\nrepos = ["{repo}"]\n[checks.excessive_worktrees]\nthreshold = 1\n'
        "[healers.cleanup_worktrees]\nidle_days = 0\n"
    )
    code, document = report(*arguments(mine, text), PATH=str(tmp_path))
    (action,) = (
        each for each in document["actions_taken"] if each["action"] == "cleanup_worktrees"
    )
    assert (code, action["status"], action["details"]["kept"]) == (
        1,
        "skipped",
        {"not readable": 3, "main": 1},
    )
    assert "git is not installed" in json.dumps(action["kept"])


def test_folder_that_is_gone_is_no_reason_to_fail(mine: Path) -> None:
    gone = mine.parent / "gone"
    gone.mkdir()
    command = (
        f'cd "{gone}" && rmdir "{gone}" && exec "{sys.executable}" "{PROJECT}/self_healer.py" "$@"'
    )
    done = subprocess.run(
        ["sh", "-c", command, "sh", *arguments(mine)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_measurement_that_is_none_is_an_error(mine: Path) -> None:
    (mine / "test_things.py").write_text(
        CHECK.replace("assert measure(count,", "assert measure(float('nan'),")
    )
    code, document = report(*arguments(mine))
    assert (code, document["errors"][0]["message"]) == (3, "ValueError: nan is no measurement")


def test_on_a_terminal_it_shows_what_it_does_and_then_the_report_in_colour(mine: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, str(PROJECT / "self_healer.py"), *arguments(mine)]
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm", NO_COLOR=None),
        cwd=mine,
    )
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # the terminal hangs up when its last user ends
        while part := os.read(ours, 65536):
            said += part
    os.close(ours)
    assert process.wait() == 0, said.decode()
    assert b"tidy: quarantine" in said
    assert b"\x1b[32mSuccess\x1b[0m" in said
    assert said.rstrip().endswith(b"=" * 60)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_reports_are_printed_in_every_locale(mine: Path, locale: str) -> None:
    done = subprocess.run(
        [sys.executable, str(PROJECT / "self_healer.py"), "--dry-run", *arguments(mine)],
        capture_output=True,
        cwd=mine,
        env={"HOME": str(mine.parent), "PATH": os.environ["PATH"], "LC_ALL": locale},
    )
    assert done.returncode == 1
    assert b"Dry run" in done.stdout


def test_worked_example_of_the_manual_works(home: Path) -> None:
    page = (PROJECT / "docs" / "extending.md").read_text()
    files = dict(
        re.findall(
            r"^`my-healing/([\w/]+\.py)`:\n\n```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL
        )
    )
    assert len(files) == 2
    for name, text in files.items():
        path = home / "my-healing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for number in range(5):
        (home / f"core.{number}").write_text("dump")
    config = settings(home, '[healers.quarantine_core_dumps]\nkeep = ["core.0"]\n')
    code, document = report("--config", config, "--checks", str(home / "my-healing"))
    assert (code, document["actions_taken"][0]["message"]) == (
        0,
        "Quarantined 3 core dumps; kept 1: 1 kept by name",
    )
    assert sorted(path.name for path in home.glob("core.*")) == ["core.0", "core.4"]


def test_checkout_may_lie_in_a_folder_whose_name_looks_like_a_variable(home: Path) -> None:
    """pytest expands variables in some of its options."""
    folder = home / "a $HOME b"
    for name in ("miyabi_healing", "checks", "healers"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "self_healer.py", folder)
    command = [
        sys.executable,
        str(folder / "self_healer.py"),
        "--json",
        "--dry-run",
        "--config",
        settings(home),
    ]
    done = subprocess.run(command, cwd=home, env=environment(), capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stdout)["overall_success"]) == (0, True), done.stderr
