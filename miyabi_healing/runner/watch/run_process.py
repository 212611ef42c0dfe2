"""One run in a process of its own: a fork of a warm parent on Linux, where that is safe, a program
of its own elsewhere.

Whatever happens to the child (a crash, a hang, a leak), the parent goes on.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.runner.watch import child
from miyabi_healing.support import secrets, startup

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import Document

WARM = (
    "pytest",
    "pytest_jsonreport.plugin",
    "miyabi_healing.runner.plugin",
    "miyabi_healing.runner.judging",
    "miyabi_healing.runner.watch.child",
    "miyabi_healing.report.documents",
    "miyabi_healing.state.history",
    "miyabi_healing.state.store",
    "miyabi_healing.runner.watch.prefork",
    "miyabi_healing.host.filesystems",
    "miyabi_healing.host.git.locks",
    "miyabi_healing.host.logs",
    "miyabi_healing.host.memory",
    "miyabi_healing.host.processes",
)
# seconds a run that was asked to end may take to finish or take back its step: over within five
ENDS_WITHIN = 4.0
TELLING = 15.0  # the same once it has reported: for who else is to be told
_UNPICKLED = (
    "import sys; sys.path[:] = sys.argv[1:]; import pickle; pickle.load(sys.stdin.buffer)()"
)
CAN_FORK = sys.platform == "linux"  # on macOS, system libraries may break in a fork


@dataclass
class RunProcess:
    """A run at work. Its pipe is readable when there is something to read, and at its end."""

    pid: int
    pipe: int
    began: float = field(default_factory=time.monotonic)
    said: bytes = b""
    asked: float | None = None
    reported: bool = False

    def read(self) -> bool:
        """Take what is there; whether there will be more."""
        data = os.read(self.pipe, 1 << 16)
        self.said += data
        return bool(data)

    def is_over(self) -> bool:
        """Whether it has ended. Its pipe may still be open then, in a program that a check has left
        behind.
        """
        over = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        if over:
            os.set_blocking(self.pipe, False)
            with contextlib.suppress(BlockingIOError):
                while self.read():
                    pass
        return over

    def ask_to_end(self, number: int) -> None:
        """Let it finish or take back the step in hand; the second time, it is killed."""
        with contextlib.suppress(ProcessLookupError):
            self.send(number if self.asked is None else signal.SIGKILL)
        self.asked = self.asked or time.monotonic()

    def send(self, number: int) -> None:
        """Signal it: a child of ours, so its pid is its own until we have waited for it. Raises
        ProcessLookupError.
        """
        os.kill(self.pid, number)

    def end(self) -> tuple[Document, int]:
        """The report and the exit status of a run whose pipe is at its end. `reported` is whether
        it has told them itself.
        """
        os.close(self.pipe)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        try:
            answer = json.loads(self.said)
            document, code = (
                (answer["document"], int(answer["code"])) if "code" in answer else (answer, status)
            )
            self.reported = True
            return document, code
        except (ValueError, KeyError, TypeError):
            return _unreported(status)


def _unreported(status: int) -> tuple[Document, int]:
    """What stands for the report of a run that came to none."""
    from miyabi_healing.report import documents

    how = (
        f"was ended by {signal.Signals(-status).name}"
        if status < 0
        else f"ended with status {status}"
    )
    return documents.failed_report(f"the run {how} before it had reported"), ExitCode.UNKNOWN


def warm_up() -> None:
    """Import once what every run needs, and keep the garbage collector from touching it, so that
    forks share its memory.
    """
    for name in WARM:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


@dataclass
class RunSource:
    """Where runs come from: on Linux a process that has collected the checks, elsewhere a program
    for each.

    `again` is the command line that makes the same run as a program of its own.
    """

    again: Sequence[str]
    how: child.How | None = None
    pid: int = 0
    pipe: int = -1
    orders: int = -1

    def start(self, how: child.How) -> RunProcess:
        """Begin a run."""
        if not CAN_FORK:
            pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
            return follow(
                subprocess.Popen(
                    [*self.again, "--json"], stdout=pipe, stdin=nothing, env=secrets.restored()
                )
            )
        if self.pid and not how.is_like(self.how):
            self.end()
        self.how = how
        if self.pid:
            try:
                os.write(self.orders, b".")
            except BrokenPipeError:  # something ended it meanwhile
                self.end()
        if not self.pid:
            self.renew()
        return Ordered(self.pid, self.pipe, source=self)

    def renew(self) -> None:
        """Make another process that collects the checks and begins a run, and another one for each
        byte that it is sent.
        """
        assert self.how is not None
        orders, self.orders = os.pipe()
        worker = fork(partial(child.run_and_send, self.how, orders), but=(self.orders,))
        os.close(orders)
        self.pid, self.pipe = worker.pid, worker.pipe

    def end(self) -> int:
        """Let go of that process, if there is one; returns its exit status. Idle, it has nothing to
        lose.
        """
        if not self.pid:
            return 0
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.orders)
        os.close(self.pipe)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid, self.pipe, self.orders = 0, -1, -1
        return status


@dataclass
class Ordered(RunProcess):
    """A run that another process makes for us, or in a fork of its own: what becomes of it comes
    as lines of JSON.

    `handle` is the fork's pidfd: it is no child of ours, and its pid may be another's as soon as it
    has ended. None until it has begun, -1 where there is none to be had.
    """

    source: RunSource = field(kw_only=True)
    handle: int | None = None
    status: int | None = None
    answer: dict[str, Any] = field(default_factory=dict)

    def read(self) -> bool:
        data = os.read(self.pipe, 1 << 16)
        *lines, self.said = (self.said + data).split(b"\n")
        for line in lines:
            self.hear(json.loads(line))
        if not data and self.status is None:
            self.status = self.source.end()
        return self.status is None

    def hear(self, line: dict[str, Any]) -> None:
        if "stale" in line:
            self.source.end()
            self.source.renew()
            self.pid, self.pipe = self.source.pid, self.source.pipe
        elif "pid" in line:
            self.pid = line["pid"]
            with contextlib.suppress(ProcessLookupError):
                self.handle = _handle_of(self.pid)
                # while the checks were being collected: that signal came to nothing
                if self.asked is not None:
                    self.send(signal.SIGTERM)
        elif "ended" in line:
            self.status = line["ended"]
            if line["last"]:
                self.source.end()
        else:
            self.answer, self.reported = line, True

    def is_over(self) -> bool:
        """Whether it has ended, or the process has that it came from."""
        maker = self.source.pid
        if (
            self.status is None
            and os.waitid(os.P_PID, maker, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        ):
            os.set_blocking(self.pipe, False)
            with contextlib.suppress(BlockingIOError):
                # its last word may be that another one is to take its place
                while self.source.pid == maker and self.read():
                    pass
            if self.status is None and self.source.pid == maker:
                self.status = self.source.end()
        return self.status is not None

    def send(self, number: int) -> None:
        if self.handle is None:
            if self.source.pid:
                os.kill(self.source.pid, number)
        elif self.is_the_one():
            if self.handle >= 0:
                signal.pidfd_send_signal(self.handle, number)
            else:
                os.kill(self.pid, number)

    def is_the_one(self) -> bool:
        """Whether the pid is still that of the fork: then its parent is what made it."""
        from miyabi_healing.host import process_status

        found = process_status.read_process(self.pid)
        return found is not None and found.ppid == self.source.pid

    def end(self) -> tuple[Document, int]:
        if self.handle is not None and self.handle >= 0:
            os.close(self.handle)
        if self.reported:
            return self.answer["document"], int(self.answer["code"])
        return _unreported(self.status or 0)


def _handle_of(pid: int) -> int:
    """A pidfd; -1 where the kernel has none (before Linux 5.3), or that process is gone."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


