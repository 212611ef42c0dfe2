"""A coordinator on the command line: what it says while it works, and how the command ends."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import click

from miyabi_healing.cli.common import Refusal
from miyabi_healing.cli.fleet.report_file import ReportFile
from miyabi_healing.fleet import report
from miyabi_healing.fleet.store import FleetStore, StoreError
from miyabi_healing.fleet.telling import Teller
from miyabi_healing.fleet.worker import Worker, WorkerError
from miyabi_healing.model.config import Config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.rollout import Answer, RolloutState, Standing
from miyabi_healing.support import console, interrupts, paths
from miyabi_healing.support.formatting import display

_CLEAR = "\r\x1b[2K"  # of a terminal: the line that changes makes room


@dataclass(frozen=True)
class Command:
    """How one coordinator is to behave. `resume` is the command that goes on with the rollout,
    `options` those of its options that say how hosts and store are reached, and `where` the one of
    them that names the store.
    """

    resume: str
    options: str
    where: str
    wait: bool
    as_json: bool
    file: ReportFile

    def say(self, line: str, bad: bool = False) -> None:
        """On standard output; where a document is to be there, on standard error."""
        descriptor = console.STDERR if self.as_json else console.STDOUT
        stream = sys.stderr if self.as_json else sys.stdout
        words = display(line)
        if console.is_journal(descriptor):
            words = console.marked(words, console.WARNING if bad else console.INFO)
        elif stream.isatty() and sys.stderr.isatty():
            words = f"{_CLEAR}{words}"
        click.echo(words, err=self.as_json)


def lead(
    store: FleetStore, label: str, worker: Worker, command: Command, chosen: Config
) -> NoReturn:
    """Work on a rollout until it ends, and end as it did. Where a rule stops it, people are told.
    Raises Refusal, StoreError.
    """
    from miyabi_healing.fleet import coordinator
    from miyabi_healing.fleet.owner import new_owner

    rollout = store.rollout(label)
    assert rollout is not None
    if not store.shared:
        console.complain(
            "the store is a file here: if this coordinator dies, nobody takes over until somebody "
            "resumes; [fleet] store names a Postgres that several share",
            console.NOTICE,
        )
    try:
        with interrupts.in_order(), console.progress_line(silent=False) as progress:
            teller = Teller(rollout, command.say, progress)

            def told(answer: Answer) -> None:
                command.file.keep(answer)
                teller.hears(answer)

            def stopped() -> None:
                from miyabi_healing.fleet.notice import tell_stop

                reached = command.options, command.where
                tell_stop(store, label, chosen, paths.state_folder(), console.complain, reached)

            standing = coordinator.lead(
                store, label, worker, new_owner(), wait=command.wait, begun=teller.begins,
                told=told, waits=partial(teller.waits, rollout.lease), stopped=stopped,
                away=_say_away,
            )  # fmt: skip
            teller.ends()
    except interrupts.StopRequested as asked:
        console.complain(f"stopped by {asked}; to go on: {command.resume}", console.WARNING)
        sys.exit(128 + interrupts.received)
    except WorkerError as error:
        raise Refusal(f"{error}. To go on: {command.resume}", ExitCode.UNKNOWN) from None
    end(store, standing, command)


def _say_away(error: StoreError) -> None:
    console.complain(f"{error}; it is tried again, for some minutes", console.WARNING)


def end(store: FleetStore, standing: Standing, command: Command) -> NoReturn:
    """Show what came of a rollout, and end with its status."""
    command.file.finish(report.report_lines(store, standing))
    if command.as_json:
        for line in report.report_lines(store, standing):
            click.echo(line)
    else:
        from miyabi_healing.fleet.report_text import rollout_lines
        from miyabi_healing.report import style

        issues = report.issues_of(store, standing.label)
        head = report.head_of(standing, issues)
        for line in rollout_lines(
            store, head, issues, style.current(), command.options, command.where
        ):
            click.echo(line)
    running = standing.state is RolloutState.RUNNING
    sys.exit(ExitCode.BUSY if running else report.status_of(standing))
