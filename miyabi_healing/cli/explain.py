"""``explain``: what one check or healer does, by its own documentation, and how it is set here."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import click
from click.shell_completion import CompletionItem

from miyabi_healing.cli.common import CommandContext, Refusal, as_json, reading, settings
from miyabi_healing.cli.configuration import toml_text
from miyabi_healing.cli.listing import folders, sources_text
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
from miyabi_healing.support import paths
from miyabi_healing.support.config_sources import ConfigSources, config_sources, redacted
from miyabi_healing.support.formatting import display
from miyabi_healing.support.invocation import own_command
from miyabi_healing.support.near_matches import did_you_mean

_Row = dict[str, Any]
_NEVER = "Never: "
_ALWAYS = (
    "Whatever a healer plans, the gate looks at each thing again before it changes it, writes down "
    "what it is about to do, and leaves alone what has changed since and what lies outside the "
    "allowed folders."
)


def _names(context: click.Context, parameter: click.Parameter, text: str) -> list[CompletionItem]:
    from miyabi_healing.cli.choice import complete_names

    return complete_names(context, parameter, text)


@click.command()
@click.argument("name", metavar="CHECK|HEALER", shell_complete=_names)
@as_json
@click.pass_obj
def explain(given: CommandContext, name: str, as_json: bool) -> None:
    """What a check measures and when it trips, or what a healer does, what it never touches, and
    how both are set here.

    'list' has the names. Why one thing goes or stays, 'why' says. Changes nothing.
    """
    chosen = settings(given)
    where = folders(chosen, given.checks)
    try:
        checks, healers = check_sources(where), healer_sources(where)
    except ConfigError as error:
        raise Refusal(str(error), ExitCode.USAGE) from None
    sources, word = config_sources(chosen), name.removeprefix("test_")
    rows = [_check_row(each, chosen, sources) for each in checks if each.name == word]
    for row in rows:
        row["learned"] = _learned(chosen, row["name"], row["healers"])
    rows += [_healer_row(each, checks, chosen, sources) for each in healers if each.name == name]
    if not rows:
        near = did_you_mean(word, [each.name for each in checks] + [each.name for each in healers])
        raise Refusal(f"no check or healer is called {display(name)!r}; {near}", ExitCode.USAGE)
    if as_json or given.as_json:
        click.echo(json.dumps({"name": word, "found": rows}, indent=2))
    else:
        width = layout.screen_width()
        for number, row in enumerate(rows):
            if number:
                click.echo("")
            for line in _lines(row, width):
                click.echo(line)
    sys.exit(ExitCode.UNKNOWN if any(row["problem"] for row in rows) else ExitCode.HEALTHY)


def _check_row(check: CheckSource, chosen: Config, sources: ConfigSources) -> _Row:
    whole = effective.check_limit(check, chosen, sources)
    needed, of = chosen.check(check.name).gate or check.gate
    return {
        "kind": "check",
        "name": check.name,
        "from": effective.origin(check),
        "file": display(check.file),
        "on": not check.why_off(chosen),
        "why_off": check.why_off(chosen),
        "about": _paragraphs(check.doc),
        "trips": whole.words if whole else "",
        "limit": whole.values if whole else {},
        "unit": whole.limit.unit if whole else "",
        "sources": whole.sources if whole else {},
        "clears_below": whole.limit.clear if whole else None,
        "gate": [needed, of],
        "after": list(check.after),
        "healers": list(check.healers),
        "problem": check.problem,
    }


def _healer_row(
    healer: HealerSource, checks: list[CheckSource], chosen: Config, sources: ConfigSources
) -> _Row:
    own, given = healer.options, chosen.healers.get(healer.name, {})
    common = chosen.healer(healer.name)
    paragraphs = _paragraphs(healer.doc)
    never = [each.removeprefix(_NEVER) for each in paragraphs if each.startswith(_NEVER)]
    return {
        "kind": "healer",
        "name": healer.name,
        "from": "built-in"
        if healer.file.is_relative_to(registry.builtin("healers"))
        else display(healer.file),
        "file": display(healer.file),
        "on": common.enabled,
        "about": [each for each in paragraphs if not each.startswith(_NEVER)],
        "never": never,
        "checks": list(dict.fromkeys(each.name for each in checks if healer.name in each.healers)),
        "options_about": _paragraphs(healer.options_doc),
        "options": [
            {
                "key": key,
                "value": redacted(key, given[key]) if key in given else _literal(default),
                "source": sources.near("healers", healer.name, key) if key in given else "default",
            }
            for key, default in own.items()
        ],
        "problem": healer.problem,
    }


def _learned(chosen: Config, check: str, healers: list[str]) -> list[_Row]:
    """The targets for which healers are tried in another order than the documented one."""
    if len(healers) < 2 or not chosen.learning.enabled:
        return []
    from miyabi_healing.report.learned_text import swap_text
    from miyabi_healing.runner import learning
    from miyabi_healing.state import attempts

    with reading(paths.state_folder()) as journal:
        if journal is None:
            return []
        targets = {each.target for each in attempts.read_all(journal) if each.issue == check}
        orders = {
            target: learning.order_of(journal, chosen, check, target, healers)
            for target in sorted(targets)
        }
    return [
        {
            "target": target,
            "healers": list(order.healers),
            "swaps": [swap_text(each) for each in order.swaps],
        }
        for target, order in orders.items()
        if order.swaps
    ]


def _literal(written: str) -> Any:
    """A default as a value, where it is one and no expression."""
    try:
        return ast.literal_eval(written)
    except (ValueError, SyntaxError):
        return written


def _paragraphs(doc: str) -> list[str]:
    return [" ".join(each.split()).replace("``", "`") for each in re.split(r"\n\s*\n", doc) if each]


def _lines(row: _Row, width: float) -> Iterator[str]:
    ours = "" if row["from"] == "built-in" else f" ({row['from']})"
    yield from layout.wrapped(f"{row['name']}: a {row['kind']}{ours}", width)
    for each in row["about"]:
        yield from layout.wrapped(each, width, "  ", "  ")
    yield from _check_lines(row, width) if row["kind"] == "check" else _healer_lines(row, width)
    if row["problem"]:
        yield from layout.wrapped(f"{row['file']}: {row['problem']}", width, "  ", "    ")


def _check_lines(row: _Row, width: float) -> Iterator[str]:
    facts = [row["why_off"][:1].upper() + row["why_off"][1:]]
    if row["limit"]:
        unit = f" {row['unit']}" if row["unit"] else ""
        facts.append(f"Trips: {row['trips']} ({sources_text(row['sources'])}).")
        if row["healers"]:
            facts.append(f"A repair aims for {row['clears_below']:g}{unit} or less.")
    needed, of = row["gate"]
    if of > 1:
        facts.append(f"In watch mode: acted on when it was found in {needed} of {of} runs.")
    if row["after"]:
        facts.append(f"Comes after {', '.join(row['after'])}, whose repair may spare it.")
    called = ", then ".join(row["healers"])
    facts.append(f"Healed by {called}." if called else "Nothing heals it.")
    for each in row["learned"]:
        where = f" on {each['target']}" if each["target"] else ""
        facts.append(
            f"Learned order{where}: {', then '.join(each['healers'])} ({'; '.join(each['swaps'])})."
        )
    commands = [f"history --issue {row['name']}", f"--only {row['name']} --dry-run"]
    commands += [f"explain {each}" for each in row["healers"]]
    yield from _facts(facts, commands, width)


def _healer_lines(row: _Row, width: float) -> Iterator[str]:
    facts = ["" if row["on"] else "Switched off in the configuration."]
    called = ", ".join(row["checks"])
    facts.append(f"Called by {called}." if called else "No check calls it.")
    facts += [f"{_NEVER}{each}" for each in row["never"]]
    facts.append(_ALWAYS)
    if row["options"]:
        about = " ".join(row["options_about"])
        facts.append(f"Options, in [healers.{row['name']}]: {about}")
    yield from _facts(facts, [], width)
    for each in row["options"]:
        value = toml_text(each["value"]) or "not set"
        source = "" if each["source"] == "default" else f"  ({each['source']})"
        yield from layout.wrapped(f"{each['key']} = {value}{source}", width, "    ", "      ")
    commands = [f"explain {each}" for each in row["checks"]]
    yield from _facts([], [*commands, f"--only {row['name']} --dry-run"], width)


def _facts(facts: list[str], commands: list[str], width: float) -> Iterator[str]:
    for each in filter(None, facts):
        yield from layout.wrapped(each, width, "  ", "    ")
    for each in commands:
        yield from layout.wrapped(f"{own_command()} {each}", width, "  > ", "    ")
