"""The configuration: defaults, over them one TOML file, over it the environment.

``MIYABI_HEALING__GIT__BASE=main`` sets ``base`` in ``[git]``: the name is upper case, parts are
joined by two underscores, the value is TOML (a text that is no TOML value counts as a string).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any

from miyabi_healing.model.limit_settings import CheckSettings

if TYPE_CHECKING:
    # Ranges of numbers, and rows. Whoever converts a table puts them here: a host without a
    # configuration does not pay for msgspec, and one without rows not for their forms.
    from msgspec import Meta

    from miyabi_healing.model.catalogue import AgentLock, CacheKind, DatabaseKind, LogGroupSettings
    from miyabi_healing.model.coordinator import Coordinator


class ConfigError(Exception):
    """A configuration that cannot be used; the message is one line that names file, key and the way
    out.
    """


@dataclass(frozen=True, repr=False)
class DiskSettings:
    """The filesystems to look at, by a folder on each; none means every one that holds data on a
    device.
    """

    mounts: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class GitSettings:
    """The repositories to look after, what they are merged into; further folders in them that can
    be made again (`regenerable`), and files that nobody misses (`litter`). `agents` are further
    rows of how agents lock worktrees.
    """

    repos: tuple[str, ...] = ()
    base: str = ""
    regenerable: tuple[str, ...] = ()
    litter: tuple[str, ...] = ()
    agents: Mapping[str, AgentLock] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class LogSettings:
    """The files that count as logs: `patterns`, and each `group` with a limit of its own.

    `databases` are names, like ``*.mydb``, that lie beside what is no log; `define` are whole rows
    of databases, besides the known ones.
    """

    patterns: tuple[str, ...] = ("/tmp/miyabi*.log", "~/.miyabi/logs/*.log")
    databases: tuple[str, ...] = ()
    group: tuple[LogGroupSettings, ...] = ()
    define: Mapping[str, DatabaseKind] = field(default_factory=dict)

    def __post_init__(self) -> None:
        patterns = [each.pattern for each in self.group]
        for each in patterns:
            if patterns.count(each) > 1 or each in self.patterns:
                raise ValueError(f"logs.group: {each!r} has a group, or is in patterns, already")

    @property
    def all_patterns(self) -> tuple[str, ...]:
        return (*self.patterns, *(each.pattern for each in self.group))

    def group_of(self, pattern: str) -> LogGroupSettings | None:
        return next((each for each in self.group if each.pattern == pattern), None)


@dataclass(frozen=True, repr=False)
class ProcessSettings:
    """`protected` are names of further processes that must never be signalled; `orphan_minutes` is
    how long a process has to have been running to count as an orphan.
    """

    protected: tuple[str, ...] = ()
    orphan_minutes: Annotated[float, Meta(ge=0)] = 60


@dataclass(frozen=True, repr=False)
class CacheSettings:
    """`homes` whose known caches may be cleaned; `also` names costly caches that may be cleaned
    too, `never` known ones that may not; `define` are further kinds of caches, or others in the
    place of ours.
    """

    homes: tuple[str, ...] = ("~",)
    also: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    define: Mapping[str, CacheKind] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Budgets:
    """The most one run may do, whatever its healers plan."""

    worktrees: Annotated[int, Meta(ge=0)] = 20
    processes: Annotated[int, Meta(ge=0)] = 5
    gigabytes: Annotated[float, Meta(ge=0)] = 20
    files: Annotated[int, Meta(ge=0)] = 10_000


@dataclass(frozen=True, repr=False)
class PolicySettings:
    """What keeps a healer from trying again and again. Times in seconds, but for the days.

    After `attempts` within `forget` it gives up; between two attempts lies a `cooldown`
    (`cooldown_signals` where a plan only sends signals); what was rolled back by hand is left alone
    for `respect_days`. An issue that comes and goes is flapping from `flap_on` per cent of changes
    among its last results, until they are below `flap_off`: then nothing is done about it.
    """

    attempts: Annotated[int, Meta(ge=0)] = 3
    forget: Annotated[float, Meta(ge=0)] = 3600
    cooldown: Annotated[float, Meta(ge=0)] = 120
    cooldown_signals: Annotated[float, Meta(ge=0)] = 15
    respect_days: Annotated[float, Meta(ge=0)] = 7
    flap_on: Annotated[float, Meta(ge=0)] = 30
    flap_off: Annotated[float, Meta(ge=0)] = 20

    def __post_init__(self) -> None:
        if self.flap_off > self.flap_on:
            raise ValueError(
                f"flap_off must not be above flap_on, {self.flap_on:g}, but is {self.flap_off:g}"
            )


@dataclass(frozen=True, repr=False)
class QuarantineSettings:
    """How long removed things are kept, and how many GB of them, the oldest going first.

    On a disk that is still over its limit after everything else, those older than `early_days` may
    go before their time; without it, none.
    """

    days: Annotated[float, Meta(ge=0)] = 30
    gigabytes: Annotated[float, Meta(ge=0)] = 50
    early_days: Annotated[float, Meta(ge=0)] | None = None


@dataclass(frozen=True, repr=False)
class HistorySettings:
    """How many days, and how many runs, are remembered."""

    days: Annotated[float, Meta(ge=0)] = 90
    passes: Annotated[int, Meta(ge=0)] = 20_000


@dataclass(frozen=True, repr=False)
class ForesightSettings:
    """Whether issues are foreseen, how many hours ahead, and whether what costs nothing is done
    before they occur.
    """

    enabled: bool = True
    horizon: Annotated[float, Meta(gt=0)] = 24
    heal_early: bool = True


@dataclass(frozen=True, repr=False)
class LearningSettings:
    """Whether the order of a check's healers follows what their repairs came to."""

    enabled: bool = True


