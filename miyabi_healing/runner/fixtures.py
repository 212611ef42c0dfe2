"""What a check can ask for: readings of the host, taken afresh for every run of the check, its
limit, and `measure`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, cast

import pytest

from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import CacheSettings, Config
from miyabi_healing.model.issue import Limit, limit_of_mark
from miyabi_healing.model.limit_settings import is_target
from miyabi_healing.model.results import Measurement
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.host.coordinators.health import CoordinatorHealth
    from miyabi_healing.host.filesystems import Mount
    from miyabi_healing.host.git.repositories import Repository
    from miyabi_healing.host.git.repository_paths import Found
    from miyabi_healing.host.git.user_configuration import UserConfiguration
    from miyabi_healing.host.git.worktree_space import Repositories
    from miyabi_healing.host.logs import LogGroup
    from miyabi_healing.host.memory import Memory
    from miyabi_healing.host.orphans import Orphans
    from miyabi_healing.host.processes import Processes
    from miyabi_healing.host.swap import Swap
    from miyabi_healing.host.tmpfs import TmpfsUse

LIMITS = pytest.StashKey[Limit]()
HOST = pytest.StashKey[Host]()
TARGETS = ("mount", "repository", "git_locks", "log_group", "coordinator")
FOUND = pytest.StashKey["Targets"]()
_UsedBy = Callable[[], list[dict[str, object]]]
_MOST_NAMED = 3  # in a description; the report has all that were given


class _Measure(Protocol):
    def __call__(self, value: float, description: str, used_by: _UsedBy | None = None) -> float: ...


@dataclass(frozen=True)
class Targets:
    """What the fixtures of checks are parametrised with: every configured mount, repository or log
    pattern. Repositories are looked for once: what a pattern leads to can take a second.
    """

    config: Config

    @cached_property
    def repositories(self) -> Found:
        from miyabi_healing.host.git import repository_paths

        return repository_paths.configured(self.config)

    def of(self, fixture: str) -> Sequence[str]:
        if fixture == "mount":
            from miyabi_healing.host import filesystems

            return filesystems.mounts(self.config.disk.mounts)
        if fixture == "coordinator":
            return tuple(self.config.coordinators)
        if fixture == "git_locks":
            from miyabi_healing.host.git import lock_places

            locked = lock_places.locked_configurations(self.config)
            return (*self.repositories.paths, *locked)
        return self.repositories.paths if fixture == "repository" else self.config.logs.all_patterns

    def validate(self) -> None:
        """Refuse mounts, repositories and caches that do not exist, before any check runs. Raises
        ConfigError.
        """
        for fixture in TARGETS:
            self.of(fixture)
        if self.config.caches != CacheSettings(homes=self.config.caches.homes):
            from miyabi_healing.host import cache_rows

            cache_rows.validate_caches(self.config.caches)


def parametrize(metafunc: pytest.Metafunc, targets: Targets, notes: list[str]) -> None:
    """Run a check once for each target of the fixture it asks for. What people should know of those
    that were passed over is added to `notes`.
    """
    for fixture in TARGETS:
        if fixture not in metafunc.fixturenames:
            continue
        found = targets.of(fixture)
        if fixture in ("repository", "git_locks"):
            notes.extend(each for each in targets.repositories.notes if each not in notes)
        name = metafunc.function.__name__.removeprefix("test_")
        for each in targets.config.check(name).targets:
            note = f"checks.{name}.targets: {display(each)} fits none of its targets"
            if not any(is_target(each, target) for target in found) and note not in notes:
                notes.append(note)
        what = "repository" if fixture == "git_locks" else fixture
        none = pytest.param(
            None, marks=pytest.mark.skip(reason=f"there is no {what} to look at"), id="none"
        )
        values = [pytest.param(each, id=display(each)) for each in found] or [none]
        metafunc.parametrize(fixture, values, indirect=True)


def limit_of(item: pytest.Item, config: Config) -> Limit:
    """The limit of a check: its marker's, as adjusted by the configuration. Raises UsageError for a
    bad marker.
    """
    mark = item.get_closest_marker("limit")
    if mark is None:
        raise pytest.UsageError(
            f"{item.nodeid}: a check needs a limit: @pytest.mark.limit(THRESHOLD, severity=…)"
        )
    try:
        limit = limit_of_mark(*mark.args, **mark.kwargs)
    except (TypeError, KeyError, ValueError) as error:
        raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.limit: {error}") from None
    settings = config.check(issue_name(item))
    limit = settings.adjust(limit)
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    for target in (parameters[name] for name in TARGETS if parameters.get(name)):
        group = config.logs.group_of(target) if "log_group" in parameters else None
        for own in (group, settings.of_target(target)):
            limit = own.adjust(limit) if own else limit
    if limit.clear > limit.threshold:
        raise pytest.UsageError(
            f"checks.{issue_name(item)}: clear must not be above the threshold, "
            f"{limit.threshold:g}, but is {limit.clear:g}"
        )
    return limit


def is_off(item: pytest.Item, config: Config) -> bool:
    """Whether a check waits for the configuration: for a threshold, where its marker says
    ``opt_in=True`` and there is none, or for a coordinator.
    """
    if "coordinator" in getattr(item, "fixturenames", ()) and not config.coordinators:
        return True
    mark = item.get_closest_marker("limit")
    return (
        mark is not None
        and bool(mark.kwargs.get("opt_in"))
        and config.check(issue_name(item)).threshold is None
    )


def issue_name(item: pytest.Item) -> str:
    """``test_disk_space_critical[/home]`` finds the issue ``disk_space_critical``."""
    name: str = getattr(item, "originalname", None) or item.name
    return name.removeprefix("test_")


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Host:
    """The whole host, for a check that needs more than one kind of reading."""
    return request.config.stash[HOST]


@pytest.fixture
def mount(request: pytest.FixtureRequest, host: Host) -> Mount:
    """One mounted filesystem."""
    return host.mount(request.param)


@pytest.fixture
def repository(request: pytest.FixtureRequest, host: Host) -> Repository:
    """One git repository with all its worktrees."""
    return host.repository(request.param)


@pytest.fixture
def git_locks(request: pytest.FixtureRequest, host: Host) -> Repository | UserConfiguration:
    """Where locks of git may lie: a repository, or a user's own configuration that has one."""
    return host.git_locks(request.param)


