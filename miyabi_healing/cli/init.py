"""``init``: write a configuration for this host."""

from __future__ import annotations

import os
import sys
import time
import tomllib
from pathlib import Path

import click

from miyabi_healing.cli.common import CommandContext, Refusal
from miyabi_healing.cli.setup import service_units
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.support import config_loader, console
from miyabi_healing.support.formatting import display


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="Where to write it; - prints it.  [default: where it is read from]",
)
@click.option(
    "--home",
    "homes",
    type=click.Path(),
    metavar="DIR",
    multiple=True,
    help="A home to look through.  [default: yours]",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask on a terminal.")
@click.pass_obj
def init(given: CommandContext, output: str | None, homes: tuple[str, ...], yes: bool) -> None:
    """Write a configuration for this host: what is found here, and everything else with its
    default.

    It looks for repositories, logs and known caches for a few seconds, and never overwrites a file.
    """
    from miyabi_healing.cli.setup import config_template, discovery
    from miyabi_healing.support import paths

    named = output or given.config_file or os.environ.get(config_loader.VARIABLE)
    printed = output == "-" or given.dry_run
    file = (
        Path(os.path.abspath(os.path.expanduser(named))) if named else paths.config_candidates()[0]
    )
    folders = [Path(os.path.abspath(os.path.expanduser(each))) for each in homes] or [Path.home()]
    for folder in folders:
        if not folder.is_dir():
            raise Refusal(f"--home {display(folder)}: no such folder", ExitCode.USAGE)
    if not printed:
        if os.path.lexists(file):
            raise Refusal(
                f"{display(file)} exists, and is never overwritten; --output names another",
                ExitCode.USAGE,
            )
        if (
            not yes
            and sys.stdin.isatty()
            and not click.confirm(f"Write {display(file)}?", default=True)
        ):
            raise Refusal("nothing was written", ExitCode.ISSUES)
    with console.progress_line(silent=False) as progress:
        found = discovery.search_homes(folders, progress=progress)
    text = config_template.render_config(found, os.uname().nodename, time.strftime("%Y-%m-%d"))
    config_loader.interpret(tomllib.loads(text), display(file))
    if printed:
        click.echo(text, nl=False)
        return
    _write_configuration(file, text)
    click.echo(
        f"Wrote {display(file)}: {config_template.findings_summary(found)}. "
        f"'{service_units.UNIT_NAME} --dry-run' shows what a run would do."
    )


def _write_configuration(file: Path, text: str) -> None:
    from miyabi_healing.support import atomic_write

    try:
        atomic_write.create(file, text.encode())
    except OSError as error:
        if isinstance(error, FileExistsError) and os.path.lexists(file):
            raise Refusal(
                f"{display(file)} exists by now, and is never overwritten", ExitCode.USAGE
            ) from None
        raise Refusal(
            f"{display(error.filename or file)}: {error.strerror}", ExitCode.ISSUES
        ) from None
