"""Somebody else acts between the plan and its carrying out, or in the middle of it, hundreds of
times: nothing is lost.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gitworld import git, merge, repository, worktree

from miyabi_healing.gate import undo
from miyabi_healing.gate.handlers import delete
from miyabi_healing.gate.handlers.table import apply, recheck
from miyabi_healing.gate.primitives import compression
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.host import caches
from miyabi_healing.host.process_status import read_process
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import CacheSettings, Config
from miyabi_healing.model.steps import (
    ArchiveLog,
    Delete,
    Quarantine,
    RetireWorktree,
    Signal,
    Step,
    TrimLog,
)
from miyabi_healing.support.files import identity_at

ROUNDS = int(os.environ.get("RACE_ROUNDS", "200"))
LINES = [b"line %06d, and what it says\n" % number for number in range(2000)]


@pytest.fixture
def context(home: Path) -> Context:
    return Context(
        Host(Config(caches=CacheSettings(homes=(str(home),)))), "run", home / "state", (home,)
    )


def attempt(step: Step, where: Context) -> bool:
    """Carry a step out as the gate would; whether it was done."""
    with contextlib.suppress(Refused, OSError):
        if recheck(step, where) is None:
            apply(step, where)
            return True
    return False


@contextlib.contextmanager
def at_some_moment(act: Callable[[], object], within: float) -> Iterator[None]:
    """Do something at an unknown moment while the body runs."""
    thread = threading.Thread(target=lambda: (time.sleep(random.random() * within), act()))
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextlib.contextmanager
def swapping(folder: Path, victim: Path) -> Iterator[None]:
    """An attacker that makes a folder a link to the victim, and a folder again, as fast as it
    can.
    """
    stop = threading.Event()
    real, link = folder.with_name("real"), folder.with_name("link")
    link.symlink_to(victim)

    def attack() -> None:
        while not stop.is_set():
            for one, other in ((folder, real), (link, folder), (folder, link), (real, folder)):
                with contextlib.suppress(OSError):
                    os.rename(one, other)

    thread = threading.Thread(target=attack)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def slow(call: Callable[..., int]) -> Callable[..., int]:
    """Give an attacker more time between a look at its folder, or the one above, and its opening
    than any machine would.
    """

    def late(path: object, flags: int, *rest: object, **more: object) -> int:
        if flags & os.O_DIRECTORY and os.path.basename(str(path)) in ("top", "deep"):
            time.sleep(random.random() * 0.001)
        return call(path, flags, *rest, **more)

    return late


def fill(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in "abc":
        (folder / name).write_text(f"precious {name}")
    return folder


def test_folders_swapped_for_links_during_a_cleanup_lead_nowhere(
    home: Path, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last look, which would see that something goes on, is left out: the walk alone has to be
    safe.
    """
    monkeypatch.setattr(
        delete, "judge_units", lambda step, _where: [(unit, None) for unit in step.units]
    )
    monkeypatch.setattr(os, "open", slow(os.open))
    victim = fill(tmp_path / "victim")
    deleted = 0
    for _ in range(max(ROUNDS // 2, 1)):  # each is slow
        root = home / ".cache" / "thumbnails"
        fill(root / "top" / "deep")
        step = Delete(
            target="",
            reason="",
            root=root,
            units=(caches.measure_unit(root / "top", root.stat().st_dev),),
        )
        with swapping(root / "top" / "deep", victim):
            deleted += attempt(step, context)
        assert sorted(path.name for path in victim.iterdir()) == ["a", "b", "c"]
        shutil.rmtree(home / ".cache")
    assert deleted, "no round came as far as deleting anything"


def test_folders_swapped_for_links_during_a_quarantine_lead_nowhere(
    home: Path, tmp_path: Path, context: Context
) -> None:
    victim = fill(tmp_path / "victim")
    taken = 0
    for _ in range(ROUNDS):
        fill(home / "top" / "deep")
        path = home / "top" / "deep" / "a"
        step = Quarantine(target="", reason="", path=path, identity=identity_at(path))
        with swapping(home / "top" / "deep", victim):
            taken += attempt(step, context)
        assert (victim / "a").read_text() == "precious a"
        shutil.rmtree(home / "top")
    assert taken, "no round came as far as taking anything"


def test_lock_replaced_between_look_and_removal_is_never_lost(home: Path, context: Context) -> None:
    lock, fresh = home / "index.lock", home / "fresh"
    for number in range(ROUNDS):
        lock.write_text("stale")
        step = Quarantine(target="", reason="", path=lock, identity=identity_at(lock))

        def replace(number: int = number) -> None:
            fresh.write_text(f"live {number}")
            os.rename(fresh, lock)

        with at_some_moment(replace, 0.002):
            attempt(step, context)
        assert lock.read_text() == f"live {number}"
        lock.unlink()


def test_work_that_comes_into_a_worktree_meanwhile_is_never_lost(
    home: Path, context: Context
) -> None:
    """An untracked file, an edit, or a commit, at any moment: it is in its place, or whole in
    quarantine and comes back.
    """
    repo = repository(home / "repo")
    tree = worktree(repo, "work")
    merge(repo, "work", "merge")
    common, admin = repo / ".git", repo / ".git" / "worktrees" / "work"
    taken = 0
    for number in range(max(ROUNDS // 2, 1)):
        step = RetireWorktree(
            target="",
            reason="",
            path=tree,
            admin=admin,
            common=common,
            admin_identity=identity_at(admin),
            identity=identity_at(tree),
        )
        work = f"work {number}"

        def act(number: int = number, work: str = work) -> None:
            with contextlib.suppress(OSError):
                if number % 3 == 0:
                    (tree / "untracked").write_text(work)
                elif number % 3 == 1:
                    (tree / "work.txt").write_text(work)
                else:
                    subprocess.run(
                        ["git", "-C", tree, "commit", "-q", "--allow-empty", "-m", work],
                        capture_output=True,
                    )

        before = git(repo, "rev-parse", "work")
        with at_some_moment(act, 0.15):
            taken += attempt(step, context)
        after = git(repo, "rev-parse", "work")
        undo.restore(undo.entries(context.state, "run", 0), context)
        texts = {
            name: (tree / name).read_text()
            for name in ("untracked", "work.txt")
            if (tree / name).exists()
        }
        arrived = work in texts.values() or after != before
        assert git(tree, "rev-parse", "HEAD") == after
        assert arrived or not any(work in text for text in texts.values())
        if after != before:
            assert git(tree, "log", "-1", "--format=%s") == work
        (tree / "untracked").unlink(missing_ok=True)
        git(tree, "checkout", "-q", "--", "work.txt")
        git(tree, "reset", "-q", "--hard", before)
    assert taken, "no round came as far as taking the worktree"


@pytest.mark.parametrize("kind", [TrimLog, ArchiveLog])
def test_log_that_is_rotated_meanwhile_loses_no_line(
    home: Path, context: Context, kind: type[TrimLog | ArchiveLog]
) -> None:
    log = home / "app.log"
    done, within = 0, 0.0
    for number in range(ROUNDS):
        log.write_bytes(b"".join(LINES))
        common = {"target": "", "reason": "", "path": log, "identity": identity_at(log)}
        step = (
            TrimLog(**common, keep_lines=5, keep_bytes=1 << 20)
            if kind is TrimLog
            else ArchiveLog(**common)
        )  # type: ignore[arg-type]

        # how long it takes undisturbed: a busy machine must not let the attacker win every time,
        # nor what the first time loads let it come when all is over
        if number < 2:
            began = time.monotonic()
            assert attempt(step, context)
            within = max(2 * (time.monotonic() - began), 0.03)
            shutil.rmtree(context.state)
            continue

        def rotate() -> None:
            with contextlib.suppress(OSError):
                os.rename(log, home / "app.log.1")
            with log.open("ab") as file:
                file.write(b"new line\n")

        with at_some_moment(rotate, within):
            done += attempt(step, context)
        archives = [
            b"".join(compression.unpack(each.payload, each.manifest))
            for each in undo.entries(context.state, "run", 0)
        ]
        rest = b"".join(path.read_bytes() for path in (home / "app.log.1", log) if path.exists())
        lines = (b"".join(archives) + rest.replace(b"\0", b"")).splitlines(keepends=True)
        assert sorted(line for line in lines if line.strip()) == sorted([*LINES, b"new line\n"])
        for path in (log, home / "app.log.1"):
            path.unlink(missing_ok=True)
        shutil.rmtree(context.state, ignore_errors=True)
    assert done, "no round came as far as touching the log"


def test_signal_never_hits_another_process_than_the_one_measured(context: Context) -> None:
    """The process ends at any moment, and its pid may belong to a stranger: here, to one that
    started at another time.
    """
    hit = 0
    for number in range(ROUNDS):
        process = subprocess.Popen(["sleep", "60"], start_new_session=True)
        found = read_process(process.pid)
        assert found is not None
        reused = number % 2
        step = Signal(
            target="", reason="", pid=process.pid, start=found.start - reused, signal=signal.SIGTERM
        )
        if reused:
            with contextlib.suppress(Refused):
                apply(step, context)  # without the re-check: the last look alone has to see it
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.02)
            process.kill()
        else:
            with at_some_moment(process.kill, 0.004):
                hit += attempt(step, context)
        process.wait()
    assert hit, "no round came as far as sending a signal"
