"""What watch mode shows: a live view on a terminal, a line for each change elsewhere, one document
a line for programs.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from miyabi_healing.support import console
from miyabi_healing.support.terminal import owns_terminal, write_all

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import Document

_NO_SCREEN = ("", "dumb", "unknown")  # values of TERM


class View(Protocol):
    """What a watch tells what happens. Where nobody is left to see it, OSError (EIO, EPIPE)."""

    tick: float | None
    """After how many seconds it is to be drawn anew; None: never by itself."""

    def begin_run(self) -> None:
        """A run is at work from now on."""

    def show(self, document: Document, wait: float) -> None:
        """A run has ended; it is so many seconds to the next one."""

    def say(self, words: str) -> None:
        """Something went wrong outside a run."""

    def redraw(self) -> None:
        """Time has passed, or the screen has another size."""

    def suspend(self) -> None:
        """Give the terminal back until the next `redraw`."""


@dataclass
class Lines:
    """Writes what it makes of each run, and nothing else."""

    text_of: Callable[[Document, float], str]
    tick: float | None = None

    def begin_run(self) -> None:
        pass

    def show(self, document: Document, wait: float) -> None:
        write_live(self.text_of(document, wait))

    def say(self, words: str) -> None:
        console.complain(words)

    def redraw(self) -> None:
        pass

    def suspend(self) -> None:
        pass


@contextlib.contextmanager
def showing(as_json: bool, quiet: bool, lines: bool = False) -> Iterator[View]:
    """The way to show runs. With `lines`, no view that stays in its place: others write to the
    terminal as well.
    """
    if as_json:
        yield Lines(lambda document, _wait: json.dumps(document))
    elif _has_screen() and not (quiet or lines):
        from miyabi_healing.report.live_view import ScreenView

        view = ScreenView.begin()
        try:
            yield view
        finally:
            with contextlib.suppress(OSError):
                view.end()
    else:
        yield Lines(changed_lines(quiet))


def changed_lines(quiet: bool) -> Callable[[Document, float], str]:
    """What makes lines of runs; for systemd's journal, each has its priority."""
    from miyabi_healing.report.change_lines import ChangeLines

    journal, changes = console.is_journal(console.STDOUT), ChangeLines(quiet)

    def text_of(document: Document, wait: float) -> str:
        found = changes.of_run(document, wait)
        return "\n".join(console.marked(line, level) if journal else line for level, line in found)

    return text_of


def write_live(words: str) -> None:
    """Write at once, past what Python would keep for later where it cannot be written."""
    if not words:
        return
    sys.stdout.flush()
    write_all(sys.stdout.fileno(), encoded(words.rstrip("\n") + "\n"))


def encoded(words: str) -> bytes:
    """A text as standard output has it; signs that it cannot have are put in ASCII."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        return words.encode(encoding)
    except UnicodeEncodeError:
        from miyabi_healing.report.style import TO_ASCII

        return words.translate(TO_ASCII).encode(encoding, "replace")


def _has_screen() -> bool:
    """Whether standard output is a terminal that can be drawn on, and ours: a job in the background
    would draw over its shell.
    """
    if not sys.stdout.isatty() or os.environ.get("TERM", "") in _NO_SCREEN:
        return False
    return owns_terminal(sys.stdout.fileno())
