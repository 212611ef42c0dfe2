"""``space``: what takes the space of a filesystem, or of a folder, the largest first."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import click

from miyabi_healing.cli.common import CommandContext, Refusal, as_json, settings
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.space import SpacePicture
from miyabi_healing.support import console, mount_answers
from miyabi_healing.support.formatting import display


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=str))
@click.option(
    "-n",
    "--number",
    type=click.IntRange(min=1, max=1000),
    default=10,
    show_default=True,
    metavar="ROWS",
    help="How many folders to name, at most.",
)
@click.option(
    "--files",
    "count_files",
    is_flag=True,
    help="The folders with the most files, as where inodes are short.",
)
@as_json
@click.pass_obj
def space(
    given: CommandContext, path: str | None, number: int, count_files: bool, as_json: bool
) -> None:
    """What takes the space: the largest folders and what each is, deleted files that are still
    open, snapshots, and what is in no folder.

    Of PATH on its filesystem, or of each filesystem, the fullest first. Ctrl-C shows what was seen
    until then. Changes nothing.
    """
    from miyabi_healing.host.space import picture
    from miyabi_healing.report import layout, style
    from miyabi_healing.report import space as words

    chosen = settings(given)
    places = [_named(path)] if path is not None else picture.real_filesystems(chosen)
    files = picture.open_files()
    found: list[SpacePicture] = []
    unknown: list[str] = []
    for place in places:
        try:
            # one at a time: no thread that shows it may be there when processes are started
            with console.progress_line(silent=False) as progress:
                found.append(
                    picture.whole_picture(
                        place, chosen, files, progress, count_files=count_files, most=number
                    )
                )
        except OSError as error:
            unknown.append(f"{display(place)}: {display(error.strerror or error)}")
            continue
        if found[-1].stopped == picture.INTERRUPTED:
            break
    document = words.build_space(found, unknown)
    if as_json or given.as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        colour = style.current().colour
        for line in words.space_lines(document, layout.screen_width()):
            click.echo(line, color=colour)
    sys.exit(_status(found, unknown, picture.INTERRUPTED))


def _named(path: str) -> str:
    """Raises Refusal where there is no such folder, or none that answers."""
    place = Path(os.path.abspath(os.path.expanduser(path)))
    if mount_answers.is_silent(place):
        raise Refusal(f"{display(place)} lies on a mount that does not answer", ExitCode.UNKNOWN)
    if not place.is_dir():
        raise Refusal(f"{display(place)}: no such folder", ExitCode.USAGE)
    return str(place)


def _status(found: list[SpacePicture], unknown: list[str], interrupted: str) -> int:
    if found and found[-1].stopped == interrupted:
        return 128 + signal.SIGINT
    if unknown or any(each.unread or each.stopped for each in found):
        return ExitCode.UNKNOWN
    return ExitCode.HEALTHY
