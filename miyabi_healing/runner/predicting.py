"""What lies ahead of this host: its values as they are now, after the course that they took in the
history of its runs. Looks only: no check and no healer is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config, ConfigError
from miyabi_healing.model.foreseen import Foreseen
from miyabi_healing.model.issue import Limit
from miyabi_healing.model.outlook import Outlook, Prediction
from miyabi_healing.runner import foreseeing
from miyabi_healing.runner.check_sources import CheckSource, check_sources
from miyabi_healing.runner.fixtures import TARGETS, Targets
from miyabi_healing.runner.registry import Folders, builtin
from miyabi_healing.state import series
from miyabi_healing.state.run_clock import Moment, unknown_moment
from miyabi_healing.support import deadline
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.formatting import display, duration_text, timestamp_seconds
from miyabi_healing.support.invocation import own_command, shell_word

if TYPE_CHECKING:
    from miyabi_healing.state.journal import Journal

_TIME_LIMIT = 60  # seconds for all that git is asked
# What a check that asks for a fixture looks at: the words are those of the failure predictor.
_COMPONENTS = {
    "mount": "disk", "log_group": "disk", "memory": "memory", "tmpfs": "memory", "swap": "memory",
    "processes": "process", "orphans": "process", "repository": "git", "repositories": "git",
    "git_locks": "git", "coordinator": "process",
}  # fmt: skip
# How the values of our own checks are read: of all but those that are never foreseen
# (`foreseeing.NEVER_FORESEEN`), and space that takes long to measure.
_VALUES: dict[str, Callable[[Host, str], float]] = {
    "disk_space_critical": lambda host, target: host.mount(target).percent,
    "large_log_files": lambda host, target: host.log_group(target).megabytes,
    "high_memory_usage": lambda host, _: host.memory().percent,
    "tmpfs_usage": lambda host, _: host.tmpfs().percent,
    "zombie_processes": lambda host, _: len(host.processes().zombies()),
    "orphaned_processes": lambda host, _: host.orphans().megabytes,
    "excessive_worktrees": lambda host, target: host.repository(target).worktree_count,
}
_METRICS = {
    "disk_space_critical": "disk_percent",
    "high_memory_usage": "memory_percent",
    "zombie_processes": "zombie_process_count",
    "excessive_worktrees": "git_worktree_count",
}


@dataclass(frozen=True)
class _Value:
    """A value as it was at `at` (seconds since the epoch) and what its check allows."""

    check: CheckSource
    target: str
    limit: Limit
    at: float
    value: float

    @property
    def metric(self) -> str:
        return _METRICS.get(self.check.name, self.check.name)

    @property
    def component(self) -> str:
        return next(_COMPONENTS[each] for each in self.check.fixtures if each in _COMPONENTS)


@dataclass
class _Look:
    """One look ahead, and what it comes to say."""

    config: Config
    journal: Journal | None
    checks_options: str
    now: Moment = field(default_factory=unknown_moment)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def waived(self, name: str, target: str) -> bool:
        """Whether an issue is put up with for the time being."""
        waiver = self.config.waivers.get(name)
        if waiver is None or waiver.target not in ("", target):
            return False
        return min(self.now.wall, self.now.believed) <= waiver.end

    @cached_property
    def causes(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Why the values of issues, and of what it foresaw, are as they are, by what the last run
        found out; nothing where that was too long ago to be so still. Raises sqlite3.Error.
        """
        from miyabi_healing.state import reports

        document = (reports.latest(self.journal) if self.journal else None) or {}
        try:
            age = self.now.wall - timestamp_seconds(document.get("timestamp", ""))
        except (ValueError, OverflowError):
            return {}
        if age > 3600 * self.config.foresight.horizon:
            return {}
        found = {
            (row["name"], row["target"]): tuple(each["text"] for each in row.get("because", ()))
            for row in document.get("issues_detected", ())
        }
        for row in document.get("foreseen", ()):
            found[row["name"], row["target"]] = tuple(row["causes"])
        return found

    def read(self, what: str, value: Callable[[], float]) -> float | None:
        """A value; None where it cannot be read, which is noted."""
        try:
            return float(value())
        except (OSError, ConfigError, ToolError) as error:
            self.unknown.append(f"{what}: {error}")
            return None


