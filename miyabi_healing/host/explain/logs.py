"""Why a log is archived, shortened, or left alone."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from miyabi_healing.host import logs
from miyabi_healing.host.explain.question import Question
from miyabi_healing.host.log_batches import is_small
from miyabi_healing.host.log_places import unsafe_log
from miyabi_healing.host.log_writers import writers_of
from miyabi_healing.host.logs import LogFile, LogGroup
from miyabi_healing.model.explanation import Explanation
from miyabi_healing.model.steps import ArchiveLogs, Step
from miyabi_healing.support import globbing
from miyabi_healing.support.formatting import display, duration_text, size_text

_ENDINGS = (".log", ".out", ".err")


def explain(question: Question) -> Explanation | None:
    """For a file that a pattern of logs matches, or that is called like a log; None for anything
    else. Raises OSError.
    """
    path = question.path
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    pattern = _pattern_of(question, path)
    file = LogFile(path.parent, path.name, status)
    if pattern is None and not (
        stat.S_ISREG(status.st_mode) and (path.name.endswith(_ENDINGS) or file.rotated)
    ):
        return None
    evidence = _evidence(question, file, pattern)
    if pattern is None:
        return Explanation(
            kind="log",
            target=display(path),
            verdict="stays: it matches none of the patterns of logs",
            evidence=tuple(evidence),
            changes=(f'[logs] patterns = ["{display(path.parent)}/*.log"] in the configuration',),
        )
    group = logs.read_log_group(pattern, question.config)
    most = question.threshold("large_log_files", 500, pattern)
    if (own := question.config.logs.group_of(pattern)) and own.threshold is not None:
        most = own.threshold
    evidence.append(f"its kind takes {group.megabytes:.1f} MB; more than {most:g} MB is too much")
    odd = next((why for each, why in group.odd if each == path), None)
    return _by_the_plan(question, file, group, evidence, odd, most)


def _by_the_plan(
    question: Question,
    file: LogFile,
    group: LogGroup,
    evidence: list[str],
    odd: str | None,
    most: float,
) -> Explanation:
    """What the healer would do about this one alone."""
    target = display(file.path)
    if odd:
        return Explanation(
            kind="log",
            target=target,
            verdict=f"stays: it is no log: {odd}",
            evidence=tuple(evidence),
        )
    alone = LogGroup(group.pattern, (file,), (), group.settings)
    plan = question.plan("prune_logs", alone)
    step = next(iter(plan.steps), None) or _together(question, file, group)
    if step:
        when = "the next run" if group.megabytes > most else f"once its kind takes over {most:g} MB"
        return Explanation(
            kind="log",
            target=target,
            verdict=f"{when}: {step.kind}: {step.reason}",
            evidence=(*evidence, *question.switched_off("large_log_files", "prune_logs")),
            changes=(f"undo: {step.undo}" if step.undo else "it cannot be undone",),
            commands=(f"{question.program} --dry-run",),
        )
    why = next((f"{each.reason}: {each.detail}".rstrip(": ") for each in plan.kept), "left alone")
    return Explanation(kind="log", target=target, verdict=f"stays: {why}", evidence=tuple(evidence))


def _together(question: Question, file: LogFile, group: LogGroup) -> Step | None:
    """The step that takes a small log with its neighbours, where it is not worth one alone."""
    if not is_small(file):
        return None
    around = tuple(each for each in group.files if each.folder == file.folder)
    plan = question.plan("prune_logs", LogGroup(group.pattern, around, (), group.settings))
    return next(
        (
            step
            for step in plan.steps
            if isinstance(step, ArchiveLogs) and file.name in {each.name for each in step.files}
        ),
        None,
    )


def _pattern_of(question: Question, path: Path) -> str | None:
    """The first pattern of the configuration that finds a file."""
    for pattern in question.config.logs.all_patterns:
        for folder in globbing.pattern_folders(pattern):
            if os.path.realpath(folder.path) == str(path.parent) and any(
                name == path.name for name, _ in folder.matches
            ):
                return pattern
    return None


def _evidence(question: Question, file: LogFile, pattern: str | None) -> list[str]:
    path, ago = file.path, duration_text(max(time.time() - file.last, 0))
    found = [f"pattern {display(pattern)}"] if pattern else []
    found.append(f"it takes {size_text(file.size)}, last touched {ago} ago")
    if file.rotated:
        found.append("its name says that it was rotated")
    what = logs.no_text(path, file.status)
    found.append(what or "it is text, by samples of its head, middle and tail")
    top = globbing.fixed_part(pattern) if pattern else path.parent
    if unsafe := unsafe_log(path, top, question.config.logs):
        found.append(f"where it lies: {unsafe}")
    held = writers_of(path, file.status, question.witness.of(path))
    names = sorted({f"{each.name} (pid {each.pid})" for each in held.holders})
    if names:
        how = ", all at its end" if held.append_only else ""
        found.append(f"open in {', '.join(map(display, names[:3]))}{how}")
    else:
        found.append("nobody has it open" if held.closed else "nobody who is seen has it open")
    if held.trouble:
        found.append(held.trouble)
    return found
