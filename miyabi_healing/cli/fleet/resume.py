"""``fleet resume``: go on with a rollout that was stopped, or whose coordinators died."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from miyabi_healing.cli.common import CommandContext, Refusal, settings
from miyabi_healing.cli.fleet.options import (
    AnsibleCommand,
    ansible_arguments,
    as_json_lines,
    hosts_options,
    make_worker,
    opened_store,
    reaching,
    resume_command,
    unknown_label,
)
from miyabi_healing.fleet.store import FleetStore
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.rollout import RolloutState, Standing

if TYPE_CHECKING:
    from miyabi_healing.fleet.ansible_worker import AnsibleWorker


@click.command(cls=AnsibleCommand)
@click.argument("label")
@click.option(
    "--again", is_flag=True,
    help="Ask hosts once more that were unreachable, busy or without a report.",
)  # fmt: skip
@hosts_options
@as_json_lines
@click.pass_context
def resume(
    context: click.Context, label: str, again: bool, inventory: str | None, executable: str | None,
    report: Path | None, no_wait: bool, store: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Go on with a rollout that was stopped, or that nobody works on any more.

    Hosts that have answered are not asked again. A rule that stopped it looks at the waves that
    follow; with --again, at this one once more.
    """
    from miyabi_healing.cli.fleet.leading import Command, end, lead
    from miyabi_healing.cli.fleet.report_file import ReportFile

    given: CommandContext = context.obj
    chosen, arguments = settings(given), ansible_arguments(context)
    worker = make_worker(chosen, inventory, executable, arguments)
    options = reaching(inventory, executable, store, arguments, report)
    _check(worker, is_named=bool(inventory or chosen.fleet.inventory))
    with (
        ReportFile(report) as file,
        opened_store(chosen, store, lease=chosen.fleet.lease) as meeting,
    ):
        standing = _reopened(meeting, label, again)
        command = Command(
            resume_command(label, options),
            options,
            reaching(None, None, store),
            not no_wait,
            as_json or given.as_json,
            file,
        )
        if standing.state is not RolloutState.RUNNING:
            command.say(f"{label}: there is nothing left to do")
            end(meeting, standing, command)
        lead(meeting, label, worker, command, chosen)


def _check(worker: AnsibleWorker, *, is_named: bool) -> None:
    """Whether Ansible is there, and an inventory: where none is named, Ansible's own settings have
    to. Said before anything is done. Raises Refusal.
    """
    from miyabi_healing.fleet.ansible_tools import require_ansible
    from miyabi_healing.fleet.worker import WorkerError

    try:
        require_ansible()
        if not is_named:
            worker.hosts("all")
    except WorkerError as error:
        raise Refusal(str(error), ExitCode.USAGE) from None


def _reopened(store: FleetStore, label: str, again: bool) -> Standing:
    """Where a rollout stands now that it may go on. Raises Refusal."""
    found = store.standing(label)
    if found is None:
        raise unknown_label(store, label)
    if found.state is RolloutState.RUNNING:
        if again:
            raise Refusal(
                f"{label} runs: --again is for one that was stopped or is finished", ExitCode.USAGE
            )
        return found
    store.reopen(label, again=again)
    return store.standing(label) or found
