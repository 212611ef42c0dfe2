"""``list``: every check and healer there is, whether it is on, and where its limits came from."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from miyabi_healing.cli.common import CommandContext, Refusal, as_json, settings
from miyabi_healing.model.config import Config, ConfigError
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.report import layout
from miyabi_healing.runner import effective, registry
from miyabi_healing.runner.check_sources import (
    CheckSource,
    HealerSource,
    check_sources,
    healer_sources,
)
from miyabi_healing.support import console
from miyabi_healing.support.config_sources import ConfigSources, config_sources, redacted
from miyabi_healing.support.formatting import display

_Row = dict[str, Any]
_INDENT = " " * 5


@click.command("list")
@as_json
@click.pass_obj
def list_all(given: CommandContext, as_json: bool) -> None:
    """The checks and healers, on or off and why, their limits and where each came from, what they
    look at.

    Those of --checks DIR and of [extend] as well. Checks are read, not run. Changes nothing.
    """
    chosen = settings(given)
    document = build_list(chosen, folders(chosen, given.checks))
    if as_json or given.as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        for line in list_lines(document, layout.screen_width()):
            click.echo(line)
    problems = [*document["unknown"], *(row for row in document["checks"] if row["problem"])]
    sys.exit(ExitCode.UNKNOWN if problems else ExitCode.HEALTHY)


def folders(chosen: Config, more: tuple[str, ...]) -> registry.Folders:
    """Where checks and healers are. Raises Refusal."""
    try:
        return registry.checks_folders(chosen, more)
    except ConfigError as error:
        raise Refusal(str(error), ExitCode.USAGE) from None


def build_list(chosen: Config, where: registry.Folders) -> _Row:
    """The document of ``list --json``. Raises Refusal where two healers have one name."""
    from miyabi_healing.runner.fixtures import Targets

    sources, targets, notes = config_sources(chosen), Targets(chosen), list[str]()
    try:
        healers = healer_sources(where)
    except ConfigError as error:
        raise Refusal(str(error), ExitCode.USAGE) from None
    checks = check_sources(where)
    with console.progress_line(silent=False) as progress:
        progress("looking for repositories")
        rows = [_check_row(each, chosen, sources, targets, notes) for each in checks]
    return {
        "configuration": display(chosen.file) if chosen.file else chosen.source,
        "checks": rows,
        "healers": [_healer_row(each, checks, chosen, sources) for each in healers],
        "notes": list(dict.fromkeys(notes)),
        "unknown": [f"{name}: {why}" for name, why in where.unknown],
    }


def _check_row(
    check: CheckSource, chosen: Config, sources: ConfigSources, targets: Any, notes: list[str]
) -> _Row:
    from miyabi_healing.runner.fixtures import TARGETS

    whole = effective.check_limit(check, chosen, sources)
    fixture = next((each for each in TARGETS if each in check.fixtures), "")
    found: tuple[str, ...] = ()
    if fixture:
        try:
            found = tuple(targets.of(fixture))
            if fixture in ("repository", "git_locks"):
                notes += targets.repositories.notes
        except (ConfigError, OSError) as error:
            notes.append(f"{check.name}: {error}")
    own = {
        each.target: {"limit": each.values, "sources": each.sources, "words": each.words}
        for each in (effective.target_limits(check, whole, found, chosen, sources) if whole else ())
    }
    gate = chosen.check(check.name).gate or check.gate
    return {
        "name": check.name,
        "on": not check.why_off(chosen),
        "why_off": check.why_off(chosen),
        "from": effective.origin(check),
        "file": display(check.file),
        "line": check.line,
        "about": check.doc.split("\n\n")[-1].replace("\n", " "),
        "limit": whole.values if whole else {},
        "unit": whole.limit.unit if whole else "",
        "severity": whole.limit.severity.label if whole else "",
        "words": whole.words if whole else "",
        "sources": whole.sources if whole else {},
        "targets": [{"name": display(each), **own.get(each, {})} for each in found],
        "per_target": bool(fixture),
        "healers": list(check.healers),
        "healers_off": [each for each in check.healers if not chosen.healer(each).enabled],
        "gate": list(gate),
        "problem": check.problem,
    }


def _healer_row(
    healer: HealerSource, checks: list[CheckSource], chosen: Config, sources: ConfigSources
) -> _Row:
    given = chosen.healers.get(healer.name, {})
    off = not chosen.healer(healer.name).enabled
    where = sources.near("healers", healer.name, "enabled")
    ours = healer.file.is_relative_to(registry.builtin("healers"))
    return {
        "name": healer.name,
        "on": not off,
        "why_off": f"switched off: [healers.{healer.name}] enabled = false, {where}" if off else "",
        "from": "built-in" if ours else display(healer.file),
        "file": display(healer.file),
        "about": healer.doc.split("\n\n")[0].replace("\n", " "),
        "checks": list(dict.fromkeys(each.name for each in checks if healer.name in each.healers)),
        "set": [
            {
                "key": key,
                "value": redacted(key, value),
                "source": sources.near("healers", healer.name, key),
            }
            for key, value in given.items()
        ],
        "problem": healer.problem,
    }


def list_lines(document: _Row, width: float) -> Iterator[str]:
    """For people."""
    yield "Checks"
    for row in document["checks"]:
        yield from check_lines(row, width)
    yield ""
    yield "Healers"
    for row in document["healers"]:
        yield from _healer_lines(row, width)
    yield ""
    yield from layout.wrapped(f"Configuration: {document['configuration']}", width, rest="  ")
    for note in (*document["notes"], *document["unknown"]):
        yield from layout.wrapped(f"Note: {note}", width, rest="  ")


def check_lines(row: _Row, width: float) -> Iterator[str]:
    """One check: its limit and who heals it, then where that came from and what it looks at."""
    called = [f"{each} (off)" if each in row["healers_off"] else each for each in row["healers"]]
    heals = f"; {', then '.join(called)} heals it" if called else "; nothing heals it"
    head = f"{'on ' if row['on'] else 'off'}  {row['name']}: {row['words'] or 'no limit known'}"
    yield from layout.wrapped(f"{head}{heals}", width, rest=_INDENT)
    details = [row["why_off"], row["problem"] and f"{row['file']}: {row['problem']}"]
    details.append(f"limit: {sources_text(row['sources'])}" if row["sources"] else "")
    if row["on"] and row["per_target"]:
        details.append(f"looks at: {_targets_text(row['targets'])}")
    for each in filter(None, details):
        yield from layout.wrapped(each, width, first=_INDENT, rest=_INDENT + "  ")


def sources_text(sources: dict[str, str]) -> str:
    """``built-in``, or the source that most numbers have, and those that have another."""
    told = {key: each for key, each in sources.items() if each != effective.FOLLOWS}
    main = told["threshold"]
    rest = [f"{key}: {each}" for key, each in told.items() if each != main]
    return "; ".join([main, *rest])


def _targets_text(targets: list[_Row]) -> str:
    if not targets:
        return "nothing, as there is none"
    return ", ".join(
        f"{each['name']} ({each['words']}: {sources_text(each['sources'])})"
        if each.get("words")
        else each["name"]
        for each in targets
    )


def _healer_lines(row: _Row, width: float) -> Iterator[str]:
    called = f"heals {', '.join(row['checks'])}" if row["checks"] else "no check calls it"
    ours = "" if row["from"] == "built-in" else f" ({row['from']})"
    head = f"{'on ' if row['on'] else 'off'}  {row['name']}: {called}{ours}"
    yield from layout.wrapped(head, width, rest=_INDENT)
    details = [row["why_off"], row["problem"]]
    details += [
        f"{each['key']} = {json.dumps(each['value'])}: {each['source']}"
        for each in row["set"]
        if not (each["key"] == "enabled" and not row["on"])
    ]
    for each in filter(None, details):
        yield from layout.wrapped(each, width, first=_INDENT, rest=_INDENT + "  ")
