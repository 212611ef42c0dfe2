"""What past runs said of one path, from their reports: that they kept, blocked or changed it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from miyabi_healing.state import reports
from miyabi_healing.state.journal import Journal

_MOST = 5000  # reports that are looked into
_SHOWN = 3
_WORDS = {
    "applied": "{kind} was carried out",
    "planned": "{kind} was planned",
    "not needed": "{kind} was planned, and not needed any more",
    "skipped": "{kind} was planned, and left at the last look",
    "vetoed": "{kind} was planned, and blocked by policy",
    "failed": "{kind} failed",
    "undone": "{kind} was carried out, and undone as a later step failed",
}


def past_verdicts(journal: Journal, path: str) -> Iterator[dict[str, Any]]:
    """The last three different verdicts on a path, on a folder that it is in or on something in it,
    the newest first; each with the last run that said so. Raises sqlite3.Error.
    """
    above = [str(each) for each in PurePath(path).parents][:-1]
    seen = set()
    for document in reports.containing(journal, [path, *above], _MOST):
        for row in _rows(document, journal):
            target = row["target"]
            if target != path and target not in above and not _is_below(target, path):
                continue
            # ages and sizes change from run to run
            same = (target, row["verdict"], re.sub(r"\d+", "#", f"{row['reason']} {row['detail']}"))
            if same in seen:
                continue
            seen.add(same)
            yield {**row, "exact": target == path}
            if len(seen) == _SHOWN:
                return


def _is_below(target: str, path: str) -> bool:
    return target.startswith(f"{path.rstrip('/')}/")


def _rows(document: dict[str, Any], journal: Journal) -> Iterator[dict[str, Any]]:
    of_run = {"run_id": document["run_id"], "timestamp": document["timestamp"]}
    for action in document["actions_taken"]:
        for step in action["steps"]:
            number = step["number"]
            now = journal.step(number) if step["status"] == "applied" and number else None
            said = step["message"] if step["status"] != "applied" else ""
            yield {
                **of_run,
                "target": step["target"],
                "verdict": _WORDS[step["status"]].format(kind=step["kind"]),
                "reason": step["reason"],
                "detail": said,
                "rolled_back": bool(now and now.status == "rolled back"),
            }
        for kept in action["kept"]:
            yield {
                **of_run,
                "target": kept["target"],
                "verdict": "kept",
                "reason": kept["reason"],
                "detail": kept["detail"],
                "rolled_back": False,
            }
