"""A rollout as rows: written down, read again, and where it stands."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import asdict
from typing import Any

from miyabi_healing.fleet.database import Transaction, insert_rows
from miyabi_healing.fleet.schema import DONE, HELD, WAITING
from miyabi_healing.model.rollout import (
    ANSWERED,
    OPEN,
    HostState,
    Rollout,
    RolloutState,
    Rules,
    Slice,
    Standing,
    check_label,
)

OPEN_HOSTS = "({})".format(", ".join(f"'{each.value}'" for each in sorted(OPEN)))
_ANSWERED_HOSTS = "({})".format(", ".join(f"'{each.value}'" for each in sorted(ANSWERED)))


def create(sql: Transaction, clock: str, rollout: Rollout, made_by: str) -> bool:
    """False where it is there. Raises ValueError."""
    _check(rollout)
    asked = _asked(rollout)
    made = sql.write(
        "insert into fleet_rollout (label, asked, made, made_by, state, wave, waves, at_once) "
        f"values (?, ?, {clock}, ?, ?, 1, ?, ?) on conflict (label) do nothing",
        rollout.label,
        json.dumps(asked, sort_keys=True),
        made_by,
        RolloutState.RUNNING.value,
        rollout.waves,
        rollout.at_once,
    )
    if not made:
        ((found,),) = sql.rows("select asked from fleet_rollout where label = ?", rollout.label)
        other = json.loads(found)
        if wrong := sorted(key for key in asked if asked[key] != other.get(key)):
            raise ValueError(
                f"a rollout {rollout.label} is there, with other {', '.join(wrong)}; a new one "
                "takes another label"
            )
        return False
    insert_rows(
        sql,
        "fleet_slice",
        "label, number, wave, hosts, state",
        [
            (rollout.label, each.number, each.wave, len(each.hosts), WAITING)
            for each in rollout.slices
        ],
    )
    insert_rows(
        sql,
        "fleet_host",
        "label, host, slice, state",
        [
            (rollout.label, host, each.number, HostState.UNTOUCHED.value)
            for each in rollout.slices
            for host in each.hosts
        ],
    )
    return True


def read(sql: Transaction, label: str) -> Rollout | None:
    """Hosts of a slice come by name."""
    found = sql.rows("select asked, at_once from fleet_rollout where label = ?", label)
    if not found:
        return None
    asked, at_once = json.loads(found[0][0]), found[0][1]
    hosts = defaultdict[int, list[str]](list)
    for number, host in sql.rows(
        "select slice, host from fleet_host where label = ? order by slice, host", label
    ):
        hosts[number].append(host)
    slices = sql.rows("select number, wave from fleet_slice where label = ? order by number", label)
    return Rollout(
        label,
        tuple(Slice(number, wave, tuple(hosts[number])) for number, wave in slices),
        at_once,
        asked["lease"],
        Rules(**asked["rules"]),
        asked["dry_run"],
    )


def standings(sql: Transaction, clock: str, label: str | None = None) -> list[Standing]:
    """Of one rollout, or of all, the latest first."""
    where, values = ("where label = ?", (label,)) if label is not None else ("", ())
    counts = defaultdict[str, dict[HostState, int]](dict)
    for name, state, count in sql.rows(
        f"select label, state, count(*) from fleet_host {where} group by label, state", *values
    ):
        counts[name][HostState(state)] = count
    return [
        Standing(
            name,
            RolloutState(state),
            wave,
            waves,
            counts[name],
            reason,
            bool(by_rule),
            made,
            made_by,
            ended,
            bool(in_hand),
        )
        for name, state, wave, waves, reason, by_rule, made, made_by, ended, in_hand in sql.rows(
            "select label, state, wave, waves, reason, by_rule, made, made_by, ended, "
            f"{in_hand_at(clock)} from fleet_rollout {where} order by made desc, label",
            *values,
        )
    ]


def in_hand_at(clock: str) -> str:
    """An expression of SQL, over rollouts: whether a coordinator has hosts of it in hand."""
    return (
        "exists (select 1 from fleet_slice s where s.label = fleet_rollout.label "
        f"and s.state = '{HELD}' and s.expires > {clock})"
    )


def reopen(sql: Transaction, for_update: str, label: str, *, again: bool) -> bool:
    """See FleetStore."""
    found = sql.rows(
        "select state, by_rule, wave, waves from fleet_rollout where label = ?" + for_update, label
    )
    if not found or found[0][0] == RolloutState.RUNNING:
        return False
    state, by_rule, wave, waves = found[0]
    asked_again = again and _ask_again(sql, label)
    if state == RolloutState.FINISHED and not asked_again:
        return False
    ((first,),) = sql.rows(
        "select min(wave) from fleet_slice where label = ? and state <> ?", label, DONE
    )
    if first is not None:
        wave = min(wave + 1, first) if by_rule else min(wave, first)
    elif by_rule or state == RolloutState.FINISHED:
        return False  # every host was asked
    sql.write(
        "update fleet_rollout set state = ?, reason = '', by_rule = 0, ended = null, wave = ?, "
        "accepted = ? where label = ?",
        RolloutState.RUNNING.value,
        min(wave, waves),
        # what a rule said of it is overruled by whoever goes on; where hosts are asked once more,
        # it is to be judged by what they say then
        found[0][2] if by_rule and not asked_again else 0,
        label,
    )
    return True


def _ask_again(sql: Transaction, label: str) -> bool:
    """Hosts without an answer count as untouched, in slices that nobody has. Whether there are."""
    without = f"label = ? and state not in {_ANSWERED_HOSTS} and slice in "
    done = "(select number from fleet_slice where label = ? and state = ?)"
    slices = sql.rows(
        f"select distinct slice from fleet_host where {without} {done}", label, label, DONE
    )
    for (number,) in slices:
        hosts = sql.write(
            "update fleet_host set state = ?, code = null, message = '', answered = null "
            f"where label = ? and slice = ? and state not in {_ANSWERED_HOSTS}",
            HostState.UNTOUCHED.value,
            label,
            number,
        )
        sql.write(
            "update fleet_slice set state = ?, hosts = ?, owner = null, expires = null "
            "where label = ? and number = ?",
            WAITING,
            hosts,
            label,
            number,
        )
    return bool(slices)


def _check(rollout: Rollout) -> None:
    """Raises ValueError for what could never be done."""
    check_label(rollout.label)
    if not rollout.hosts:
        raise ValueError("a rollout has hosts")
    if len(set(rollout.hosts)) < len(rollout.hosts):
        raise ValueError("a host is in a rollout once")
    largest = max(len(each.hosts) for each in rollout.slices)
    if largest > rollout.at_once:
        raise ValueError(f"a slice of {largest} hosts, and only {rollout.at_once} at once")
    if rollout.lease <= 0:
        raise ValueError("a lease is longer than 0 seconds")


def _asked(rollout: Rollout) -> dict[str, Any]:
    """What has to be the same for whoever asks once more."""
    slices = [[each.number, each.wave, sorted(each.hosts)] for each in rollout.slices]
    return {
        "hosts": hashlib.sha256(json.dumps(slices).encode()).hexdigest(),
        "at_once": rollout.at_once,
        "lease": rollout.lease,
        "rules": asdict(rollout.rules),
        "dry_run": rollout.dry_run,
    }
