"""Orphans of a test's own: this test run takes them over, as init would, so that nobody else's are
seen or touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from conftest import wait_for
from miyabi_healing.host import reparented
from miyabi_healing.host.process_status import Process, read_process
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config, ProcessSettings

_PR_SET_CHILD_SUBREAPER = 36
# what a helper does: it takes memory, says that it is there, and waits for nobody
HELPER = """
import os, signal, sys, time
{before}
blob = b"x" * ({megabytes} << 20)
open(sys.argv[1] + ".tmp", "w").write(str(os.getpid()))
os.rename(sys.argv[1] + ".tmp", sys.argv[1])
{after}
time.sleep(600)
"""
# what starts one and is gone before it says so
AGENT = """
import os, socket, subprocess, sys
child = subprocess.Popen(sys.argv[1:], start_new_session={session}, {streams})
os._exit(0)
"""


class Nursery:
    """Starts helpers whose parent ends; `folder` is where they and their scripts are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0
        self.known: list[int] = []

    def script(self, name: str, megabytes: int = 1, before: str = "", after: str = "") -> Path:
        file = self.folder / "node_modules" / ".bin" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(HELPER.format(megabytes=megabytes, before=before, after=after))
        return file

    def orphan(
        self,
        name: str = "some-mcp",
        megabytes: int = 1,
        *,
        before: str = "",
        after: str = "",
        by: tuple[str, ...] = (),
        session: bool = True,
        streams: str = "stdin=-3, stdout=-3, stderr=-3",
        cwd: Path | None = None,
        **options: object,
    ) -> Process:
        """A helper whose parent is gone; `by` is a command in front of its own, `streams` what its
        parent gives it (-3: /dev/null).
        """
        self.number += 1
        ready = self.folder / f"ready {self.number}"
        command = [*by, sys.executable, "-S", str(self.script(name, megabytes, before, after))]
        agent = AGENT.format(session=session, streams=streams)
        subprocess.run(
            [sys.executable, "-S", "-c", agent, *command, str(ready)],
            cwd=cwd or self.folder, check=True, **options,  # type: ignore[call-overload]
        )  # fmt: skip
        return self.wait(ready)

    @contextlib.contextmanager
    def session_that_lives(self) -> Iterator[Process]:
        """A helper whose parent is gone, in a session of its own whose leader is not."""
        self.number += 1
        ready = self.folder / f"ready {self.number}"
        agent = AGENT.format(session=False, streams="stdin=-3, stdout=-3, stderr=-3")
        python = [sys.executable, "-S"]
        command = [*python, "-c", agent, *python, str(self.script("some-mcp")), str(ready)]
        leader = subprocess.Popen(
            ["sh", "-c", '"$@" & exec sleep 600', "sh", *command], start_new_session=True
        )
        try:
            yield self.wait(ready)
        finally:
            leader.kill()
            leader.wait()

    def wait(self, ready: Path) -> Process:
        wait_for(ready.exists)
        pid = int(ready.read_text())
        self.known.append(pid)
        found = read_process(pid)
        assert found is not None
        return found

    def end(self) -> None:
        for process in reparented.below(os.getpid()):
            if process.pid in self.known or self._is_ours(process):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        end = time.monotonic() + 10
        while time.monotonic() < end and any(map(self._is_left, self.known)):
            time.sleep(0.01)

    def _is_ours(self, process: Process) -> bool:
        try:
            line = Path(f"/proc/{process.pid}/cmdline").read_text()
        except OSError:
            return False
        return str(self.folder) in line

    def _is_left(self, pid: int) -> bool:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return read_process(pid) is not None


def reap_children() -> None:
    """What died as our child without one who waits for it: zombies are counted on the whole host,
    by other tests as well.
    """
    for each in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
            if each.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(each.pid, os.WNOHANG)


@pytest.fixture
def nursery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nursery]:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    monkeypatch.setattr(reparented, "INIT", os.getpid())
    nursery = Nursery(tmp_path)
    try:
        yield nursery
        nursery.end()
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        reap_children()


def host(minutes: float = 0, *protected: str) -> Host:
    return Host(Config(processes=ProcessSettings(protected, minutes)))
