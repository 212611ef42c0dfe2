"""As an ordinary user it does what that user may, says what it could not see, and never asks for
more by itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gitworld
import program
import pytest
from gatework import carry_out, plan
from program import settings

from conftest import PROJECT
from miyabi_healing.gate.primitives import quarantine_writer
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host.process_status import container
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config
from miyabi_healing.model.steps import RetireWorktree
from miyabi_healing.support.files import identity_at

NOBODY = 65534
PYTHON = "/usr/bin/python3"
LOGS = '[logs]\npatterns = ["{folder}/logs/*.log"]\n[checks.large_log_files]\nthreshold = 1\n'
LINES = b"".join(b"line %06d, and what it says\n" % number for number in range(100_000))


@pytest.fixture
def home() -> Iterator[Path]:
    """A home of nobody's, where nobody can get at it: pytest's own folders are root's alone."""
    folder = Path(tempfile.mkdtemp())
    (folder / "logs").mkdir()
    (folder / "logs" / "app.log").write_bytes(LINES)
    settings(folder, LOGS.format(folder=folder) + f'[safety]\nours_alone = ["{folder}"]\n')
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def as_nobody(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    packages = os.path.dirname(os.path.dirname(pytest.__file__))
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": packages}
    options = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": home, "env": environment}
    try:
        subprocess.run(
            [PYTHON, "-c", "import msgspec, pytest_jsonreport"],
            check=True,
            capture_output=True,
            **options,
        )  # type: ignore[call-overload]
        program = [PYTHON, str(PROJECT / "self_healer.py"), *arguments]
        return subprocess.run(program, capture_output=True, text=True, **options)  # type: ignore[call-overload, no-any-return]
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nobody can run this Python and these packages here: {error}")


@pytest.mark.root
def test_ordinary_user_heals_what_is_theirs_and_is_told_what_could_not_be_seen(home: Path) -> None:
    before = (home / "logs" / "app.log").stat()
    done = as_nobody(home, "--config", str(home / "config.toml"), "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["summary"]) == (0, "Successfully healed 1 issue(s).")
    (note,) = [
        each
        for each in document["notes"]
        if "processes of other users could not be looked into" in each
    ]
    assert "ours_alone" in note
    assert "services of the system are assumed not to work in users' folders" in note
    after = (home / "logs" / "app.log").stat()
    assert (after.st_ino, after.st_uid) == (before.st_ino, NOBODY)
    assert {path.stat().st_uid for path in (home / ".local").rglob("*")} == {NOBODY}
    done = as_nobody(home, "rollback")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (home / "logs" / "app.log").read_bytes() == LINES


@pytest.mark.root
def test_ordinary_user_keeps_a_log_that_root_could_have_open_and_is_told_who(home: Path) -> None:
    if container():
        pytest.skip("in a PID namespace of its own there are still other reasons")
    settings(home, LOGS.format(folder=home))
    before = (home / "logs" / "app.log").stat()
    done = as_nobody(home, "--config", str(home / "config.toml"), "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 1
    (kept,) = document["actions_taken"][0]["kept"]
    assert "holders unknown" in kept["detail"]
    assert (
        "cannot be looked into; if it does not use it, run it as root, or name its folder in "
        "[safety]" in kept["detail"]
    )
    after = (home / "logs" / "app.log").stat()
    assert (after.st_ino, after.st_blocks, after.st_mtime_ns) == (
        before.st_ino,
        before.st_blocks,
        before.st_mtime_ns,
    )


def test_nothing_in_the_program_asks_for_another_users_rights() -> None:
    sources = [
        path
        for top in ("miyabi_healing", "healers", "checks")
        for path in (PROJECT / top).rglob("*.py")
    ]
    words = ('"sudo"', '"su"', '"doas"', '"pkexec"', "'sudo'")
    assert [path for path in sources if any(word in path.read_text() for word in words)] == []


@pytest.fixture
def theirs() -> Iterator[tuple[Path, Path]]:
    """A repository of nobody's, which root looks after, with a merged worktree; the tests' own home
    is root's.
    """
    folder = Path(tempfile.mkdtemp())
    repo = gitworld.repository(folder / "theirs" / "app")
    tree = gitworld.merged_worktree(repo, "done")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    folder.chmod(0o711)
    yield repo, tree
    shutil.rmtree(folder)


def retire(root_home: Path, repo: Path) -> dict[str, Any]:
    text = (
        f'[git]\nrepos = ["{repo}"]\n[checks.excessive_worktrees]\nthreshold = 1\n'
        "[healers.cleanup_worktrees]\nidle_days = 0\n"
    )
    code, document = program.report(
        "--config", settings(root_home, text + f'[safety]\nroots = ["{repo.parent.parent}"]\n')
    )
    document["code"] = code
    return document


@pytest.mark.root
def test_root_retires_a_worktree_of_another_user_and_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: tuple[Path, Path]
) -> None:
    repo, tree = theirs
    before = sorted(
        (str(path), path.lstat().st_mode, path.lstat().st_uid) for path in tree.rglob("*")
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    document = retire(tmp_path, repo)
    assert (document["code"], document["summary"]) == (0, "Successfully healed 1 issue(s)."), (
        document
    )
    assert not tree.exists()
    assert program.run("rollback").returncode == 0
    assert (
        sorted((str(path), path.lstat().st_mode, path.lstat().st_uid) for path in tree.rglob("*"))
        == before
    )
    assert gitworld.git(tree, "-c", f"safe.directory={tree}", "status", "--porcelain") == ""


@pytest.mark.root
@pytest.mark.parametrize(
    "change", ["a new file", "an edit of the same size and time", "a deeper file", "what git knows"]
)
def test_what_comes_into_it_at_the_last_moment_keeps_it(
    monkeypatch: pytest.MonkeyPatch, theirs: tuple[Path, Path], tmp_path: Path, change: str
) -> None:
    repo, tree = theirs
    admin = repo / ".git" / "worktrees" / "done"
    (tree / "deep").mkdir()
    take = quarantine_writer.quarantine_path

    def late(*arguments: Any, **named: Any) -> Any:
        if change == "a new file":
            (tree / "new").write_text("precious")
        elif change == "a deeper file":
            (tree / "deep" / "new").write_text("precious")
        elif change == "what git knows":
            (admin / "MERGE_HEAD").write_text("0" * 40)
        else:
            status = (tree / "readme").stat()
            (tree / "readme").write_bytes(b"x" * status.st_size)
            os.utime(tree / "readme", ns=(status.st_atime_ns, status.st_mtime_ns))
        return take(*arguments, **named)

    monkeypatch.setattr(quarantine_writer, "quarantine_path", late)
    step = RetireWorktree(
        target="",
        reason="",
        path=tree,
        admin=admin,
        common=repo / ".git",
        admin_identity=identity_at(admin),
        identity=identity_at(tree),
    )
    (outcome,) = carry_out(
        plan(step), Context(Host(Config()), "run", tmp_path / "state", (repo.parent.parent,))
    )
    assert (outcome.status, outcome.message) == ("skipped", "it was changed at the last moment")
    assert (tree / "readme").exists()
