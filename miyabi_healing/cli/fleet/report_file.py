"""The report of a rollout in a file: each host's row as it comes, at the end all of it, whole."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from miyabi_healing.cli.common import Refusal
from miyabi_healing.fleet.report import host_row
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.rollout import Answer
from miyabi_healing.support import console
from miyabi_healing.support.formatting import display

_LONGEST_LINE = 64 << 20  # bytes of one host's row


class ReportFile:
    """A file that somebody asked for; without a path, nothing is written. An earlier one stays
    until there is something to say. Raises Refusal where it cannot be made; what goes wrong with it
    later is said, and holds no rollout up.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path.expanduser().absolute() if path else None
        self._rows: IO[str] | None = None
        self._is_lost = False
        if self._path is not None and (reason := _objection(self._path)):
            raise Refusal(f"{display(self._path)}: {reason}", ExitCode.USAGE)

    def keep(self, answer: Answer) -> None:
        """Add the row of a host: it is on disk when this returns, should we be killed."""
        if self._path is None or self._is_lost:
            return
        try:
            if self._rows is None:
                # in the place of an earlier one, which others may be able to read
                self._rows, name = _new(self._path)
                os.replace(name, self._path)
            self._rows.write(json.dumps(host_row(answer)) + "\n")
            self._rows.flush()
            os.fsync(self._rows.fileno())
        except OSError as error:
            self._is_lost = True
            self._complain(error)

    def finish(self, lines: Iterable[str]) -> None:
        """Put the whole report in its place."""
        if self._path is None:
            return
        try:
            file, name = _new(self._path)
            try:
                with file:
                    for line in lines:
                        file.write(line + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(name, self._path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                raise
        except OSError as error:
            self._complain(error)

    def __enter__(self) -> ReportFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._rows is not None:
            with contextlib.suppress(OSError):  # it was said
                self._rows.close()
            self._rows = None

    def _complain(self, error: OSError) -> None:
        console.complain(
            f"the report is not whole in {display(self._path)}: {error.strerror}", console.ERROR
        )


def _objection(path: Path) -> str | None:
    """Why a report cannot go there: what is there is no regular file, or somebody else's; None
    where it can.
    """
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return "its folder cannot be written"
    try:
        status = path.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file"
    return None if not status.st_size or _is_report(path) else "it is there, and no fleet report"


def _is_report(path: Path) -> bool:
    """Whether a file begins as one of ours; one with rows alone is of a run that was killed."""
    try:
        # neither a link nor a pipe that has come meanwhile is followed, or waited for
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            first = json.loads(file.readline(_LONGEST_LINE))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(first, dict) and first.get("kind") in ("fleet", "host")


def _new(path: Path) -> tuple[IO[str], str]:
    """A file beside it that nobody else can have made, or read, and its name. Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    return open(descriptor, "w", encoding="utf-8"), name
