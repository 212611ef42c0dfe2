"""What GitHub's runner starts: the steps of action.yml with the environment that it gives them, and
the hooks of a self-hosted runner.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml
from program import environment, settings

from conftest import PROJECT, wait_for

ACTION = yaml.safe_load((PROJECT / "action.yml").read_text())
HOOKS = PROJECT / "deploy" / "github-runner"
SCRIPTS = [PROJECT / "deploy" / "github-action" / "run.sh", *sorted(HOOKS.glob("*.sh"))]
LOGS = "[checks.large_log_files]\nthreshold = 0\n[logs]\npatterns = ['%s/logs/*.log']\n"
FAKE = """#!/bin/sh
printf '%s\\n' "$@" > "$(dirname "$0")/words"
echo '{"issues_detected": [{"healed": true}]}'
exit "$(cat "$(dirname "$0")/status")"
"""
FAKE_PROGRAM = """#!/bin/sh
printf '%s\\n' "$*" >> "$(dirname "$0")/runs"
env > "$(dirname "$0")/environment"
"""


def act(folder: Path, home: Path, **given: str) -> tuple[int, str, dict[str, str]]:
    """Run the action as a runner does (`given` are its inputs, with ``_`` for hyphens); returns
    its exit status, what the log shows, and its outputs.
    """
    inputs = {name: each["default"] for name, each in ACTION["inputs"].items()}
    inputs |= {name.replace("_", "-"): value for name, value in given.items()}
    files = {"GITHUB_OUTPUT": home / "outputs", "GITHUB_STEP_SUMMARY": home / "summary.md"}
    for file in files.values():
        file.write_text("")

    def filled(text: str) -> str:
        return re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda found: inputs[found[1]], text)

    status, shown = 0, ""
    for step in ACTION["runs"]["steps"]:
        assert (set(step), step["shell"]) == ({"id", "shell", "run", "env"}, "bash")
        assert "${{" not in step["run"], "an input in a script is code"
        (home / "step.sh").write_text(step["run"])
        given_to_it = {
            **{name: filled(text) for name, text in step["env"].items()},
            **{name: str(file) for name, file in files.items()},
            "GITHUB_ACTION_PATH": str(folder),
            "GITHUB_ACTIONS": "true",
            "RUNNER_TEMP": str(home),
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(home / "step.sh")],
            cwd=home,
            env=environment(**given_to_it),
            timeout=60,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        status, shown = done.returncode, shown + done.stdout
    pairs = (line.partition("=") for line in files["GITHUB_OUTPUT"].read_text().splitlines())
    outputs = {name: value for name, _, value in pairs}
    for each in ACTION["outputs"].values():  # each is an output that a step has
        assert re.fullmatch(r"\$\{\{ steps\.run\.outputs\.([a-z-]+) \}\}", each["value"])
    return status, shown, outputs


def test_action_looks_by_default_and_says_what_it_found(home: Path, copy: Path) -> None:
    for name in ("action.yml", "deploy/github-action/run.sh"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, copy / name)
    (home / "logs").mkdir()
    (home / "logs" / "app.log").write_text("line\n" * 1000)
    config = settings(home, LOGS % home)
    status, shown, outputs = act(copy, home, config=config)
    report = json.loads(Path(outputs["json"]).read_text())
    assert (status, outputs["result"], outputs["exit-code"]) == (1, "issues", "1")
    assert (report["dry_run"], len(report["issues_detected"])) == (True, 1)
    assert "::warning title=large_log_files" in shown
    assert "| large" in (home / "summary.md").read_text()
    assert (home / "logs" / "app.log").read_text() == "line\n" * 1000


def fake_action(home: Path, status: int) -> Path:
    folder = home / "the action"
    (folder / "deploy" / "github-action").mkdir(parents=True, exist_ok=True)
    shutil.copy(SCRIPTS[0], folder / "deploy" / "github-action")
    (folder / "run_healing.sh").write_text(FAKE)
    (folder / "run_healing.sh").chmod(0o755)
    (folder / "status").write_text(str(status))
    return folder


def test_inputs_become_options_and_never_code(home: Path) -> None:
    folder = fake_action(home, 0)
    hostile = "$(touch hostile) `touch hostile`; touch hostile"
    given = {"only": hostile, "skip": "b", "config": "a b.toml", "args": "--checks *\n -v"}
    status, _, outputs = act(folder, home, dry_run="false", **given)
    assert (status, outputs["result"]) == (0, "healed")
    words = ["--json", "--github", "--only", hostile, "--skip", "b", "--config", "a b.toml"]
    assert (folder / "words").read_text().splitlines() == [*words, "--checks", "*", "-v"]
    assert not (home / "hostile").exists()


@pytest.mark.parametrize(
    ("code", "result"),
    [(1, "issues"), (2, "usage"), (3, "unknown"), (75, "busy"), (143, "stopped")],
)
def test_step_ends_with_the_status_of_the_run_and_says_what_it_means(
    code: int, result: str, home: Path
) -> None:
    status, _, outputs = act(fake_action(home, code), home)
    assert (status, outputs["exit-code"], outputs["result"]) == (code, str(code), result)


def test_dry_run_that_is_neither_true_nor_false_runs_nothing(home: Path) -> None:
    folder = fake_action(home, 0)
    status, shown, _ = act(folder, home, dry_run="False")
    assert (status, shown.startswith("::error")) == (2, True)
    assert not (folder / "words").exists()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_pass_shellcheck(script: Path) -> None:
    assert os.access(script, os.X_OK)
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True)
    assert done.stdout == ""


FORMS = sorted((PROJECT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_form_for_an_issue_is_one_that_github_shows(form: Path) -> None:
    """By docs.github.com, Syntax for GitHub's form schema."""
    parsed = yaml.safe_load(form.read_text())
    assert set(parsed) - {"labels"} == {"name", "description", "body"}
    fields = [each for each in parsed["body"] if each["type"] != "markdown"]
    assert {each["type"] for each in fields} <= {"input", "textarea", "dropdown"}
    assert len({each["id"] for each in fields}) == len(fields)
    assert all(each["attributes"]["label"] for each in fields)
    assert any(each.get("validations", {}).get("required") for each in fields)


