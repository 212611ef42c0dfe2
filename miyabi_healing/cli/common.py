"""What several commands share: options, the settings, and the journal to read or to write.

The one module here that others here import.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from miyabi_healing.model import config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.report import style
from miyabi_healing.state import run_lock
from miyabi_healing.support import config_loader, console, paths
from miyabi_healing.support.formatting import display, name_stamp

if TYPE_CHECKING:
    from miyabi_healing.gate.primitives.context import Context
    from miyabi_healing.state.journal import Journal


_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


as_json = click.option("-j", "--json", "as_json", is_flag=True, help="Print one JSON document.")


dry_run = click.option(
    "-d", "--dry-run", is_flag=True, help="Show what would be done; change nothing."
)


@dataclass(frozen=True)
class CommandContext:
    """What was given on the command line before the subcommand."""

    config_file: str | None
    dry_run: bool
    as_json: bool
    checks: tuple[str, ...] = ()


class Duration(click.ParamType):  # type: ignore[type-arg]
    """``90s``, ``30m``, ``2h``, ``1d``, ``1h30m``: in seconds. With `plain_seconds`, a mere number
    is so many.
    """

    name = "duration"

    def __init__(self, plain_seconds: bool = False) -> None:
        self.plain_seconds = plain_seconds

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).strip()
        if self.plain_seconds and re.fullmatch(r"\d+(\.\d+)?|\.\d+", text):
            return float(text)
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)", text)
        if not parts or re.sub(r"[\d.]+\s*(s|min|m|h|d|w)\s*", "", text):
            also = ", or 90 for seconds" if self.plain_seconds else ""
            self.fail(f"{text!r} is no duration; write 30m, 2h, 1d or 1h30m{also}", param, ctx)
        return sum(float(number) * _UNITS[unit] for number, unit in parts)


class Refusal(click.ClickException):
    """A line on standard error and an exit status of our own."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]

    def show(self, file: Any = None) -> None:
        console.complain(self.message, console.ERROR)


def settings(given: CommandContext) -> config.Config:
    """The configuration that holds. Raises Refusal."""
    try:
        chosen = config_loader.load_config(given.config_file)
    except config.ConfigError as error:
        raise Refusal(str(error), ExitCode.USAGE) from None
    if not chosen.report.emoji:
        style.wish(emoji=False)
    return chosen


def make_context(chosen: config.Config) -> Context:
    """What the gate works with, for a command."""
    from miyabi_healing.gate.primitives.context import Context
    from miyabi_healing.host.readings import Host

    if note := paths.note_on_home():
        console.complain(note, console.NOTICE)
    return Context(Host(chosen), name_stamp(), paths.state_folder())


@contextlib.contextmanager
def writing(context: Context) -> Iterator[Journal]:
    """The journal, under the lock, after what a crash left half done was taken back. Raises
    Refusal.
    """
    from miyabi_healing.state.store import open_for_write

    with contextlib.ExitStack() as held:
        try:
            held.callback(run_lock.release, run_lock.acquire(context.state))
            keeper = open_for_write(context.state, console.complain, partial(_recover, context))
            held.callback(keeper.close)
            keeper.journal.keep_time()
        except run_lock.Busy as busy:
            raise Refusal(str(busy), ExitCode.BUSY) from None
        except Exception as error:
            # SQLite's, the system's, or a journal of a newer version: nothing was changed
            why = f"the state folder {display(context.state)} cannot be written: {error}"
            raise Refusal(why, ExitCode.UNKNOWN) from None
        yield keeper.journal


def _recover(context: Context, journal: Journal) -> None:
    from miyabi_healing.gate import recover

    for row, result in recover.recover(context, journal):
        console.complain(f"step {row.id} ({row.kind} {row.target}) was half done: {result}")


@contextlib.contextmanager
def reading(state: Path) -> Iterator[Journal | None]:
    """The journal, to look at only. Raises Refusal where it cannot be read, also while it is."""
    import sqlite3

    from miyabi_healing.state.journal import TooNew
    from miyabi_healing.state.store import open_read_only

    with contextlib.ExitStack() as held:
        try:
            journal = held.enter_context(open_read_only(state))
        except (OSError, TooNew) as error:
            raise Refusal(str(error), ExitCode.UNKNOWN) from None
        try:
            yield journal
        except sqlite3.Error as error:
            why = (
                f"the journal in {display(state)} cannot be read: {error}; the next run begins anew"
            )
            raise Refusal(why, ExitCode.UNKNOWN) from None
