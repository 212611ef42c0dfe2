"""Why something is as it is: one run's looks at what grows, compared with those of runs before.

Nothing here is loaded in a run in which nothing trips and nothing is foreseen. It never fails a
run: what goes wrong on the way is a note, and then nothing is explained.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from miyabi_healing.host.filesystems import Mount
from miyabi_healing.host.logs import LogGroup
from miyabi_healing.host.look.bound import CPU_SECONDS, Bound
from miyabi_healing.host.memory import Memory
from miyabi_healing.model.because import Because
from miyabi_healing.model.look import Look, MemoryLook, MountLook
from miyabi_healing.runner import simple_reasons
from miyabi_healing.state import looks
from miyabi_healing.state.run_clock import boot_id
from miyabi_healing.support.files import MEGABYTE
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.host.readings import Host
    from miyabi_healing.model.config import Config
    from miyabi_healing.model.issue import Issue
    from miyabi_healing.model.results import CheckResult
    from miyabi_healing.state.journal import Journal

_T = TypeVar("_T")
DISK, MEMORY, LOGS = "disk_space_critical", "high_memory_usage", "large_log_files"
_FOR_DISKS = 0.03  # seconds of processor time that logs leave to a filesystem
_AFTER_REPAIR = 0.01  # seconds of processor time, for the look after something was changed


@dataclass
class Diagnosis:
    """One run's. `journal` gives what earlier runs have on record, None without one; `note` takes
    lines for people; `keeps` is whether the run stores its looks. `left` is the processor time that
    looks may still take.
    """

    host: Host
    journal: Callable[[], Journal | None]
    note: Callable[[str], object]
    keeps: bool = True
    left: float = CPU_SECONDS
    mounts: dict[str, tuple[MountLook | None, MountLook]] = field(default_factory=dict)
    memory: dict[str, MemoryLook] = field(default_factory=dict)
    found: dict[tuple[str, str], tuple[Because, ...]] = field(default_factory=dict)
    logs: set[str] = field(default_factory=set)  # patterns, among the mounts

    def explained(self, issue: Issue, fixtures: Mapping[str, object]) -> Issue:
        """The same issue with why it is so, as far as that is known."""
        found = self._safely(issue.name, issue.target, lambda: self._of_readings(issue, fixtures))
        return replace(issue, because=found) if found else issue

    def foreseen(self, issue: str, target: str) -> tuple[str, ...]:
        """The same in words of an issue that has not occurred: the look that the next run is
        compared with is made, too.
        """
        from miyabi_healing.report.reasons import causes

        return causes(self._safely(issue, target, lambda: self._foreseen(issue, target)))

    @property
    def config(self) -> Config:
        return self.host.config

    def keep(
        self, journal: Journal, number: int, records: Iterable[CheckResult], kills: int
    ) -> None:
        """Store what was looked at with the run of that `number` in `pass`, and look again where
        the run has changed something; `kills` is the kernel's count of processes that it has ended
        for want of memory. What is in the way is a note.
        """
        repaired = _changed_something(records)
        if not (self.mounts or self.memory or repaired):
            return
        try:
            if repaired:
                self._look_again()
            looks.store_look(journal, number, self._record(repaired, kills))
        except Exception as error:
            self._note(error)

    def _record(self, repaired: bool, kills: int) -> Look:
        from miyabi_healing.host.look.mount_look import for_the_record

        return Look(
            boot=boot_id(),
            kills=kills,
            repaired=repaired,
            mounts=tuple(for_the_record(now, before) for before, now in self.mounts.values()),
            memory=tuple(self.memory.values()),
            because=tuple((*key, found) for key, found in self.found.items() if found),
        )

    def _safely(
        self, name: str, target: str, ask: Callable[[], tuple[Because, ...]]
    ) -> tuple[Because, ...]:
        if (name, target) in self.found:
            return self.found[name, target]
        try:
            self.found[name, target] = ask()
        except Exception as error:
            self._note(error)
            self.found[name, target] = ()
        return self.found[name, target]

    @contextlib.contextmanager
    def _bounded(self, reserved: float = 0) -> Iterator[Bound]:
        """A bound for one look: what is left but for what is `reserved` for others."""
        begun = time.thread_time()
        yield Bound(max(self.left - reserved, 0))
        self.left -= time.thread_time() - begun

    def _note(self, error: Exception) -> None:
        what = f"{type(error).__name__}: {error}"
        self.note(f"what grows was not fully looked at: {display(what)}")

    def _of_readings(self, issue: Issue, fixtures: Mapping[str, object]) -> tuple[Because, ...]:
        for reading in fixtures.values():
            if isinstance(reading, Mount):
                found = self._of_mount(issue.name, issue.target, str(reading.path))
                return tuple(_is_it_all(each, issue, reading) for each in found)
            if isinstance(reading, Memory):
                return self._of_memory(issue.name, issue.target, reading)
            if isinstance(reading, LogGroup):
                return self._of_logs(issue.name, issue.target, reading)
        return simple_reasons.of_fixtures(issue, fixtures)

    def _foreseen(self, issue: str, target: str) -> tuple[Because, ...]:
        if issue == DISK:
            return self._of_mount(issue, target, target)
        if issue == MEMORY:
            return self._of_memory(issue, target, self.host.memory())
        if issue == LOGS:
            return self._of_logs(issue, target, self.host.log_group(target))
        return ()

    def _of_mount(self, name: str, target: str, path: str) -> tuple[Because, ...]:
        from miyabi_healing.host.look import mount_look

        used, _ = mount_look.used_of(path)

        def look(before: MountLook | None, bound: Bound) -> MountLook:
            return mount_look.look_at_mount(path, self.config, before, bound)

        return self._compared((name, target), path, used, look)

    def _of_logs(self, name: str, target: str, group: LogGroup) -> tuple[Because, ...]:
        from miyabi_healing.host.look.log_look import look_at_logs

        used = int(group.megabytes * MEGABYTE)
        self.logs.add(group.pattern)

        def look(before: MountLook | None, bound: Bound) -> MountLook:
            return look_at_logs(group, before, bound)

        return self._compared((name, target), group.pattern, used, look)

    def _compared(
        self,
        key: tuple[str, str],
        path: str,
        used: int,
        look: Callable[[MountLook | None, Bound], MountLook],
    ) -> tuple[Because, ...]:
        """What has grown since the look before; that is made anew only where something has."""
        from miyabi_healing.host.look import mount_look
        from miyabi_healing.report.reasons import reasons
        from miyabi_healing.report.shares import mount_growth

        earlier = self._earlier(lambda look: _mount_of(look, path))
        last = next(earlier, None)
        before = last if last and mount_look.has_grown(last, used) else None
        if last and not before and not mount_look.has_shrunk(last, used):
            return self._as_before(*key)  # nothing is to be looked at
        if before and not mount_look.says_much(before, used):
            before = next((each for each in earlier if mount_look.says_much(each, used)), before)
        if not (before or self.keeps):
            return ()  # nothing to compare with, and nobody will
        with self._bounded(_FOR_DISKS if path in self.logs else 0) as bound:
            now = look(before, bound)
        self.mounts[path] = before, now
        return reasons(mount_growth(before, now)) if before else ()

    def _of_memory(self, name: str, target: str, reading: Memory) -> tuple[Because, ...]:
        from miyabi_healing.host.look import memory_look
        from miyabi_healing.report.reasons import reasons
        from miyabi_healing.report.shares import memory_growth

        with self._bounded() as bound:
            now = memory_look.look_at_memory(reading, bound)
        before: MemoryLook | None = None
        for each in self._earlier(lambda look: _memory_of(look, now.scope)):
            if memory_look.has_grown(each, now.used):
                before = each
                break
        self.memory[now.scope] = now
        hint = self._kills()
        return (*(reasons(memory_growth(before, now)) if before else ()), *hint)

    def _kills(self) -> tuple[Because, ...]:
        from miyabi_healing.host import memory

        last = next(self._earlier(lambda look: look), None)
        number = memory.out_of_memory_kills() - last.kills if last else 0
        return simple_reasons.killed(number) if number > 0 else ()

    def _earlier(self, pick: Callable[[Look], _T | None]) -> Iterator[_T]:
        """What earlier runs saw of something, the newest first: those of this boot, as far back as
        the last repair.
        """
        journal = self.journal()
        for look in looks.looks(journal) if journal else ():
            if look.boot != boot_id():
                return
            if (found := pick(look)) is not None:
                yield found
            if look.repaired:
                return

    def _as_before(self, name: str, target: str) -> tuple[Because, ...]:
        """What the last run found; how fast it grew then is over."""
        journal = self.journal()
        found = looks.causes_of(journal, name, target) if journal else ()
        return tuple(replace(each, rate=0) for each in found)

    def _look_again(self) -> None:
        """What was seen before something was changed says nothing of what comes."""
        from miyabi_healing.host.look import mount_look
        from miyabi_healing.host.look.log_look import look_at_logs

        self.memory.clear()  # the next run sees what is left, and begins with that
        for path, (before, now) in list(self.mounts.items()):
            bound = Bound(max(self.left, _AFTER_REPAIR))
            if path in self.logs:
                after = look_at_logs(self.host.log_group(path), None, bound)
            else:
                after = mount_look.look_again(now, self.config, bound)
            self.mounts[path] = before, after


def _changed_something(records: Iterable[CheckResult]) -> bool:
    from miyabi_healing.model.actions import StepStatus

    return any(
        outcome.status == StepStatus.APPLIED
        for record in records
        for action in record.deeds  # early ones, too
        for outcome in action.outcomes
    )


def _is_it_all(cause: Because, issue: Issue, mount: Mount) -> Because:
    """With whether the filesystem is within its limit once deleted files are free: what has grown
    by them since the look before may be next to nothing of what it is full of, and without inodes
    space is of no use.
    """
    if not (cause.deleted and mount.size):
        return cause
    left = max(mount.blocks_percent - 100 * cause.bytes / mount.size, mount.inodes_percent)
    return replace(cause, enough=not mount.read_only and left < issue.limit.threshold)


def _mount_of(look: Look, path: str) -> MountLook | None:
    """Not where the wall clock was set back since: what was made after it is not told by time."""
    now = time.time()
    return next((each for each in look.mounts if each.path == path and each.time < now), None)


def _memory_of(look: Look, scope: str) -> MemoryLook | None:
    return next((each for each in look.memory if each.scope == scope), None)
