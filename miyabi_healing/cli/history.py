"""``history``: earlier runs, or the course of one check."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from miyabi_healing.cli.common import CommandContext, Duration, Refusal, as_json, reading, settings
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.support import config_loader, paths
from miyabi_healing.support.formatting import plain_number, size_text, time_text, timestamp

_since = click.option(
    "--since",
    type=Duration(),
    default="30d",
    show_default=True,
    metavar="DURATION",
    help="How far back.",
)


@click.command()
@click.option("--issue", metavar="NAME", help="The course of one check, instead of whole runs.")
@_since
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
def history(
    given: CommandContext, issue: str | None, since: float, limit: int, as_json: bool
) -> None:
    """What the last runs found and did."""
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
        click.echo(
            json.dumps([{**row, "ended": timestamp(row["ended"])} for row in rows], indent=2)
        )
        return
    from miyabi_healing.report import layout

    lines = (_course_line(row) if issue else pass_line(row) for row in rows)
    for line in layout.fitted(lines, layout.screen_width()):
        click.echo(line)
    if not rows:
        click.echo("No run yet." if issue is None else "It was not measured in that time.")


def pass_line(row: dict[str, Any]) -> str:
    bad = row["unknown"] or row["killed"] or row["healed"] < row["found"] or not row["checks"]
    sign = "↩" if row["rolled_back"] else "❌" if bad else "✅"
    what = f"{row['found']} issue(s), {row['healed'] - row['gone']} healed"
    if not row["found"]:
        what = "no issue found" if bad else "healthy"
    if not row["checks"]:
        what = "no check ran"
    what += f", {row['gone']} went away without help" if row["gone"] else ""
    if row["killed"]:
        what += f", {row['killed']} process(es) ended by the kernel for want of memory"
    undone = f", {row['rolled_back']} step(s) rolled back" if row["rolled_back"] else ""
    unknown = f", {row['unknown']} check(s) could not run" if row["unknown"] else ""
    part = f", {row['checks']} check(s) only" if row["left_out"] else ""
    freed = f", freed {size_text(row['freed'])}" if row["freed"] else ""
    when = time_text(timestamp(row["ended"]))
    return f"{when} {sign} {what}{part}{undone}{unknown}{freed}  ({row['run']})"


def _course_line(row: dict[str, Any]) -> str:
    when, limit = time_text(timestamp(row["ended"])), plain_number(row["threshold"])
    value = "unknown" if row["value"] is None else plain_number(row["value"])
    after = f" → {plain_number(row['after'])}" if row["after"] is not None else ""
    unit = f" {row['unit']}" if row["unit"] else ""
    actions = f"  ({row['actions']})" if row["actions"] else ""
    where = f" {row['target']}" if row["target"] else ""
    return f"{when} {value}{after} of {limit}{unit} {row['outcome']}{where}{actions}"
