"""Make logs small without losing a line: old closed ones are archived, live ones lose their archived beginning."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial

from miyabi_healing import config
from miyabi_healing.files import MEGABYTE, display, size_text
from miyabi_healing.host import logs
from miyabi_healing.host.logs import LogFile, LogGroup
from miyabi_healing.host.processes import OpenFiles
from miyabi_healing.issue import Issue
from miyabi_healing.plan import ArchiveLog, Goal, Kept, Plan, Step, TrimLog
from miyabi_healing.view import View

RATIO = 0.15  # what zstd leaves of ordinary logs


@dataclass(frozen=True)
class Options:
    """What stays of a live log: `keep_lines`, at most `keep_megabytes`. Closed ones go after `archive_after_days`."""

    keep_lines: int = 1000
    keep_megabytes: float = 10
    archive_after_days: float = 1

    def __post_init__(self) -> None:
        config.positive(self, "keep_lines", "keep_megabytes", "archive_after_days")


def prune_logs(view: View, issue: Issue, options: Options) -> Plan:
    """Closed old files first, the oldest first; then the live ones, the largest first."""
    group = view.reading(LogGroup)
    files = view.host.processes().open_files()
    kept = [Kept(display(path), "no log", reason) for path, reason in group.odd]
    closed: list[LogFile] = []
    live: list[LogFile] = []
    for file in group.files:
        reason = logs.unsafe(file.path) or trouble_with(file, files)
        if reason:
            kept.append(Kept(str(file), "not safe", reason))
        elif is_closed(file, files) and time.time() - file.last >= options.archive_after_days * 86_400:
            closed.append(file)
        elif file.size <= options.keep_megabytes * MEGABYTE:
            kept.append(Kept(str(file), "small enough", size_text(file.size)))
        else:
            live.append(file)
    steps: list[Step] = [archive(file, options) for file in sorted(closed, key=lambda file: file.last)]
    steps += [trim(file, options) for file in sorted(live, key=lambda file: -file.size)]
    pattern = group.pattern
    return Plan(
        tuple(steps),
        Goal(f"below {issue.limit.clear:g} MB", lambda: logs.read(pattern).megabytes < issue.limit.clear),
        kept=tuple(kept),
        done=words,
    )


def words(counts: Counter[str]) -> str:
    freed = size_text(counts["bytes_freed"])
    return f"Archived {counts['logs_archived']} and trimmed {counts['logs_trimmed']} log files, freed {freed}"


def trouble_with(file: LogFile, files: OpenFiles) -> str | None:
    status = os.lstat(file.path)
    return logs.writers(file.identity, status.st_mode, status.st_uid, files).trouble


def is_closed(file: LogFile, files: OpenFiles) -> bool:
    return not files.of(file.identity.device, file.identity.inode) and not files.unseen


def archive(file: LogFile, options: Options) -> ArchiveLog:
    days = (time.time() - file.last) / 86_400
    return ArchiveLog(
        target=str(file),
        reason=f"closed, untouched for {days:.1f} days{', rotated' if file.rotated else ''}; kept compressed",
        bytes=int(file.size * (1 - RATIO)),
        later=int(file.size * RATIO),
        undo="unpacked from the archive",
        counts="logs_archived",
        guard=partial(still_old, file, options.archive_after_days),
        path=file.path,
        identity=file.identity,
    )


def still_old(file: LogFile, days: float) -> str | None:
    now = next((each for each in logs.read(glob_of(file)).files if each.path == file.path), None)
    if now is None:
        return "it is gone already"
    return None if time.time() - now.last >= days * 86_400 else "it was touched since"


def glob_of(file: LogFile) -> str:
    """A pattern that matches this file alone."""
    import glob

    return glob.escape(os.fspath(file.path))


def trim(file: LogFile, options: Options) -> TrimLog:
    gone = max(file.size - int(options.keep_megabytes * MEGABYTE), 0)
    return TrimLog(
        target=str(file),
        reason=f"{size_text(file.size)}; its last {options.keep_lines} lines stay, the rest is kept compressed",
        bytes=int(gone * (1 - RATIO)),
        later=int(gone * RATIO),
        undo="what was cut off is put back in front",
        counts="logs_trimmed",
        path=file.path,
        identity=file.identity,
        keep_lines=options.keep_lines,
        keep_bytes=int(options.keep_megabytes * MEGABYTE),
    )
