"""``show``: the report of a past run, as it was."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import click

from miyabi_healing.cli.common import CommandContext, Refusal, as_json, reading, settings
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.support import paths
from miyabi_healing.support.formatting import display, minute_text, timestamp
from miyabi_healing.support.invocation import own_command

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import Document
    from miyabi_healing.state.journal import Journal

_LAST = "last"
_NAMED = 5  # runs that a beginning of several names may mean


@click.command()
@click.argument("run", default=_LAST, metavar="[RUN]")
@as_json
@click.pass_obj
def show(given: CommandContext, run: str, as_json: bool) -> None:
    """The report of a past run, as it was: of the last one, or of RUN.

    RUN is a run's name, the beginning of one that no other has, or last; history lists them.
    Dry runs are not on record.
    """
    from miyabi_healing.state import history

    settings(given)
    with reading(paths.state_folder()) as journal:
        document = _find(journal, run)
        undone = history.undone_of(journal, document["run_id"]) if journal else None
    if as_json or given.as_json:
        more = {"steps": undone[0], "last": timestamp(undone[1])} if undone else None
        click.echo(json.dumps({**document, "rolled_back": more}, indent=2))
        return
    from miyabi_healing.report import style, text

    look = replace(style.current(), dated=True)
    head = f"Run {document['run_id']}, as it was reported then."
    if undone:
        number, last = undone
        steps = "1 step of it was" if number == 1 else f"{number} steps of it were"
        head += f" Since then {steps} rolled back, the last at {minute_text(last)}."
    report = text.render_report(cast("Document", document), look.colour, style=look)
    words = f"{head}\n{report}"
    click.echo(words.encode(sys.stdout.encoding or "utf-8", "backslashreplace"), nl=False)


def _find(journal: Journal | None, run: str) -> dict[str, Any]:
    """The report that is asked for. Raises Refusal."""
    from miyabi_healing.state import history, reports

    if journal is None:
        raise Refusal("no run yet", ExitCode.USAGE)
    if run == _LAST:
        document = reports.latest(journal)
        if document is None:
            raise Refusal("no run yet", ExitCode.USAGE)
        return document
    found = [run] if run in (like := history.runs_like(journal, run)) else like
    if len(found) > 1:
        names = ", ".join(found[:_NAMED]) + (" …" if len(found) > _NAMED else "")
        raise Refusal(f"{len(found)} runs begin with {display(run)}: {names}", ExitCode.USAGE)
    document = reports.of_run(journal, found[0]) if found else None
    if document is None:
        steps = len(journal.steps(run))
        what = (
            f"run {display(run)} came to no report; the journal has {steps} step(s) of it"
            if steps
            else f"no run {display(run)!r} is on record"
        )
        raise Refusal(f"{what}; {own_command()} history lists the runs", ExitCode.USAGE)
    return document