# Hooks of a self-hosted runner


@pytest.fixture
def hooks(home: Path) -> Path:
    """A checkout with the hooks, whose program is the test's own."""
    shutil.copytree(HOOKS, home / "checkout" / "deploy" / "github-runner")
    (home / "checkout" / "run_healing.sh").write_text(FAKE_PROGRAM)
    (home / "checkout" / "run_healing.sh").chmod(0o755)
    return home / "checkout" / "deploy" / "github-runner"


def after_a_job(hooks: Path, *above: str, **given: str) -> tuple[str, str]:
    """What the program was given, and what the job's log shows; `above` starts the hook."""
    runs = hooks.parent.parent / "runs"
    runs.unlink(missing_ok=True)
    command = [*above, "bash", "-e", str(hooks / "job-completed.sh")]
    given_to_it = environment(GITHUB_ACTIONS="true", MIYABI_HEALING__GIT__REPOS="x", **given)
    done = subprocess.run(command, env=given_to_it, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    return runs.read_text() if runs.exists() else "", done.stdout + done.stderr


def test_hook_heals_only_if_asked_and_only_between_jobs(
    home: Path, hooks: Path, start: Callable[..., psutil.Popen]
) -> None:
    if not shutil.which("flock") or not shutil.which("pgrep"):
        pytest.skip("needs flock and pgrep")
    looks = "--quiet --github --dry-run\n"
    assert after_a_job(hooks) == (looks, "")
    given = (hooks.parent.parent / "environment").read_text()
    assert "MIYABI_HEALING" not in given
    assert f"HOME={home}\n" in given
    worker = home / "Runner.Worker"  # that of this job is above its hook
    shutil.copy("/bin/sh", worker)
    ours = (str(worker), "-c", '"$@"; exit $?', "sh")
    assert after_a_job(hooks, *ours, MIYABI_HEALING_HOOK="heal") == ("--quiet --github\n", "")
    other = start(str(worker), "-c", "read x", stdin=subprocess.PIPE)
    wait_for(lambda: psutil.Process(other.pid).name() == "Runner.Worker")
    runs, said = after_a_job(hooks, *ours, MIYABI_HEALING_HOOK="heal")
    assert (runs, f"another job is at work on this host (process {other.pid})" in said) == (
        looks,
        True,
    )


def names_below(job: psutil.Popen) -> list[str]:
    """None of a child that has ended between two looks."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [each.name() for each in job.children()]
    return []


def test_job_that_begins_waits_for_the_one_that_heals(
    hooks: Path, start: Callable[..., psutil.Popen]
) -> None:
    if not shutil.which("flock"):
        pytest.skip("needs flock")
    with (hooks / "job-started.sh").open() as file:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        job = start("bash", "-e", str(hooks / "job-started.sh"))
        wait_for(lambda: names_below(job) == ["flock"])
        runs, said = after_a_job(hooks, MIYABI_HEALING_HOOK="heal")
        assert (runs, "it only looks" in said) == ("--quiet --github --dry-run\n", True)
        assert job.poll() is None
    assert job.wait(timeout=30) == 0
