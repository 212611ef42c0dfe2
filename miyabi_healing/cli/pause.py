"""``pause`` and ``resume``: let healing rest for a while, and end that."""

from __future__ import annotations

import os
import time

import click

from miyabi_healing.cli.common import (
    CommandContext,
    Duration,
    Refusal,
    make_context,
    settings,
    writing,
)
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.report import layout
from miyabi_healing.support.formatting import time_text, timestamp
from miyabi_healing.support.invocation import own_command


@click.command()
@click.option(
    "--for",
    "seconds",
    type=Duration(),
    required=True,
    metavar="DURATION",
    help="How long: 30m, 2h, 1d.",
)
@click.option("--reason", required=True, help="Why; every report shows it.")
@click.pass_obj
def pause(given: CommandContext, seconds: float, reason: str) -> None:
    """Let healing rest for a while. Checks go on, and say what they find."""
    if not reason.strip() or seconds <= 0:
        raise Refusal("a pause needs a reason, and an end in the future", ExitCode.USAGE)
    until = time.time() + seconds
    with writing(make_context(settings(given))) as journal:
        import getpass

        journal.pause(
            until, " ".join(reason.split()), os.environ.get("SUDO_USER") or getpass.getuser()
        )
    words = (
        f"Healing is paused until {time_text(timestamp(until))}. "
        f"{own_command()} resume ends it earlier."
    )
    for line in layout.wrapped(words, layout.screen_width(), rest="  "):
        click.echo(line)


@click.command()
@click.pass_obj
def resume(given: CommandContext) -> None:
    """End every pause."""
    with writing(make_context(settings(given))) as journal:
        ended = journal.resume()
    click.echo("Healing goes on." if ended else "Healing was not paused.")
