"""The report of a rollout in a file: each host's row as it comes, at the end all of it, whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from miyabi_healing.cli.common import Refusal
from miyabi_healing.fleet.report import host_row
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.rollout import Answer
from miyabi_healing.support.formatting import display


class ReportFile:
    """A file that somebody asked for; without a path, nothing is written. An earlier one stays
    until there is something to say. Raises Refusal where it cannot be made.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path.expanduser() if path else None
        self._rows: IO[str] | None = None
        if self._path is not None and not os.access(self._path.parent, os.W_OK | os.X_OK):
            raise Refusal(f"{display(self._path)}: its folder cannot be written", ExitCode.USAGE)

    def keep(self, answer: Answer) -> None:
        """Add the row of a host: it is on disk when this returns, should we be killed."""
        if self._path is None:
            return
        if self._rows is None:
            self._rows = self._open(self._path)
        self._rows.write(json.dumps(host_row(answer)) + "\n")
        self._rows.flush()
        os.fsync(self._rows.fileno())

    def finish(self, lines: Iterable[str]) -> None:
        """Put the whole report in its place."""
        if self._path is None:
            return
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        with self._open(new) as file:
            for line in lines:
                file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._path)

    def __enter__(self) -> ReportFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    @staticmethod
    def _open(path: Path) -> IO[str]:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            return open(os.open(path, flags, 0o600), "w", encoding="utf-8")
        except OSError as error:
            raise Refusal(f"{display(path)}: {error.strerror}", ExitCode.USAGE) from None
