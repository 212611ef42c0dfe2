"""``rollback``: undo what a run did, or one step of it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from miyabi_healing.cli.common import (
    CommandContext,
    Refusal,
    as_json,
    dry_run,
    make_context,
    reading,
    settings,
    writing,
)
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.support import console

if TYPE_CHECKING:
    from miyabi_healing.gate.rollback import Undone


_NUMBERS = re.compile(r"([0-9]{1,15})(?:-([0-9]{1,15}))?")
_MOST_STEPS = 100_000  # in one range: no run has more
_STATUS_SIGNS = {"undone": "↩", "planned": "·", "refused": "✗", "impossible": "–", "nothing": "–"}


class StepNumbers(click.ParamType):  # type: ignore[type-arg]
    """``17``, ``1-19``, ``1-19,23``: the numbers of steps."""

    name = "steps"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        numbers: list[int] = []
        for part in str(value).split(","):
            found = _NUMBERS.fullmatch(part.strip())
            first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
            if not 0 <= last - first < _MOST_STEPS:
                self.fail(f"{part!r} is no step, as 17, or range of steps, as 1-19", param, ctx)
            numbers += range(first, last + 1)
        return tuple(numbers)


@click.command()
@click.argument("run_id", required=False)
@click.option(
    "--step", "steps", type=StepNumbers(), default=(), metavar="N[-M]",
    help="Undo these steps alone, as the report numbers them: 17, 1-19, or 1-19,23.",
)  # fmt: skip
@click.option(
    "--file", "files", multiple=True, metavar="PATH",
    help="Restore this one log, where many were archived together.",
)  # fmt: skip
@dry_run
@as_json
@click.pass_obj
def rollback(
    given: CommandContext,
    run_id: str | None,
    steps: tuple[int, ...],
    files: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Undo what the last run did, or the run or the steps that are named.

    What the world has moved on from is refused, with the reason. What was rolled back is left alone
    by the next runs.
    """
    if files and (run_id or steps):
        raise Refusal(
            "--file finds the run by itself: give neither RUN_ID nor --step", ExitCode.USAGE
        )
    chosen = settings(given)
    context = make_context(chosen)
    only_look = dry_run or given.dry_run
    from miyabi_healing.gate import restore_file
    from miyabi_healing.gate import rollback as undoing

    try:
        if only_look:
            with reading(context.state) as journal:
                results = (
                    restore_file.restore_all(files, context, journal, only_look=True)
                    if files
                    else undoing.describe_rollback(
                        undoing.choose(context.state, journal, run_id, steps), context
                    )
                )
        else:
            with writing(context) as journal:
                results = (
                    restore_file.restore_all(files, context, journal, only_look=False)
                    if files
                    else undoing.carry_out_rollback(
                        undoing.choose(context.state, journal, run_id, steps), context, journal
                    )
                )
    except undoing.Unknown as error:
        raise Refusal(str(error), ExitCode.USAGE) from None
    _name_damage(context.state)
    _show_rollback(
        results,
        only_look,
        as_json or given.as_json,
        0 if files else chosen.policy.respect_days,
        "log" if files else "step",
    )
    statuses = {each.status for each in results}
    all_done = "refused" not in statuses and statuses != {"impossible"}
    sys.exit(ExitCode.HEALTHY if all_done else ExitCode.ISSUES)


def _name_damage(state: Path) -> None:
    """Say on standard error what of the quarantine cannot be relied on."""
    from miyabi_healing.state import quarantine

    for line in quarantine.damage(state, quarantine.find_entries(state)):
        console.complain(line)


def _show_rollback(
    results: Sequence[Undone], only_look: bool, as_json: bool, respect_days: float, what: str
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
    for before, each in zip((None, *results), results, strict=False):
        if before is None or before.row.run != each.row.run:
            click.echo(f"Run {each.row.run}:")
        words = f"{each.row.kind} {each.row.target} (step {each.row.id}): {each.message}"
        _say(words, f"  {_STATUS_SIGNS[each.status]} ", "      ")
    _say(f"{done} of {len(results)} {what}(s) {'can be' if only_look else 'were'} undone.")
    if done and not only_look and respect_days:
        _say(f"The next runs leave what was rolled back alone for {respect_days:g} days.")


def _say(words: str, first: str = "", rest: str = "") -> None:
    from miyabi_healing.report import layout

    for line in layout.wrapped(words, layout.screen_width(), first, rest):
        click.echo(line)
