"""Reading the configuration: defaults, over them one TOML file, over it the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from miyabi_healing.model import config, limit_settings
from miyabi_healing.model.config import Config, ConfigError, HealerSettings, Waiver
from miyabi_healing.model.limit_settings import CheckSettings
from miyabi_healing.support import ownership, paths
from miyabi_healing.support.formatting import display

_Section = TypeVar("_Section")


VARIABLE = "MIYABI_HEALING_CONFIG"


PREFIX = "MIYABI_HEALING__"

_MOST = 1e12  # more is no number of seconds, bytes in GB, or files
_ROWS = ("AgentLock", "CacheKind", "DatabaseKind", "LimitSettings", "LogGroupSettings")

# A section, and what it was called before.
POLICY, OLD_POLICY = "policy", "brakes"


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """Name the valid word a wrong one was probably meant to be, or all of them."""
    import difflib

    words = sorted(valid)
    close = difflib.get_close_matches(wrong, words, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"valid: {', '.join(words)}" if words else "there is none to set"


def convert(table: Any, kind: type[_Section], where: str, also: Iterable[str] = ()) -> _Section:
    """Make a frozen dataclass of a table, refusing unknown keys and wrong types. Raises
    ConfigError.
    """
    import msgspec  # only a host that has a configuration pays for it

    for module in (config, limit_settings, sys.modules[kind.__module__]):
        vars(module).setdefault("Meta", msgspec.Meta)
    for name in _ROWS:
        vars(config).setdefault(name, Any)
    if not is_dataclass(kind):
        raise TypeError(f"{kind.__name__} is not a dataclass")
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: expected a table, got {type(table).__name__}")
    known = [each.name for each in fields(kind)]
    for key in table:
        if key not in known:
            raise ConfigError(f"{where}.{key}: unknown key; {nearest(key, [*known, *also])}")
    rows = {
        key: _convert_rows(table[key], row, f"{where}.{key}")
        for key, row in _row_kinds(table, kind).items()
    }
    for key, value in table.items():
        if "\0" in f"{key} {value}":
            raise ConfigError(f"{where}.{display(key)}: no text may hold a NUL")
        if isinstance(value, (int, float)) and not abs(value) <= _MOST:
            words = _range_texts(kind).get(key, "a number")
            raise ConfigError(f"{where}: {key} must be {words}, not {value:g}")
    try:
        section = msgspec.convert({key: table[key] for key in table if key not in rows}, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        key = path.rstrip("`")
        name, ranges = key.removeprefix("."), _range_texts(kind)
        if name in ranges and not message.partition(", got ")[1]:
            raise ConfigError(
                f"{where}: {name} must be {ranges[name]}, not {table[name]}"
            ) from None
        raise ConfigError(f"{where}{key}: {message[0].lower()}{message[1:]}") from None
    try:
        return replace(section, **rows) if rows else section
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _row_kinds(table: Mapping[str, Any], kind: type[Any]) -> dict[str, type[Any]]:
    """The keys of a table that hold rows, and what each row is, by the name in its annotation:
    ``Mapping[str, CacheKind]``. Reading all type hints would take longer than the rest together.
    """
    found = {}
    for each in fields(kind):
        name = next((row for row in _ROWS if row in str(each.type)), None)
        if name and _has_rows(table.get(each.name)):
            from miyabi_healing.model import catalogue

            found[each.name] = getattr(catalogue, name)
    return found


def _has_rows(value: object) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and any(isinstance(each, Mapping) for each in value)
    )


def _convert_rows(rows: Any, kind: type[Any], where: str) -> Any:
    """Make each row of a table or an array what it is. Raises ConfigError, which names the row."""
    if isinstance(rows, Mapping):
        return {name: convert(row, kind, f"{where}.{name}") for name, row in rows.items()}
    return tuple(convert(row, kind, f"{where}, number {n}") for n, row in enumerate(rows, 1))


def _range_texts(kind: type[Any]) -> dict[str, str]:
    """The range of each setting that has one, in words."""
    found = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        for each in (hint, *get_args(hint)):
            for meta in getattr(each, "__metadata__", ()):
                bounds = (
                    ("{} or more", meta.ge),
                    ("more than {}", meta.gt),
                    ("less than {}", meta.lt),
                    ("at most {}", meta.le),
                )
                said = " and ".join(words.format(end) for words, end in bounds if end is not None)
                found[name] = said.replace("0 or more", "zero or more") if meta.ge == 0 else said
    return found


def interpret(table: Mapping[str, Any], source: str) -> Config:
    """Check a whole document and make it a `Config`. Raises ConfigError."""
    sections = {each.name: each for each in fields(Config) if each.name not in ("source", "file")}
    if POLICY in table and OLD_POLICY in table:
        raise ConfigError(
            f"{source}: {OLD_POLICY}: is the older name of [{POLICY}], which is given as well; "
            f"keep [{POLICY}] alone"
        )
    values: dict[str, Any] = {"source": source}
    for key, value in table.items():
        where = f"{source}: {key}"
        if key not in sections and key != OLD_POLICY:
            raise ConfigError(f"{where}: unknown section; {nearest(key, sections)}")
        if key in ("checks", "healers", "waivers", "coordinators") and not isinstance(
            value, Mapping
        ):
            raise ConfigError(f"{where}: expected a table, got {type(value).__name__}")
        if key == "checks":
            values[key] = {
                name: convert(inner, CheckSettings, f"{where}.{name}")
                for name, inner in value.items()
            }
        elif key == "waivers":
            values[key] = {
                name: convert(inner, Waiver, f"{where}.{name}") for name, inner in value.items()
            }
        elif key == "coordinators":
            from miyabi_healing.model.coordinator import Coordinator  # few hosts have any

            values[key] = {
                name: convert(inner, Coordinator, f"{where}.{name}")
                for name, inner in value.items()
            }
        elif key == "healers":
            for name, inner in value.items():
                if not isinstance(inner, Mapping):
                    raise ConfigError(
                        f"{where}.{name}: expected a table, got {type(inner).__name__}"
                    )
                common = {each.name for each in fields(HealerSettings)}
                convert(
                    {k: v for k, v in inner.items() if k in common},
                    HealerSettings,
                    f"{where}.{name}",
                )
            values[key] = value
        else:
            name = POLICY if key == OLD_POLICY else key
            values[name] = convert(value, type(getattr(Config, name)), where)
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


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one document over another, table by table."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = (
            _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        )
    return merged


def merged(table: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """The file's document with what the environment sets over it."""
    return _merge(table, _named_alike(variables, table))


