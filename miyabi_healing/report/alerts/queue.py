"""Alerts on their way: queued in the journal's database, sent within a time limit, kept and tried
again when they cannot be.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from miyabi_healing.model import config
from miyabi_healing.report.alerts import decide
from miyabi_healing.report.alerts.alert import Alert, Key, KnownIssue
from miyabi_healing.report.alerts.message import Channel, Mail, Message, NotSent
from miyabi_healing.report.outputs.output import OutputError, OutputRequest
from miyabi_healing.state import run_lock
from miyabi_healing.state.journal import Journal, TooNew
from miyabi_healing.support import secrets
from miyabi_healing.support.bounded_wait import within

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import Document

_T = TypeVar("_T")
MOST_QUEUED = 50  # messages a channel; of more than that, the oldest are dropped
_BACKOFF = (60, 3600)  # seconds: before the second try, and at most
_KNOWN_COLUMNS = "state, severity, brake, since, told, course"


def configured_channels(
    rules: config.AlertSettings, slack: bool, say: Callable[[str], None]
) -> tuple[Channel, ...]:
    """Where this host's alerts go. What is missing costs its own channel alone, and is handed to
    `say`; an address that can be none raises ConfigError.
    """
    found = []
    if slack or rules.slack:
        url, why = _present(partial(secrets.find_secret, secrets.SLACK, rules.slack_url_file))
        if url is None:
            none = f"no webhook to send to; set {secrets.SLACK}, or slack_url_file in [alerts]"
            say(f"Slack: {why or none}")
        elif not url.value.startswith(("https://", "http://")):
            raise config.ConfigError(
                "Slack: the webhook is not an address that begins with https://"
            )
        else:
            found.append(Channel("slack", partial(to_slack, url)))
    places, why = _present(partial(secrets.find_all, secrets.APPRISE, rules.apprise_urls_file))
    if why:
        say(f"alerts: {why}")
    if places:
        from miyabi_healing.report.alerts import apprise

        if missing := apprise.missing():
            say(missing)
        else:
            found.append(Channel("apprise", partial(apprise.send, places)))
    return tuple(found)


def _present(find: Callable[[], _T]) -> tuple[_T | None, str]:
    """What is found; where its file is missing or has nothing in it, why it is not."""
    try:
        return find(), ""
    except config.ConfigError as error:
        return None, str(error)


def to_slack(url: secrets.Secret, message: Message, seconds: float) -> None:
    from miyabi_healing.report.alerts import slack

    slack.send(url, message, seconds)


def queue_alerts(
    document: Document, settings: config.Config, to: Sequence[Channel], state: Path, dry_run: bool
) -> Mail | None:
    """Note in the report what has changed since the last run, and queue it; in a dry run, only
    note it.

    Returns what is to be sent, None where nothing is.
    """
    mail: Mail | None = Mail(tuple(to), state)
    try:
        told = (
            _foresee(document, settings, state)
            if dry_run
            else _enqueue(document, settings, to, state)
        )
    except run_lock.Busy:
        document["notes"].append(
            "alerts: another run has begun meanwhile; it tells what there is to tell"
        )
        return None
    except (OSError, sqlite3.Error, TooNew) as error:
        document["notes"].append(
            f"alerts cannot be remembered, so they are sent with every run: {error}"
        )
        told = _without_memory(document, settings)
        mail = Mail(tuple(to), state, _message_of(document, told)) if told else None
    _note(document, told, "planned" if dry_run else "queued")
    return None if dry_run else mail


def _note(document: Document, told: Sequence[Alert], status: str) -> None:
    document["alerts"] = [
        {
            "kind": each.kind,
            "name": each.name,
            "target": each.target,
            "text": each.line,
            "status": status,
        }
        for each in told
    ]


def _foresee(document: Document, settings: config.Config, state: Path) -> list[Alert]:
    """What would be told. Raises OSError, TooNew."""
    from miyabi_healing.state.store import open_read_only

    with open_read_only(state) as journal:
        return decide.decide(
            document, _known_issues(journal), settings.policy, settings.alerts, time.time()
        )[0]


def _enqueue(
    document: Document, settings: config.Config, to: Sequence[Channel], state: Path
) -> list[Alert]:
    """Put what is to be told into the queue of every channel. Raises Busy, OSError, sqlite3.Error,
    TooNew.
    """
    with open_alert_journal(state, document["notes"].append) as journal:
        told = _remember(journal, document, settings, to, time.time())
        if told:
            from miyabi_healing.state import reports

            _note(document, told, "queued")
            reports.store_again(journal, document)
        return told


@contextlib.contextmanager
def open_alert_journal(state: Path, say: Callable[[str], None]) -> Iterator[Journal]:
    """The journal, under the lock: no two runs tell the same. Raises Busy, OSError,
    sqlite3.Error, TooNew.
    """
    from miyabi_healing.state.store import open_for_write

    with contextlib.ExitStack() as held:
        held.callback(run_lock.release, run_lock.acquire(state))
        keeper = open_for_write(state, say, recover=None)
        held.callback(keeper.close)
        yield keeper.journal


def send(given: OutputRequest) -> None:
    """Send what this run has queued, and what earlier ones could not send. Raises OutputError,
    OSError, sqlite3.Error, TooNew.
    """
    if given.mail and (problems := deliver(given.mail, given.settings.alerts)):
        raise OutputError("; ".join(problems))


def deliver(mail: Mail, rules: config.AlertSettings) -> list[str]:
    """Send what is queued; returns what people should know about it. Raises OSError, sqlite3.Error,
    TooNew.
    """
    problems: list[str] = []
    if mail.direct:
        for channel in mail.to:
            try:
                try_channel(channel, mail.direct, rules.time_limit)
            except NotSent as problem:
                problems.append(f"could not be sent to {channel.name}: {problem}")
        return problems
    # the other run sends it
    with (
        contextlib.suppress(run_lock.Busy),
        open_alert_journal(mail.state, problems.append) as journal,
    ):
        problems += filter(
            None, (_deliver(journal, channel, rules, time.time()) for channel in mail.to)
        )
    return problems


def _known_issues(journal: Journal | None) -> dict[Key, KnownIssue]:
    """What was told last of each check and target."""
    if journal is None or journal.version < 5:  # to look at only, and older than alerts
        return {}
    found = journal.database.execute(
        f"select name, target, {_KNOWN_COLUMNS} from alert_state"
    ).fetchall()
    return {(name, target): KnownIssue(*values) for name, target, *values in found}


def _remember(
    journal: Journal, document: Document, settings: config.Config, to: Sequence[Channel], now: float
) -> list[Alert]:
    """Put what is to be told into the queue of every channel, and remember that it was, in one
    transaction.
    """
    told, after = decide.decide(
        document, _known_issues(journal), settings.policy, settings.alerts, now
    )
    message = _message_of(document, told)
    with transaction(journal):
        journal.write("delete from alert_state", ())
        for (name, target), each in after.items():
            values = (
                name,
                target,
                each.state,
                each.severity,
                each.brake,
                each.since,
                each.told,
                each.course,
            )
            journal.write(
                f"insert into alert_state (name, target, {_KNOWN_COLUMNS}) "
                "values (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
        for channel in to if told else ():
            queue_message(journal, channel, message, now)
    return told


def queue_message(journal: Journal, channel: Channel, message: Message, now: float) -> None:
    """Put a message into the queue of a channel."""
    journal.write(
        "insert into outbox (channel, made, message, tries, next, clock) values (?, ?, ?, 0, 0, ?)",
        (channel.name, now, message.dump(), journal.now().seen),
    )


def _message_of(document: Document, told: Sequence[Alert]) -> Message:
    return Message(document["host"], document["run_id"], document["timestamp"], tuple(told))


@contextlib.contextmanager
def transaction(journal: Journal) -> Iterator[None]:
    journal.database.execute("begin immediate")
    try:
        yield
        journal.database.execute("commit")
    except BaseException:
        if journal.database.in_transaction:
            journal.database.execute("rollback")
        raise


def _deliver(journal: Journal, channel: Channel, rules: config.AlertSettings, now: float) -> str:
    """Send what is queued, the oldest first, while there is time; returns what is to be said, empty
    where all was sent.
    """
    dropped = _drop(journal, channel, rules, now)
    end = time.monotonic() + rules.time_limit
    query = "select id, message, tries, next from outbox where channel=? order by id"
    waiting = journal.database.execute(query, (channel.name,)).fetchall()
    for place, (number, text, tries, due) in enumerate(waiting):
        left = len(waiting) - place
        # a due time that is further off is the clock's fault
        if due > now and due - now <= _BACKOFF[1]:
            return f"{left} message(s) to {channel.name} wait to be sent again"
        try:
            try_channel(channel, Message.load(text), end - time.monotonic())
        except NotSent as problem:
            if problem.hopeless:
                journal.write("delete from outbox where id=?", (number,))
                dropped = f"a message to {channel.name} was refused and dropped: {problem}"
                continue
            wait = min(problem.retry_after or _BACKOFF[0] * 2**tries, _BACKOFF[1])
            journal.write(
                "update outbox set tries=tries+1, next=? where id=?", (now + wait, number)
            )
            return f"{left} message(s) to {channel.name} could not be sent and wait: {problem}"
        journal.write("delete from outbox where id=?", (number,))
    return dropped


def _drop(journal: Journal, channel: Channel, rules: config.AlertSettings, now: float) -> str:
    """Give up what has waited for too long, and the oldest of too much."""
    age = rules.keep_hours * 3600
    old = "channel=? and (made < ? or made > ?) and clock < ?"  # a time in the future says nothing
    much = (
        "channel=? and id not in (select id from outbox where channel=? order by id desc limit ?)"
    )
    values = (channel.name, now - age, now, journal.now().seen - age)
    gone = journal.write(f"delete from outbox where {old}", values).rowcount
    gone += journal.write(
        f"delete from outbox where {much}", (channel.name, channel.name, MOST_QUEUED)
    ).rowcount
    return (
        f"{gone} message(s) to {channel.name} could not be sent for too long and were dropped"
        if gone
        else ""
    )


def try_channel(channel: Channel, message: Message, seconds: float) -> None:
    """Send one message, in so many seconds at most. Raises NotSent, also for anything else that
    goes wrong.
    """
    try:
        within(seconds, partial(channel.send, message, seconds))
    except NotSent:
        raise
    except TimeoutError:
        raise NotSent("no answer in time") from None
    except Exception as error:  # its text may hold the address
        raise NotSent(type(error).__name__) from None


def _without_memory(document: Document, settings: config.Config) -> list[Alert]:
    """Where nothing can be remembered, tell what is wrong all the same: better again and again than
    never.
    """
    told, _ = decide.decide(document, {}, settings.policy, settings.alerts, time.time())
    return [
        replace(each, advice=f"{each.advice} {_FORGETFUL}")
        for each in told
        if each.kind in ("unhealed", "unknown")
    ]


_FORGETFUL = "The state folder cannot be written, so this comes again with every run."