def look_ahead(
    config: Config, journal: Journal | None, where: Folders, more_checks: tuple[str, ...] = ()
) -> Outlook:
    """Everything that can be told now, with a history or without. `more_checks` are folders from
    the command line, for commands that name their checks. Raises sqlite3.Error.
    """
    options = "".join(f"--checks {shell_word(each)} " for each in more_checks)
    look = _Look(config, journal, options, journal.now() if journal else unknown_moment())
    targets = Targets(config)
    metrics = dict(_without_limit(look, targets))
    values: list[_Value] = []
    for check in check_sources(where):
        on = not check.why_off(config)
        found = list(_values(look, check, targets)) if on or check.name in _METRICS else []
        if found and (metric := _METRICS.get(check.name)):
            metrics[metric] = max(each.value for each in found)
        values += found if on else []
    known = {(each.check.name, each.target) for each in values}
    names = {name for name, _ in known}
    extents = series.extents(journal, names) if journal else []
    kept = [row for row in extents if row[:2] in known]
    return Outlook(
        now=look.now.wall,
        horizon=config.foresight.horizon * 3600,
        predictions=tuple(_predictions(look, values)),
        metrics=metrics,
        series=len(kept),
        samples=sum(row.samples for row in kept),
        span=max((look.now.wall - row.since for row in kept), default=0.0),
        told=not (why := _why_not(look, kept)) and _could_tell(journal, kept, look.now),
        why_not=why,
        unknown=tuple(look.unknown),
        notes=tuple(look.notes),
    )


def _without_limit(look: _Look, targets: Targets) -> Iterator[tuple[str, float]]:
    """The metrics that no check here has a limit for."""
    from miyabi_healing.host import component_readings, cpu

    host = Host(look.config)
    plain: dict[str, Callable[[], float]] = {
        "cpu_percent": cpu.read_cpu_percent,
        "miyabi_process_count": component_readings.count_processes,
    }
    for name, read in plain.items():
        if (number := look.read(name, read)) is not None:
            yield name, number
    uncommitted: list[float] = []
    with deadline.time_limit("predict", _TIME_LIMIT):
        for path in targets.repositories.paths:
            count = look.read(
                f"git_uncommitted_count of {display(path)}", partial(_uncommitted, host, path)
            )
            uncommitted += [] if count is None else [count]
    if uncommitted:
        yield "git_uncommitted_count", max(uncommitted)


def _uncommitted(host: Host, path: str) -> float:
    from miyabi_healing.host import component_readings

    return component_readings.count_uncommitted(host.repository(path))


def _values(look: _Look, check: CheckSource, targets: Targets) -> Iterator[_Value]:
    """What a check looks at: for one of ours its values of now, else those of the last run."""
    if check.limit is None or not any(each in _COMPONENTS for each in check.fixtures):
        return
    if not check.file.is_relative_to(builtin("checks")):
        for target, at, value in series.newest(look.journal, check.name) if look.journal else ():
            yield _Value(check, target, _limit(look.config, check, target), at, value)
        return
    if (read := _VALUES.get(check.name)) is None:
        return
    host = Host(look.config)
    fixture = next((each for each in check.fixtures if each in TARGETS), "")
    try:
        places = targets.of(fixture) if fixture else ("",)
    except (OSError, ConfigError) as error:
        look.unknown.append(f"{check.name}: {error}")
        return
    for place in places:
        what = f"{check.name} of {display(place)}" if place else check.name
        if (number := look.read(what, partial(read, host, place))) is not None:
            limit = _limit(look.config, check, place)
            yield _Value(check, display(place), limit, look.now.wall, number)


