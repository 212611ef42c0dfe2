"""The subcommands: undoing, the quarantine, pausing, and looking back."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from miyabi_healing.model import config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.state import run_clock, run_lock
from miyabi_healing.support import config_loader, console, paths
from miyabi_healing.support.formatting import display, plain, size_text

if TYPE_CHECKING:
    from miyabi_healing.gate.execute import Work
    from miyabi_healing.gate.primitives.context import Context
    from miyabi_healing.gate.rollback import Undone
    from miyabi_healing.model.results import Outcome
    from miyabi_healing.state.journal import Journal
    from miyabi_healing.state.quarantine import Held
    from miyabi_healing.state.run_clock import Moment

SIGNS = {"undone": "↩", "planned": "·", "refused": "✗", "impossible": "–", "nothing": "–"}
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
as_json = click.option("-j", "--json", "as_json", is_flag=True, help="Print one JSON document.")
dry_run = click.option(
    "-d", "--dry-run", is_flag=True, help="Show what would be done; change nothing."
)


@dataclass(frozen=True)
class Given:
    """What was given on the command line before the subcommand."""

    config_file: str | None
    dry_run: bool
    as_json: bool


class Duration(click.ParamType):  # type: ignore[type-arg]
    """``90s``, ``30m``, ``2h``, ``1d``, ``1h30m``: in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)", str(value))
        if not parts or re.sub(r"[\d.]+\s*(s|min|m|h|d|w)\s*", "", str(value)):
            self.fail(f"{value!r} is no duration; write 30m, 2h, 1d or 1h30m", param, ctx)
        return sum(float(number) * UNITS[unit] for number, unit in parts)


