"""Watch mode: a long-lived parent that is always the same size, and one child a run.

The schedule is counted from the start by the monotonic clock, so it neither drifts nor overlaps,
and no clock that is set can disturb it. A run that was missed (a suspended machine, a run that
took longer) is not made up for.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from miyabi_healing.model import config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.report.outputs import dispatch
from miyabi_healing.runner.watch import child, run_process
from miyabi_healing.state import watch_presence
from miyabi_healing.support import mount_answers, paths, systemd_notify

if TYPE_CHECKING:
    from miyabi_healing.report.alerts.message import Channel
    from miyabi_healing.report.document_types import Document
    from miyabi_healing.runner.choosing import Choice

_ISSUES_INTERVAL = 60.0  # seconds at most between two runs while issues remain
_JITTER = 0.1  # of the interval: how far hosts that were started together drift apart
STOPPING = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Schedule:
    """When the next run is due, in seconds of the monotonic clock."""

    interval: float
    began: float
    offset: float = 0
    wrong: bool = False

    @property
    def step(self) -> float:
        return min(self.interval, _ISSUES_INTERVAL) if self.wrong else self.interval

    def next_after(self, now: float) -> float:
        """The first moment of the schedule that is not past."""
        if self.step <= 0:
            return now
        first = self.began + self.offset * (self.step / self.interval)
        passed = max(0, (now - first) // self.step + 1)
        return first + passed * self.step


def offset_of(host: str, interval: float) -> float:
    """Where in the interval a host has its place: always the same, and another one for most other
    hosts.
    """
    return (zlib.crc32(host.encode()) % 1000) / 1000 * _JITTER * interval


@dataclass
class WatchLoop:
    """What runs are made with, and what is done with each report."""

    settings: config.Config
    load: Callable[[], config.Config]
    interval: float
    dry_run: bool
    slack: bool
    more_checks: tuple[str, ...]
    again: Sequence[str]
    show: Callable[[Document, int, float], None]
    say: Callable[[str], None]
    time_limit: float = 1800
    choice: Choice | None = None
    complaint: str = ""
    to: tuple[Channel, ...] = ()
    received: list[int] = field(default_factory=list)

    def run(self) -> int:
        """Make runs until somebody asks to stop; returns the exit status."""
        run_process.warm_up()
        source = run_process.RunSource(self.again)
        schedule = Schedule(
            self.interval, time.monotonic(), offset_of(os.uname().nodename, self.interval)
        )
        sign = watch_presence.PresenceFile(paths.state_folder())
        with self.signals() as bell, contextlib.closing(sign):
            systemd_notify.notify("READY=1", "STATUS=the first run is at work")
            while True:
                document, code = self.one(source, bell)
                # what a run leaves in circles is little, but would add up until the collector
                # comes by itself
                gc.collect()
                schedule.wrong = code != ExitCode.HEALTHY
                due = schedule.next_after(time.monotonic())
                sign.renew(max(due - time.monotonic(), 0))
                self.show(document, code, max(due - time.monotonic(), 0))
                systemd_notify.notify(f"STATUS={document['summary']}")
                if number := self.rest(bell, due):
                    systemd_notify.notify("STOPPING=1")
                    source.end()
                    return 128 + number

    def one(self, source: run_process.RunSource, bell: int) -> tuple[Document, int]:
        """One run, from its start to its report, and to whom else that is told."""
        self.reload()
        how = child.How(self.settings, self.dry_run, self.more_checks, self.to, self.choice)
        at_work = source.start(how)
        self.follow(at_work, bell)
        document, code = at_work.end()
        if not at_work.reported and not self.dry_run and dispatch.wanted(self.settings, self.to):
            teller = run_process.start_sending(how, document, time.monotonic() - at_work.began)
            self.follow(teller, bell, telling=True)
            teller.end()
        return document, code

    def follow(self, at_work: run_process.RunProcess, bell: int, telling: bool = False) -> None:
        """Take what a child says until it has ended, or is made to."""
        open_pipe = True
        while open_pipe:
            patience = (
                run_process.TELLING if telling or at_work.reported else run_process.ENDS_WITHIN
            )
            limit = (
                self.time_limit
                if at_work.asked is None
                else at_work.asked - at_work.began + patience
            )
            left = at_work.began + limit - time.monotonic()
            ready = self.wait([bell, at_work.pipe], left)
            if self.heard(bell, ready) in STOPPING and at_work.asked is None:
                at_work.ask_to_end(signal.SIGTERM)
            elif left <= 0:
                self.say(f"the run took longer than {limit:g} s and is being ended")
                at_work.ask_to_end(signal.SIGTERM)
                at_work.asked = time.monotonic()
            open_pipe = not at_work.is_over() and (at_work.pipe not in ready or at_work.read())

    def rest(self, bell: int, due: float) -> int:
        """Wait for the next run; returns the signal that asked to stop, 0 where none did. SIGHUP
        begins the next one at once.
        """
        while True:
            if asked := next((number for number in self.received if number in STOPPING), 0):
                return asked
            left = due - time.monotonic()
            if left <= 0:
                return 0
            if self.heard(bell, self.wait([bell], left)) == signal.SIGHUP:
                return 0

    def reload(self) -> None:
        """Read the configuration afresh; a bad one is told once, and the last good one stays."""
        mount_answers.forget()
        try:
            settings = self.load()
            self.to = dispatch.usable_channels(settings, self.slack)
            self.settings, self.complaint = settings, ""
        except config.ConfigError as error:
            if str(error) != self.complaint:
                self.say(f"{error}; the configuration read before stays in force")
            self.complaint = str(error)

    def wait(self, descriptors: list[int], seconds: float) -> list[int]:
        """Wait until one can be read, telling systemd meanwhile that we are alive."""
        beat = systemd_notify.watchdog_seconds()
        end = time.monotonic() + max(seconds, 0)
        while True:
            left = max(end - time.monotonic(), 0)
            ready = select.select(descriptors, [], [], min(left, beat / 3) if beat else left)[0]
            if beat:
                systemd_notify.notify("WATCHDOG=1")
            if ready or left <= 0:
                return ready

    def heard(self, bell: int, ready: list[int]) -> int:
        """The signal that came in, 0 where none did."""
        if bell not in ready:
            return 0
        # SIGCHLD only wakes us
        numbers = [each for each in os.read(bell, 64) if each in (*STOPPING, signal.SIGHUP)]
        self.received += [each for each in numbers if each in STOPPING]
        return next((each for each in numbers if each in STOPPING), numbers[0] if numbers else 0)

    @contextlib.contextmanager
    def signals(self) -> Iterator[int]:
        """Have signals ring a bell that can be waited for (signal.set_wakeup_fd), instead of
        cutting anything short.
        """
        bell, rope = os.pipe()
        for each in (bell, rope):
            os.set_blocking(each, False)
        before = {
            number: signal.signal(number, lambda *_: None)
            for number in (*STOPPING, signal.SIGHUP, signal.SIGCHLD)
        }
        old = signal.set_wakeup_fd(rope, warn_on_full_buffer=False)
        try:
            yield bell
        finally:
            signal.set_wakeup_fd(old)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(bell)
            os.close(rope)


def same_program() -> list[str]:
    """The command line that this program was started with."""
    return [
        sys.executable,
        sys.argv[0],
        *[each for each in sys.argv[1:] if each not in ("-w", "--watch", "-j", "--json")],
    ]
