"""``fleet heal``: have hosts healed, a wave after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from miyabi_healing.cli.common import CommandContext, Duration, Refusal, dry_run, settings
from miyabi_healing.cli.fleet.options import (
    AnsibleCommand,
    ansible_arguments,
    as_json_lines,
    hosts_options,
    make_worker,
    opened_store,
    reaching,
    resume_command,
)
from miyabi_healing.model import config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.rollout import Rollout, RolloutState, Rules, Standing, check_label

if TYPE_CHECKING:
    from miyabi_healing.cli.fleet.leading import Command
    from miyabi_healing.fleet.store import FleetStore

_SHARE = click.FloatRange(0, 100)
_COUNT = click.IntRange(min=1)


def _at_least_a_second(
    context: click.Context, parameter: click.Parameter, value: float | None
) -> float | None:
    """As in a configuration."""
    if value is not None and value < 1:
        raise click.BadParameter("a lease is a second at least")
    return value


@click.command(cls=AnsibleCommand)
@click.argument("label", required=False)
@click.option(
    "--hosts",
    "pattern",
    default="all",
    show_default=True,
    metavar="PATTERN",
    help="Which hosts of the inventory, as Ansible's patterns say it.",
)
@click.option(
    "--waves",
    metavar="LIST",
    help="Hosts in each wave, numbers or shares; the last one is repeated: 1,5,50%.",
)
@click.option(
    "--slice",
    "slice_size",
    type=_COUNT,
    metavar="N",
    help="How many hosts a coordinator has at a time.",
)
@click.option("--at-once", type=_COUNT, metavar="N", help="The most hosts at work, in all.")
@click.option(
    "--lease",
    type=Duration(plain_seconds=True),
    callback=_at_least_a_second,
    metavar="DURATION",
    help="How long hosts stay with a coordinator that gives no sign of life.",
)
@click.option(
    "--max-fail",
    type=_SHARE,
    metavar="PERCENT",
    help="Stop where more of a wave are not well; those that cannot be reached count.",
)
@click.option(
    "--same-issue",
    type=_SHARE,
    metavar="PERCENT",
    help="Stop where more of all that have answered have found one and the same issue.",
)
@click.option("--no-canary", is_flag=True, help="The first wave need not be well, all of it.")
@hosts_options
@dry_run
@as_json_lines
@click.pass_context
def heal(
    context: click.Context, label: str | None, pattern: str, waves: str | None,
    slice_size: int | None, at_once: int | None, lease: float | None, max_fail: float | None,
    same_issue: float | None, no_canary: bool, inventory: str | None, executable: str | None,
    report: Path | None, no_wait: bool, store: str | None, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Heal the hosts of an Ansible inventory, in waves: a rollout, named LABEL.

    Each host makes the run of that name once. Several of these commands with one LABEL share the
    work where the store is Postgres, and whoever dies is replaced. What follows -- goes to
    ansible-playbook, as in: -- --become.
    """
    from miyabi_healing.cli.fleet.leading import Command, lead
    from miyabi_healing.cli.fleet.report_file import ReportFile

    given: CommandContext = context.obj
    chosen = settings(given)
    arguments, plan = ansible_arguments(context), dry_run or given.dry_run
    worker = make_worker(chosen, inventory, executable, arguments, plan)
    fleet, is_new = chosen.fleet, label is None
    rollout = _rollout(
        label or time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), partial(worker.hosts, pattern),
        fleet, waves, slice_size or fleet.slice, at_once or fleet.at_once, lease or fleet.lease,
        Rules(
            not no_canary, fleet.max_fail if max_fail is None else max_fail,
            fleet.same_issue if same_issue is None else same_issue,
        ),
    )  # fmt: skip
    as_json = as_json or given.as_json
    with ReportFile(report) as file:
        if plan:
            from miyabi_healing.cli.fleet.planning import show_plan

            show_plan(rollout, worker, as_json, file)
        options = reaching(inventory, executable, store, arguments, report)
        command = Command(
            resume_command(rollout.label, options),
            options,
            reaching(None, None, store),
            not no_wait,
            as_json,
            file,
        )
        with opened_store(chosen, store, lease=rollout.lease) as meeting:
            _join(meeting, rollout, command, is_new)
            lead(meeting, rollout.label, worker, command, chosen)


def _join(store: FleetStore, rollout: Rollout, command: Command, is_new: bool) -> None:
    """Write the rollout down, or go on where it is there and runs; end where it does not. Raises
    Refusal.
    """
    from miyabi_healing.cli.fleet.leading import end

    try:
        is_made = store.create(rollout, _who())
    except ValueError as error:
        raise Refusal(str(error), ExitCode.USAGE) from None
    if is_made:
        hint = f"; if this is interrupted: {command.resume}" if is_new else ""
        command.say(f"rollout {rollout.label}{hint}")
    elif standing := store.standing(rollout.label):
        if standing.state is RolloutState.STOPPED:
            why = f"{rollout.label} was stopped: {standing.reason}"
            raise Refusal(f"{why}. To go on: {_next(standing, command)}", ExitCode.STOPPED)
        if standing.state is RolloutState.FINISHED:
            command.say(f"{rollout.label} was finished before; nothing is done now")
            end(store, standing, command)


def _next(standing: Standing, command: Command) -> str:
    """The command that goes on with a rollout that was stopped: where no host is to come, the one
    that asks once more those that gave no answer.
    """
    from miyabi_healing.fleet.wording import next_steps

    counts = {state.value: number for state, number in standing.counts.items()}
    about = standing.label, standing.state, counts, command.options, command.where
    return next((each for each, _ in next_steps(*about)), command.resume)


def _rollout(
    label: str, find_hosts: Callable[[], tuple[str, ...]], fleet: config.FleetSettings,
    waves: str | None, slice_size: int, at_once: int, lease: float, rules: Rules,
) -> Rollout:  # fmt: skip
    """Raises Refusal."""
    from miyabi_healing.fleet.waves import make_slices
    from miyabi_healing.fleet.worker import WorkerError

    wanted = tuple(each.strip() for each in waves.split(",")) if waves is not None else fleet.waves
    try:
        check_label(label)
        # an inventory may take its time: what is wrong with the rest is said before
        make_slices(("any",), wanted, slice_size, at_once)
        slices = make_slices(find_hosts(), wanted, slice_size, at_once)
        return Rollout(label, slices, at_once, lease, rules)
    except (ValueError, WorkerError) as error:
        raise Refusal(str(error), ExitCode.USAGE) from None


def _who() -> str:
    import getpass
    import os

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # as in a container, where nobody has that number
        user = f"uid {os.getuid()}"
    return f"{user}@{os.uname().nodename}"
