"""``quarantine``: list what was set aside, or delete it for good."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from miyabi_healing.cli.common import (
    CommandContext,
    Duration,
    Refusal,
    as_json,
    dry_run,
    make_context,
    reading,
    settings,
    writing,
)
from miyabi_healing.model import config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.state import run_clock
from miyabi_healing.support import console, paths
from miyabi_healing.support.formatting import DAY, display, size_text, timestamp

if TYPE_CHECKING:
    from miyabi_healing.gate.batch import Work
    from miyabi_healing.gate.primitives.context import Context
    from miyabi_healing.model.actions import Outcome
    from miyabi_healing.state.journal import Journal
    from miyabi_healing.state.quarantine import QuarantineEntry
    from miyabi_healing.state.run_clock import Moment


@click.group()
def quarantine() -> None:
    """What was set aside: list it, or delete it for good."""


@quarantine.command("list")
@as_json
@click.pass_obj
def _list_quarantine(given: CommandContext, as_json: bool) -> None:
    """List what is in quarantine, the oldest first."""
    from miyabi_healing.state import quarantine as held

    chosen = settings(given)
    found = held.find_entries(paths.state_folder())
    for line in held.damage(paths.state_folder(), found):
        console.complain(line)
    with reading(paths.state_folder()) as journal:
        now = journal.now() if journal else run_clock.unknown_moment()
    if as_json or given.as_json:
        ends = [each.end_of(chosen.quarantine.days, now) for each in found]
        rows = [
            {
                "name": each.name,
                "kind": each.kind,
                "original": each.original,
                "bytes": each.bytes,
                "step": each.step,
                "since": timestamp(each.time),
                "until": timestamp(end),
                "until_by": run_clock.decided_by(by_runs),
                "thing": str(each.payload),
            }
            for each, (end, by_runs) in zip(found, ends, strict=True)
        ]
        click.echo(
            json.dumps({"things": rows, "bytes": sum(each.bytes for each in found)}, indent=2)
        )
        return
    for each in found:
        click.echo(_line_of(each, chosen.quarantine.days, now))
    total = size_text(sum(each.bytes for each in found))
    ways = "rollback RUN gives things back, quarantine purge deletes them"
    click.echo(f"{len(found)} thing(s), {total}; {ways}." if found else "The quarantine is empty.")


def _line_of(held: QuarantineEntry, days: float, now: Moment) -> str:
    if not held.manifest:
        return (
            f"{held.name}\n    {held.damage or 'it has no manifest'}; the thing "
            f"is {display(held.payload)}"
        )
    end, by_runs = held.end_of(days, now)
    only = " at the earliest (only time that runs see pass counts)" if by_runs else ""
    many = f"; {held.manifest['files']} logs of it" if "files" in held.manifest else ""
    return (
        f"{held.name}  {size_text(held.bytes)}, until {timestamp(end)}{only}\n    "
        f"{display(held.original)}{many}"
    )


@quarantine.command("purge")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--older-than", type=Duration(), metavar="DURATION", help="Everything that is older: 7d, 12h."
)
@click.option("--all", "everything", is_flag=True, help="Everything.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask on a terminal.")
@dry_run
@click.pass_obj
def _purge_quarantine(
    given: CommandContext,
    names: tuple[str, ...],
    older_than: float | None,
    everything: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    """Delete things from quarantine for good: those named (see quarantine list; a run's name means
    all of it).
    """
    from miyabi_healing.state import quarantine as held
    from miyabi_healing.state import retention

    if not (names or older_than is not None or everything):
        raise Refusal(
            "say what to purge: names from 'quarantine list', --older-than 7d, or --all",
            ExitCode.USAGE,
        )
    chosen = settings(given)
    context = make_context(chosen)
    there = [each for each in held.find_entries(context.state) if each.manifest]
    for name in names:
        if not any(name in (each.name, each.run) for each in there):
            raise Refusal(f"{name!r} is not in quarantine; see quarantine list", ExitCode.USAGE)
    with reading(context.state) as known:
        now = known.now() if known else run_clock.unknown_moment()
    days = math.inf if older_than is None else older_than / DAY
    found = [
        each
        for each in there
        if everything or each.is_older(days, now) or {each.name, each.run} & set(names)
    ]
    steps = [retention.purge(each, "asked for by hand") for each in found]
    if dry_run or given.dry_run:
        for each in found:
            click.echo(f"would purge {_line_of(each, chosen.quarantine.days, now)}")
        return
    if found and not yes and sys.stdin.isatty():
        question = (
            f"Delete {len(found)} thing(s), "
            f"{size_text(sum(each.bytes for each in found))}, for good?"
        )
        if not click.confirm(question):
            raise Refusal("nothing was purged", ExitCode.ISSUES)
    from miyabi_healing.gate import batch

    with writing(context) as journal:
        # what a crash left half done has been taken back or finished by now, and reported
        left = {each.folder for each in held.find_entries(context.state)}
        steps = [step for step in steps if step.folder in left]
        outcomes = [batch.one(step, _by_hand(chosen, context, journal)) for step in steps]
    _show_purged(outcomes)


def _by_hand(chosen: config.Config, context: Context, journal: Journal) -> Work:
    from miyabi_healing.gate.batch import Work
    from miyabi_healing.gate.policy import Policy, Spent

    policy = Policy(chosen, journal, Spent(chosen.budgets), state=context.state)
    return Work("by hand", None, config.HealerSettings(), context, journal, policy)


def _show_purged(outcomes: Sequence[Outcome]) -> None:
    from miyabi_healing.model.actions import StepStatus

    purged = [each for each in outcomes if each.status == StepStatus.APPLIED]
    for each in outcomes:
        if each.status != StepStatus.APPLIED:
            console.complain(f"{each.step.target}: {each.message}", console.ERROR)
    click.echo(
        f"Purged {len(purged)} thing(s), freed {size_text(sum(each.freed for each in purged))}."
    )
    sys.exit(ExitCode.HEALTHY if len(purged) == len(outcomes) else ExitCode.ISSUES)
