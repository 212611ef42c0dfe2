"""The configuration: defaults, over them one TOML file, over it the environment.

``MIYABI_HEALING__GIT__BASE=main`` sets ``base`` in ``[git]``: the name is upper case, parts are joined by two underscores, the
value is TOML (a text that is no TOML value counts as a string).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from miyabi_healing import ownership, paths
from miyabi_healing.files import display
from miyabi_healing.issue import Limit, Severity

T = TypeVar("T")
VARIABLE = "MIYABI_HEALING_CONFIG"
PREFIX = "MIYABI_HEALING__"


class ConfigError(Exception):
    """A configuration that cannot be used; the message is one line that names file, key and the way out."""


def positive(settings: object, *names: str) -> None:
    """Refuse settings that are negative or not finite. Raises ValueError."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and (not math.isfinite(value) or value < 0):
            raise ValueError(f"{name} must be zero or more, not {value}")


@dataclass(frozen=True, repr=False)
class Disk:
    """The filesystems to look at, by a folder on each; none means every one that holds data on a device."""

    mounts: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Git:
    """The repositories to look after, what they are merged into, and further folders in them that can be made again."""

    repos: tuple[str, ...] = ()
    base: str = ""
    regenerable: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Logs:
    """The files that count as logs. `databases` are names, like ``*.mydb``, that lie beside what is no log: besides the known."""

    patterns: tuple[str, ...] = ("/tmp/miyabi*.log", "~/.miyabi/logs/*.log")
    databases: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Processes:
    """Names of further processes that must never be signalled."""

    protected: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Caches:
    """`homes` whose known caches may be cleaned; `also` names costly caches that may be cleaned too."""

    homes: tuple[str, ...] = ("~",)
    also: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Budgets:
    """The most one pass may do, whatever its healers plan."""

    worktrees: int = 20
    processes: int = 5
    gigabytes: float = 20
    files: int = 10_000

    def __post_init__(self) -> None:
        positive(self, "worktrees", "processes", "gigabytes", "files")


@dataclass(frozen=True, repr=False)
class Brakes:
    """What keeps a healer from trying again and again. Times in seconds, but for the days.

    After `attempts` within `forget` it gives up; between two attempts lies a `cooldown` (`cooldown_signals` where a plan only
    sends signals); what was rolled back by hand is left alone for `respect_days`. An issue that comes and goes is flapping from
    `flap_on` per cent of changes among its last results, until they are below `flap_off`: then nothing is done about it.
    """

    attempts: int = 3
    forget: float = 3600
    cooldown: float = 120
    cooldown_signals: float = 15
    respect_days: float = 7
    flap_on: float = 30
    flap_off: float = 20

    def __post_init__(self) -> None:
        positive(self, "attempts", "forget", "cooldown", "cooldown_signals", "respect_days", "flap_on", "flap_off")
        if self.flap_off > self.flap_on:
            raise ValueError(f"flap_off must not be above flap_on, {self.flap_on:g}, but is {self.flap_off:g}")


@dataclass(frozen=True, repr=False)
class Quarantine:
    """How long removed things are kept, and how many GB of them, the oldest going first.

    On a disk that is still over its limit after everything else, those older than `early_days` may go before their time;
    without it, none.
    """

    days: float = 30
    gigabytes: float = 50
    early_days: float | None = None

    def __post_init__(self) -> None:
        positive(self, "days", "gigabytes", "early_days")


@dataclass(frozen=True, repr=False)
class History:
    """How many days, and how many passes, are remembered."""

    days: float = 90
    passes: int = 20_000

    def __post_init__(self) -> None:
        positive(self, "days", "passes")


@dataclass(frozen=True, repr=False)
class Watch:
    """How many seconds one pass of watch mode may take before it is ended."""

    time_limit: float = 1800

    def __post_init__(self) -> None:
        positive(self, "time_limit")


@dataclass(frozen=True, repr=False)
class Alerts:
    """Who is told what has changed. Where messages go is secret, so it is in a file, or in the environment.

    `healed` is whether repairs that succeeded at once are told as well; what lasts is told again every `remind_hours`; a pass
    spends `time_limit` seconds at most on sending; what cannot be sent is tried again for `keep_hours`.
    """

    slack: bool = False
    slack_url_file: str = ""
    apprise_urls_file: str = ""
    healed: bool = True
    remind_hours: float = 24
    time_limit: float = 10
    keep_hours: float = 72

    def __post_init__(self) -> None:
        positive(self, "remind_hours", "time_limit", "keep_hours")


@dataclass(frozen=True, repr=False)
class Ping:
    """The file that holds the URL to ping, which is a secret, and how many seconds one ping may take."""

    url_file: str = ""
    time_limit: float = 5

    def __post_init__(self) -> None:
        if not 0 < self.time_limit <= 60:
            raise ValueError(f"time_limit must be more than 0 and at most 60, not {self.time_limit}")


