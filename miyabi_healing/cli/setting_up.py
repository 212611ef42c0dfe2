"""The subcommands that set the program up: as a service, with a configuration, with completion in
the shell.
"""

from __future__ import annotations

import os
import re
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from miyabi_healing.cli.commands import Duration, Given, Refusal, dry_run, settings
from miyabi_healing.cli.setup import service_units
from miyabi_healing.model import config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.support import config_loader
from miyabi_healing.support.formatting import display


class Interval(Duration):
    """A duration; a mere number is so many seconds, as for ``--interval`` elsewhere."""

    name = "interval"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value)
        return super().convert(
            f"{text}s" if re.fullmatch(r"\d+(\.\d+)?", text) else text, param, ctx
        )


@click.command()
@dry_run
@click.option(
    "--uninstall",
    is_flag=True,
    help="Stop what was installed and remove it: nothing else, and all of it.",
)
@click.option(
    "--system/--user",
    default=None,
    help="For the whole system, or for yourself.  [default: by who asks]",
)
@click.option(
    "--kind",
    type=click.Choice(service_units.KINDS),
    help="What starts the passes.  [default: what this host has]",
)
@click.option(
    "-i", "--interval", type=Interval(), metavar="DURATION",
    help="Between two passes: 15m, 1h, 900.  [default: 15m; 5m for systemd-watch]",
)  # fmt: skip
@click.pass_obj
def install(
    given: Given,
    dry_run: bool,
    uninstall: bool,
    system: bool | None,
    kind: str | None,
    interval: float | None,
) -> None:
    """Have passes made for good: by a systemd timer, a systemd service that watches, launchd or
    cron.

    Files that it did not write are never replaced or removed.
    """
    from miyabi_healing.cli.setup import service as installing

    system = os.geteuid() == 0 if system is None else system
    if system and os.geteuid() != 0:
        raise Refusal(
            "only root can install for the whole system; --user installs for yourself",
            ExitCode.USAGE,
        )
    place = installing.here(system)
    # what is installed has to go, whatever the configuration has become
    chosen = None if uninstall else settings(given)
    try:
        if uninstall:
            steps = installing.steps_to_remove(
                (kind,) if kind else installing.removable(place), place
            )
        else:
            kind = kind or installing.default_kind(system)
            words = installing.program(given.config_file or os.environ.get(config_loader.VARIABLE))
            for doubt in installing.distrust(words, system)[:1]:
                click.echo(f"miyabi-healing: warning: {doubt}", err=True)
            every = (
                interval
                if interval is not None
                else service_units.INTERVALS.get(kind, service_units.INTERVAL)
            )
            job = service_units.Job(words, every, system, place.home, installing.moved_folders())
            steps = installing.steps_to_install(kind, job, place)
    except (installing.Refused, service_units.Unusable) as error:
        raise Refusal(str(error), ExitCode.USAGE) from None
    if not steps:
        click.echo("Nothing is installed.")
        return
    if dry_run or given.dry_run:
        for line in installing.told(steps, system):
            click.echo(line)
        return
    try:
        left = installing.carry_out(steps, system, click.echo)
    except installing.Failed as error:
        raise Refusal(f"{error}; what was done before it stays", ExitCode.ISSUES) from None
    if left:
        click.echo("What runs services is not at work here. Where it is, run:")
        for each in left:
            click.echo(f"    {each}")
    for line in (
        afterwards(kind, system, chosen)
        if kind and chosen
        else ["Removed. Journal, quarantine and configuration stay."]
    ):
        click.echo(line)


def afterwards(kind: str, system: bool, chosen: config.Config) -> Iterator[str]:
    """What somebody may want to know once it is installed."""
    if kind.startswith("systemd"):
        user = "" if system else " --user"
        name = (
            f"{service_units.NAME}.timer"
            if kind == "systemd-timer"
            else f"{service_units.NAME}-watch.service"
        )
        yield f"Look: systemctl{user} status {name}; journalctl{user} --identifier {service_units.NAME}"
        if not system:
            yield "It runs while you are logged in; 'loginctl enable-linger' has it run always."
    if not chosen.git.repos:
        yield f"No repository is looked after until [git] repos names some: '{service_units.NAME} init' writes a configuration."


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
def init(given: Given, output: str | None, homes: tuple[str, ...], yes: bool) -> None:
    """Write a configuration for this host: what is found here, and everything else with its
    default.

    It looks for repositories, logs and known caches for a few seconds, and never overwrites a file.
    """
    from miyabi_healing.cli.main import progress_line
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
    with progress_line(silent=False) as progress:
        found = discovery.search(folders, progress=progress)
    text = config_template.render(found, os.uname().nodename, time.strftime("%Y-%m-%d"))
    config_loader.interpret(tomllib.loads(text), display(file))
    if printed:
        click.echo(text, nl=False)
        return
    write_configuration(file, text)
    click.echo(
        f"Wrote {display(file)}: {config_template.summary(found)}. '{service_units.NAME} --dry-run' shows what a pass would do."
    )


def write_configuration(file: Path, text: str) -> None:
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


SHELLS = ("bash", "zsh", "fish")


def completion_script(shell: str) -> str:
    """What makes a shell complete our options and commands: click's own, for the program's
    installed name.
    """
    from click.shell_completion import ShellComplete, get_completion_class

    from miyabi_healing.cli.main import command

    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(f"click knows no shell {shell!r}")
    # The class's own source() would start bash to see how old it is.
    return ShellComplete.source(kind(command, {}, service_units.NAME, "_MIYABI_HEALING_COMPLETE"))


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes a shell complete options and commands: eval "$(miyabi-healing completion
    bash)".
    """
    click.echo(completion_script(shell), nl=False)