def _limit(config: Config, check: CheckSource, target: str) -> Limit:
    own = config.check(check.name)
    assert check.limit is not None
    limit = own.adjust(check.limit)
    group = config.logs.group_of(target) if "log_group" in check.fixtures else None
    for each in (group, own.of_target(target)):
        limit = each.adjust(limit) if each else limit
    return limit


def _predictions(look: _Look, values: list[_Value]) -> Iterator[Prediction]:
    for each in values:
        if look.waived(each.check.name, each.target):
            look.notes.append(f"{each.check.name} {each.target}".strip() + " is waived")
        elif each.value > each.limit.threshold:
            yield _prediction(look, each, _crossed(look, each), crossed=True)
        elif (found := _foreseen(look, each)) is not None:
            yield _prediction(look, each, found, crossed=False)


def _why_not(look: _Look, kept: Sequence[series.Extent] = ()) -> str:
    """Why nothing can be foreseen, however long the history is; empty where it can. What is to
    come within the horizon shows in what was measured within twice as long before, or nowhere.
    """
    rules = look.config.foresight
    if not rules.enabled:
        return f"it is switched off: [foresight] enabled = false in {look.config.source}"
    if look.now.doubt:
        return "the wall clock is another than runs have seen"
    age = min((look.now.wall - row.until for row in kept), default=0.0)
    if age > 2 * 3600 * rules.horizon:
        return f"the last run on record was {duration_text(age)} ago"
    return ""


def _foreseen(look: _Look, value: _Value) -> Foreseen | None:
    """As a run foresees it; what was measured in the last run, from then on."""
    if look.journal is None or _why_not(look):
        return None
    now = look.now
    if value.at != now.wall:
        now = replace(now, wall=value.at, believed=value.at)
    found = foreseeing.foresee(
        look.journal, value.check.name, value.target, value.limit, value.value, now,
        look.config.foresight.horizon * 3600,
    )  # fmt: skip
    if found is None or found.measured + found.eta_seconds < look.now.wall:
        return None
    return found


def _crossed(look: _Look, value: _Value) -> Foreseen:
    from miyabi_healing.state import alarms

    record = (0, 0)
    if look.journal:
        record = alarms.record_of(look.journal, value.check.name, value.target)
    return Foreseen(
        issue=value.check.name,
        target=value.target,
        value=value.value,
        threshold=value.limit.threshold,
        unit=value.limit.unit,
        measured=value.at,
        eta_seconds=0.0,
        basis="is over already",
        alarms=record[0],
        came_true=record[1],
    )


def _prediction(look: _Look, value: _Value, found: Foreseen, *, crossed: bool) -> Prediction:
    causes = look.causes.get((value.check.name, value.target), ())
    return Prediction(
        component=value.component,
        metric=value.metric,
        foreseen=replace(found, causes=found.causes or causes),
        seconds=max(0.0, found.measured + found.eta_seconds - look.now.wall),
        crossed=crossed,
        commands=_commands(value, look.checks_options),
    )


def _commands(value: _Value, options: str) -> tuple[str, ...]:
    """What shows more of it, and what shows what would be done."""
    name, shows = value.check.name, []
    if name == "disk_space_critical":
        shows.append(f"{own_command()} space {shell_word(value.target)}")
    elif name == "excessive_worktrees":
        shows.append(f"{own_command()} worktrees")
    if value.check.healers:
        return (*shows, f"{own_command()} {options}--only {name} --dry-run")
    return (*shows, f"{own_command()} {options}explain {name}")


def _could_tell(journal: Journal | None, kept: list[series.Extent], now: Moment) -> bool:
    """Whether there is enough history to foresee anything: a value that had grown steadily at the
    times of the longest series would have been foreseen.
    """
    from miyabi_healing.foresight import forecast

    if not kept or journal is None:
        return False
    longest = max(kept, key=lambda row: row.samples)
    times, _ = series.read_series(journal, longest.name, longest.target)
    steady = [float(at) for at in range(len(times) + 1)]
    return forecast([*times, now.wall], steady, steady[-1] + 1) is not None