def _named_alike(above: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    """A document that calls the policy's section what the one below it calls it."""
    name = OLD_POLICY if OLD_POLICY in below else POLICY
    return {name if key in (POLICY, OLD_POLICY) else key: value for key, value in above.items()}


def find_file(explicit: str | None, environment: Mapping[str, str]) -> Path | None:
    """The configuration file to read; None where there is none. Raises ConfigError for a named one
    that is missing.
    """
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
    """A path that can be looked at without waiting for a server that is gone.

    Raises ConfigError.
    """
    from miyabi_healing.support import mount_answers

    try:
        mount_answers.check(path)
    except mount_answers.NoAnswer as error:
        raise ConfigError(str(error)) from None
    return path


def read_text(path: Path) -> str:
    """The text of a configuration that may be obeyed. Raises ConfigError."""
    try:
        if os.geteuid() == 0 and (
            reason := ownership.ownership_objection(path, ownership.trusted())
        ):
            raise ConfigError(
                f"{display(path)}: root obeys no configuration that others can change: {reason}"
            )
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{display(path)}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{display(path)}: not UTF-8: {error}") from None


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """Raises ConfigError."""
    import tomllib

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError, too
        raise ConfigError(f"{source}: not valid TOML: {error}") from None


def load_config(explicit: str | None = None, environment: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration that holds here. Raises ConfigError."""
    path = find_file(explicit, environment)
    overrides = from_environment(environment)
    if path is None:
        return interpret(overrides, "environment") if overrides else Config()
    table = parse_toml(read_text(path), display(path))
    config = interpret(table, display(path))
    if overrides:
        # so that a bad variable is named as one, not as a line of the file
        interpret(overrides, "environment")
        config = interpret(merged(table, overrides), display(path))
    return replace(config, file=os.path.abspath(path))


def healer_options(config: Config, name: str, kind: type[_Section]) -> _Section:
    """The healer's own options, as its dataclass `kind`. Raises ConfigError."""
    common = {each.name for each in fields(HealerSettings)}
    own = {key: value for key, value in config.healers.get(name, {}).items() if key not in common}
    return convert(own, kind, f"{config.source}: healers.{name}", also=common)
