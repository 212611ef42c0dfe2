"""``config``: what holds here and where each value came from; and what is wrong with the file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import click

from miyabi_healing.cli.common import CommandContext, Refusal, as_json, settings
from miyabi_healing.cli.listing import folders
from miyabi_healing.model.config import Config, ConfigError, HealerSettings
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.report import layout
from miyabi_healing.runner.effective import FOLLOWS
from miyabi_healing.support import config_loader, config_sources, paths, secrets
from miyabi_healing.support.config_sources import DEFAULT, ConfigSources, redacted
from miyabi_healing.support.formatting import display
from miyabi_healing.support.invocation import own_command

_PLAIN_KEY = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"


@dataclass(frozen=True)
class _Value:
    """One effective value: the keys that lead to it, and where it came from."""

    path: tuple[str, ...]
    value: Any
    source: str

    def row(self) -> dict[str, Any]:
        return {"key": ".".join(map(_key, self.path)), "value": self.value, "source": self.source}


@click.group("config")
def configuration() -> None:
    """The configuration: what holds here and why, and whether the file is right."""


@configuration.command("show")
@click.option("--changed", is_flag=True, help="Only what is not the default.")
@as_json
@click.pass_obj
def _show(given: CommandContext, changed: bool, as_json: bool) -> None:
    """Every value that holds, as TOML, each with its source: the default, a line of the file, or a
    variable. Secrets are not shown.
    """
    chosen = settings(given)
    sources = config_sources.config_sources(chosen)
    values = [
        each
        for each in _effective(chosen, sources, given)
        if not changed or each.source not in (DEFAULT, "built-in", FOLLOWS)
    ]
    hidden = [f"{name} is set" for name in sorted(secrets.withdrawn)]
    if as_json or given.as_json:
        document = {
            "file": display(chosen.file),
            "values": [each.row() for each in values],
            "secrets": hidden,
        }
        click.echo(json.dumps(document, indent=2, default=str))
        return
    for line in (*_head(chosen), *_toml_lines(values, layout.screen_width())):
        click.echo(line)
    for each in hidden:
        click.echo(f"# {each} (a secret, not shown)")


def _head(chosen: Config) -> Iterator[str]:
    if chosen.file:
        yield f"# {display(chosen.file)}"
        return
    yield "# No configuration file; it would be the first of:"
    yield from (f"#   {display(each)}" for each in paths.config_candidates())


def _effective(chosen: Config, sources: ConfigSources, given: CommandContext) -> Iterator[_Value]:
    """Every value, in the order of the sections."""
    for section in fields(Config):
        held = getattr(chosen, section.name)
        if not is_dataclass(held) or isinstance(held, type):
            continue
        rows = [
            each
            for key in fields(held)
            for each in _flat((section.name, key.name), getattr(held, key.name), sources)
        ]
        yield from sorted(rows, key=lambda each: len(each.path) > 2)  # tables below come last
    where = folders(chosen, given.checks)
    yield from _of_checks(chosen, where, sources)
    yield from _of_healers(chosen, where, sources)
    for name, waiver in chosen.waivers.items():
        for key in fields(waiver):
            keys = ("waivers", name, key.name)
            yield _Value(keys, getattr(waiver, key.name), sources.of(*keys))
    for name, coordinator in chosen.coordinators.items():
        yield from _flat(("coordinators", name), coordinator, sources)


def _flat(path: tuple[str, ...], value: Any, sources: ConfigSources) -> Iterator[_Value]:
    """A value as rows of its own where it holds some."""
    if isinstance(value, Mapping) and value:
        for name, row in value.items():
            yield from _flat((*path, name), row, sources)
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            held = getattr(value, each.name)
            source = sources.of(*path, each.name)
            if source != DEFAULT:
                yield _Value((*path, each.name), redacted(each.name, held), source)
    elif isinstance(value, tuple) and any(is_dataclass(each) for each in value):
        for number, row in enumerate(value, 1):
            yield from _flat((*path, str(number)), row, sources)
    else:
        value = list(value) if isinstance(value, tuple) else value
        yield _Value(path, redacted(path[-1], value), sources.of(*path))


def _of_checks(chosen: Config, where: Any, sources: ConfigSources) -> Iterator[_Value]:
    from miyabi_healing.runner import effective
    from miyabi_healing.runner.check_sources import check_sources

    for check in check_sources(where):
        path = ("checks", check.name)
        own = chosen.check(check.name)
        yield _Value((*path, "enabled"), own.enabled, sources.of(*path, "enabled"))
        whole = effective.check_limit(check, chosen, sources)
        for key, value in whole.values.items() if whole else ():
            if whole and not (check.opt_in and own.threshold is None and key == "threshold"):
                yield _Value((*path, key), value, whole.sources[key])
        gate = sources.of(*path, "gate")
        if gate != DEFAULT or check.gate != (1, 1):
            origin = effective.origin(check) if gate == DEFAULT else gate
            yield _Value((*path, "gate"), list(own.gate or check.gate), origin)
        for name, row in own.targets.items():
            yield from _flat((*path, "targets", name), row, sources)


def _of_healers(chosen: Config, where: Any, sources: ConfigSources) -> Iterator[_Value]:
    """What every healer knows, and its own options; one whose code cannot be loaded has those that
    are set.
    """
    from miyabi_healing.runner import registry

    for name, file in where.healer_files().items():
        given = chosen.healers.get(name, {})
        held = {
            each.name: getattr(chosen.healer(name), each.name) for each in fields(HealerSettings)
        }
        try:
            own = registry.options(chosen, name, registry.load_healer(name, file)[1])
        except ConfigError as error:
            raise Refusal(str(error), ExitCode.USAGE) from None
        except Exception:  # whatever somebody's code does
            own = None
            held |= given
        if is_dataclass(own):
            held |= {each.name: getattr(own, each.name) for each in fields(own)}
        for key, value in held.items():
            value = list(value) if isinstance(value, tuple) else value
            path = ("healers", name, key)
            yield _Value(path, redacted(key, value), sources.of(*path))


def _toml_lines(values: list[_Value], width: float) -> Iterator[str]:
    """A table for each section; what has no value is a comment, as TOML has no word for it."""
    section: tuple[str, ...] = ()
    for each in values:
        if each.path[:-1] != section:
            section = each.path[:-1]
            yield ""
            yield _header(section)
        text = toml_text(each.value)
        line = f"{_key(each.path[-1])} = {text}" if text else f"# {_key(each.path[-1])}: not set"
        comment = f"# {each.source}"
        if len(line) + 2 + len(comment) <= width:
            yield f"{line}  {comment}"
        elif isinstance(each.value, list) and len(line) > width:
            yield comment
            yield f"{_key(each.path[-1])} = ["
            yield from (f"  {toml_text(item)}," for item in each.value)
            yield "]"
        else:
            yield comment
            yield line


def _header(section: tuple[str, ...]) -> str:
    *above, last = section
    if last.isdigit() and above == ["logs", "group"]:  # the one array of tables
        return "[[logs.group]]"
    return f"[{'.'.join(map(_key, section))}]"


def toml_text(value: Any) -> str:
    """A value as TOML writes it; empty for none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value:g}" if float(value).is_integer() and abs(value) < 1e6 else repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml_text, value))}]"
    if isinstance(value, Mapping):
        rows = (f"{_key(str(name))} = {toml_text(each)}" for name, each in value.items())
        return "{ " + ", ".join(rows) + " }" if value else "{}"
    return str(value)  # a date


