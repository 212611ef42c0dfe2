"""Alerts on their way: queued in the journal's database, sent within a time limit, kept and tried again when they cannot be."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from miyabi_healing import alerts, config, lock, secret
from miyabi_healing.alerts import Alert, Key, Known
from miyabi_healing.journal import MIGRATIONS, Journal, TooNew

SLACK, APPRISE = "SLACK_WEBHOOK_URL", "MIYABI_HEALING_APPRISE_URLS"
MOST_QUEUED = 50  # messages a channel; of more than that, the oldest are dropped
BACKOFF = (60, 3600)  # seconds: before the second try, and at most
KNOWN = "state, severity, brake, since, told, course"
Document = dict[str, Any]


@dataclass(frozen=True)
class Message:
    """What one pass has to tell, in one message."""

    host: str
    run_id: str
    timestamp: str
    alerts: tuple[Alert, ...]

    @property
    def title(self) -> str:
        """``host: disk_space_critical on / not healed``, or how many things there are to tell."""
        first = self.alerts[0]
        what = f"{first.subject} {alerts.WORDS[first.kind]}" if len(self.alerts) == 1 else f"{len(self.alerts)} alerts"
        return f"{self.host}: {what}"

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Message:
        row = json.loads(text)
        told = tuple(Alert(**{**each, "done": tuple(each["done"])}) for each in row.pop("alerts"))
        return cls(**row, alerts=told)


class NotSent(Exception):
    """A message that did not arrive. The text names no address; `hopeless` is whether trying again is of no use."""

    def __init__(self, reason: str, retry_after: float = 0, hopeless: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.hopeless = hopeless


@dataclass(frozen=True)
class Channel:
    """Where messages go. `send` takes a message and how many seconds there are, and raises NotSent."""

    name: str
    send: Callable[[Message, float], None]


def channels(rules: config.Alerts, slack: bool, environment: MutableMapping[str, str] = os.environ) -> tuple[Channel, ...]:
    """Where this host's alerts go: to nobody, unless somebody asked for it. Raises ConfigError."""
    found = []
    url = secret.take(SLACK, rules.slack_url_file if slack or rules.slack else "", environment)
    if slack or rules.slack:
        if url is None:
            raise config.ConfigError(f"Slack: no webhook to send to; set {SLACK}, or slack_url_file in [alerts]")
        if not url.value.startswith(("https://", "http://")):
            raise config.ConfigError("Slack: the webhook is not an address that begins with https://")
        found.append(Channel("slack", lambda message, seconds: slack_outlet().send(url, message, seconds)))
    if (urls := secret.take(APPRISE, "", environment)) or rules.apprise_urls_file:
        from miyabi_healing.outlets import apprise

        places = (urls,) if urls else secret.lines(Path(rules.apprise_urls_file).expanduser())
        found.append(Channel("apprise", apprise.sender(places)))
    return tuple(found)


def slack_outlet() -> Any:
    from miyabi_healing.outlets import slack

    return slack


def tell(document: Document, settings: config.Config, to: Sequence[Channel], state: Path, dry_run: bool) -> None:
    """Tell what has changed since the last pass, and note in the report what became of it. Raises nothing of the network's.

    In a dry run, note what would be told.
    """
    if not to:
        return
    try:
        if dry_run:
            told, results = foresee(document, settings, state), [""]
        else:
            told, results = send(document, settings, to, state)
    except lock.Busy:
        document["notes"].append("alerts: another pass has begun meanwhile; it tells what there is to tell")
        return
    except (OSError, sqlite3.Error, TooNew) as error:
        told, results = without_memory(document, settings, () if dry_run else to, error)
    status = "planned" if dry_run else "queued" if any(results) else "sent"
    document["alerts"] = [
        {"kind": each.kind, "name": each.name, "target": each.target, "text": each.line, "status": status} for each in told
    ]
    document["notes"] += [f"alerts: {each}" for each in results if each]


def foresee(document: Document, settings: config.Config, state: Path) -> list[Alert]:
    """What would be told. Raises OSError, TooNew."""
    from miyabi_healing.safekeeping import looking

    with looking(state) as journal:
        return alerts.decide(document, known(journal), settings.brakes, settings.alerts, time.time())[0]


def send(document: Document, settings: config.Config, to: Sequence[Channel], state: Path) -> tuple[list[Alert], list[str]]:
    """Queue what is to be told, and deliver it; returns what people should know besides. Raises Busy, OSError, sqlite3.Error."""
    with remembering(state, document) as journal:
        told = queue(journal, document, settings, to, time.time())
        return told, [deliver(journal, each, settings.alerts, time.time()) for each in to]


@contextlib.contextmanager
def remembering(state: Path, document: Document) -> Any:
    """The journal, under the lock: no two passes tell the same. Raises Busy, OSError, sqlite3.Error."""
    from miyabi_healing.safekeeping import Keeper

    with contextlib.ExitStack() as held:
        held.callback(lock.release, lock.acquire(state))
        keeper = Keeper(state, document["notes"].append)
        held.callback(keeper.close)
        yield keeper.journal