@dataclass(frozen=True, repr=False)
class FleetSettings:
    """Many hosts. `store` is where coordinators and reports meet, as libpq's connection string; no
    password in it (libpq reads ~/.pgpass), and empty is a file in the state folder. With `report`,
    this host's own runs are kept there: what has changed at once, else once in `report_every`
    seconds; a run spends `report_time_limit` seconds on it at most. `name` is what coordinators'
    inventories call this host, where that is not its host name.

    For coordinators: Ansible's `inventory`; `waves` of hosts, each a number or a share like 50%,
    the last one repeated; hosts in a `slice`, and `at_once` in all; the `lease` in seconds; and
    what stops a rollout, in per cent: `max_fail` of a wave, `same_issue` of all that answered.
    """

    store: str = ""
    report: bool = False
    name: str = ""
    report_every: Annotated[float, Meta(gt=0)] = 3600
    report_time_limit: Annotated[float, Meta(gt=0, le=60)] = 5
    inventory: str = ""
    waves: tuple[str, ...] = ("1", "5", "50%")
    slice: Annotated[int, Meta(ge=1)] = 25
    at_once: Annotated[int, Meta(ge=1)] = 50
    lease: Annotated[float, Meta(ge=1)] = 30
    max_fail: Annotated[float, Meta(ge=0, le=100)] = 20
    same_issue: Annotated[float, Meta(ge=0, le=100)] = 49

    def __post_init__(self) -> None:
        if self.store:
            from miyabi_healing.model.conninfo import store_objection

            if reason := store_objection(self.store):
                raise ValueError(reason)


@dataclass(frozen=True, repr=False)
class WatchSettings:
    """How many seconds one run of watch mode may take before it is ended."""

    time_limit: Annotated[float, Meta(ge=0)] = 1800


@dataclass(frozen=True, repr=False)
class AlertSettings:
    """Who is told what has changed. Where messages go is secret, so it is in a file, or in the
    environment.

    `healed` is whether repairs that succeeded at once are told as well, `foreseen` whether what has
    not occurred is; what lasts is told again every `remind_hours`; a run spends `time_limit`
    seconds at most on sending; what cannot be sent is tried again for `keep_hours`.
    """

    slack: bool = False
    slack_url_file: str = ""
    apprise_urls_file: str = ""
    healed: bool = True
    foreseen: bool = True
    remind_hours: Annotated[float, Meta(ge=0)] = 24
    time_limit: Annotated[float, Meta(ge=0)] = 10
    keep_hours: Annotated[float, Meta(ge=0)] = 72


@dataclass(frozen=True, repr=False)
class PingSettings:
    """The file that holds the URL to ping, which is a secret, and how many seconds one ping may
    take.
    """

    url_file: str = ""
    time_limit: Annotated[float, Meta(gt=0, le=60)] = 5


@dataclass(frozen=True, repr=False)
class MetricsSettings:
    """The file that node_exporter's textfile collector is to read; none where it is empty."""

    textfile: str = ""

    def __post_init__(self) -> None:
        if self.textfile and not self.textfile.startswith(("/", "~")):
            raise ValueError(f"textfile must be an absolute path, not {self.textfile!r}")


