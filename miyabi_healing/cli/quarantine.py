"""``quarantine``: list what was set aside, or delete it for good."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
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
from miyabi_healing.support.formatting import DAY, size_text

if TYPE_CHECKING:
    from miyabi_healing.gate.batch import Work
    from miyabi_healing.gate.primitives.context import Context
    from miyabi_healing.model.actions import Outcome
    from miyabi_healing.state.journal import Journal
    from miyabi_healing.state.quarantine_things import QuarantinedThing

_NOTHING = "Nothing to purge."


@click.group()
def quarantine() -> None:
    """What was set aside: list it, or delete it for good."""


@quarantine.command("list")
@click.argument("names", nargs=-1, metavar="[RUN]...")
@click.option("-v", "--verbose", is_flag=True, help="Every thing by its name, and where it was.")
@as_json
@click.pass_obj
def _list_quarantine(
    given: CommandContext, names: tuple[str, ...], verbose: bool, as_json: bool
) -> None:
    """List what is in quarantine, the oldest first: a line for each run; of RUN, every thing."""
    from miyabi_healing.report import layout
    from miyabi_healing.report import quarantine as words
    from miyabi_healing.state import quarantine as held
    from miyabi_healing.state.quarantine_things import things

    chosen = settings(given)
    entries = held.find_entries(paths.state_folder())
    for line in held.damage(paths.state_folder(), entries):
        console.complain(line)
    found = _named(things(entries), names) if names else things(entries)
    with reading(paths.state_folder()) as journal:
        now = journal.now() if journal else run_clock.unknown_moment()
    document = words.build_quarantine(found, chosen.quarantine.days, now)
    if as_json or given.as_json:
        click.echo(json.dumps(document, indent=2))
        return
    width = layout.screen_width()
    if verbose or names:
        for line in words.thing_lines(found, chosen.quarantine.days, now, width):
            click.echo(line)
    for line in words.run_lines(document, width):
        click.echo(line)


def _named(there: list[QuarantinedThing], names: Sequence[str]) -> list[QuarantinedThing]:
    """The things that names stand for: a run's, as far as it is unmistakable, for all of it, and an
    entry's for the thing that it is a part of. Raises Refusal.
    """
    found: list[QuarantinedThing] = []
    runs = {each.run for each in there}
    for name in names:
        begun = [run for run in runs if run == name or run.startswith(f"{name}-")]
        run = name if name in runs else begun[0] if len(begun) == 1 else ""
        meant = [each for each in there if each.run == run or name in each.names]
        if not meant:
            raise Refusal(_not_there(name, there, begun), ExitCode.USAGE)
        found += [each for each in meant if each not in found]
    return [each for each in there if each in found]


def _not_there(name: str, there: list[QuarantinedThing], begun: list[str]) -> str:
    from miyabi_healing.support.near_matches import near_matches

    if len(begun) > 1:
        return f"{name!r} may be any of {', '.join(sorted(begun))}"
    near = near_matches(name, [*{each.run for each in there}, *(each.first.name for each in there)])
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{name!r} is not in quarantine; {hint}see quarantine list"


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
    all of it). What one step took goes together.
    """
    from miyabi_healing.report import layout
    from miyabi_healing.report import quarantine as words
    from miyabi_healing.state import quarantine as held
    from miyabi_healing.state.quarantine_things import things

    if not (names or older_than is not None or everything):
        raise Refusal(
            "say what to purge: names from 'quarantine list', --older-than 7d, or --all",
            ExitCode.USAGE,
        )
    chosen = settings(given)
    context = make_context(chosen)
    there = [each for each in things(held.find_entries(context.state)) if not each.damage]
    named = _named(there, names)
    with reading(context.state) as known:
        now = known.now() if known else run_clock.unknown_moment()
    days = math.inf if older_than is None else older_than / DAY
    found = [each for each in there if everything or each in named or each.is_older(days, now)]
    if dry_run or given.dry_run:
        width = layout.screen_width()
        click.echo(f"Would purge {len(found)} thing(s), {_size(found)}:" if found else _NOTHING)
        for line in words.thing_lines(found, chosen.quarantine.days, now, width):
            click.echo(line)
        return
    if found and not yes and sys.stdin.isatty():
        question = f"Delete {len(found)} thing(s), {_size(found)}, for good?"
        if not click.confirm(question):
            raise Refusal("nothing was purged", ExitCode.ISSUES)
    with writing(context) as journal:
        # what a crash left half done has been taken back or finished by now, and reported
        left = {each.folder for each in held.find_entries(context.state)}
        work = _by_hand(chosen, context, journal)
        outcomes = [_purge(each, left, work) for each in found]
    _show_purged([each for each in outcomes if each])


def _size(found: Sequence[QuarantinedThing]) -> str:
    return size_text(sum(each.bytes for each in found))


def _purge(thing: QuarantinedThing, left: set[Path], work: Work) -> list[Outcome]:
    """Delete all of one thing. Where one part of it stays, the rest stays with it: half of a
    worktree is of no use to anybody.
    """
    from miyabi_healing.gate import batch
    from miyabi_healing.model.actions import StepStatus
    from miyabi_healing.state import retention

    outcomes: list[Outcome] = []
    for each in thing.entries:
        if each.folder in left:
            with contextlib.suppress(FileNotFoundError):  # somebody else took it away
                outcomes.append(batch.one(retention.purge(each, "asked for by hand"), work))
                if outcomes[-1].status != StepStatus.APPLIED:
                    break
    return outcomes


def _by_hand(chosen: config.Config, context: Context, journal: Journal) -> Work:
    from miyabi_healing.gate.batch import Work
    from miyabi_healing.gate.policy import Policy, Spent

    policy = Policy(chosen, journal, Spent(chosen.budgets), state=context.state)
    return Work("by hand", None, config.HealerSettings(), context, journal, policy)


def _show_purged(outcomes: Sequence[Sequence[Outcome]]) -> None:
    from miyabi_healing.model.actions import StepStatus

    every = [each for thing in outcomes for each in thing]
    failed = [each for each in every if each.status != StepStatus.APPLIED]
    for each in failed:
        console.complain(f"{each.step.target}: {each.message}", console.ERROR)
    purged = [thing for thing in outcomes if not any(each in failed for each in thing)]
    freed = sum(each.freed for each in every if each not in failed)
    click.echo(f"Purged {len(purged)} thing(s), freed {size_text(freed)}.")
    sys.exit(ExitCode.ISSUES if failed else ExitCode.HEALTHY)