def known(journal: Journal | None) -> dict[Key, Known]:
    """What was told last of each check and target."""
    if journal is None or journal.version < len(MIGRATIONS):  # to look at only, and older than alerts
        return {}
    found = journal.database.execute(f"select name, target, {KNOWN} from alert_state").fetchall()
    return {(name, target): Known(*values) for name, target, *values in found}


def queue(journal: Journal, document: Document, settings: config.Config, to: Sequence[Channel], now: float) -> list[Alert]:
    """Put what is to be told into the queue of every channel, and remember that it was, in one transaction."""
    told, after = alerts.decide(document, known(journal), settings.brakes, settings.alerts, now)
    message = message_of(document, told)
    with transaction(journal):
        journal.write("delete from alert_state", ())
        for (name, target), each in after.items():
            values = (name, target, each.state, each.severity, each.brake, each.since, each.told, each.course)
            journal.write(f"insert into alert_state (name, target, {KNOWN}) values (?, ?, ?, ?, ?, ?, ?, ?)", values)
        for channel in to if told else ():
            row = (channel.name, now, message.dump())
            journal.write("insert into outbox (channel, made, message, tries, next) values (?, ?, ?, 0, 0)", row)
    return told


def message_of(document: Mapping[str, Any], told: Sequence[Alert]) -> Message:
    return Message(document["host"], document["run_id"], document["timestamp"], tuple(told))


@contextlib.contextmanager
def transaction(journal: Journal) -> Any:
    journal.database.execute("begin immediate")
    try:
        yield
        journal.database.execute("commit")
    except BaseException:
        if journal.database.in_transaction:
            journal.database.execute("rollback")
        raise


def deliver(journal: Journal, channel: Channel, rules: config.Alerts, now: float) -> str:
    """Send what is queued, the oldest first, while there is time; returns what is to be said, empty where all was sent."""
    dropped = drop(journal, channel, rules, now)
    end = time.monotonic() + rules.time_limit
    query = "select id, message, tries, next from outbox where channel=? order by id"
    waiting = journal.database.execute(query, (channel.name,)).fetchall()
    for place, (number, text, tries, due) in enumerate(waiting):
        left = len(waiting) - place
        if due > now and due - now <= BACKOFF[1]:  # a due time that is further off is the clock's fault
            return f"{left} message(s) to {channel.name} wait to be sent again"
        try:
            within(end - time.monotonic(), partial(channel.send, Message.load(text)))
        except NotSent as problem:
            if problem.hopeless:
                journal.write("delete from outbox where id=?", (number,))
                dropped = f"a message to {channel.name} was refused and dropped: {problem}"
                continue
            wait = min(problem.retry_after or BACKOFF[0] * 2**tries, BACKOFF[1])
            journal.write("update outbox set tries=tries+1, next=? where id=?", (now + wait, number))
            return f"{left} message(s) to {channel.name} could not be sent and wait: {problem}"
        journal.write("delete from outbox where id=?", (number,))
    return dropped


def drop(journal: Journal, channel: Channel, rules: config.Alerts, now: float) -> str:
    """Give up what has waited for too long, and the oldest of too much."""
    old = "channel=? and made < ?"
    much = "channel=? and id not in (select id from outbox where channel=? order by id desc limit ?)"
    gone = journal.write(f"delete from outbox where {old}", (channel.name, now - rules.keep_hours * 3600)).rowcount
    gone += journal.write(f"delete from outbox where {much}", (channel.name, channel.name, MOST_QUEUED)).rowcount
    return f"{gone} message(s) to {channel.name} could not be sent for too long and were dropped" if gone else ""


def within(seconds: float, action: Callable[[float], None]) -> None:
    """Do something that may hang, for so many seconds at most. Raises NotSent, also for anything else that goes wrong.

    A thread that hangs is left behind: it holds nothing, and ends with the program.
    """
    ending: list[Exception | None] = []

    def work() -> None:
        try:
            action(seconds)
            ending.append(None)
        except Exception as error:
            ending.append(error)

    thread = threading.Thread(target=work, daemon=True)
    if seconds > 0:
        thread.start()
        thread.join(seconds)
    if not ending:
        raise NotSent("no answer in time")
    if isinstance(ending[0], NotSent):
        raise ending[0]
    if ending[0] is not None:  # its text may hold the address
        raise NotSent(type(ending[0]).__name__)


def without_memory(
    document: Document, settings: config.Config, to: Sequence[Channel], error: Exception
) -> tuple[list[Alert], list[str]]:
    """Where nothing can be remembered, tell what is wrong all the same: better again and again than never."""
    told, _ = alerts.decide(document, {}, settings.brakes, settings.alerts, time.time())
    told = [replace(each, advice=f"{each.advice} {FORGETFUL}") for each in told if each.kind in ("unhealed", "unknown")]
    results = [f"they cannot be remembered, so they are sent with every pass: {error}"]
    for channel in to if told else ():
        try:
            within(settings.alerts.time_limit, partial(channel.send, message_of(document, told)))
        except NotSent as problem:
            results.append(f"could not be sent to {channel.name}: {problem}")
    return told, results


FORGETFUL = "The state folder cannot be written, so this comes again with every pass."
