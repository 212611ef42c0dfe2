"""The first start and all after it: run_healing.sh, self_healer.py, noxfile.py, and the
environments they make.

The starts are of copies whose program only tells how it was started. Most have nothing to install,
or a maker of environments that is done at once; one does all of it with the real lock.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import PROJECT

TELL = """
import json, os, sys
def main():
    told = dict(
        cwd=os.getcwd(), arguments=sys.argv[1:], prefix=sys.prefix,
        isolated=sys.flags.isolated, path=sys.path[0],
    )
    print(json.dumps(told | {"tried": "MIYABI_HEALING_TRIED" in os.environ}))
if __name__ == "__main__":
    main()
"""
AT_ONCE = """
import shutil, sys, venv
print("making the environment", file=sys.stderr)
venv.create(sys.argv[1], clear=True, symlinks=True)
shutil.copy(sys.argv[2], sys.argv[1])
"""
PATH = f"{sys.base_prefix}/bin:/usr/bin:/bin"
Starting = subprocess.Popen[str]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "a project"
    (folder / "requirements").mkdir(parents=True)
    for name in ("run_healing.sh", "requirements/environment.py"):
        shutil.copy(PROJECT / name, folder / name)
    (folder / "requirements" / "runner.txt").write_text("# nothing\n")
    (folder / "self_healer.py").write_text(TELL)
    return folder


@pytest.fixture
def quick(project: Path) -> Path:
    """The project with a maker of environments that installs nothing."""
    (project / "requirements" / "environment.py").write_text(AT_ONCE)
    return project


def begin(*command: object, cwd: Path | None = None, **environ: object) -> Starting:
    """A start with the environment that cron gives, and a group of its own."""
    bare = {"PATH": PATH} | {name: str(value) for name, value in environ.items()}
    arguments = [str(each) for each in command]
    return subprocess.Popen(
        arguments,
        cwd=cwd,
        env=bare,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(starting: Starting) -> tuple[int, str, str]:
    said, complained = starting.communicate(timeout=100)
    return starting.returncode, said, complained


def start(
    *command: object, cwd: Path | None = None, **environ: object
) -> tuple[dict[str, Any], str]:
    """What the program tells, and what stood on standard error."""
    code, said, complained = end(begin(*command, cwd=cwd, **environ))
    assert code == 0, complained
    told: dict[str, Any] = json.loads(said)
    return told, complained


def test_one_of_many_first_starts_makes_the_environment_and_all_use_it(project: Path) -> None:
    ended = [end(each) for each in [begin(project / "run_healing.sh") for _ in range(3)]]
    assert [code for code, _, _ in ended] == [0, 0, 0]
    assert [json.loads(said)["prefix"] for _, said, _ in ended] == [str(project / ".venv")] * 3
    assert sum(complained.count("making the environment") for _, _, complained in ended) == 1
    assert sorted(file.name for file in project.glob(".venv*")) == [".venv", ".venv.log"]
    before = (project / ".venv").stat()
    assert start(project / "run_healing.sh")[1] == ""
    assert (project / ".venv").stat().st_ino == before.st_ino
    (packages,) = (project / ".venv" / "lib").glob("python3*/site-packages")
    assert [
        each
        for each in packages.iterdir()
        if each.name.startswith(("pip", "setuptools", "_distutils_hack"))
    ] == []


def test_it_starts_from_anywhere_through_any_links_with_its_arguments(
    quick: Path, tmp_path: Path
) -> None:
    start(quick / "run_healing.sh")
    (tmp_path / "one" / "two").mkdir(parents=True)
    (tmp_path / "one" / "absolute").symlink_to(quick / "run_healing.sh")
    (tmp_path / "one" / "two" / "relative").symlink_to("../absolute")
    (tmp_path / "door").symlink_to("one/two")
    for command in (
        ["./relative"],
        ["sh", "relative"],
        [tmp_path / "door" / "relative"],
        ["relative"],
    ):
        told, complained = start(
            *command, "-d", "a b", "", "*", cwd=tmp_path / "door", PATH=f"{PATH}:{tmp_path}/one/two"
        )
        assert told["cwd"] == str(tmp_path / "one" / "two")
        assert told["arguments"] == ["-d", "a b", "", "*"]
        assert complained == ""


def test_the_callers_python_settings_stay_outside(quick: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('not ours')")
    hostile = {
        "PYTHONPATH": tmp_path,
        "PYTHONHOME": "/nowhere",
        "PYTHONOPTIMIZE": "2",
        "CDPATH": "/usr",
    }
    for _ in range(2):
        told, _ = start(quick / "run_healing.sh", cwd=tmp_path, **hostile)
        assert told["isolated"] == 1


@pytest.mark.parametrize("whom", ["all of it", "all but pip"])
def test_a_killed_first_start_leaves_nothing_that_the_next_trusts(project: Path, whom: str) -> None:
    pipe, lock = project / "requirements" / "pipe", project / "requirements" / "runner.txt"
    os.mkfifo(pipe)
    lock.write_text("-r pipe\n")
    first = begin(project / "run_healing.sh")
    held = open_when_read(pipe)  # pip is in the middle of it
    if whom == "all of it":
        os.killpg(first.pid, signal.SIGKILL)
        os.close(held)
    else:
        (maker,) = psutil.Process(first.pid).children()
        maker.kill()
    first.communicate()
    assert not (project / ".venv").exists()
    assert (project / ".venv.new").exists()

    lock.write_text("# nothing\n")
    second = begin(project / "run_healing.sh")
    if whom == "all but pip":
        assert second.stderr
        assert "waiting for another start" in second.stderr.readline()
        os.close(held)
    code, said, _ = end(second)
    assert code == 0
    assert json.loads(said)["prefix"] == str(project / ".venv")
    assert not (project / ".venv.new").exists()


def open_when_read(pipe: Path) -> int:
    """Open a named pipe as soon as somebody reads from it."""
    for _ in range(600):
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(pipe)


@pytest.mark.parametrize("what", ["lock", "interpreter"])
def test_a_changed_lock_or_a_lost_interpreter_makes_it_anew(quick: Path, what: str) -> None:
    told, _ = start(quick / "run_healing.sh")
    assert start(quick / "run_healing.sh") == (told, "")
    if what == "lock":
        (quick / "requirements" / "runner.txt").write_text("# nothing else\n")
    else:
        (quick / ".venv" / "bin" / "python").unlink()
        (quick / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    assert start(quick / "run_healing.sh") == (told, "making the environment\n")
    assert start(quick / "run_healing.sh") == (told, "")


def test_somebodys_own_venv_is_left_alone(quick: Path, home: Path) -> None:
    (quick / ".venv").mkdir()
    (quick / ".venv" / "precious").touch()
    told, _ = start(quick / "run_healing.sh", HOME=home)
    assert told["prefix"] == f"{home}/.cache/miyabi-healing{quick}/.venv"
    assert start(quick / "run_healing.sh", HOME=home) == (told, "")
    maker = PROJECT / "requirements" / "environment.py"
    code, _, complained = end(
        begin(sys.executable, maker, quick / ".venv", quick / "requirements" / "runner.txt")
    )
    assert (code, complained.count("\n")) == (3, 1)
    assert os.listdir(quick / ".venv") == ["precious"]


def test_a_project_that_cannot_be_written_uses_the_cache(quick: Path, home: Path) -> None:
    powerless = []
    if os.geteuid() == 0:
        powerless = ["setpriv", "--bounding-set=-dac_override", "--"]
        if not shutil.which("setpriv"):
            pytest.skip("only setpriv (util-linux) takes from root what lets it write everywhere")
    quick.chmod(0o555)
    try:
        told, _ = start(
            *powerless, quick / "run_healing.sh", HOME=home, XDG_CACHE_HOME=home / "elsewhere"
        )
    finally:
        quick.chmod(0o755)
    assert told["prefix"] == f"{home}/elsewhere/miyabi-healing{quick}/.venv"
    assert not (quick / ".venv").exists()


@pytest.mark.root
def test_nobody_runs_an_environment_that_another_user_put_into_the_cache(
    quick: Path, home: Path
) -> None:
    (quick / ".venv").mkdir()
    told, _ = start(quick / "run_healing.sh", HOME=home)
    os.chown(told["prefix"], 65534, 65534)
    code, said, complained = end(begin(quick / "run_healing.sh", HOME=home))
    assert (code, said) == (3, "")
    assert "belongs to somebody else" in complained


def test_no_python_that_will_do(project: Path, tmp_path: Path) -> None:
    for name in ("python3.14", "python3.13", "python3.12", "python3.11", "python3"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    code, said, complained = end(
        begin(project / "run_healing.sh", "--json", PATH=f"{tmp_path}:{PATH}")
    )
    assert (code, said, complained.count("\n")) == (3, "", 1)
    assert "Python 3.11 or newer is needed (apt install" in complained


def test_no_place_that_can_be_written(project: Path) -> None:
    (project / ".venv").mkdir()
    code, said, complained = end(
        begin(project / "run_healing.sh", "--json", XDG_CACHE_HOME="/dev/null")
    )
    assert (code, said, complained.count("\n")) == (3, "", 1)
    assert "set XDG_CACHE_HOME" in complained


def test_an_environment_elsewhere(quick: Path, tmp_path: Path) -> None:
    there = tmp_path / "on another disk"
    told, _ = start(quick / "run_healing.sh", MIYABI_HEALING_ENVIRONMENT=f"{there}/")
    assert told["prefix"] == f"{there}/.venv"
    assert stat.S_IMODE(there.stat().st_mode) == 0o700
    assert not (quick / ".venv").exists()
    assert start(quick / "run_healing.sh", MIYABI_HEALING_ENVIRONMENT=there) == (told, "")


@pytest.mark.parametrize("kind", ["relative", "a link", "somebody else's"])
def test_an_environment_elsewhere_is_only_made_in_a_folder_of_ones_own(
    quick: Path, tmp_path: Path, kind: str
) -> None:
    there = tmp_path / "there"
    if kind == "a link":
        there.symlink_to(tmp_path)
    elif kind == "somebody else's" and os.geteuid() == 0:
        there.mkdir()
        os.chown(there, 65534, 65534)
    elif kind == "somebody else's":
        there = Path("/")
    place = "there" if kind == "relative" else there
    code, said, complained = end(
        begin(quick / "run_healing.sh", cwd=tmp_path, MIYABI_HEALING_ENVIRONMENT=place)
    )
    assert (code, said, complained.count("\n")) == (3, "", 1)
    assert "MIYABI_HEALING_ENVIRONMENT" in complained
    assert not list(tmp_path.glob("**/.venv*"))


@pytest.mark.root
@pytest.mark.parametrize("place", ["project", "cache"])
def test_first_start_on_a_full_disk_says_what_is_missing_and_the_way_out(
    project: Path, mounted: Callable[..., Path], place: str
) -> None:
    disk = mounted("tmpfs", "1M")
    shutil.copytree(project, disk / "project")
    if place == "cache":
        (disk / "project" / ".venv").mkdir()
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    code, said, complained = end(
        begin(disk / "project" / "run_healing.sh", "--json", HOME=disk, TMPDIR=disk)
    )
    assert (code, said, complained.count("\n")) == (3, "", 1)
    assert "the environment needs 80 MB and 5000 files to be made, and on " in complained
    assert re.search(r"MIYABI_HEALING_ENVIRONMENT=/\S+ \./run_healing\.sh|in MIYABI_H", complained)
    assert not list(disk.glob("**/.venv.*"))


def test_half_a_file_of_bytecode_that_a_full_disk_left_is_compiled_again(
    copy: Path, home: Path
) -> None:
    command = [sys.executable, copy / "self_healer.py", "--version"]
    said = end(begin(*command, HOME=home))
    (compiled,) = (copy / "miyabi_healing" / "model" / "__pycache__").glob("config.*.pyc")
    os.truncate(compiled, 20)
    assert end(begin(*command, HOME=home)) == said
    assert said[0] == 0


def test_pip_that_fails_is_quoted_and_leaves_nothing_behind(project: Path) -> None:
    lock = project / "requirements" / "runner.txt"
    lock.write_text(f"click==0 --hash=sha256:{'0' * 64}\n")
    code, said, complained = end(begin(project / "run_healing.sh", "--json", PIP_NO_INDEX="1"))
    assert (code, said) == (3, "")
    assert f"{project}/.venv.log ends:" in complained
    assert "No matching distribution found for click==0" in complained
    assert [file.name for file in project.glob(".venv*")] == [".venv.log"]


def test_a_python_without_ensurepip_names_the_package(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location(
        "environment", PROJECT / "requirements" / "environment.py"
    )
    assert spec
    assert spec.loader
    environment = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(environment)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="3"):
        environment.make(project / ".venv", project / "requirements" / "runner.txt")
    assert (
        f"apt install python{sys.version_info.major}.{sys.version_info.minor}-venv"
        in capsys.readouterr().err
    )


def test_older_interpreters_can_read_self_healer() -> None:
    ast.parse((PROJECT / "self_healer.py").read_text(), feature_version=(3, 6))


def test_self_healer_hands_over_where_packages_are_missing(project: Path) -> None:
    shutil.copy(PROJECT / "self_healer.py", project)
    (project / "run_healing.sh").write_text('for each in "$@"; do echo "$each"; done; pwd\n')
    code, said, _ = end(
        begin(sys.executable, "-S", project / "self_healer.py", "-j", "a b", cwd=Path("/"))
    )
    assert (code, said) == (0, "-j\na b\n/\n")


def test_an_environment_that_stays_incomplete_is_made_anew_once(quick: Path) -> None:
    shutil.copy(PROJECT / "self_healer.py", quick)
    code, said, complained = end(begin(quick / "run_healing.sh"))
    assert (code, said) == (3, "")
    assert complained.count("making the environment") == 2
    assert f"{quick}/.venv is incomplete" in complained.splitlines()[-1]


def test_noxfile_takes_nox_from_its_lock(project: Path) -> None:
    shutil.copy(PROJECT / "noxfile.py", project)
    python = project / ".nox" / "bootstrap" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nfor each in "$@"; do echo "$each"; done\n')
    python.chmod(0o755)
    for place in (project / "requirements", project / ".nox" / "bootstrap"):
        (place / "nox.txt").write_text("# nothing\n")
    code, said, complained = end(
        begin(sys.executable, project / "noxfile.py", "-s", "lint", cwd=Path("/"))
    )
    assert (code, complained) == (0, "")
    assert said.split("\n") == [
        "-I",
        "-m",
        "nox",
        "--noxfile",
        str(project / "noxfile.py"),
        "-s",
        "lint",
        "",
    ]


def test_the_locks_hold_what_is_asked_for_by_hash_and_from_nowhere_in_particular() -> None:
    asked = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    wanted = {"runner": asked["project"]["dependencies"], "nox": asked["dependency-groups"]["nox"]}
    wanted["dev"] = wanted["runner"] + asked["dependency-groups"]["dev"]
    for name, requirements in wanted.items():
        text = (PROJECT / "requirements" / f"{name}.txt").read_text()
        pins = re.findall(
            r"^([a-z0-9-]+)==\S+.*\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE
        )
        assert len(pins) == len(re.findall(r"^[^ #]", text, re.MULTILINE))
        assert {bare(each) for each in requirements} <= set(pins)
        assert not re.search(r"://|^-|@ ", text, re.MULTILINE)


def test_self_healer_looks_for_all_that_is_asked_for() -> None:
    asked = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    text = re.sub("[-_.]", "", (PROJECT / "self_healer.py").read_text())
    assert [
        name for name in map(bare, asked) if not re.search(rf"\b{name.replace('-', '')}\b", text)
    ] == []


def bare(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].replace(".", "-")


@pytest.mark.slow
def test_from_a_fresh_copy_to_the_program_with_the_real_lock(project: Path, home: Path) -> None:
    for name in ("self_healer.py", "requirements/runner.txt"):
        shutil.copy(PROJECT / name, project / name)
    (project / "miyabi_healing" / "cli").mkdir(parents=True)
    (project / "miyabi_healing" / "cli" / "main.py").write_text(TELL)
    ask = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(home),
        "iniconfig",
    ]
    if subprocess.run(ask, capture_output=True).returncode:
        pytest.skip("the package index cannot be reached")

    ours: dict[str, Any] = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PATH", "COVERAGE"))
    }
    interpreter = Path(sys.base_prefix) / "bin" / "python3"
    told, complained = start(interpreter, "-S", project / "self_healer.py", "--json", **ours)
    assert told["prefix"] == str(project / ".venv")
    assert told["path"] == str(project)
    assert not told["tried"]
    assert complained.count("\n") == 1
    made = project / ".venv" / "bin"
    for command in (
        [made / "pytest", "--version"],
        [sys.executable, "-m", "pip", "--python", made / "python", "check"],
    ):
        subprocess.run(command, check=True, capture_output=True)

    (packages,) = (project / ".venv" / "lib").glob("python3*/site-packages")
    # as an upgrade of the interpreter does
    packages.rename(packages.with_name("of another version"))
    again, complained = start(project / "run_healing.sh", "--json", **ours)
    assert again == told
    assert "making the environment" in complained
