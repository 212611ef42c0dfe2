"""Make logs small without losing a line: old closed ones are archived, live ones lose their
archived beginning.

Never: a log that somebody writes to is removed (it is shortened in place); a file of a database, or
what is no text, is touched; a line is dropped that is not in an archive first, unless `archive` is
switched off.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from miyabi_healing.api import (
    DAY,
    MEGABYTE,
    ArchiveLog,
    ArchiveLogs,
    BundledLog,
    FolderWriters,
    Goal,
    HealerContext,
    Issue,
    Kept,
    LogFile,
    LogGroup,
    LogPlace,
    Meta,
    Plan,
    Quarantine,
    Step,
    TrimLog,
    archive_log,
    archive_logs,
    display,
    find_cut,
    globbing,
    log_batches,
    log_text,
    logs,
    quarantine,
    size_text,
    trim_log,
)

UNSEEN = "could be held"  # a person may know who cannot be seen here; nothing else will tell
RATIO = 0.15  # what zstd leaves of ordinary logs
WORTH = 16 << 10  # bytes; an archive with its manifest and folder takes nearly as much
MOST_NAMED = 20  # logs of a folder that are kept for one reason; of more, only the folder is named


@dataclass(frozen=True)
class Options:
    """What stays of a live log: `keep_lines`, at most `keep_megabytes`. Closed ones go after
    `archive_after_days`; small ones of a folder go into one archive.

    Without `archive`, what is cut off a live log is gone for good; closed logs are archived all the
    same. Logs that were compressed already stay, unless `expire_compressed_days` says after how
    many days they are set aside; 0: never.
    """

    keep_lines: Annotated[int, Meta(ge=0)] = 1000
    keep_megabytes: Annotated[float, Meta(ge=0)] = 10
    archive_after_days: Annotated[float, Meta(ge=0)] = 1
    archive: bool = True
    expire_compressed_days: Annotated[float, Meta(ge=0)] = 0


class Sorted:
    """The logs of a group by what is to be done about them."""

    def __init__(self) -> None:
        self.closed = list[LogFile]()
        self.packed = list[LogFile]()
        self.live = list[tuple[int, LogFile]]()
        self.kept = dict[tuple[Path, str, str], list[LogFile]]()

    def keep(self, file: LogFile, reason: str, detail: str = "") -> None:
        self.kept.setdefault((file.folder, reason, detail), []).append(file)


def prune_logs(context: HealerContext, issue: Issue, options: Options) -> Plan:
    """Closed old files first, the oldest first; then the live ones, the largest first."""
    group = context.reading(LogGroup)
    found = sort(context, group, options)
    leave_restored(context, found)
    most = context.host.config.budgets.files
    small = [file for file in found.closed if log_batches.is_small(file)]
    lots = [*log_batches.batches(small, most)]
    lots = [lot for lot in lots if sum(file.size for file in lot) >= WORTH]
    together = {file for lot in lots if len(lot) > 1 for file in lot}
    alone = [file for file in found.closed if file not in together]
    first: list[tuple[float, Step]] = []
    first += [(lot[0].last, archive_together(lot)) for lot in lots if len(lot) > 1]
    first += [(file.last, archive(file, options)) for file in alone if file.size >= WORTH]
    for file in alone:
        if file.size < WORTH:
            found.keep(file, "nothing to trim")
    steps: list[Step] = [step for _last, step in sorted(first, key=lambda pair: pair[0])]
    steps += [trim(file, gone, options) for gone, file in sorted(found.live, key=largest)]
    steps += [expire(file) for file in sorted(found.packed, key=lambda file: file.last)]
    pattern = group.pattern
    return Plan(
        tuple(steps),
        Goal(
            f"below {issue.limit.clear:g} MB",
            lambda: context.host.log_group(pattern).megabytes < issue.limit.clear,
        ),
        kept=(*strangers(group), *named(found)),
        done=words,
        expects=partial(expected, issue),
    )


def expected(issue: Issue, going: Sequence[Step]) -> float:
    """The megabytes that are left where the gate stops: what a step frees at once and what goes
    into its archive together are what the logs lose.
    """
    left = issue.metric_value
    for each in going:
        if left < issue.limit.clear:
            break
        left -= (each.bytes + each.later) / MEGABYTE
    return max(left, 0)


def sort(context: HealerContext, group: LogGroup, options: Options) -> Sorted:
    """Look at each log: by one look at who has what open, and one at each folder."""
    found, witness, top = Sorted(), context.host.witness(), globbing.fixed_part(group.pattern)
    places: dict[Path, tuple[LogPlace, FolderWriters]] = {}
    for file in group.files:
        try:
            if file.folder not in places:
                place = LogPlace(file.folder, top, group.settings)
                places[file.folder] = place, FolderWriters(witness, file.folder)
            status = os.lstat(file.path)
            reason = sort_one(found, file, status, *places[file.folder], options)
        except OSError as error:
            reason = f"it cannot be looked at: {error.strerror}"
        if reason:
            found.keep(file, "not safe", reason)
    return found


def sort_one(
    found: Sorted,
    file: LogFile,
    status: os.stat_result,
    place: LogPlace,
    writers: FolderWriters,
    options: Options,
) -> str | None:
    """Note what is to be done about a log; returns why nothing may be. Raises OSError."""
    if reason := place.objection(file.name, status):
        return reason
    held = writers.of(file.name, status)
    if held.trouble:
        return held.trouble
    if not held.closed and (seen := writers.seen(file.name, status)).blind and not seen.alone:
        found.keep(file, UNSEEN, f"holders unknown: {seen.blind}")
        return None
    age = time.time() - file.last
    old = held.closed and age >= options.archive_after_days * DAY
    gone = 0 if old or file.size < WORTH else trimmable(file, options)
    if not old and gone < WORTH:
        days = options.archive_after_days
        young = f"closed, but touched in the last {'day' if days == 1 else f'{days:g} days'}"
        found.keep(file, "nothing to trim", young if held.closed and file.size else "")
    elif why := logs.no_text(file.path, status):
        found.keep(file, "no log", why)
    elif not old:
        found.live.append((gone, file))
    elif not log_text.is_packed_at(file.path):
        found.closed.append(file)
    elif options.expire_compressed_days and age >= options.expire_compressed_days * DAY:
        found.packed.append(file)
    else:
        found.keep(file, "compressed already", "expire_compressed_days says when such may go")
    return None


def leave_restored(context: HealerContext, found: Sorted) -> None:
    """Take out what somebody has had restored from an archive of many that is still there."""
    if not found.closed:
        return
    restored = {
        os.path.join(each.original, name)
        for each in context.host.quarantine()
        for name in each.manifest.get("restored", ())
    }
    for file in [file for file in found.closed if restored and str(file.path) in restored]:
        found.closed.remove(file)
        found.keep(file, "restored by hand", "left alone while its archive is in quarantine")


def strangers(group: LogGroup) -> list[Kept]:
    """What matched and is no log; of many in a folder that are none for one reason, the folder."""
    kept: dict[tuple[Path, str], list[Path]] = {}
    for path, reason in group.odd:
        kept.setdefault((path.parent, reason), []).append(path)
    return [
        each
        for (folder, reason), paths in kept.items()
        for each in (
            [Kept(display(path), "no log", reason) for path in paths]
            if len(paths) <= MOST_NAMED
            else [Kept(f"{display(folder)}: {len(paths)} files", "no log", reason, len(paths))]
        )
    ]


def named(found: Sorted) -> list[Kept]:
    """The logs that are kept, one by one; of many in a folder, what they take together."""
    kept = []
    for (folder, reason, detail), files in found.kept.items():
        decide = reason == UNSEEN
        if len(files) <= MOST_NAMED:
            kept += [
                Kept(str(file), reason, detail or size_text(file.size), decide=decide)
                for file in files
            ]
            continue
        size = size_text(sum(file.size for file in files))
        text = f"{size}; {detail}" if detail else size
        kept.append(
            Kept(f"{display(folder)}: {len(files)} files", reason, text, len(files), decide)
        )
    return kept


def largest(pair: tuple[int, LogFile]) -> int:
    return -pair[0]


def words(counts: Counter[str]) -> str:
    kinds = (
        ("archived {} log file(s)", "logs_archived"),
        ("shortened {} log file(s)", "logs_trimmed"),
        ("set {} compressed one(s) aside", "logs_set_aside"),
    )
    done = [words.format(counts[key]) for words, key in kinds if counts[key]]
    return f"{', '.join((*done, 'freed ')).capitalize()}{size_text(counts['bytes_freed'])}"


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
    days = (time.time() - file.last) / DAY
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


def archive_together(lot: list[LogFile]) -> ArchiveLogs:
    size = sum(file.size for file in lot)
    days = (time.time() - lot[-1].last) / DAY
    return archive_logs(
        lot[0].folder,
        [BundledLog(name=file.name, identity=file.identity, bytes=file.size) for file in lot],
        f"{len(lot)} closed logs, {size_text(size)}, untouched for {days:.1f} days or more; "
        "kept compressed together",
        bytes=int(size * (1 - RATIO)),
        later=int(size * RATIO),
    )


def expire(file: LogFile) -> Quarantine:
    days = (time.time() - file.last) / DAY
    return quarantine(
        file.path,
        f"compressed already, untouched for {days:.1f} days",
        identity=file.identity,
        later=file.size,
        counts="logs_set_aside",
    )


def still_old(file: LogFile, days: float) -> str | None:
    try:
        now = LogFile(file.folder, file.name, os.lstat(file.path))
    except FileNotFoundError:
        return "it is gone already"
    return None if time.time() - now.last >= days * DAY else "it was touched since"


def trim(file: LogFile, gone: int, options: Options) -> TrimLog:
    fate = "kept compressed" if options.archive else "gone for good"
    return trim_log(
        file.path,
        f"{size_text(file.size)}; the last {options.keep_lines} lines stay, the rest is {fate}",
        keep_lines=options.keep_lines,
        keep_bytes=int(options.keep_megabytes * MEGABYTE),
        archive=options.archive,
        identity=file.identity,
        bytes=int(gone * (1 - RATIO)) if options.archive else gone,
        later=int(gone * RATIO) if options.archive else 0,
        counts="logs_trimmed",
    )
