"""``fleet stop``: a rollout begins with no more hosts."""

from __future__ import annotations

import sys

import click

from miyabi_healing.cli.common import CommandContext, Refusal, settings
from miyabi_healing.cli.fleet.options import (
    next_options,
    opened_store,
    resume_command,
    store_option,
    unknown_label,
)
from miyabi_healing.fleet.store import FleetStore
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.rollout import RolloutState, Standing
from miyabi_healing.support.formatting import display


@click.command()
@click.argument("label", required=False)
@click.option("--reason", required=True, help="Why; everybody who looks at the rollout sees it.")
@store_option
@click.pass_obj
def stop(given: CommandContext, label: str | None, reason: str, store: str | None) -> None:
    """Stop a rollout: no more hosts are asked.

    Hosts that were asked go on, and their answers are kept. Without LABEL: the one that runs.
    """
    reason = " ".join(reason.split())
    if not reason:
        raise Refusal("a rollout is stopped for a reason: say which", ExitCode.USAGE)
    chosen = settings(given)
    with opened_store(chosen, store) as meeting:
        found = _meant(meeting, label)
        if not meeting.stop(found.label, reason):
            found = meeting.standing(found.label) or found
            if found.state is not RolloutState.STOPPED:
                raise Refusal(f"{found.label} does not run: it is {found.state}", ExitCode.ISSUES)
            click.echo(f"{found.label} was stopped before: {display(found.reason)}")
            sys.exit(ExitCode.HEALTHY)
        click.echo(
            f"{found.label} is stopped. Hosts that were asked go on. "
            f"To go on: {resume_command(found.label, next_options(chosen, store)[0])}"
        )


def _meant(store: FleetStore, label: str | None) -> Standing:
    """Raises Refusal."""
    if label is not None:
        found = store.standing(label)
        if found is None:
            raise unknown_label(store, label)
        return found
    running = [each for each in store.standings() if each.state is RolloutState.RUNNING]
    if len(running) != 1:
        names = ", ".join(each.label for each in running)
        which = f"which of {names}?" if running else "no rollout runs"
        raise Refusal(which, ExitCode.USAGE)
    return running[0]
