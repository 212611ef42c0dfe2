"""Watch mode: a long-lived parent that is always the same size, and one child a run.

The schedule is counted from the start by the clock that nobody sets and that goes on while the host
sleeps, so it neither drifts nor overlaps. Of the runs that were missed (a suspended machine, a run
that took longer) one is made, as soon as it can be.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from miyabi_healing.model import config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.report.outputs import dispatch
from miyabi_healing.runner.watch import child, run_process, waiting
from miyabi_healing.state import watch_presence
from miyabi_healing.state.run_clock import since_boot
from miyabi_healing.support import mount_answers, paths, systemd_notify

if TYPE_CHECKING:
    from miyabi_healing.report.alerts.message import Channel
    from miyabi_healing.report.document_types import Document
    from miyabi_healing.report.live import View
    from miyabi_healing.runner.choosing import Choice

_ISSUES_INTERVAL = 60.0  # seconds at most between two runs while issues remain
_JITTER = 0.1  # of the interval: how far hosts that were started together drift apart


@dataclass
class Schedule:
    """When the next run is due, in seconds since the boot."""

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
    view: View
    time_limit: float = 1800
    choice: Choice | None = None
    complaint: str = ""
    to: tuple[Channel, ...] = ()

    def run(self) -> int:
        """Make runs until somebody asks to stop; returns the exit status."""
        run_process.warm_up()
        source = run_process.RunSource(self.again)
        schedule = Schedule(
            self.interval, since_boot(), offset_of(os.uname().nodename, self.interval)
        )
        sign = watch_presence.PresenceFile(paths.state_folder())
        with waiting.Waiting.begin(self.view) as outside, contextlib.closing(sign):
            systemd_notify.notify("READY=1", "STATUS=the first run is at work")
            while True:
                outside.tell(self.view.begin_run)
                document, code = self.one(source, outside)
                # what a run leaves in circles is little, but would add up until the collector
                # comes by itself
                gc.collect()
                schedule.wrong = code != ExitCode.HEALTHY
                due = schedule.next_after(since_boot())
                left = max(due - since_boot(), 0)
                sign.renew(left)
                outside.tell(partial(self.view.show, document, left))
                systemd_notify.notify(f"STATUS={document['summary']}")
                if status := outside.rest(due):
                    systemd_notify.notify("STOPPING=1")
                    source.end()
                    return status

    def one(self, source: run_process.RunSource, outside: waiting.Waiting) -> tuple[Document, int]:
        """One run, from its start to its report, and to whom else that is told."""
        self.reload(outside)
        how = child.How(self.settings, self.dry_run, self.more_checks, self.to, self.choice)
        at_work = source.start(how)
        self.follow(at_work, outside)
        document, code = at_work.end()
        if not at_work.reported and not self.dry_run and dispatch.wanted(self.settings, self.to):
            teller = run_process.start_sending(how, document, time.monotonic() - at_work.began)
            self.follow(teller, outside, telling=True)
            teller.end()
        return document, code

    def follow(
        self, at_work: run_process.RunProcess, outside: waiting.Waiting, telling: bool = False
    ) -> None:
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
            ready = outside.wait([at_work.pipe], left)
            if outside.ending and at_work.asked is None:
                at_work.ask_to_end(signal.SIGTERM)
            elif left <= 0 and not ready:
                what = f"the run took longer than {limit:g} s and is being ended"
                outside.tell(partial(self.view.say, what))
                at_work.ask_to_end(signal.SIGTERM)
                at_work.asked = time.monotonic()
            open_pipe = not at_work.is_over() and (at_work.pipe not in ready or at_work.read())

    def reload(self, outside: waiting.Waiting) -> None:
        """Read the configuration afresh; a bad one is told once, and the last good one stays."""
        mount_answers.forget()
        try:
            settings = self.load()
            self.to = dispatch.usable_channels(settings, self.slack)
            self.settings, self.complaint = settings, ""
        except config.ConfigError as error:
            if str(error) != self.complaint:
                what = f"{error}; the configuration read before stays in force"
                outside.tell(partial(self.view.say, what))
            self.complaint = str(error)


def same_program() -> list[str]:
    """The command line that this program was started with."""
    return [
        sys.executable,
        sys.argv[0],
        *[each for each in sys.argv[1:] if each not in ("-w", "--watch", "-j", "--json")],
    ]
