"""A fleet's store over a database: who has which slice, and what hosts have said.

Nobody is believed to have a slice but by its token, in the transaction that writes. Rows are locked
in one order: rollout, token, slice, hosts, report.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from miyabi_healing.fleet import stored_rollout
from miyabi_healing.fleet.database import Database, Statement, Transaction
from miyabi_healing.fleet.schema import DONE, HELD, WAITING
from miyabi_healing.fleet.store import NO_ANSWER, Refused
from miyabi_healing.fleet.stored_rollout import OPEN_HOSTS
from miyabi_healing.model.rollout import (
    Answer,
    Claim,
    HostState,
    Rollout,
    RolloutState,
    Slice,
    Standing,
)
from miyabi_healing.report.fleet_row import keep_statement, keep_values
from miyabi_healing.support.formatting import display

_AT_A_TIME = 500  # hosts that are read in one transaction: a report takes tens of kB
_NOT_KEPT = "the store cannot keep what it said"


_OF_CLAIM = "label = ? and number = ? and token = ? and state = ?"  # the values are of _key
_CLAIM_HOLDS = f"exists (select 1 from fleet_slice where {_OF_CLAIM})"


class SqlStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def shared(self) -> bool:
        return self._database.shared

    def now(self) -> float:
        ((now,),) = self.rows(f"select {self._database.clock}")
        return float(now)

    def create(self, rollout: Rollout, made_by: str) -> bool:
        return self._database.run(
            lambda sql: stored_rollout.create(sql, self._database.clock, rollout, made_by)
        )

    def rollout(self, label: str) -> Rollout | None:
        return self._database.run(lambda sql: stored_rollout.read(sql, label))

    def standing(self, label: str) -> Standing | None:
        clock = self._database.clock
        found = self._database.run(lambda sql: stored_rollout.standings(sql, clock, label))
        return found[0] if found else None

    def standings(self) -> Sequence[Standing]:
        clock = self._database.clock
        return self._database.run(lambda sql: stored_rollout.standings(sql, clock))

    def claim(self, label: str, owner: str) -> Claim | None:
        all_are_gone = self._database.take_lead()

        def work(sql: Transaction) -> Claim | None:
            if all_are_gone:
                sql.write("update fleet_slice set expires = 0 where state = ?", HELD)
            return self._claim(sql, label, owner)

        return self._database.run(work)

    def take_over(self, label: str, owner: str, in_hand: Collection[int]) -> Claim | None:
        lost, values = self._lost(owner, in_hand)
        if not self.rows(f"select 1 from fleet_slice where label = ? and {lost}", label, *values):
            return None  # nearly always; no lock is taken for that
        return self._database.run(lambda sql: self._claim(sql, label, owner, in_hand))

    def renew(self, claim: Claim) -> bool:
        return self._set_expiry(claim, claim.lease)

    def release(self, claim: Claim) -> None:
        # it stays held: hosts that were asked may go on, and at_once has to count them
        self._set_expiry(claim, 0)

    def record(self, claim: Claim, answer: Answer) -> bool:
        if answer.host not in claim.slice.hosts:
            raise ValueError(f"{answer.host} is no host of slice {claim.slice.number}")
        try:
            return self._record(claim, answer)
        except (Refused, RecursionError):  # a host that says nonsense must not hold the others up
            return self._record(claim, Answer(answer.host, HostState.FAILED, None, _NOT_KEPT))

    def _record(self, claim: Claim, answer: Answer) -> bool:
        report = None if answer.report is None else json.dumps(answer.report)
        told: Statement = (
            "update fleet_host set state = ?, code = ?, message = ?, token = ?, report = ?, "
            f"answered = {self._database.clock} where label = ? and host = ? and "
            # shared with other answers for the slice; whoever wants to claim it waits
            f"exists (select 1 from fleet_slice where {_OF_CLAIM}{self._database.for_share})",
            (answer.state.value, answer.code, display(answer.message), claim.token, report)
            + (claim.label, answer.host)
            + _key(claim),
        )
        if answer.report is None or answer.code is None:
            return self._database.write(told)[0] == 1
        try:
            values = keep_values(answer.host, answer.code, answer.report, whole=False)
        except ValueError:  # it is no report
            return self._database.write(told)[0] == 1
        keep = partial(keep_statement, self._database.dialect)
        return self._database.write_both(told, lambda where: (keep(where), values)) == 1

    def finish(self, claim: Claim) -> bool:
        done, _ = self._database.write(
            # it is done by this token already, where the first answer was lost
            (
                "update fleet_slice set state = ? "
                "where label = ? and number = ? and token = ? and state in (?, ?)",
                (DONE, *_key(claim), DONE),
            ),
            (
                "update fleet_host set state = ?, message = ?, "
                f"answered = {self._database.clock} where label = ? and slice = ? "
                f"and state in {OPEN_HOSTS} and {_CLAIM_HOLDS}",
                (HostState.UNREACHABLE.value, NO_ANSWER, claim.label, claim.slice.number)
                + _key(claim)[:-1]
                + (DONE,),
            ),
        )
        return done == 1

    def running_wave(self, label: str) -> int | None:
        found = self.rows(
            "select wave from fleet_rollout where label = ? and state = ?",
            label,
            RolloutState.RUNNING.value,
        )
        return found[0][0] if found else None

    def is_accepted(self, label: str, wave: int) -> bool:
        found = self.rows("select accepted from fleet_rollout where label = ?", label)
        return bool(found) and found[0][0] >= wave

    def open_slices(self, label: str) -> tuple[int, int]:
        ((every, held),) = self.rows(
            f"select count(*), count(case when s.state = ? and s.expires > {self._database.clock} "
            "then 1 end) from fleet_slice s join fleet_rollout r on r.label = s.label "
            "and r.wave = s.wave where s.label = ? and s.state <> ?",
            HELD,
            label,
            DONE,
        )
        return every - held, held

    def answers(self, label: str, *, reports: bool = True) -> Iterator[Answer]:
        last = ""
        report = "report" if reports else "null"
        while rows := self.rows(
            f"select host, state, code, message, {report} from fleet_host "
            "where label = ? and host > ? order by host limit ?",
            label,
            last,
            _AT_A_TIME,
        ):
            yield from map(_answer, rows)
            last = rows[-1][0]

    def brief_answers(self, label: str) -> Sequence[Answer]:
        rows = self.rows(
            "select h.host, h.state, h.code, r.issues from fleet_host h "
            "left join fleet_report r on r.host = h.host and r.label = h.label where h.label = ?",
            label,
        )
        return [
            Answer(host, HostState(state), code, report=_brief(issues))
            for host, state, code, issues in rows
        ]

    def answers_of_wave(self, label: str, wave: int) -> Sequence[Answer]:
        rows = self.rows(
            "select h.host, h.state, h.code, h.message, h.report from fleet_host h "
            "join fleet_slice s on s.label = h.label and s.number = h.slice "
            "where h.label = ? and s.wave = ? order by h.host",
            label,
            wave,
        )
        return [_answer(each) for each in rows]

    def advance(self, label: str, wave: int) -> bool:
        return self._database.run(lambda sql: self._advance(sql, label, wave))

    def stop(self, label: str, reason: str, *, by_rule: bool = False) -> bool:
        (changed,) = self._database.write(
            (
                "update fleet_rollout set state = ?, reason = ?, by_rule = ?, "
                f"ended = {self._database.clock} where label = ? and state = ?",
                (RolloutState.STOPPED.value, display(reason), int(by_rule), label)
                + (RolloutState.RUNNING.value,),
            )
        )
        return changed == 1

    def reopen(self, label: str, *, again: bool) -> bool:
        return self._database.run(
            lambda sql: stored_rollout.reopen(sql, self._database.for_update, label, again=again)
        )

    def keep_report(self, host: str, code: int, document: Mapping[str, Any]) -> None:
        with suppress(ValueError):
            values = keep_values(host, code, document)
            self._database.write((keep_statement(self._database.dialect), values))

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self._database.rows(sql, *values)

    def close(self) -> None:
        self._database.close()

    def _lost(self, owner: str, in_hand: Collection[int] = ()) -> tuple[str, tuple[object, ...]]:
        """A condition that is true of slices whose lease has run out, or of which `owner` does not
        know that it has them; and its values.
        """
        others = "".join(" and number <> ?" for _ in in_hand)
        condition = f"state = ? and (owner = ? or expires <= {self._database.clock}){others}"
        return condition, (HELD, owner, *in_hand)

    def _claim(
        self, sql: Transaction, label: str, owner: str, in_hand: Collection[int] = ()
    ) -> Claim | None:
        # A statement of its own: one that waits for the lock and counts at once, counts what was
        # so before it waited, and more than at_once hosts are at work.
        rollout = sql.rows(
            "select wave, at_once, asked from fleet_rollout where label = ? and state = ?"
            + self._database.for_update,
            label,
            RolloutState.RUNNING.value,
        )
        if not rollout:
            return None
        ((wave, at_once, asked),) = rollout
        ((at_work,),) = sql.rows(
            "select coalesce(sum(hosts), 0) from fleet_slice where label = ? and state = ?",
            label,
            HELD,
        )
        lost, values = self._lost(owner, in_hand)
        found = sql.rows(
            f"select number, wave from fleet_slice where label = ? and ({lost} or "
            "state = ? and wave = ? and hosts <= ?) "
            "order by case when state = ? then 2 when owner = ? then 0 else 1 end, number limit 1",
            label,
            *values,
            WAITING,
            wave,
            0 if in_hand else at_once - int(at_work),
            WAITING,
            owner,
        )
        if not found:
            return None
        number, wave = found[0]
        lease = json.loads(asked)["lease"]
        token = self._next_token(sql)
        sql.write(
            "update fleet_slice set state = ?, token = ?, owner = ?, claims = claims + 1, "
            f"expires = {self._database.clock} + ? where label = ? and number = ?",
            HELD,
            token,
            owner,
            lease,
            label,
            number,
        )
        sql.write(
            "update fleet_host set state = ?, token = ? where label = ? and slice = ? "
            f"and state in {OPEN_HOSTS}",
            HostState.AT_WORK.value,
            token,
            label,
            number,
        )
        hosts = sql.rows(
            "select host from fleet_host where label = ? and slice = ? and state = ? order by host",
            label,
            number,
            HostState.AT_WORK.value,
        )
        return Claim(label, Slice(number, wave, tuple(host for (host,) in hosts)), token, lease)

    def _next_token(self, sql: Transaction) -> int:
        """The time in ms, so that hosts do not refuse whoever asks last, whatever other store they
        were asked from before; and higher than any before, whatever the clock does.
        """
        now = f"cast({self._database.clock} * 1000 as bigint)"
        sql.write(
            f"update fleet_token set last = case when last < {now} then {now} else last + 1 end"
        )
        ((token,),) = sql.rows("select last from fleet_token")
        return int(token)

    def _set_expiry(self, claim: Claim, seconds: float) -> bool:
        (changed,) = self._database.write(
            (
                f"update fleet_slice set expires = {self._database.clock} + ? where {_OF_CLAIM}",
                (seconds, *_key(claim)),
            )
        )
        return changed == 1

    def _advance(self, sql: Transaction, label: str, wave: int) -> bool:
        found = sql.rows(
            "select waves from fleet_rollout where label = ? and state = ? and wave = ?"
            + self._database.for_update,
            label,
            RolloutState.RUNNING.value,
            wave,
        )
        is_open = sql.rows(
            "select 1 from fleet_slice where label = ? and wave <= ? and state <> ? limit 1",
            label,
            wave,
            DONE,
        )
        if not found or is_open:
            return False
        if wave < found[0][0]:
            sql.write("update fleet_rollout set wave = ? where label = ?", wave + 1, label)
        else:
            sql.write(
                f"update fleet_rollout set state = ?, ended = {self._database.clock} "
                "where label = ?",
                RolloutState.FINISHED.value,
                label,
            )
        return True


def _key(claim: Claim) -> tuple[object, ...]:
    return claim.label, claim.slice.number, claim.token, HELD


def _brief(issues: str | None) -> dict[str, Any] | None:
    return None if issues is None else {"issues_detected": json.loads(issues)}


def _answer(row: tuple[Any, ...]) -> Answer:
    host, state, code, message, report = row
    document = None if report is None else json.loads(report)
    return Answer(host, HostState(state), code, message, document)
