"""Make logs small without losing a line: old closed ones are archived, live ones lose their
archived beginning.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from miyabi_healing.api import (
    MEGABYTE,
    ArchiveLog,
    Goal,
    HealerContext,
    Issue,
    Kept,
    LogFile,
    LogGroup,
    Meta,
    Plan,
    Step,
    TrimLog,
    archive_log,
    display,
    find_cut,
    globbing,
    log_text,
    logs,
    size_text,
    trim_log,
    unsafe_log,
    writers_of,
)

RATIO = 0.15  # what zstd leaves of ordinary logs
WORTH = 16 << 10  # bytes; an archive with its manifest and folder takes nearly as much


@dataclass(frozen=True)
class Options:
    """What stays of a live log: `keep_lines`, at most `keep_megabytes`. Closed ones go after
    `archive_after_days`.

    Without `archive`, what is cut off a live log is gone for good; closed logs are archived all the
    same.
    """

    keep_lines: Annotated[int, Meta(ge=0)] = 1000
    keep_megabytes: Annotated[float, Meta(ge=0)] = 10
    archive_after_days: Annotated[float, Meta(ge=0)] = 1
    archive: bool = True


def prune_logs(context: HealerContext, issue: Issue, options: Options) -> Plan:
    """Closed old files first, the oldest first; then the live ones, the largest first."""
    group = context.reading(LogGroup)
    witness = context.host.witness()
    kept = [Kept(display(path), "no log", reason) for path, reason in group.odd]
    top = globbing.fixed_part(group.pattern)
    closed: list[LogFile] = []
    live: list[tuple[int, LogFile]] = []
    for file in group.files:
        try:
            reason = unsafe_log(file.path, top, group.settings)
            status = os.lstat(file.path)
            seen = witness.of(file.path)
            held = writers_of(file.path, status, seen)
            reason = (
                reason
                or held.trouble
                or (f"holders unknown: {seen.blind}" if seen.blind and not seen.alone else None)
            )
            gone = 0 if reason else trimmable(file, options)
        except OSError as error:
            reason = f"it cannot be looked at: {error.strerror}"
        if reason:
            kept.append(Kept(str(file), "not safe", reason))
            continue
        old = (
            held.closed
            and file.size >= WORTH
            and time.time() - file.last >= options.archive_after_days * 86_400
        )
        if not old and gone < WORTH:
            kept.append(Kept(str(file), "nothing to trim", size_text(file.size)))
        elif reason := logs.no_text(file.path, status):
            kept.append(Kept(str(file), "no log", reason))
        elif old:
            closed.append(file)
        else:
            live.append((gone, file))
    steps: list[Step] = [
        archive(file, options) for file in sorted(closed, key=lambda file: file.last)
    ]
    steps += [trim(file, gone, options) for gone, file in sorted(live, key=lambda pair: -pair[0])]
    pattern = group.pattern
    return Plan(
        tuple(steps),
        Goal(
            f"below {issue.limit.clear:g} MB",
            lambda: context.host.log_group(pattern).megabytes < issue.limit.clear,
        ),
        kept=tuple(kept),
        done=words,
    )


def words(counts: Counter[str]) -> str:
    freed = size_text(counts["bytes_freed"])
    return (
        f"Archived {counts['logs_archived']} and trimmed {counts['logs_trimmed']} log files, "
        f"freed {freed}"
    )


def trimmable(file: LogFile, options: Options) -> int:
    """The bytes that a trim would take out of a log. Raises OSError."""
    descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if log_text.is_packed(descriptor):
            return 0
        cut = find_cut(
            descriptor,
            os.fstat(descriptor),
            options.keep_lines,
            int(options.keep_megabytes * MEGABYTE),
        )
    finally:
        os.close(descriptor)
    return min(file.size, max(cut.floor - cut.start, 0))


def archive(file: LogFile, options: Options) -> ArchiveLog:
    days = (time.time() - file.last) / 86_400
    rotated = ", rotated" if file.rotated else ""
    return archive_log(
        file.path,
        f"closed, untouched for {days:.1f} days{rotated}; kept compressed",
        identity=file.identity,
        bytes=int(file.size * (1 - RATIO)),
        later=int(file.size * RATIO),
        counts="logs_archived",
        guard=partial(still_old, file, options.archive_after_days),
    )


def still_old(file: LogFile, days: float) -> str | None:
    now = next(
        (each for each in logs.read_log_group(glob_of(file)).files if each.path == file.path), None
    )
    if now is None:
        return "it is gone already"
    return None if time.time() - now.last >= days * 86_400 else "it was touched since"


def glob_of(file: LogFile) -> str:
    """A pattern that matches this file alone."""
    import glob

    return glob.escape(os.fspath(file.path))


def trim(file: LogFile, gone: int, options: Options) -> TrimLog:
    fate = "kept compressed" if options.archive else "gone for good"
    return trim_log(
        file.path,
        f"{size_text(file.size)}; its last {options.keep_lines} lines stay, the rest is {fate}",
        keep_lines=options.keep_lines,
        keep_bytes=int(options.keep_megabytes * MEGABYTE),
        archive=options.archive,
        identity=file.identity,
        bytes=int(gone * (1 - RATIO)) if options.archive else gone,
        later=int(gone * RATIO) if options.archive else 0,
        counts="logs_trimmed",
    )
