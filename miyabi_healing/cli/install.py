"""``install``: have runs made for good, by what this host has for it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from miyabi_healing.cli.common import CommandContext, Duration, Refusal, dry_run, settings
from miyabi_healing.cli.setup import service_units
from miyabi_healing.model import config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.support import config_loader


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
    help="What starts the runs.  [default: what this host has]",
)
@click.option(
    "-i", "--interval", type=Duration(plain_seconds=True), metavar="DURATION",
    help="Between two runs: 15m, 1h, 900.  [default: 15m; 5m for systemd-watch]",
)  # fmt: skip
@click.pass_obj
def install(
    given: CommandContext,
    dry_run: bool,
    uninstall: bool,
    system: bool | None,
    kind: str | None,
    interval: float | None,
) -> None:
    """Have runs made for good: by a systemd timer, a systemd service that watches, launchd or
    cron.

    Files that it did not write are never replaced or removed.
    """
    from miyabi_healing.cli.setup import service as installing
    from miyabi_healing.cli.setup import service_steps, service_trust

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
            for doubt in service_trust.untrusted_programs(words, system)[:1]:
                click.echo(f"miyabi-healing: warning: {doubt}", err=True)
            every = (
                interval
                if interval is not None
                else service_units.INTERVALS.get(kind, service_units.INTERVAL)
            )
            job = service_units.Job(words, every, system, place.home, installing.moved_folders())
            steps = installing.steps_to_install(kind, job, place)
    except (service_trust.NotInstalled, service_units.Unusable) as error:
        raise Refusal(str(error), ExitCode.USAGE) from None
    if not steps:
        click.echo("Nothing is installed.")
        return
    if dry_run or given.dry_run:
        for line in service_steps.told(steps, system):
            click.echo(line)
        return
    try:
        left = service_steps.carry_out_service_steps(steps, system, click.echo)
    except service_steps.Failed as error:
        raise Refusal(f"{error}; what was done before it stays", ExitCode.ISSUES) from None
    if left:
        click.echo("What runs services is not at work here. Where it is, run:")
        for each in left:
            click.echo(f"    {each}")
    for line in (
        _afterwards(kind, system, chosen)
        if kind and chosen
        else ["Removed. Journal, quarantine and configuration stay."]
    ):
        click.echo(line)


def _afterwards(kind: str, system: bool, chosen: config.Config) -> Iterator[str]:
    """What somebody may want to know once it is installed."""
    if kind.startswith("systemd"):
        user = "" if system else " --user"
        name = (
            f"{service_units.UNIT_NAME}.timer"
            if kind == "systemd-timer"
            else f"{service_units.UNIT_NAME}-watch.service"
        )
        yield (
            f"Look: systemctl{user} status {name}; journalctl{user} "
            f"--identifier {service_units.UNIT_NAME}"
        )
        if not system:
            yield "It runs while you are logged in; 'loginctl enable-linger' has it run always."
    if not chosen.git.repos:
        yield (
            "No repository is looked after until [git] repos names some: "
            f"'{service_units.UNIT_NAME} init' writes a configuration."
        )
