"""``learning``: what the repairs of each healer came to, and letting go of that."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
from miyabi_healing.report import layout
from miyabi_healing.support import paths
from miyabi_healing.support.formatting import display, timestamp

if TYPE_CHECKING:
    from miyabi_healing.state.attempts import Known


@click.group()
def learning() -> None:
    """What repairs came to: by it, healers of one check are tried in another order.

    Only neighbours of one class of risk change places, and only where it is clear which is better.
    """


@learning.command("show")
@as_json
@click.pass_obj
def _show(given: CommandContext, as_json: bool) -> None:
    """How often each healer healed, and for how long. Changes nothing."""
    from miyabi_healing.state import attempts

    chosen = settings(given)
    with reading(paths.state_folder()) as journal:
        known = attempts.read_all(journal) if journal else []
    if as_json or given.as_json:
        click.echo(
            json.dumps(
                {"enabled": chosen.learning.enabled, "repairs": [_row(each) for each in known]},
                indent=2,
            )
        )
        return
    lines = [*_lines(known)] or [
        "Nothing yet: no healer has tried to repair an issue. Early repairs do not count."
    ]
    if not chosen.learning.enabled:
        lines.append("Switched off ([learning] enabled = false): healers go as documented.")
    for each in lines:
        for line in layout.wrapped(each, layout.screen_width(), rest="    "):
            click.echo(line)


def _lines(known: list[Known]) -> Iterator[str]:
    from miyabi_healing.report.learned_text import effort_text, lasts_text, worth_text

    head = None
    for each in known:
        if (each.issue, each.target) != head:
            head = each.issue, each.target
            yield f"{each.issue} on {each.target}" if each.target else each.issue
        facts = [worth_text(each.sums)]
        if each.sums.lasts is not None:
            facts.append(f"lasts {lasts_text(each.sums)}")
        facts.append(f"takes {effort_text(each.sums)}")
        if each.sums.undone:
            facts.append(f"rolled back {each.sums.undone} time(s)")
        yield f"  {each.sums.healer}: {', '.join(facts)}"


def _row(known: Known) -> dict[str, Any]:
    sums = known.sums
    return {
        "issue": known.issue,
        "target": known.target,
        "healer": sums.healer,
        "options": known.options,
        "risk": sums.risk.name.lower() if sums.risk else "",
        "tries": sums.count,
        "healed": round(sums.gains, 3),
        "lasts_seconds": None if sums.lasts is None else round(sums.lasts, 1),
        "relapses": round(sums.relapses, 3),
        "seconds": round(sums.effort, 3),
        "rolled_back": sums.undone,
        "holds": sums.since is not None,
        "last": {
            "time": timestamp(known.last),
            "outcome": known.outcome,
            "position": known.position,
            "before": known.before,
            "after": known.after,
        },
    }


@learning.command("forget")
@click.argument("check", required=False)
@dry_run
@click.pass_obj
def _forget(given: CommandContext, check: str | None, dry_run: bool) -> None:
    """Let go of what was learned about one check, or all: its healers go as documented again.

    History, journal and quarantine stay as they are.
    """
    from miyabi_healing.state import attempts
    from miyabi_healing.support.near_matches import did_you_mean

    chosen = settings(given)
    word = check.removeprefix("test_") if check else None
    with reading(paths.state_folder()) as journal:
        known = {each.issue for each in attempts.read_all(journal)} if journal else set()
    if word is not None and word not in known:
        near = f"; {did_you_mean(word, known)}" if known else ""
        raise Refusal(f"nothing was learned about {display(word)!r}{near}", ExitCode.USAGE)
    which = sorted(known) if word is None else [word]
    if not which:
        click.echo("Nothing was learned yet.")
        return
    if not (dry_run or given.dry_run):
        with writing(make_context(chosen)) as journal:
            attempts.forget(journal, word)
    said = "Would forget" if dry_run or given.dry_run else "Forgot"
    for line in layout.wrapped(
        f"{said} what repairs came to: {', '.join(which)}.", layout.screen_width(), rest="  "
    ):
        click.echo(line)