@dataclass(frozen=True, repr=False)
class Metrics:
    """The file that node_exporter's textfile collector is to read; none where it is empty."""

    textfile: str = ""

    def __post_init__(self) -> None:
        if self.textfile and not self.textfile.startswith(("/", "~")):
            raise ValueError(f"textfile must be an absolute path, not {self.textfile!r}")


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
        if not self.reason.strip():
            raise ValueError("reason must say why")

    @property
    def end(self) -> float:
        """In seconds since the epoch: a mere date ends with its day, a time without an offset is local."""
        import datetime

        if isinstance(self.until, datetime.datetime):
            return self.until.timestamp()
        return datetime.datetime.combine(self.until, datetime.time(23, 59, 59)).timestamp()


@dataclass(frozen=True, repr=False)
class Safety:
    """`roots` are further folders in which a healer's steps may change something, `disposable` those it may delete from.

    `ours_alone` are folders that nobody else uses, no other host, container or user: there, that somebody could be at work who
    cannot be seen from here is no reason to leave a thing alone. Whoever is seen using it always is one.
    """

    roots: tuple[str, ...] = ()
    disposable: tuple[str, ...] = ()
    ours_alone: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for each in self.ours_alone:
            if not each.startswith(("/", "~")):
                raise ValueError(f"ours_alone must name folders by absolute paths, not {each!r}")


@dataclass(frozen=True, repr=False)
class Extend:
    """`folders` with a user's own checks; their healers lie in a ``healers`` folder inside."""

    folders: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class CheckSettings:
    """One check's ``[checks.NAME]``; None is the check's own default."""

    enabled: bool = True
    threshold: float | None = None
    clear: float | None = None
    low: float | None = None
    medium: float | None = None
    high: float | None = None
    critical: float | None = None
    gate: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        positive(self, "threshold", "clear", "low", "medium", "high", "critical")
        if self.gate and not 1 <= self.gate[0] <= self.gate[1] <= 100:
            raise ValueError(f"gate must be like [2, 3], the passes needed and of how many, not {list(self.gate)}")
        if self.threshold is not None and self.clear is not None and self.clear > self.threshold:
            raise ValueError(f"clear must not be above the threshold, {self.threshold:g}, but is {self.clear:g}")

    def adjust(self, limit: Limit) -> Limit:
        """The limit a check comes with, as the user wants it."""
        changed = {severity: getattr(self, severity.label) for severity in Severity}
        bounds = {**limit.bounds, **{severity: bound for severity, bound in changed.items() if bound is not None}}
        clear_at = self.clear if self.clear is not None else limit.clear_at
        if self.threshold is None:
            return replace(limit, bounds=bounds, clear_at=clear_at)
        return replace(limit, threshold=self.threshold, bounds=bounds, clear_at=self.clear)


@dataclass(frozen=True, repr=False)
class HealerSettings:
    """What every healer's ``[healers.NAME]`` knows besides the healer's own options."""

    enabled: bool = True
    time_limit: float = 300
    attempts: int | None = None
    cooldown: float | None = None
    undo_on_failure: bool = True

    def __post_init__(self) -> None:
        positive(self, "time_limit", "attempts", "cooldown")


