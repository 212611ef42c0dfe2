"""``doctor``: whether everything that the program rests on is there."""

from __future__ import annotations

import json
import sys

import click

from miyabi_healing.cli.common import CommandContext, as_json
from miyabi_healing.cli.setup import diagnosis
from miyabi_healing.cli.setup.diagnosis import Finding
from miyabi_healing.model.config import Config, ConfigError
from miyabi_healing.report import layout
from miyabi_healing.support import config_loader, console
from miyabi_healing.support.formatting import display

_WIDEST = len(diagnosis.WARNING)


@click.command()
@click.option("--alert", is_flag=True, help="Send a test message to whom alerts go.")
@as_json
@click.pass_obj
def doctor(given: CommandContext, alert: bool, as_json: bool) -> None:
    """Whether all is there that runs need: Python and tools, rights, state folder, journal,
    services, the last run, alerts. Each line is ok, a warning or a problem, with the way out.

    Changes nothing. Exit status: 1 where there is a problem.
    """
    chosen, broken = Config(), ""
    try:
        chosen = config_loader.load_config(given.config_file)
    except ConfigError as error:
        broken = str(error)
    with console.progress_line(silent=False) as progress:
        progress("looking")
        found = list(diagnosis.diagnose(chosen, broken))
        if alert and broken:
            words = "not sent, as the configuration cannot be read"
            found.append(Finding("test message", diagnosis.PROBLEM, words))
        elif alert:
            progress("sending a test message")
            found += diagnosis.send_test(chosen)
    if as_json or given.as_json:
        click.echo(json.dumps({"findings": [each.row() for each in found]}, indent=2))
    else:
        width = layout.screen_width()
        for each in found:
            for line in layout.wrapped(_words(each), width, rest=" " * (_WIDEST + 2)):
                click.echo(line)
        click.echo(_sum(found))
    sys.exit(diagnosis.exit_code(found))


def _words(each: Finding) -> str:
    way = f" -> {each.way_out}" if each.way_out else ""
    return f"{layout.padded(each.state, _WIDEST)}  {each.topic}: {display(each.message)}{way}"


def _sum(found: list[Finding]) -> str:
    problems = sum(each.state == diagnosis.PROBLEM for each in found)
    warnings = sum(each.state == diagnosis.WARNING for each in found)
    if problems:
        return f"{problems} problem(s), {warnings} warning(s)."
    return f"No problem, {warnings} warning(s)." if warnings else "All is well."
