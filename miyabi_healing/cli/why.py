"""``why``: what becomes of one thing, what that rests on, and what would change it."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from miyabi_healing.cli.common import CommandContext, Refusal, as_json, reading, settings
from miyabi_healing.model.config import Config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.support import console, mount_answers, paths
from miyabi_healing.support.files import place_of
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.host.explain.question import Question
    from miyabi_healing.model.explanation import Explanation, Place
    from miyabi_healing.model.plan import Plan


@click.command()
@click.argument("thing", metavar="PATH|PID|NAME")
@as_json
@click.pass_obj
def why(given: CommandContext, thing: str, as_json: bool) -> None:
    """Why one thing goes or stays: a worktree, a git lock, a log, a known cache or a part of it, a
    process, or something in quarantine; and what past runs said of it.

    PID is a number, or pid:NUMBER; NAME is one of quarantine list. Changes nothing.
    """
    from miyabi_healing.host.explain.kinds import explanations
    from miyabi_healing.report import explanations as words
    from miyabi_healing.report import layout, style

    chosen = settings(given)
    with console.progress_line(silent=False) as progress:
        progress(f"looking at {display(thing)}")
        question = _question(thing, chosen)
        found = list(explanations(question))
        there = question.pid is None and os.path.lexists(question.path)
        place = _place(question) if there else None
        past = []
        if question.pid is None:
            found = [_respected(question, each) for each in found]
            past = _past(question)
            place = _with_causes(question, place) if place else None
    if not (found or there or past):
        what = "no such process" if question.pid else "nothing there, nor in quarantine"
        raise Refusal(f"{display(thing)}: {what}", ExitCode.USAGE)
    path = "" if question.pid else display(question.path)
    last = _last_report(question)
    document = words.build_explanations(thing, found, place, past, last, path)
    if as_json or given.as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        colour = style.current().colour
        for line in words.explanation_lines(document, layout.screen_width()):
            click.echo(line, color=colour)
    sys.exit(ExitCode.HEALTHY if document["certain"] else ExitCode.UNKNOWN)


def _respected(question: Question, found: Explanation) -> Explanation:
    """What would go now, but was rolled back by hand lately, is left alone until a day."""
    from miyabi_healing.gate.handlers.table import HANDLERS
    from miyabi_healing.gate.policy import by_hand_text
    from miyabi_healing.report.explanations import would_go
    from miyabi_healing.support.formatting import DAY

    seconds = question.config.policy.respect_days * DAY
    with reading(question.state) as journal:
        if not journal or not would_go(found.verdict):
            return found
        rows = [journal.rolled_back(kind, found.target, seconds, question.now) for kind in HANDLERS]
    if not (row := max(filter(None, rows), key=lambda each: each[1], default=None)):
        return found
    sooner = "to have it go sooner: "
    others = [each for each in found.changes if not each.startswith(sooner)]
    return replace(
        found,
        verdict=f"stays for now: {by_hand_text(*row)}; then: {found.verdict}",
        changes=(f"{sooner}a lower respect_days in [policy]", *others),
    )


def _with_causes(question: Question, place: Place) -> Place:
    """The same with what it has to do with what grew lately, with the figures that a forecast
    leaves out.
    """
    from miyabi_healing.report.folding import home_in
    from miyabi_healing.state.looks import causes_with

    with reading(question.state) as journal:
        found = list(causes_with(journal, str(question.path))) if journal else []
    notes = tuple(
        f"Part of what grew ({f'{issue} {target}'.rstrip()}): {home_in(each.text)}."
        for issue, target, each in found
    )
    return replace(place, notes=(*place.notes, *notes))


def _past(question: Question) -> list[dict[str, Any]]:
    """What past runs said of it."""
    from miyabi_healing.state.verdicts import past_verdicts

    with reading(question.state) as journal:
        return list(past_verdicts(journal, display(question.path))) if journal else []


def _last_report(question: Question) -> dict[str, Any] | None:
    """The report of the last run, which may have foreseen something of it."""
    from miyabi_healing.state import reports

    if question.pid is not None:
        return None
    with reading(question.state) as journal:
        return reports.latest(journal) if journal else None


def _question(thing: str, chosen: Config) -> Question:
    """Raises Refusal where it cannot be understood."""
    from miyabi_healing.cli.our_healers import options_of, planned
    from miyabi_healing.host.explain.question import Question
    from miyabi_healing.state import run_clock
    from miyabi_healing.support.invocation import own_command

    number = re.fullmatch(r"(?:pid:)?(\d{1,9})", thing)
    if not thing or (thing.startswith("pid:") and not number):
        raise Refusal(f"{thing!r} is no process: pid:123 would be one", ExitCode.USAGE)
    path = Path(os.path.abspath(os.path.expanduser(thing)))
    if mount_answers.is_silent(path, follow=False):
        raise Refusal(f"{display(path)} lies on a mount that does not answer", ExitCode.UNKNOWN)
    with reading(paths.state_folder()) as journal:
        now = journal.now() if journal else run_clock.unknown_moment()
    plan: partial[Plan] = partial(planned, chosen)
    return Question(
        word=thing,
        path=place_of(path),
        pid=int(number[1]) if number else None,
        config=chosen,
        state=paths.state_folder(),
        now=now,
        program=own_command(),
        options=partial(options_of, chosen),
        plan=plan,
    )


def _place(question: Question) -> Place:
    """What a thing lies on, and whether any step may change something there."""
    from miyabi_healing.gate.primitives import roots
    from miyabi_healing.model.explanation import Place
    from miyabi_healing.state.own_state import OwnState
    from miyabi_healing.support.mount_table import mount_around

    path = question.path
    mount = mount_around(str(path))
    root = roots.root_of(path, roots.allowed(question.config))
    notes = []
    if path.is_symlink():
        notes.append(f"It is a symbolic link to {os.readlink(path)}: no link is followed.")
    if os.path.lexists(path) and (
        ours := OwnState(question.state, question.config).objection(path)
    ):
        notes.append(f"Never a target: {ours}.")
    return Place(
        path=str(path),
        filesystem=mount.name if mount else "a filesystem that cannot be told",
        root=str(root) if root else None,
        notes=tuple(notes),
    )
