"""Running other programs: through ``sh``, with a time limit each, loaded only when needed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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

    path = find(argv[0])
    if path is None:
        raise ToolError(f"{argv[0]} is not installed")
    laid_over = {**os.environ, "LC_ALL": "C", **(environment or {})}
    merged = {name: value for name, value in laid_over.items() if value is not None}
    other: int | None = None
    if user is not None and user != os.geteuid():
        try:
            account = pwd.getpwuid(user)
        except KeyError:
            raise ToolError(f"{argv[0]}: nobody has the user id {user}") from None
        merged.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name)
        other = user
    expired = threading.Event()
    try:
        command = sh.Command(path)(
            *argv[1:],
            _in=stdin,
            _in_bufsize=CHUNK,
            _out_bufsize=CHUNK,
            _err_bufsize=CHUNK,
            _env=merged,
            _cwd=os.fspath(cwd) if cwd else None,
            _new_session=True,
            _tty_out=False,
            _tty_in=False,
            _ok_code=tuple(range(256)),
            _bg=True,
            _bg_exc=False,
            _uid=other,
        )
    except (sh.ForkException, OSError) as error:
        raise ToolError(f"{argv[0]} could not be started: {error}") from None

    def stop() -> None:
        expired.set()
        with contextlib.suppress(ProcessLookupError):
            command.process.kill_group()

    timer = threading.Timer(time_limit, stop)  # sh's own _timeout adds a tenth of a second to every command
    timer.start()
    try:
        command.wait()
        code = command.exit_code
    except sh.ErrorReturnCode as error:  # it died of a signal, which no ok_code covers
        code = error.exit_code
    except BaseException:
        stop()
        raise
    finally:
        timer.cancel()
    if expired.is_set():
        raise ToolError(f"{argv[0]} took longer than {time_limit:g} s and was stopped")
    return Result(code, command.process.stdout, command.process.stderr)