class Refusal(click.ClickException):
    """A line on standard error and an exit status of our own."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]

    def show(self, file: Any = None) -> None:
        console.complain(self.message, console.ERROR)


def settings(given: Given) -> config.Config:
    try:
        return config_loader.load(given.config_file)
    except config.ConfigError as error:
        raise Refusal(str(error), ExitCode.USAGE) from None


def make_context(chosen: config.Config) -> Context:
    from miyabi_healing.gate import execute, recover  # noqa: F401  every kind of entry registers its way back
    from miyabi_healing.gate.primitives.context import Context
    from miyabi_healing.host.readings import Host

    if note := paths.note_on_home():
        console.complain(note, console.NOTICE)
    return Context(Host(chosen), paths.new_run_id(), paths.state_folder())


@contextlib.contextmanager
def writing(context: Context) -> Iterator[Journal]:
    """The journal, under the lock, after what a crash left half done was taken back. Raises
    Refusal.
    """
    with contextlib.ExitStack() as held:
        try:
            held.callback(run_lock.release, run_lock.acquire(context.state))
            journal = open_journal(context, held)
        except run_lock.Busy as busy:
            raise Refusal(str(busy), ExitCode.BUSY) from None
        except Exception as error:
            # SQLite's, the system's, or a journal of a newer version: nothing was changed
            why = f"the state folder {display(context.state)} cannot be written: {error}"
            raise Refusal(why, ExitCode.UNKNOWN) from None
        yield journal


def open_journal(context: Context, held: contextlib.ExitStack) -> Journal:
    from miyabi_healing.gate import recover
    from miyabi_healing.state.store import Keeper

    keeper = Keeper(context.state, console.complain)
    held.callback(keeper.close)
    keeper.journal.keep_time()
    for row, result in recover.recover(context, keeper.journal):
        console.complain(f"step {row.id} ({row.kind} {row.target}) was half done: {result}")
    return keeper.journal


@contextlib.contextmanager
def reading(state: Path) -> Iterator[Journal | None]:
    """The journal, to look at only. Raises Refusal where it cannot be read."""
    from miyabi_healing.state.journal import TooNew
    from miyabi_healing.state.store import looking

    with contextlib.ExitStack() as held:
        try:
            journal = held.enter_context(looking(state))
        except (OSError, TooNew) as error:
            raise Refusal(str(error), ExitCode.UNKNOWN) from None
        yield journal


@click.command()
@click.argument("run_id", required=False)
@click.option("--step", type=int, metavar="N", help="Undo this one step: its number in the report.")
@dry_run
@as_json
@click.pass_obj
def rollback(
    given: Given, run_id: str | None, step: int | None, dry_run: bool, as_json: bool
) -> None:
    """Undo what the last run did, or the run or the step that is named.

    What the world has moved on from is refused, with the reason. What was rolled back is left alone
    by the next passes.
    """
    chosen = settings(given)
    context = make_context(chosen)
    only_look = dry_run or given.dry_run
    from miyabi_healing.gate import rollback as undoing

    try:
        if only_look:
            with reading(context.state) as journal:
                rows = undoing.choose(context.state, journal, run_id, step)
                results = undoing.look(rows, context)
        else:
            with writing(context) as journal:
                rows = undoing.choose(context.state, journal, run_id, step)
                results = undoing.carry_out(rows, context, journal)
    except undoing.Unknown as error:
        raise Refusal(str(error), ExitCode.USAGE) from None
    name_damage(context.state)
    show_rollback(results, only_look, as_json or given.as_json, chosen.brakes.respect_days)
    statuses = {each.status for each in results}
    all_done = "refused" not in statuses and statuses != {"impossible"}
    sys.exit(ExitCode.HEALTHY if all_done else ExitCode.ISSUES)


def name_damage(state: Path) -> None:
    """Say on standard error what of the quarantine cannot be relied on."""
    from miyabi_healing.state import quarantine

    for line in quarantine.damage(state, quarantine.find(state)):
        console.complain(line)


def show_rollback(
    results: Sequence[Undone], only_look: bool, as_json: bool, respect_days: float
) -> None:
    done = sum(each.status in ("undone", "planned") for each in results)
    if as_json:
        rows = [
            {
                "number": each.row.id,
                "run_id": each.row.run,
                "kind": each.row.kind,
                "target": each.row.target,
                "status": each.status,
                "message": each.message,
            }
            for each in results
        ]
        click.echo(json.dumps({"dry_run": only_look, "steps": rows}, indent=2))
        return
    click.echo(f"Run {results[0].row.run}:")
    for each in results:
        click.echo(
            f"  {SIGNS[each.status]} {each.row.kind} {each.row.target} (step {each.row.id}): {each.message}"
        )
    click.echo(f"{done} of {len(results)} step(s) {'can be' if only_look else 'were'} undone.")
    if done and not only_look and respect_days:
        click.echo(f"The next passes leave what was rolled back alone for {respect_days:g} days.")


@click.group()
def quarantine() -> None:
    """What was set aside: list it, or delete it for good."""


@quarantine.command("list")
@as_json
@click.pass_obj
def list_quarantine(given: Given, as_json: bool) -> None:
    """List what is in quarantine, the oldest first."""
    from miyabi_healing.state import quarantine as held

    chosen = settings(given)
    found = held.find(paths.state_folder())
    for line in held.damage(paths.state_folder(), found):
        console.complain(line)
    with reading(paths.state_folder()) as journal:
        now = journal.now() if journal else run_clock.unknown()
    if as_json or given.as_json:
        ends = [each.end_of(chosen.quarantine.days, now) for each in found]
        rows = [
            {
                "name": each.name,
                "kind": each.kind,
                "original": each.original,
                "bytes": each.bytes,
                "step": each.step,
                "since": moment(each.time),
                "until": moment(end),
                "until_by": run_clock.decided_by(by_runs),
                "thing": str(each.thing),
            }
            for each, (end, by_runs) in zip(found, ends, strict=True)
        ]
        click.echo(
            json.dumps({"things": rows, "bytes": sum(each.bytes for each in found)}, indent=2)
        )
        return
    for each in found:
        click.echo(line_of(each, chosen.quarantine.days, now))
    total = size_text(sum(each.bytes for each in found))
    ways = "rollback RUN gives things back, quarantine purge deletes them"
    click.echo(f"{len(found)} thing(s), {total}; {ways}." if found else "The quarantine is empty.")


def line_of(held: Held, days: float, now: Moment) -> str:
    if not held.facts:
        return f"{held.name}\n    {held.damage or 'it has no manifest'}; the thing is {display(held.thing)}"
    end, by_runs = held.end_of(days, now)
    only = " at the earliest (only time that runs see pass counts)" if by_runs else ""
    return f"{held.name}  {size_text(held.bytes)}, until {moment(end)}{only}\n    {display(held.original)}"


def moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))


@quarantine.command("purge")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--older-than", type=Duration(), metavar="DURATION", help="Everything that is older: 7d, 12h."
)
@click.option("--all", "everything", is_flag=True, help="Everything.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask on a terminal.")
@dry_run
@click.pass_obj
def purge_quarantine(
    given: Given,
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
    there = [each for each in held.find(context.state) if each.facts]
    for name in names:
        if not any(name in (each.name, each.run) for each in there):
            raise Refusal(f"{name!r} is not in quarantine; see quarantine list", ExitCode.USAGE)
    with reading(context.state) as known:
        now = known.now() if known else run_clock.unknown()
    days = math.inf if older_than is None else older_than / run_clock.DAY
    found = [
        each
        for each in there
        if everything or each.is_older(days, now) or {each.name, each.run} & set(names)
    ]
    steps = [retention.purge(each, "asked for by hand") for each in found]
    if dry_run or given.dry_run:
        for each in found:
            click.echo(f"would purge {line_of(each, chosen.quarantine.days, now)}")
        return
    if found and not yes and sys.stdin.isatty():
        question = f"Delete {len(found)} thing(s), {size_text(sum(each.bytes for each in found))}, for good?"
        if not click.confirm(question):
            raise Refusal("nothing was purged", ExitCode.ISSUES)
    with writing(context) as journal:
        from miyabi_healing.gate import execute

        outcomes = [execute.one(step, by_hand(chosen, context, journal)) for step in steps]
    show_purged(outcomes)


def by_hand(chosen: config.Config, context: Context, journal: Journal) -> Work:
    from miyabi_healing.gate import execute
    from miyabi_healing.gate.policy import Brakes, Spent

    brakes = Brakes(chosen, journal, Spent(chosen.budgets), state=context.state)
    return execute.Work("by hand", None, config.HealerSettings(), context, journal, brakes)


def show_purged(outcomes: Sequence[Outcome]) -> None:
    purged = [each for each in outcomes if each.status == "applied"]
    for each in outcomes:
        if each.status != "applied":
            console.complain(f"{each.step.target}: {each.message}", console.ERROR)
    click.echo(
        f"Purged {len(purged)} thing(s), freed {size_text(sum(each.freed for each in purged))}."
    )
    sys.exit(ExitCode.HEALTHY if len(purged) == len(outcomes) else ExitCode.ISSUES)


@click.command()
@click.option(
    "--for",
    "seconds",
    type=Duration(),
    required=True,
    metavar="DURATION",
    help="How long: 30m, 2h, 1d.",
)
@click.option("--reason", required=True, help="Why; every report shows it.")
@click.pass_obj
def pause(given: Given, seconds: float, reason: str) -> None:
    """Let healing rest for a while. Checks go on, and say what they find."""
    if not reason.strip() or seconds <= 0:
        raise Refusal("a pause needs a reason, and an end in the future", ExitCode.USAGE)
    until = time.time() + seconds
    with writing(make_context(settings(given))) as journal:
        import getpass

        journal.pause(
            until, " ".join(reason.split()), os.environ.get("SUDO_USER") or getpass.getuser()
        )
    click.echo(
        f"Healing is paused until {moment(until).replace('T', ' ')}. miyabi-healing resume ends it earlier."
    )


@click.command()
@click.pass_obj
def resume(given: Given) -> None:
    """End every pause."""
    with writing(make_context(settings(given))) as journal:
        ended = journal.resume()
    click.echo("Healing goes on." if ended else "Healing was not paused.")


since = click.option(
    "--since",
    type=Duration(),
    default="30d",
    show_default=True,
    metavar="DURATION",
    help="How far back.",
)


@click.command()
@click.option("--issue", metavar="NAME", help="The course of one check, instead of whole passes.")
@since
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="How many, the newest.",
)
@as_json
@click.pass_obj
def history(given: Given, issue: str | None, since: float, limit: int, as_json: bool) -> None:
    """What the last passes found and did."""
    from miyabi_healing.state import history as kept

    settings(given)
    with reading(paths.state_folder()) as journal:
        if journal is None or journal.version < 3:
            rows: list[dict[str, Any]] = []
        elif issue is not None:
            if issue not in (known := kept.names(journal)):
                raise Refusal(
                    f"no check {issue!r} was ever measured; {config_loader.nearest(issue, known)}",
                    ExitCode.USAGE,
                )
            rows = kept.course(journal, issue, time.time() - since, limit)
        else:
            rows = kept.passes(journal, time.time() - since, limit)
    if as_json or given.as_json:
        click.echo(json.dumps([{**row, "ended": moment(row["ended"])} for row in rows], indent=2))
        return
    for row in rows:
        click.echo(course_line(row) if issue else pass_line(row))
    if not rows:
        click.echo(
            "Nothing is remembered yet." if issue is None else "It was not measured in that time."
        )


def pass_line(row: dict[str, Any]) -> str:
    sign = "❌" if row["unknown"] or row["healed"] < row["found"] else "✅"
    what = f"{row['found']} issue(s), {row['healed']} healed" if row["found"] else "healthy"
    unknown = f", {row['unknown']} check(s) could not run" if row["unknown"] else ""
    freed = f", freed {size_text(row['freed'])}" if row["freed"] else ""
    return f"{moment(row['ended']).replace('T', ' ')} {sign} {what}{unknown}{freed}  ({row['run']})"


def course_line(row: dict[str, Any]) -> str:
    when, limit = moment(row["ended"]).replace("T", " "), plain(row["threshold"])
    value = "unknown" if row["value"] is None else plain(row["value"])
    after = f" → {plain(row['after'])}" if row["after"] is not None else ""
    unit = f" {row['unit']}" if row["unit"] else ""
    actions = f"  ({row['actions']})" if row["actions"] else ""
    where = f" {row['target']}" if row["target"] else ""
    return f"{when} {value}{after} of {limit}{unit} {row['outcome']}{where}{actions}"


@click.command()
@as_json
@click.pass_obj
def status(given: Given, as_json: bool) -> None:
    """What is wrong now, what holds healing back, and what is in quarantine, as the last pass left
    it.
    """
    from miyabi_healing.report import status

    chosen = settings(given)
    state = paths.state_folder()
    with reading(state) as journal:
        document = status.build(journal, state, chosen)
    if as_json or given.as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        for line in status.lines(document):
            click.echo(line)
    sys.exit(ExitCode.ISSUES if document["issues"] or document["unknown"] else ExitCode.HEALTHY)
