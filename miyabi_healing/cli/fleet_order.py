"""``--fleet-run`` and ``--fleet-token``: a run that a fleet's coordinator has asked for."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from miyabi_healing.model.fleet import FleetOrder

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import Document


def read_order(label: str | None, token: int | None) -> FleetOrder:
    """Raises click.UsageError."""
    try:
        return FleetOrder(label or "", token)
    except ValueError as error:
        raise click.UsageError(f"--fleet-run, --fleet-token: {error}") from None


def show_again(document: Document, *, as_json: bool, quiet: bool) -> None:
    """Print the report of a run that was made before."""
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    if quiet and document["overall_success"]:
        return
    from dataclasses import replace

    from miyabi_healing.report import style, text

    look = replace(style.current(), dated=True)
    head = (
        f"{document['fleet']['run']} was finished before, by the run {document['run_id']}. "
        "Nothing was done now; this is its report."
    )
    words = f"{head}\n{text.render_report(document, look.colour, style=look)}"
    click.echo(words.encode(sys.stdout.encoding or "utf-8", "backslashreplace"), nl=False)
