"""A dry run of a fleet: the waves, and what each host would do. Nothing is remembered, neither in
the store nor on hosts.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import click

from miyabi_healing.cli.common import Refusal
from miyabi_healing.cli.fleet.report_file import ReportFile
from miyabi_healing.fleet.outcome import exit_status_of
from miyabi_healing.fleet.report import host_row
from miyabi_healing.fleet.telling import answer_text
from miyabi_healing.fleet.wording import counts_text, hosts_text, many_hosts
from miyabi_healing.fleet.worker import Worker, WorkerError
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.rollout import Answer, Claim, HostState, Rollout, Slice
from miyabi_healing.support import console, interrupts
from miyabi_healing.support.formatting import display

_ROOM = 200  # columns, for the names of a wave's hosts


def show_plan(rollout: Rollout, worker: Worker, as_json: bool, file: ReportFile) -> NoReturn:
    """Ask every host for its plan, show them, and end. Raises Refusal."""
    waves = {
        number: [host for each in rollout.slices if each.wave == number for host in each.hosts]
        for number in range(1, rollout.waves + 1)
    }
    answers = _ask(rollout, worker, file)
    counts = Counter(each.state for each in answers.values())
    head: dict[str, Any] = {
        "kind": "fleet",
        "dry_run": True,
        "label": rollout.label,
        "plan": list(waves.values()),
        "counts": {each.value: counts[each] for each in HostState},
        "exit_status": int(exit_status_of(counts, stopped=False)),
    }
    rows = [host_row(answers[host]) for host in rollout.hosts]
    file.finish(json.dumps(each) for each in (head, *rows))
    if as_json:
        for row in (head, *rows):
            click.echo(json.dumps(row))
    else:
        for number, hosts in waves.items():
            click.echo(display(wave_text(number, rollout.waves, hosts)))
            for host in hosts:
                for line in plan_lines(answers[host]):
                    click.echo(display(line))
        click.echo(f"Dry run: nothing was changed. {counts_text(head['counts'])}.")
    sys.exit(exit_status_of(counts, stopped=False))


def _ask(rollout: Rollout, worker: Worker, file: ReportFile) -> dict[str, Answer]:
    """Raises Refusal."""
    found = {
        host: Answer(host, HostState.UNREACHABLE, None, "it gave no answer")
        for host in rollout.hosts
    }

    def told(answer: Answer) -> None:
        found[answer.host] = answer
        file.keep(answer)

    hosts = rollout.hosts
    try:
        with interrupts.in_order(), console.progress_line(silent=False) as progress:
            for first in range(0, len(hosts), rollout.at_once):
                some = hosts[first : first + rollout.at_once]
                progress(f"asking {many_hosts(len(some))} of {len(hosts)} what they would do")
                claim = Claim(rollout.label, Slice(1, 1, some), 0, rollout.lease)
                worker.work(claim, told, lambda: False)
    except WorkerError as error:
        raise Refusal(str(error), ExitCode.UNKNOWN) from None
    except interrupts.StopRequested as asked:
        console.complain(f"stopped by {asked}", console.WARNING)
        sys.exit(128 + interrupts.received)
    return found


def wave_text(number: int, waves: int, hosts: list[str]) -> str:
    """Who would be asked in a wave."""
    names = hosts_text(hosts, len(hosts), _ROOM)
    return f"wave {number} of {waves}: {many_hosts(len(hosts))}: {names}"


def plan_lines(answer: Answer) -> Iterator[str]:
    """What a host would do; nothing, where it is well. Its word is that of any version."""
    if answer.state is HostState.WELL:
        return
    actions = list(_objects(answer.report, "actions_taken"))
    issues = list(_objects(answer.report, "issues_detected"))
    if not issues:
        yield f"  {answer_text(answer)}"
    for issue in issues:
        target = f" ({issue['target']})" if issue.get("target") else ""
        about = (issue.get("name"), issue.get("target"))
        plans = [each for each in actions if (each.get("issue"), each.get("target")) == about]
        words = "; ".join(str(each.get("message")) for each in plans) or "nothing heals it"
        yield f"  {answer.host}: {issue.get('name')}{target}: {words}"
        for step in (each for plan in plans for each in _objects(plan, "steps")):
            yield f"    {step.get('kind')} {step.get('target')}: {step.get('reason')}"


def _objects(document: Any, name: str) -> Iterator[Mapping[str, Any]]:
    rows = document.get(name) if isinstance(document, Mapping) else None
    yield from (each for each in rows or () if isinstance(each, Mapping))
