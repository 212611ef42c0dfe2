"""``fleet status``: how the fleet is, and what came of a rollout."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from miyabi_healing.cli.common import CommandContext, Duration, Refusal, as_json, settings
from miyabi_healing.cli.fleet.options import (
    STORE_FILE,
    next_options,
    opened_store,
    store_option,
    unknown_label,
)
from miyabi_healing.model.config import Config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.support import paths
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.fleet.status import FleetStatus
    from miyabi_healing.fleet.store import FleetStore

_SCHEMA_VERSION = 1  # of the document without LABEL
_MISSED = 2  # reports that a host may fail to send before it is silent


@click.command()
@click.argument("label", required=False)
@click.option(
    "--silent-after",
    type=Duration(),
    metavar="DURATION",
    help="From when on a host without a report is silent; by default twice [fleet] report_every.",
)
@click.option("--html", "file", metavar="FILE", help="Write a page for a browser, - for stdout.")
@store_option
@as_json
@click.pass_obj
def status(
    given: CommandContext,
    label: str | None,
    silent_after: float | None,
    file: str | None,
    store: str | None,
    as_json: bool,
) -> None:
    """How the fleet is: silent hosts first, then what is left on which hosts, what is blocked,
    versions, rollouts at work or stopped. With LABEL, what came of that rollout; with --json, a
    line for it and one for each host.

    Exit status: 0 all well and heard of; 1 issues remain; 3 hosts are silent or not known; 4 the
    rollout LABEL was stopped.
    """
    if label and (file or silent_after is not None):
        raise click.UsageError("--html and --silent-after are about the fleet, not about a rollout")
    if file and (as_json or given.as_json):
        raise click.UsageError("--html and --json go to different readers: ask for one of them")
    chosen = settings(given)
    options = next_options(chosen, store)
    with _store(chosen, store) as meeting:
        if label:
            code = _show_rollout(meeting, label, as_json or given.as_json, options)
        else:
            usual = _MISSED * chosen.fleet.report_every
            after = usual if silent_after is None else silent_after
            code = _show_fleet(meeting, after, file, as_json or given.as_json, options)
    sys.exit(code)


@contextlib.contextmanager
def _store(chosen: Config, named: str | None) -> Iterator[FleetStore]:
    """The store that is meant, which is not made by looking. Raises Refusal."""
    file = paths.state_folder() / STORE_FILE
    if not (named or chosen.fleet.store or file.exists()):
        why = f"there is no fleet here yet: no rollout was made, and {display(file)} is not there"
        raise Refusal(f"{why}; [fleet] store names a Postgres", ExitCode.UNKNOWN)
    with opened_store(chosen, named, lease=chosen.fleet.lease) as store:
        yield store


def _show_rollout(store: FleetStore, label: str, as_json: bool, options: tuple[str, str]) -> int:
    """The exit status. Raises Refusal, StoreError."""
    from miyabi_healing.fleet import report

    standing = store.standing(label)
    if standing is None:
        raise unknown_label(store, label)
    if as_json:
        for line in report.report_lines(store, standing):
            click.echo(line)
        return int(report.status_of(standing))
    from miyabi_healing.fleet.report_text import rollout_lines
    from miyabi_healing.report import style

    issues = report.issues_of(store, label)
    head = report.head_of(standing, issues)
    for line in rollout_lines(store, head, issues, style.current(), *options):
        click.echo(line)
    return int(head["exit_status"])


def _show_fleet(
    store: FleetStore, after: float, file: str | None, as_json: bool, options: tuple[str, str]
) -> int:
    """The exit status. Raises Refusal, StoreError."""
    from miyabi_healing.fleet import status, status_text
    from miyabi_healing.report import style

    found = status.read_status(store, after, None if as_json else status_text.NAMED)
    if as_json:
        document = {"schema_version": _SCHEMA_VERSION, **asdict(found)}
        click.echo(json.dumps({**document, "exit_status": found.exit_status}, indent=2))
    elif file:
        _write_page(found, file, options)
    else:
        for line in status_text.status_lines(found, style.current(), options):
            click.echo(line)
    return int(found.exit_status)


def _write_page(found: FleetStatus, file: str, options: tuple[str, str]) -> None:
    """Raises Refusal."""
    from miyabi_healing.fleet.page import page_of, render
    from miyabi_healing.report.page.making import CannotWrite, write_page

    words = render(page_of(found, options))
    if file == "-":
        click.echo(words.encode("utf-8", "backslashreplace"), nl=False)
        return
    path = Path(os.path.abspath(os.path.expanduser(file)))
    try:
        write_page(path, words)
    except CannotWrite as error:
        raise Refusal(str(error), ExitCode.UNKNOWN) from None
    click.echo(os.fsencode(path))
