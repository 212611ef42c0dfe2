"""What is in quarantine, run by run, until when, and how it comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from miyabi_healing.model.config import QuarantineSettings
from miyabi_healing.report.page import words
from miyabi_healing.report.page.parts import Held, Quarantine
from miyabi_healing.state.quarantine import QuarantineEntry
from miyabi_healing.state.run_clock import Moment
from miyabi_healing.support.formatting import day_text, display

_MOST = 15  # runs
_KINDS = {
    "claims": "file of tasks as it was",
    "log-archive": "archived log",
    "log-bundle": "archive of logs",
    "log-trim": "shortened log",
    "quarantine": "file or folder",
}
_PLURALS = {
    "claims": "files of tasks as they were",
    "log-bundle": "archives of logs",
    "quarantine": "files or folders",
}


def quarantine_rows(
    entries: Sequence[QuarantineEntry], rules: QuarantineSettings, now: Moment, program: str
) -> Quarantine:
    """The newest runs first."""
    runs: dict[str, list[QuarantineEntry]] = {}
    for each in entries:
        if each.manifest:
            runs.setdefault(each.run, []).append(each)
    ends = [each.end_of(rules.days, now)[0] for found in runs.values() for each in found]
    size = sum(each.bytes for found in runs.values() for each in found)
    newest = sorted(runs.items(), key=lambda item: -max(each.time for each in item[1]))
    return Quarantine(
        rows=tuple(_held(run, found, rules, now, program) for run, found in newest[:_MOST]),
        size=words.size(size),
        limit=words.size(rules.gigabytes * 1e9),
        first=day_text(min(ends), now.wall) if ends else "",
        is_full=size > rules.gigabytes * 1e9,
        more=max(len(newest) - _MOST, 0),
    )


def _held(
    run: str, found: Sequence[QuarantineEntry], rules: QuarantineSettings, now: Moment, program: str
) -> Held:
    # a worktree is two entries of one step: itself, and what git has of it
    steps = {(each.step, each.kind.removesuffix("-admin")) for each in found}
    kinds = Counter(kind for _step, kind in steps)
    end = max(each.end_of(rules.days, now)[0] for each in found)
    return Held(
        when=words.moment(min(each.time for each in found), now.wall),
        what=", ".join(_counted(kind, count) for kind, count in kinds.most_common()),
        size=words.size(sum(each.bytes for each in found)),
        until=day_text(end, now.wall),
        command=f"{program} rollback {run}",
    )


def _counted(kind: str, count: int) -> str:
    return words.many(count, _KINDS.get(kind, display(kind)), _PLURALS.get(kind, ""))
