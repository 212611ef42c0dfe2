"""Starting other programs: the one way to do it, for ourselves and in somebody else's name, with a
time limit each.

Whose program is started decides as whom: what a user's repository or home may have chosen runs as
that user alone, who the child has become for good (uid, gid, groups) before it executes anything,
and with an environment of listed names. A program is looked for only in those folders of PATH that
nobody can write but root and the user it runs as.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import select
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_healing.support import deadline, interrupts, mount_answers, ownership
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    import subprocess

_logger = logging.getLogger(__name__)

# What everybody's program gets of our environment; HOME and names are the user's own. Nothing that
# can hold a secret.
LISTED = ("LANG", "LANGUAGE", "TZ", "TERM")
_OUR_OWN = ("TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR")
MOST_OUTPUT = 256 << 20  # bytes
LAST_WORDS = 1 << 16
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # where nobody has set one


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


@lru_cache(maxsize=16)
def _trusted_path(path: str, trusted: ownership.Users) -> tuple[str, ...]:
    """The folders of a PATH in which nobody but `trusted` can put a program."""
    found = []
    for folder in path.split(os.pathsep):
        with contextlib.suppress(OSError, ValueError):
            if os.path.isabs(folder) and ownership.ownership_objection(folder, trusted) is None:
                found.append(folder)
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=64)
def _located(name: str, path: str, trusted: ownership.Users) -> tuple[str | None, str]:
    """The full path of a tool, and why there is none."""
    folders = _trusted_path(path, trusted)
    if "/" in name and not os.path.isabs(name):
        return None, f"{name} is not started: a program is named by its name or whole path"
    found = name if os.path.isabs(name) else shutil.which(name, path=os.pathsep.join(folders))
    if found is None and (elsewhere := shutil.which(name, path=path)):
        return (
            None,
            f"{name} is not started: others can write to the folder of {display(elsewhere)}",
        )
    if found is None:
        return None, f"{name} is not installed"
    try:
        if reason := ownership.ownership_objection(found, trusted):
            return None, f"{name} is not started: {reason}"
    except OSError as error:
        return None, f"{name} is not installed: {error.strerror}"
    return found, ""


def _in_whose_name(user: int | None) -> ownership.Users:
    """Whom a program that runs as `user` (None: as we do) may come from."""
    return ownership.us() if user is None else frozenset((ownership.ROOT, user))


def _search_path() -> str:
    """Our PATH, but for what does not answer."""
    return mount_answers.search_path(os.environ.get("PATH", PATH))


def find_program(name: str, user: int | None = None) -> str | None:
    """The full path of a tool that may be started as `user` (None: as we are); None where there is
    none.
    """
    return _located(name, _search_path(), _in_whose_name(user))[0]


def missing(name: str, user: int | None = None) -> str:
    """Why a tool cannot be started; empty where it can."""
    return _located(name, _search_path(), _in_whose_name(user))[1]


def installed(name: str, user: int | None = None) -> str:
    """The full path of a tool. Raises ToolError."""
    if path := find_program(name, user):
        return path
    raise ToolError(missing(name, user))


def _surroundings(
    extra: Mapping[str, str], account: pwd.struct_passwd | None, whole: bool
) -> dict[str, str]:
    """The environment of a tool: `extra`, and what is listed; with `whole` all that is ours, but
    for git's own names.

    Messages come in the C locale. Somebody else's never gets more than what is listed.
    """
    us = os.environ
    if account:
        named = {
            "HOME": account.pw_dir,
            "USER": account.pw_name,
            "LOGNAME": account.pw_name,
            "SHELL": "/bin/sh",
        }
    elif whole:
        named = {name: value for name, value in us.items() if not name.startswith("GIT_")}
    else:
        named = {
            name: us[name] for name in ("HOME", "USER", "LOGNAME", "SHELL", *_OUR_OWN) if name in us
        }
    listed = {name: us[name] for name in LISTED if name in us}
    path = os.pathsep.join(
        _trusted_path(_search_path(), _in_whose_name(account.pw_uid if account else None))
    )
    return {**listed, **named, "PATH": path, "LC_ALL": "C", **extra}


def _somebody_else(name: str, user: int | None) -> pwd.struct_passwd | None:
    """The account a tool is to run as; None where that is ours. Raises ToolError."""
    if user is None or user == os.geteuid():
        return None
    try:
        return pwd.getpwuid(user)
    except KeyError:
        raise ToolError(f"{name}: nobody has the user id {user}") from None


def run_program(
    argv: Sequence[str],
    *,
    time_limit: float,
    cwd: Path | int = Path("/"),
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    user: int | None = None,
    whole_environment: bool = False,
) -> Result:
    """Run a program to its end and return what it said, whatever its exit status. Raises ToolError.

    It starts in `cwd`, a folder or the descriptor of one that was looked at. `user` is the uid to
    run as; only root can change it. `environment` comes on top of what is listed, or of all of ours
    (`_surroundings`).
    """
    import subprocess

    limit = deadline.left(time_limit)
    account = _somebody_else(argv[0], user)
    path = installed(argv[0], user)
    groups = os.getgrouplist(account.pw_name, account.pw_gid) if account else None
    by_proc = isinstance(cwd, int) and sys.platform.startswith("linux")
    process: subprocess.Popen[bytes] | None = None
    begun = time.monotonic()
    try:
        with interrupts.put_off():  # else a program could have started that we know nothing of
            process = subprocess.Popen(
                [path, *argv[1:]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=f"/proc/self/fd/{cwd}" if by_proc else None if isinstance(cwd, int) else cwd,
                preexec_fn=partial(os.fchdir, cwd)
                if isinstance(cwd, int) and not by_proc
                else None,
                env=_surroundings(environment or {}, account, whole_environment),
                start_new_session=True,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=groups,
            )
        output, errors = _talk(process, stdin, limit)
    except subprocess.TimeoutExpired:
        assert process is not None
        _stop_group(process.pid)
        raise deadline.too_slow(argv[0], time_limit) from None
    except ToolError as error:
        assert process is not None
        _stop_group(process.pid)
        raise ToolError(f"{argv[0]} was stopped: {error}") from None
    except OSError as error:
        if process is not None:
            _stop_group(process.pid)
        raise ToolError(f"{argv[0]} could not be started: {error}") from None
    except BaseException:
        if process is not None:
            _stop_group(process.pid)
        raise
    finally:
        if process is not None:
            with process:
                pass
        status = "not started" if process is None else f"status {process.returncode}"
        _logger.debug("%s: %s, %.3f s", " ".join(argv), status, time.monotonic() - begun)
    return Result(process.returncode, output, errors)


def _talk(process: subprocess.Popen[bytes], words: bytes, time_limit: float) -> tuple[bytes, bytes]:
    """Give a program its input, and wait for its end; returns what it printed, of its complaints
    the last ones.

    Somebody else chose the program: it must not fill our memory. Raises TimeoutExpired, ToolError
    where it prints too much.
    """
    import selectors
    import subprocess

    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    end, output, errors, rest = (
        time.monotonic() + time_limit,
        bytearray(),
        bytearray(),
        memoryview(words),
    )
    with selectors.DefaultSelector() as streams:
        streams.register(process.stdout, selectors.EVENT_READ)
        streams.register(process.stderr, selectors.EVENT_READ)
        streams.register(process.stdin, selectors.EVENT_WRITE)
        while streams.get_map():
            ready = streams.select(max(min(end - time.monotonic(), deadline.SLICE), 0))
            if not ready and (time.monotonic() >= end or deadline.is_over()):
                raise subprocess.TimeoutExpired(process.args, time_limit)
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    with contextlib.suppress(BrokenPipeError):  # it does not want to know
                        rest = rest[os.write(key.fd, rest[: select.PIPE_BUF]) :] if rest else rest
                        if rest:
                            continue
                    streams.unregister(process.stdin)
                    process.stdin.close()
                elif not (data := os.read(key.fd, 1 << 16)):
                    streams.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    output += data
                    if len(output) > MOST_OUTPUT:
                        raise ToolError(f"it printed more than {MOST_OUTPUT >> 20} MiB")
                else:
                    errors = (errors + data)[-LAST_WORDS:]
    process.wait(max(end - time.monotonic(), 0))
    return bytes(output), bytes(errors)


def _stop_group(leader: int) -> None:
    """End a program that we started, which leads a session of its own, with all that it started. It
    is not reaped yet.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
