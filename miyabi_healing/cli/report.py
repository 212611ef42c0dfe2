"""``report``: the page of what was found, done and kept, and where the last one is."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import click

from miyabi_healing.cli.common import CommandContext, Refusal, as_json, settings
from miyabi_healing.model.config import Config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.support import paths
from miyabi_healing.support.formatting import timestamp
from miyabi_healing.support.invocation import own_command

_USUAL = "-usual-"  # no FILE was given


@click.command()
@click.option(
    "--html",
    "file",
    is_flag=False,
    flag_value=_USUAL,
    metavar="[FILE]",
    help="Make the page, in FILE, - for standard output; without FILE in the state folder.",
)
@as_json
@click.pass_obj
def report(given: CommandContext, file: str | None, as_json: bool) -> None:
    """A page for a browser, or where the last one is. With --html, make one: how the host stands,
    the course of every value, what was done, kept and set aside.

    One file for any browser, without scripts; it loads nothing. A run makes it where [report] html
    names a file. Changes nothing else.
    """
    chosen = settings(given)
    path = _last_page(chosen) if file is None else _make(file, chosen)
    if path is None:
        return
    if as_json or given.as_json:
        made = timestamp(path.stat().st_mtime)
        click.echo(json.dumps({"html": str(path), "made": made}, indent=2))
    else:
        click.echo(os.fsencode(path))


def _last_page(chosen: Config) -> Path:
    """The newest page in its usual places. Raises Refusal where there is none."""
    from miyabi_healing.report.page import places

    found = places.newest(places.usual(paths.state_folder()), chosen.report.html)
    if found is None:
        way = f"{own_command()} report --html makes one, [report] html after every run"
        raise Refusal(f"there is no page yet: {way}", ExitCode.USAGE)
    return found


def _make(file: str, chosen: Config) -> Path | None:
    """The page's file; None where it went to standard output. Raises Refusal."""
    from miyabi_healing.cli.setup.installed import find_installed
    from miyabi_healing.report.page import making, places
    from miyabi_healing.state.journal import TooNew

    state = paths.state_folder()
    usual = file == _USUAL
    path = places.usual(state) if usual else Path(os.path.abspath(os.path.expanduser(file)))
    try:
        page = making.make_page(state, chosen, services=find_installed())
        if file == "-":
            click.echo(page.encode("utf-8", "backslashreplace"), nl=False)
            return None
        making.write_page(path, page, private=usual)
    except (making.CannotWrite, OSError, TooNew, sqlite3.Error) as error:
        raise Refusal(str(error), ExitCode.UNKNOWN) from None
    return path
