"""Telling people that a rule has stopped a rollout, through the alerts of the coordinator's host.

Whoever's stop was the one that counted tells it (`FleetStore.stop` is true for one of them), so a
stop is told once, however many coordinators there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from miyabi_healing.fleet.report import Store, issues_of
from miyabi_healing.fleet.store import StoreError
from miyabi_healing.fleet.wording import counts_text, many_hosts, next_steps
from miyabi_healing.model.config import Config, ConfigError
from miyabi_healing.model.rollout import Standing
from miyabi_healing.report.alerts import now, queue
from miyabi_healing.report.alerts.alert import Alert
from miyabi_healing.report.alerts.message import Message
from miyabi_healing.support.formatting import display, timestamp
from miyabi_healing.support.invocation import own_command, shell_word

_MOST_ISSUES = 3


def tell_stop(
    store: Store,
    label: str,
    settings: Config,
    state: Path,
    say: Callable[[str], None],
    options: tuple[str, str] = ("", ""),
) -> None:
    """Tell people that a rule has stopped a rollout just now, with what is left where. Whatever
    goes wrong is handed to `say`, and changes nothing else. `options` are the `options` and `where`
    of `wording.next_steps`.
    """
    try:
        standing = store.standing(label)
        if standing is not None:
            tell_stopped(standing, issues_of(store, label), settings, state, say, options)
    except (StoreError, ConfigError) as error:
        say(f"alerts: {error}")


def tell_stopped(
    standing: Standing,
    issues: Mapping[str, list[str]],
    settings: Config,
    state: Path,
    say: Callable[[str], None],
    options: tuple[str, str] = ("", ""),
) -> None:
    """Send an alert for a rollout that was just stopped by a rule; `issues` as
    `report.issues_of` has them. Takes no longer than [alerts] time_limit for each channel; what
    goes wrong is handed to `say`. Nothing happens where no alerts are set up. Raises ConfigError.
    """
    channels = queue.configured_channels(settings.alerts, False, say)
    if not channels:
        return
    message = Message(
        os.uname().nodename,
        display(standing.label),
        timestamp(standing.ended),
        (alert_of(standing, issues, options),),
    )
    for problem in now.send_now(message, channels, settings, state):
        say(f"alerts: {problem}")


def alert_of(
    standing: Standing, issues: Mapping[str, list[str]], options: tuple[str, str] = ("", "")
) -> Alert:
    """What there is to tell of a rollout that a rule has stopped."""
    label = display(standing.label)
    counts = {state.value: number for state, number in standing.counts.items()}
    every = many_hosts(sum(counts.values()))
    left = [
        f"{display(name)} is left on {many_hosts(len(hosts))}"
        for name, hosts in list(issues.items())[:_MOST_ISSUES]
    ]
    status = f"{own_command()} fleet status {shell_word(label)} {options[1]}".rstrip()
    steps = [f"{status} shows what came of it."]
    for command, what in next_steps(label, standing.state, counts, *options):
        steps.append(f"{command} {what}.")
    return Alert(
        kind="stopped",
        name=f"rollout {label}",
        target="",
        severity="high",
        description=display(standing.reason),
        value=None,
        threshold=None,
        unit="",
        done=(
            f"wave {standing.wave} of {standing.waves}",
            f"{every}: {counts_text(counts)}",
            *left,
        ),
        brake="",
        advice=" ".join(steps),
        since=standing.ended or 0,
    )