@pytest.fixture
def repositories(request: pytest.FixtureRequest, host: Host) -> Repositories:
    """All git repositories that are looked after."""
    return host.repositories(request.config.stash[FOUND].repositories.paths)


@pytest.fixture
def log_group(request: pytest.FixtureRequest, host: Host) -> LogGroup:
    """The log files that match one configured pattern."""
    return host.log_group(request.param)


@pytest.fixture
def coordinator(request: pytest.FixtureRequest, host: Host) -> CoordinatorHealth:
    """One coordinator of tasks that the configuration names."""
    return host.coordinator(request.param)


@pytest.fixture
def processes(host: Host) -> Processes:
    """The processes of the host."""
    return host.processes()


@pytest.fixture
def orphans(host: Host) -> Orphans:
    """The helper processes that were left behind."""
    return host.orphans()


@pytest.fixture
def memory(host: Host) -> Memory:
    """The memory of the host, or of the container we are in."""
    return host.memory()


@pytest.fixture
def limit(request: pytest.FixtureRequest) -> float:
    """The threshold of the check, as configured."""
    found: Limit = request.node.stash[LIMITS]
    return found.threshold


@pytest.fixture
def swap(host: Host) -> Swap:
    """The swap of the host."""
    return host.swap()


@pytest.fixture
def tmpfs(host: Host) -> TmpfsUse:
    """The files that are kept in memory."""
    return host.tmpfs()


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> _Measure:
    """Note what a check measured, a number and words, healthy or not; hands the number back.

    `used_by` is asked who takes it, and only where it is above the threshold: for rows with
    ``name``, ``bytes`` and ``text``, the largest first.
    """

    def note(value: float, description: str, used_by: _UsedBy | None = None) -> float:
        if not math.isfinite(value):
            raise ValueError(f"{value} is no measurement")
        measured: Measurement = {"value": float(value), "description": description}
        if used_by and value > request.node.stash[LIMITS].threshold:
            _add_users(measured, used_by)
        request.node.user_properties.append(("measured", measured))
        return value

    return note


def _add_users(measured: Measurement, used_by: _UsedBy) -> None:
    """Say who takes what was measured; where that cannot be told, that: the measure stands."""
    try:
        rows = used_by()
    except OSError as error:
        measured["description"] += f"; by whom cannot be told: {error}"
        return
    if rows:
        named = "; ".join(str(row["text"]) for row in rows[:_MOST_NAMED])
        measured["description"] += f"; most: {named}"
        measured["used_by"] = rows


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say something that people should know of and that is no issue: a line among the report's
    notes.
    """

    def add(text: str) -> None:
        request.node.user_properties.append(("note", text))

    return add


def measured(item: pytest.Item) -> Measurement | None:
    """What a check has measured last, since its properties were cleared; None where it has not."""
    found = [
        value
        for name, value in item.user_properties
        if name == "measured" and isinstance(value, dict)
    ]
    return cast("Measurement", found[-1]) if found else None
