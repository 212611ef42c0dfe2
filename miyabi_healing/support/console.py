"""Lines for people: those on standard error, the one that shows what is being done, and the
priority that systemd's journal takes from the start of each line.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

import click

from miyabi_healing.support import console
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from rich.live import Live

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6  # sd-daemon(3)
STDOUT, STDERR = 1, 2


def is_journal(descriptor: int) -> bool:
    """Whether it leads to the journal: JOURNAL_STREAM is its device and inode (systemd.exec(5)); a
    redirected one is another.
    """
    named = os.environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def marked(words: str, level: int) -> str:
    """Every line with its priority: ``<4>…``. The journal splits at line feeds alone."""
    return "\n".join(f"<{level}>{line}" for line in words.split("\n"))


def complain(words: str, level: int = WARNING) -> None:
    """Say something in one line on standard error."""
    line = f"miyabi-healing: {display(words)}"
    click.echo(marked(line, level) if is_journal(STDERR) else line, err=True)


@contextlib.contextmanager
def progress_line(silent: bool) -> Iterator[Callable[[str], None]]:
    """Show what is being done, in one changing line, on a terminal only. pytest captures descriptor
    2, so a copy is used.
    """
    if silent or not sys.stderr.isatty():
        yield lambda text: None
        return
    with os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace") as terminal:
        shown: list[Live] = []

        def progress(text: str) -> None:
            from rich.console import Console
            from rich.live import Live
            from rich.spinner import Spinner

            # pytest exchanges sys.stdout meanwhile, so rich must keep its hands off it
            if not shown:
                screen = Console(file=terminal)
                shown.append(
                    Live(
                        console=screen, transient=True, redirect_stdout=False, redirect_stderr=False
                    )
                )
                shown[0].start()
            shown[0].update(Spinner("dots", text))

        try:
            yield progress
        finally:
            for each in shown:
                each.stop()


def stop(message: str, code: int) -> NoReturn:
    """Say in one line on standard error why nothing was done, and end."""
    console.complain(message, console.ERROR)
    sys.exit(code)
