"""How long a thing stays in quarantine, and how it is restored."""

from __future__ import annotations

import os
from pathlib import Path

from miyabi_healing.host.explain.question import Question
from miyabi_healing.model.explanation import Explanation
from miyabi_healing.state import quarantine
from miyabi_healing.state.quarantine import QuarantineEntry
from miyabi_healing.support.formatting import display, size_text, time_text, timestamp


def explain(question: Question) -> Explanation | None:
    """For what is in quarantine, by its name there, its path there, or where it came from: the last
    one of these. None for anything else.
    """
    found = [each for each in quarantine.find_entries(question.state) if _is_meant(question, each)]
    if not found:
        return None
    held = found[-1]
    others = tuple(f"so is {each.name}, from the same place" for each in found[:-1])
    if not held.manifest:
        return Explanation(
            kind="quarantine",
            target=held.name,
            verdict="stays: it is neither restored nor purged: "
            f"{held.damage or 'it has no manifest'}",
            evidence=(f"the thing is {display(held.payload)}", *others),
            certain=False,
        )
    end, by_runs = held.end_of(question.config.quarantine.days, question.now)
    only = ", as only time that runs see pass counts" if by_runs else ""
    back = display(held.original)
    evidence = [
        f"{display(held.kind)} from {back}, since {time_text(timestamp(held.time))}",
        f"set aside by run {display(held.run)}, step {held.step}",
        f"it takes {size_text(held.bytes)}, which is free once it is purged",
        f"the thing is {display(held.payload)}",
    ]
    if os.path.lexists(held.original):
        evidence.append(f"something else is at {back} now: that is not overwritten")
    return Explanation(
        kind="quarantine",
        target=held.name,
        verdict=f"stays until {time_text(timestamp(end))} at the earliest{only}; then a run "
        "purges it",
        evidence=(*evidence, *others),
        commands=(
            f"{question.program} rollback {held.run} --step {held.step}",
            f"{question.program} quarantine purge {held.name}",
        ),
    )


def _is_meant(question: Question, held: QuarantineEntry) -> bool:
    if question.word.rstrip("/") in (held.name, str(held.folder)):
        return True
    folder = Path(os.path.realpath(held.folder))
    original = Path(held.original) if held.manifest else None
    return question.path.is_relative_to(folder) or (
        original is not None and question.path in (original, Path(os.path.realpath(original)))
    )
