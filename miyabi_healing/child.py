"""One pass in a process of its own: a fork of a warm parent on Linux, where that is safe, a program of its own elsewhere.

Whatever happens to the child (a crash, a hang, a leak), the parent goes on.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from miyabi_healing import config, outlets, secret, session, stopping

WARM = ("pytest", "pytest_jsonreport.plugin", "miyabi_healing.plugin", "miyabi_healing.report", "miyabi_healing.history",
        "miyabi_healing.safekeeping", "miyabi_healing.host.disk", "miyabi_healing.host.git", "miyabi_healing.host.logs",
        "miyabi_healing.host.memory", "miyabi_healing.host.processes")  # fmt: skip
PATIENCE = 15.0  # seconds a pass that was asked to end may take to finish or take back its step
FORKS = sys.platform == "linux"  # on macOS, system libraries may break in a fork


@dataclass
class Pass:
    """A pass that runs. Its pipe is readable when there is something to read, and at its end."""

    pid: int
    pipe: int
    began: float = field(default_factory=time.monotonic)
    said: bytes = b""
    asked: float | None = None

    def read(self) -> bool:
        """Take what is there; whether there will be more."""
        data = os.read(self.pipe, 1 << 16)
        self.said += data
        return bool(data)

    def is_over(self) -> bool:
        """Whether it has ended. Its pipe may still be open then, in a program that a check has left behind."""
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
            os.kill(self.pid, number if self.asked is None else signal.SIGKILL)
        self.asked = self.asked or time.monotonic()

    def end(self) -> tuple[dict[str, Any], int]:
        """The report and the exit status of a pass whose pipe is at its end."""
        os.close(self.pipe)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        try:
            answer = json.loads(self.said)
            return (answer["document"], int(answer["code"])) if "code" in answer else (answer, status)
        except (ValueError, KeyError, TypeError):
            from miyabi_healing import report

            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            return report.failed(f"the pass {how} before it had reported"), session.EXIT_UNKNOWN


def warm_up() -> None:
    """Import once what every pass needs, and keep the garbage collector from touching it, so that forks share its memory."""
    for name in WARM:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class How:
    """What a pass is made with."""

    settings: config.Config
    dry_run: bool
    slack: bool
    more_checks: tuple[str, ...]


def start(how: How, again: Sequence[str]) -> Pass:
    """Begin a pass. `again` is the command line that makes the same pass as a program of its own."""
    if not FORKS:
        environment = {**os.environ, **{name: each.value for name, each in secret.taken.items()}}
        program = subprocess.Popen([*again, "--json"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment)
        assert program.stdout is not None
        pipe = os.dup(program.stdout.fileno())
        program.stdout.close()
        return Pass(program.pid, pipe)
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        in_fork(lambda: run(how), theirs)
    os.close(theirs)
    return Pass(pid, ours)


def run(how: How) -> tuple[dict[str, Any], int]:
    from miyabi_healing import report

    try:
        with stopping.in_order():
            to = outlets.channels(how.settings, how.slack)
            document, code = session.run_pass(how.settings, dry_run=how.dry_run, more_checks=how.more_checks, watching=True)
            return document, outlets.tell(document, code, how.settings, to, how.dry_run)
    except session.Stopped as stopped:
        return report.failed(str(stopped)), stopped.code
    except stopping.Asked as asked:
        return report.failed(f"stopped by {asked}"), 128 + stopping.received
    except config.ConfigError as error:
        return report.failed(str(error)), session.EXIT_USAGE
    except Exception as error:  # a bug of ours must not pass for an issue of the host
        return report.failed(f"{type(error).__name__}: {error}"), session.EXIT_UNKNOWN


def in_fork(action: Callable[[], tuple[dict[str, Any], int]], pipe: int) -> NoReturn:
    """What the child does: its work, its answer into the pipe, and an end without the parent's clean-up."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        document, code = action()
        answer = json.dumps({"document": document, "code": code}).encode()
        while answer:
            answer = answer[os.write(pipe, answer) :]
    finally:
        os._exit(0)