def start_sending(how: child.How, document: Document, seconds: float) -> RunProcess:
    """Begin a small child that only sends what came of a run that came to no report."""
    sending = partial(child.queue_and_send, how, document, ExitCode.UNKNOWN, seconds)
    if CAN_FORK:
        return fork(lambda _pipe: sending())
    program = [sys.executable, "-I", "-c", _UNPICKLED, *sys.path]
    teller = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert teller.stdin is not None
    with contextlib.suppress(BrokenPipeError), teller.stdin:
        teller.stdin.write(pickle.dumps(sending))
    return follow(teller)


def follow(program: subprocess.Popen[bytes]) -> RunProcess:
    """What is known of a program of its own, as of a fork."""
    assert program.stdout is not None
    pipe = os.dup(program.stdout.fileno())
    program.stdout.close()
    return RunProcess(program.pid, pipe)


def fork(action: Callable[[int], None], but: tuple[int, ...] = ()) -> RunProcess:
    """Do something in a fork; it gets a pipe to answer into, and does not keep the descriptors in
    `but`.
    """
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        for each in (ours, *but):
            os.close(each)
        _in_fork(action, theirs)
    os.close(theirs)
    return RunProcess(pid, ours)


def _in_fork(action: Callable[[int], None], pipe: int) -> NoReturn:
    """What the child does: its work, its answer into the pipe, and an end without the parent's
    clean-up.
    """
    try:
        startup.collect_seldom()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        action(pipe)
    finally:
        os._exit(0)