@dataclass(frozen=True, repr=False)
class ReportSettings:
    """How the report for people looks: `emoji` says whether it has any; `html` is the file that
    each run writes its page to, for a browser, none where it is empty.
    """

    emoji: bool = True
    html: str = ""

    def __post_init__(self) -> None:
        if self.html and not self.html.startswith(("/", "~")):
            raise ValueError(f"html must be an absolute path, not {self.html!r}")


@dataclass(frozen=True, repr=False)
class Waiver:
    """Why an issue is put up with, and until when (a TOML date, or a date and time)."""

    reason: str
    until: Any  # msgspec cannot tell the two kinds of date apart
    target: str = ""

    def __post_init__(self) -> None:
        import datetime

        if not isinstance(self.until, datetime.date):  # a date and time is one, too
            raise ValueError("until must be a date, like 2026-01-31")
        if self.until.year < 1970:
            raise ValueError("until must be after 1970, like 2026-01-31")
        if not self.reason.strip():
            raise ValueError("reason must say why")

    @property
    def end(self) -> float:
        """In seconds since the epoch: a mere date ends with its day, a time without an offset is
        local.
        """
        import datetime

        if isinstance(self.until, datetime.datetime):
            return self.until.timestamp()
        return datetime.datetime.combine(self.until, datetime.time(23, 59, 59)).timestamp()


@dataclass(frozen=True, repr=False)
class SafetySettings:
    """`roots` are further folders in which a healer's steps may change something, `disposable`
    those it may delete from.

    `ours_alone` are folders that nobody else uses, no other host, container or user: there, that
    somebody could be at work who cannot be seen from here is no reason to leave a thing alone.
    Whoever is seen using it always is one.
    """

    roots: tuple[str, ...] = ()
    disposable: tuple[str, ...] = ()
    ours_alone: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for each in self.ours_alone:
            if not each.startswith(("/", "~")):
                raise ValueError(f"ours_alone must name folders by absolute paths, not {each!r}")


@dataclass(frozen=True, repr=False)
class ExtendSettings:
    """`folders` with a user's own checks; their healers lie in a ``healers`` folder inside."""

    folders: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class HealerSettings:
    """What every healer's ``[healers.NAME]`` knows besides the healer's own options."""

    enabled: bool = True
    time_limit: Annotated[float, Meta(ge=0)] = 300
    attempts: Annotated[int, Meta(ge=0)] | None = None
    cooldown: Annotated[float, Meta(ge=0)] | None = None
    undo_on_failure: bool = True


@dataclass(frozen=True, repr=False)
class Config:
    """Everything that can be set, each section a table of the file; `file` is that file, empty
    where there is none.

    In a file ``[brakes]`` is the older name of ``[policy]``.
    """

    disk: DiskSettings = DiskSettings()
    git: GitSettings = GitSettings()
    logs: LogSettings = LogSettings()
    processes: ProcessSettings = ProcessSettings()
    caches: CacheSettings = CacheSettings()
    budgets: Budgets = Budgets()
    policy: PolicySettings = PolicySettings()
    quarantine: QuarantineSettings = QuarantineSettings()
    history: HistorySettings = HistorySettings()
    foresight: ForesightSettings = ForesightSettings()
    learning: LearningSettings = LearningSettings()
    fleet: FleetSettings = FleetSettings()
    watch: WatchSettings = WatchSettings()
    alerts: AlertSettings = AlertSettings()
    ping: PingSettings = PingSettings()
    metrics: MetricsSettings = MetricsSettings()
    report: ReportSettings = ReportSettings()
    safety: SafetySettings = SafetySettings()
    extend: ExtendSettings = ExtendSettings()
    checks: Mapping[str, CheckSettings] = field(default_factory=dict)
    healers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    waivers: Mapping[str, Waiver] = field(default_factory=dict)
    coordinators: Mapping[str, Coordinator] = field(default_factory=dict)
    source: str = "the defaults"
    file: str = field(default="", compare=False)

    def check(self, name: str) -> CheckSettings:
        return self.checks.get(name, CheckSettings())

    def healer(self, name: str) -> HealerSettings:
        common = {each.name for each in fields(HealerSettings)}
        return HealerSettings(
            **{key: value for key, value in self.healers.get(name, {}).items() if key in common}
        )