def _key(name: str) -> str:
    plain = name and all(letter in _PLAIN_KEY for letter in name)
    return name if plain else json.dumps(name, ensure_ascii=False)


@configuration.command("check")
@as_json
@click.pass_obj
def _check(given: CommandContext, as_json: bool) -> None:
    """Everything that is wrong with the configuration, with file and line, and what in it leads
    nowhere. Changes nothing.
    """
    file, found = _problems(given)
    errors = sum(each["severity"] == "error" for each in found)
    if as_json or given.as_json:
        click.echo(json.dumps({"file": file, "ok": not errors, "problems": found}, indent=2))
    else:
        width = layout.screen_width()
        for each in found:
            words = f"{each['where']}: {each['severity']}: {each['message']}"
            for line in layout.wrapped(words, width, rest="  "):
                click.echo(line)
        for line in layout.wrapped(_verdict(file, errors, len(found) - errors), width, rest="  "):
            click.echo(line)
    sys.exit(ExitCode.USAGE if errors else ExitCode.HEALTHY)


def _verdict(file: str, errors: int, warnings: int) -> str:
    if not file and errors:
        return (
            f"No configuration file; in the environment {errors} error(s). No run starts with it."
        )
    if not file:
        where = ", ".join(display(each) for each in paths.config_candidates())
        found = f"No configuration file: the defaults hold. Looked for {where}."
        return f"{found} '{own_command()} init' writes one." if not errors + warnings else found
    if errors:
        again = f", {warnings} warning(s)" if warnings else ""
        return f"{file}: {errors} error(s){again}. No run starts with it."
    return f"{file}: {f'no error, {warnings} warning(s)' if warnings else 'all is right'}."


def _problems(given: CommandContext) -> tuple[str, list[dict[str, Any]]]:
    """The file that is read, empty where there is none, and everything that is wrong with it."""
    from miyabi_healing.runner import config_check
    from miyabi_healing.support import config_lines

    def row(each: config_check.Problem) -> dict[str, Any]:
        severity = "error" if each.fatal else "warning"
        return {"where": each.where, "severity": severity, "message": display(each.message)}

    try:
        path = config_loader.find_file(given.config_file, os.environ)
        text = config_loader.read_text(path) if path else ""
    except ConfigError as error:
        where, _, words = str(error).partition(": ")
        return where, [row(config_check.Problem(where, words or str(error)))]
    file = display(os.path.abspath(path)) if path else ""
    try:
        table = config_loader.parse_toml(text, file)
        variables = config_loader.from_environment(os.environ)
    except ConfigError as error:
        words = str(error).removeprefix(f"{file}: ")
        line = config_check.line_in(words)
        where = (f"{file}:{line}" if line else file) if path else "the environment"
        return file, [row(config_check.Problem(where, words))]
    merged = config_loader.merged(table, variables)
    sources = ConfigSources(
        file, config_lines.key_lines(text), config_sources.variables(os.environ)
    )
    found = config_check.problems(merged, sources, given.checks)
    return file, [row(each) for each in sorted(found, key=_place)]


def _place(problem: Any) -> tuple[str, int]:
    """In the order of the file's lines."""
    file, _, line = problem.where.rpartition(":")
    return (file, int(line)) if line.isdigit() else (problem.where, 0)
