"""``status``: what is wrong now, and what blocks healing."""

from __future__ import annotations

import json
import sys

import click

from miyabi_healing.cli.common import CommandContext, as_json, reading, settings
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.support import paths


@click.command()
@as_json
@click.pass_obj
def status(given: CommandContext, as_json: bool) -> None:
    """What is wrong now, what blocks healing, and what is in quarantine, as the last run left
    it.
    """
    from miyabi_healing.report import status

    chosen = settings(given)
    state = paths.state_folder()
    with reading(state) as journal:
        document = status.build_status(journal, state, chosen)
    if as_json or given.as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        for line in status.status_lines(document):
            click.echo(line)
    if document["issues"]:
        sys.exit(ExitCode.ISSUES)
    sys.exit(
        ExitCode.UNKNOWN if document["unknown"] or document["rolled_back"] else ExitCode.HEALTHY
    )