@dataclass(frozen=True, repr=False)
class Config:
    """Everything that can be set, each section a table of the file; `file` is that file, empty where there is none."""

    disk: Disk = Disk()
    git: Git = Git()
    logs: Logs = Logs()
    processes: Processes = Processes()
    caches: Caches = Caches()
    budgets: Budgets = Budgets()
    brakes: Brakes = Brakes()
    quarantine: Quarantine = Quarantine()
    history: History = History()
    watch: Watch = Watch()
    alerts: Alerts = Alerts()
    ping: Ping = Ping()
    metrics: Metrics = Metrics()
    safety: Safety = Safety()
    extend: Extend = Extend()
    checks: Mapping[str, CheckSettings] = field(default_factory=dict)
    healers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    waivers: Mapping[str, Waiver] = field(default_factory=dict)
    source: str = "the defaults"
    file: str = field(default="", compare=False)

    def check(self, name: str) -> CheckSettings:
        return self.checks.get(name, CheckSettings())

    def healer(self, name: str) -> HealerSettings:
        common = {each.name for each in fields(HealerSettings)}
        return HealerSettings(**{key: value for key, value in self.healers.get(name, {}).items() if key in common})

    def options(self, name: str, kind: type[T]) -> T:
        """The healer's own options, as its dataclass `kind`. Raises ConfigError."""
        common = {each.name for each in fields(HealerSettings)}
        own = {key: value for key, value in self.healers.get(name, {}).items() if key not in common}
        return convert(own, kind, f"{self.source}: healers.{name}", also=common)


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """Name the valid word a wrong one was probably meant to be, or all of them."""
    import difflib

    words = sorted(valid)
    close = difflib.get_close_matches(wrong, words, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"valid: {', '.join(words)}" if words else "there is none to set"


def convert(table: Any, kind: type[T], where: str, also: Iterable[str] = ()) -> T:
    """Make a frozen dataclass of a table, refusing unknown keys and wrong types. Raises ConfigError."""
    import msgspec  # only a host that has a configuration pays for it

    if not is_dataclass(kind):
        raise TypeError(f"{kind.__name__} is not a dataclass")
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: expected a table, got {type(table).__name__}")
    known = [each.name for each in fields(kind)]
    for key in table:
        if key not in known:
            raise ConfigError(f"{where}.{key}: unknown key; {nearest(key, [*known, *also])}")
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        key = path.rstrip("`")
        raise ConfigError(f"{where}{key}: {message[0].lower()}{message[1:]}") from None


def interpret(table: Mapping[str, Any], source: str) -> Config:
    """Check a whole document and make it a `Config`. Raises ConfigError."""
    sections = {each.name: each for each in fields(Config) if each.name not in ("source", "file")}
    values: dict[str, Any] = {"source": source}
    for key, value in table.items():
        where = f"{source}: {key}"
        if key not in sections:
            raise ConfigError(f"{where}: unknown section; {nearest(key, sections)}")
        if key in ("checks", "healers", "waivers") and not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a table, got {type(value).__name__}")
        if key == "checks":
            values[key] = {name: convert(inner, CheckSettings, f"{where}.{name}") for name, inner in value.items()}
        elif key == "waivers":
            values[key] = {name: convert(inner, Waiver, f"{where}.{name}") for name, inner in value.items()}
        elif key == "healers":
            for name, inner in value.items():
                if not isinstance(inner, Mapping):
                    raise ConfigError(f"{where}.{name}: expected a table, got {type(inner).__name__}")
                common = {each.name for each in fields(HealerSettings)}
                convert({k: v for k, v in inner.items() if k in common}, HealerSettings, f"{where}.{name}")
            values[key] = value
        else:
            values[key] = convert(value, type(getattr(Config, key)), where)
    return Config(**values)


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The tables that ``MIYABI_HEALING__SECTION__KEY`` variables stand for. Raises ConfigError."""
    result: dict[str, Any] = {}
    for name in sorted(environment):
        if not name.startswith(PREFIX):
            continue
        parts = name.removeprefix(PREFIX).lower().split("__")
        if len(parts) < 2 or not all(parts):
            raise ConfigError(f"{name}: expected {PREFIX}SECTION__KEY")
        import tomllib

        try:
            value = tomllib.loads(f"value = {environment[name]}")["value"]
        except tomllib.TOMLDecodeError:
            value = environment[name]
        table = result
        for part in parts[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{name}: contradicts another {PREFIX} variable")
        table[parts[-1]] = value
    return result


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one document over another, table by table."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def find(explicit: str | None, environment: Mapping[str, str]) -> Path | None:
    """The configuration file to read; None where there is none. Raises ConfigError for a named one that is missing."""
    named = explicit or environment.get(VARIABLE)
    if named:
        path = Path(named).expanduser()
        answered(path)
        if not path.is_file():
            origin = "--config" if explicit else VARIABLE
            raise ConfigError(f"{origin}: {display(path)}: no such file")
        return path
    return next((path for path in paths.config_candidates() if answered(path).is_file()), None)


def answered(path: Path) -> Path:
    """A path that can be looked at without waiting for a server that is gone. Raises ConfigError."""
    from miyabi_healing.host import answering

    try:
        answering.check(path)
    except answering.NoAnswer as error:
        raise ConfigError(str(error)) from None
    return path


def load(explicit: str | None = None, environment: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration that holds here. Raises ConfigError."""
    path = find(explicit, environment)
    overrides = from_environment(environment)
    if path is None:
        return interpret(overrides, "environment") if overrides else Config()
    import tomllib

    try:
        if os.geteuid() == 0 and (reason := ownership.objection(path, ownership.trusted())):
            raise ConfigError(f"{display(path)}: root obeys no configuration that others can change: {reason}")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{display(path)}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{display(path)}: not valid TOML: {error}") from None
    config = interpret(table, display(path))
    if overrides:
        interpret(overrides, "environment")  # so that a bad variable is named as one, not as a line of the file
        config = interpret(merge(table, overrides), display(path))
    return replace(config, file=os.path.abspath(path))
