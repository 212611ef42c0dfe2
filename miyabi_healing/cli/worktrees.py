"""``worktrees``: all linked worktrees, what becomes of each and why, and what they take."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from miyabi_healing.cli.common import CommandContext, Refusal, as_json, settings
from miyabi_healing.model.config import Config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.support import console
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.host.git.repositories import Repository


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=str))
@click.option(
    "-d",
    "--idle",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Days without use after which one may go; by default as configured.",
)
@as_json
@click.pass_obj
def worktrees(
    given: CommandContext, paths: tuple[str, ...], idle: float | None, as_json: bool
) -> None:
    """All linked worktrees: whether each may go and why, when it was last used, and what it takes;
    and what worktrees left behind.

    Of the repositories that are looked after, or of those that each PATH is in. Changes nothing.
    """
    from miyabi_healing.cli.our_healers import options_of
    from miyabi_healing.host.git.worktree_survey import survey
    from miyabi_healing.host.git.worktrees import Waits
    from miyabi_healing.report import layout, style, worktrees

    chosen = settings(given)
    options = options_of(chosen, "cleanup_worktrees")
    waits = Waits(options.idle_days if idle is None else idle, options.prune_days)
    unknown: list[str] = []
    places = _named(paths) if paths else _looked_after(chosen)
    with console.progress_line(silent=False) as progress:
        repositories = list(_opened(places, chosen, unknown))
        document = worktrees.build_worktrees(survey(repositories, waits, unknown, progress))
    if as_json or given.as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        colour = style.current().colour
        for line in worktrees.worktrees_lines(document, layout.screen_width()):
            click.echo(line, color=colour)
    sys.exit(ExitCode.UNKNOWN if document["unknown"] else ExitCode.HEALTHY)


def _named(paths: tuple[str, ...]) -> list[str]:
    """The repositories that paths lie in. Raises Refusal where one lies in none."""
    from miyabi_healing.host.git.repository_paths import repository_around

    found: list[str] = []
    for each in paths:
        here = Path(os.path.abspath(os.path.expanduser(each)))
        around = repository_around(here)
        if not around.paths:
            raise Refusal(
                next(iter(around.notes), f"{display(each)} is in no git repository"), ExitCode.USAGE
            )
        found += around.paths
    return found


def _looked_after(chosen: Config) -> list[str]:
    """Those of the configuration, or the one around the current folder. Raises Refusal where there
    is none.
    """
    from miyabi_healing.host.git.repository_paths import configured

    found = configured(chosen)
    for note in found.notes if found.paths else ():
        console.complain(note)
    if not found.paths:
        why = "; ".join(found.notes) or "no repository is looked after"
        raise Refusal(f"{why}; or name a PATH in one", ExitCode.USAGE)
    return list(found.paths)


def _opened(places: list[str], chosen: Config, unknown: list[str]) -> Iterator[Repository]:
    """Each repository once; why one cannot be looked at is added to `unknown`."""
    from miyabi_healing.host.git.repositories import NoRepository, open_repository

    seen: set[Path] = set()
    for place in places:
        try:
            repository = open_repository(place, chosen)
        except (NoRepository, OSError) as error:
            unknown.append(display(error))
            continue
        if repository.common not in seen:
            seen.add(repository.common)
            yield repository
