"""Lines for people: those on standard error, and the priority that systemd's journal takes from the
start of each line.
"""

from __future__ import annotations

import os

import click

from miyabi_healing.support.formatting import display

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
