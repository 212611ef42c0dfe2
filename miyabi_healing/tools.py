"""Running other programs, with a time limit each: owners' tools through ``sh``, git, which is asked often, without it.

Both are loaded only when needed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from miyabi_healing import stopping

CHUNK = 1 << 16  # sh's default is line by line: 3 million lines took longer than anyone waits


class ToolError(Exception):
    """A tool is missing, failed to start or ran out of time; the message names it."""


@dataclass(frozen=True)
class Result:
    """What a tool said. `code` is its exit status, negative for a signal."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def complaint(self) -> str:
        """The last line of its standard error, for messages."""
        lines = self.stderr.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self.code}"


def find(name: str) -> str | None:
    """The full path of a tool on PATH; None where it is not installed."""
    return shutil.which(name)


def installed(name: str) -> str:
    """The full path of a tool. Raises ToolError."""
    if path := find(name):
        return path
    raise ToolError(f"{name} is not installed")


def surroundings(environment: Mapping[str, str | None] | None, account: pwd.struct_passwd | None) -> dict[str, str]:
    """The environment a tool gets: `environment` laid over ours, messages in the C locale, None takes a variable away."""
    laid_over = {**os.environ, "LC_ALL": "C", **(environment or {})}
    if account:
        laid_over.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name)
    return {name: value for name, value in laid_over.items() if value is not None}


def somebody_else(name: str, user: int | None) -> pwd.struct_passwd | None:
    """The account a tool is to run as; None where that is ours. Raises ToolError."""
    if user is None or user == os.geteuid():
        return None
    try:
        return pwd.getpwuid(user)
    except KeyError:
        raise ToolError(f"{name}: nobody has the user id {user}") from None


def run(
    argv: Sequence[str],
    *,
    time_limit: float,
    cwd: Path | None = None,
    stdin: bytes = b"",
    environment: Mapping[str, str | None] | None = None,
    user: int | None = None,
) -> Result:
    """Run a program to its end and return what it said, whatever its exit status. Raises ToolError.

    `environment` is laid over ours, with messages in the C locale; None takes a variable away. `user` is the uid to run
    as; only root can change it.
    """
    import sh

    path, account = installed(argv[0]), somebody_else(argv[0], user)
    with stopping.held_back() as before:  # an exception in the middle of sh would leave its locks taken, and hang us for ever
        try:
            command = sh.Command(path)(
                *argv[1:],
                _in=stdin,
                _in_bufsize=CHUNK,
                _out_bufsize=CHUNK,
                _err_bufsize=CHUNK,
                _env=surroundings(environment, account),
                _cwd=os.fspath(cwd) if cwd else None,
                _new_session=True,
                _tty_out=False,
                _tty_in=False,
                _ok_code=tuple(range(256)),
                _bg=True,
                _bg_exc=False,
                _uid=user if account else None,
                _preexec_fn=partial(stopping.set_mask, before),
            )
        except (sh.ForkException, OSError) as error:
            raise ToolError(f"{argv[0]} could not be started: {error}") from None
        try:
            in_time = wait(command.process.is_alive, time_limit, before)
        except BaseException:
            stop_group(command.pid)
            raise
        if not in_time:
            stop_group(command.pid)
        try:
            command.wait()
            code = command.exit_code
        except sh.ErrorReturnCode as error:  # it died of a signal, which no ok_code covers
            code = error.exit_code
    if not in_time:
        raise ToolError(f"{argv[0]} took longer than {time_limit:g} s and was stopped")
    return Result(code, command.process.stdout, command.process.stderr)


def wait(goes_on: Callable[[], tuple[bool, object]], time_limit: float, signals: stopping.Signals) -> bool:
    """Wait for a program to end, for so long at most; whether it did. Only here may one of `signals` cut us short.

    sh's own _timeout adds a tenth of a second to every command.
    """
    end, pause = time.monotonic() + time_limit, 0.001
    while goes_on()[0]:
        if time.monotonic() > end:
            return False
        with stopping.mask(signals):
            time.sleep(pause)
        pause = min(pause * 1.5, 0.02)
    return True


def ask(
    argv: Sequence[str],
    *,
    time_limit: float,
    cwd: Path,
    stdin: bytes = b"",
    environment: Mapping[str, str | None] | None = None,
    user: int | None = None,
) -> Result:
    """The same for what is asked hundreds of times in a pass: a fifth of the time, and nothing to import. Raises ToolError."""
    import subprocess

    path, account = installed(argv[0]), somebody_else(argv[0], user)
    groups = os.getgrouplist(account.pw_name, account.pw_gid) if account else None
    try:
        process = subprocess.Popen(
            [path, *argv[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd,
            env=surroundings(environment, account), start_new_session=True, user=account.pw_uid if account else None,
            group=account.pw_gid if account else None, extra_groups=groups,
        )  # fmt: skip
    except OSError as error:
        raise ToolError(f"{argv[0]} could not be started: {error}") from None
    with process:
        try:
            output, errors = process.communicate(stdin, timeout=time_limit)
        except subprocess.TimeoutExpired:
            stop_group(process.pid)
            raise ToolError(f"{argv[0]} took longer than {time_limit:g} s and was stopped") from None
        except BaseException:
            stop_group(process.pid)
            raise
    return Result(process.returncode, output, errors)


def stop_group(leader: int) -> None:
    """End a program that we started, which leads a session of its own, with all that it started. It is not reaped yet."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
