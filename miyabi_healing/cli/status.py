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
    it; what begins the next one.

    Exit status: 1 while something is wrong; 3 where that is not known, as no run was made yet, the
    last one is too old, could not check all, or was rolled back.
    """
    from miyabi_healing.cli.setup.installed import find_installed
    from miyabi_healing.report import layout, status

    chosen = settings(given)
    state = paths.state_folder()
    with reading(state) as journal:
        document = status.build_status(journal, state, chosen, find_installed())
    if as_json or given.as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        for line in layout.fitted(status.status_lines(document), layout.screen_width()):
            click.echo(line)
    if status.is_wrong(document):
        sys.exit(ExitCode.ISSUES)
    sys.exit(ExitCode.HEALTHY if status.is_known(document) else ExitCode.UNKNOWN)
