"""A state folder with a history behind it, for tests of the page."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any
from unittest import mock

from miyabi_healing.model.config import Config
from miyabi_healing.report.page.contents import build_page
from miyabi_healing.report.page.parts import Page
from miyabi_healing.state import reports, run_clock
from miyabi_healing.state.journal import Journal
from miyabi_healing.state.store import open_read_only
from miyabi_healing.support.formatting import timestamp

NOW = 1_795_600_000.0 // 300 * 300
RUN = "20261125T154500-4711"
VALUES = (
    ("disk_space_critical", "/", 90, "%"),
    ("disk_space_critical", "/data", 90, "%"),
    ("excessive_worktrees", "/srv/src/app", 15, ""),
    ("large_log_files", "/var/log/app/*.log", 500, "MB"),
    ("stale_git_lock", "/srv/src/app", 600, "s"),
    ("high_memory_usage", "", 90, "%"),
    ("zombie_processes", "", 5, ""),
)
PASS = "insert into pass (run, began, ended, checks, found, healed, unknown, freed) values "
MEASUREMENT = (
    "insert into measurement (pass, name, target, value, after, threshold, unit, outcome, severity,"
    " description, actions) values "
)
STEP = (
    "insert into step (run, healer, issue, issue_target, kind, target, reason, step, intended, "
    "finished, status, freed, undo) values "
)


def journal(state: Path) -> Journal:
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Journal(state / "journal.sqlite3")
    made.database.execute("pragma synchronous=off")
    return made


def run_at(
    book: Journal,
    moment: float,
    rows: list[tuple[Any, ...]],
    document: dict[str, Any] | None = None,
    run: str = "",
) -> None:
    """One run with its measurements: name, target, value, after, threshold, unit, outcome."""
    found = sum(row[6] in ("issue", "healed") for row in rows)
    healed = sum(row[6] == "healed" for row in rows)
    name = run or time.strftime("%Y%m%dT%H%M%S-4711", time.localtime(moment))
    values = (name, moment - 1, moment, len(rows), found, healed, 0, 0)
    number = book.write(f"{PASS} (?, ?, ?, ?, ?, ?, ?, ?)", values).lastrowid
    assert number is not None
    book.database.executemany(
        f"{MEASUREMENT} (?, ?, ?, ?, ?, ?, ?, ?, ?, '', '')",
        [(number, *row, "medium" if row[6] in ("issue", "healed") else "") for row in rows],
    )
    if document is not None:
        reports.store(book, number, document)


def wave(number: int, place: int, limit: float) -> float:
    """A value that grows, falls when it is healed, and goes up and down with the day."""
    grown = (number * (place + 1) % 400) / 400
    return limit * (0.35 + 0.6 * grown + 0.04 * math.sin(number / 4 + place))


def world(state: Path, runs: int = 400, step: float = 3600, **changes: Any) -> Path:
    """Some weeks with a gap, a last run that healed and kept, steps of it that can be undone."""
    book = journal(state)
    with book.at_once():
        for number in range(runs):
            if runs * 0.4 < number < runs * 0.45:
                continue
            rows = []
            for place, (name, target, limit, unit) in enumerate(VALUES):
                value = wave(number, place, limit)
                over = value > limit * 0.93
                after = limit * 0.5 if over else None
                value = limit * 1.02 if over else value
                value = value if unit in ("%", "MB") else float(int(value))
                outcome = "healed" if over else "healthy"
                rows.append((name, target, value, after, limit, unit, outcome))
            run_at(book, NOW - (runs - number) * step, rows)
    document = report(**changes)
    rows = [
        ("disk_space_critical", "/", 91.0, 77.2, 90, "%", "healed"),
        ("disk_space_critical", "/data", 92.4, None, 90, "%", "issue"),
        ("excessive_worktrees", "/srv/src/app", 29.0, 13.0, 15, "", "healed"),
        ("large_log_files", "/var/log/app/*.log", 81.0, 23.1, 500, "MB", "healed"),
        ("stale_git_lock", "/srv/src/app", 0.0, None, 600, "s", "healthy"),
        ("high_memory_usage", "", 31.4, None, 90, "%", "healthy"),
        ("zombie_processes", "", 0.0, None, 5, "", "healthy"),
    ]
    run_at(book, NOW, rows, document, RUN)
    book.database.executemany(
        f"{STEP} (?, ?, ?, ?, ?, ?, '', '', ?, ?, ?, ?, ?)", [*_steps(), *changes.get("steps", ())]
    )
    held = book.all("select id, intended from step where run = ? and kind = 'retire worktree'", RUN)
    book.close()
    for number, intended in held:
        set_aside(state, number, intended)
    return state


def page_of(state: Path, document: dict[str, Any] | None = None, now: float = NOW + 60) -> Page:
    """The page as it was at a moment by the wall clock."""
    reading = run_clock.read_clocks()._replace(wall=now)
    with (
        mock.patch.object(run_clock, "read_clocks", return_value=reading),
        open_read_only(state) as book,
    ):
        return build_page(book, document, state, Config(), now)


def set_aside(state: Path, step: int, moment: float, run: str = RUN) -> None:
    """A worktree in quarantine."""
    for kind in ("worktree", "worktree-admin"):
        entry = state / "quarantine" / run / f"{step:04}-{kind}"
        (entry / "thing").mkdir(mode=0o700, parents=True)
        for folder in (entry, entry.parent, entry.parent.parent):
            folder.chmod(0o700)
        where = "/srv/src/worktrees/x"
        facts = {
            "original": where, "kind": kind, "time": moment, "run": run, "step": step,
            "bytes": 180_000, "root": "/srv/src", "common": "/srv/src/app/.git", "admin": where,
        }  # fmt: skip
        (entry / "manifest.json").write_text(json.dumps(facts))


def _steps() -> list[tuple[Any, ...]]:
    def row(healer: str, issue: str, target: str, kind: str, status: str, run: str, undo: object):  # type: ignore[no-untyped-def]
        at = NOW - 20 if run == RUN else NOW - 86_400
        return (run, healer, issue, target, kind, "x", at, at, status, 1000, json.dumps(undo))

    earlier = time.strftime("%Y%m%dT%H%M%S-4711", time.localtime(NOW - 86_400))
    return [
        *(
            row("cleanup_worktrees", "excessive_worktrees", "/srv/src/app", "retire worktree",
                "applied", RUN, {"entries": [f"{number}"]})
            for number in range(16)
        ),
        row("prune_logs", "large_log_files", "/var/log/app/*.log", "cut log", "rolled back",
            earlier, {"entries": ["1"]}),
        row("cleanup_disk", "disk_space_critical", "/", "run", "applied", RUN, {}),
    ]  # fmt: skip


def report(kept: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    """The document of the last run."""

    def issue(name: str, target: str, value: float, limit: int, unit: str, healed: bool) -> Any:
        words = f"{name} is at {value:g} {unit}".strip()
        return {
            "name": name, "description": words, "severity": "high", "metric_value": value,
            "threshold": limit, "unit": unit, "target": target, "healed": healed,
        }  # fmt: skip

    def action(healer: str, name: str, target: str, message: str, **details: Any) -> Any:
        return {
            "action": healer, "status": "success", "message": message, "duration_seconds": 1.0,
            "details": details, "issue": name, "target": target, "goal": "", "brake": "",
            "steps": [], "kept": [],
        }  # fmt: skip

    worktrees = action(
        "cleanup_worktrees", "excessive_worktrees", "/srv/src/app",
        "16 worktrees retired: merged, clean, idle for 20 days or more", bytes_freed_later=2.9e6,
    )  # fmt: skip
    worktrees["kept"] = kept if kept is not None else KEPT
    full = action(
        "cleanup_disk", "disk_space_critical", "/data", "Nothing safe to do",
        largest_folders=FOLDERS,
        glance={"path": "/data", "by": "bytes", "whole": True, "notes": []},
    )  # fmt: skip
    return {
        "schema_version": 1, "timestamp": timestamp(NOW), "host": "build-07", "run_id": RUN,
        "dry_run": False, "overall_success": False,
        "summary": "Healed 3/4 issues. 1 left as it is, as nothing safe can be done.",
        "issues_detected": [
            issue("disk_space_critical", "/", 91.0, 90, "%", True),
            issue("disk_space_critical", "/data", 92.4, 90, "%", False),
            issue("excessive_worktrees", "/srv/src/app", 29, 15, "", True),
            issue("large_log_files", "/var/log/app/*.log", 81, 500, "MB", True),
        ],
        "actions_taken": [
            action("cleanup_disk", "disk_space_critical", "/", "npm emptied its cache",
                   bytes_freed=1.77e8),
            full,
            worktrees,
            action("prune_logs", "large_log_files", "/var/log/app/*.log",
                   "server.log shortened under its writer, no line lost", bytes_freed_later=4e5),
        ],
        "metrics": [], "errors": [], "notes": [], "recovered": [], **changes,
    }  # fmt: skip


def _kept(name: str, reason: str, detail: str = "", decide: bool = False, command: str = "") -> Any:
    return {
        "target": f"/srv/src/worktrees/{name}", "reason": reason, "detail": detail, "count": 1,
        "decide": decide, "command": command,
    }  # fmt: skip


KEPT = [
    _kept("squashplus26", "not merged", "1 commit on no other branch, idle for 24 days", True,
          "git -C /srv/src/app log main..squashplus26"),
    _kept("unmerged27", "not merged", "3 commits on no other branch, idle for 31 days", True,
          "git -C /srv/src/app log main..unmerged27"),
    _kept("dirty16", "dirty", "f16.txt"),
    _kept("untracked17", "dirty", "notes.txt"),
    _kept("assumed19", "dirty", "hidden edits"),
    *(_kept(f"env{number}", "only .env", ".env") for number in range(18, 26)),
    _kept("locked20", "locked", "on a usb stick"),
    _kept("rebasing23", "mid-rebase"),
]  # fmt: skip


def _folder(path: str, gigabytes: float, verdict: str, what: str, at_least: bool = False) -> Any:
    return {
        "path": path, "bytes": int(gigabytes * 1e9), "files": 1200, "verdict": verdict,
        "what": what, "at_least": at_least,
    }  # fmt: skip


FOLDERS = [
    _folder("/data/vm/disks/build", 182.0, "a person's", "images of virtual machines"),
    _folder("/data/home/ana/src/app/target", 96.5, "can go", "cargo's build folder"),
    _folder("/data/docker/overlay2", 74.0, "costly", "images of containers", True),
    _folder("/data/home/ana/.cache/uv", 31.2, "can go", "uv's cache"),
    _folder("/data/home/ana/Downloads", 28.8, "a person's", "downloads"),
    _folder("/data/postgres/16/main", 22.0, "in use", "a database"),
    _folder("/data/home/ben/.claude/projects", 14.1, "a person's", "transcripts of an agent"),
    _folder("/data/log/app", 9.7, "unknown", ""),
    _folder("/data/home/ben/node_modules", 6.0, "can go", "packages of npm"),
    _folder("/data/tmp", 1.1, "unknown", ""),
]


def ahead(name: str, target: str, hours: float, **changes: Any) -> dict[str, Any]:
    """A limit that is reached so many hours after now, between a fifth sooner and later."""
    unit = next(each[3] for each in VALUES if each[:2] == (name, target))
    return {
        "name": name, "target": target, "value": 77.2, "threshold": 90, "unit": unit,
        "reached": timestamp(NOW + hours * 3600), "eta_seconds": hours * 3600,
        "earliest": timestamp(NOW + hours * 2880), "latest": timestamp(NOW + hours * 4320),
        "basis": "grows 0.86 an hour for 9 hours", "seen": 3, "alarms": 4, "confidence": 0.75,
        "causes": ["new files in /data/ana/.cache/huggingface: 75 GB"], "early": "", **changes,
    }  # fmt: skip


def _reason(grade: str, text: str, share: float | None = None, **more: Any) -> dict[str, Any]:
    return {"grade": grade, "what": text.split()[-1], "share": share, "text": text, **more}


BECAUSE = [
    _reason("accounts for", "new files are in /data/ana/.cache/huggingface", 0.48),
    _reason("accounts for", "java (pid 4711) still has open /data/log/app.log", 0.31,
            command="systemctl restart app.service"),
    _reason("accounts for", "unexplained", 0.21),
    _reason("came just before", "docker.service (pid 812) was started"),
    _reason("went together", "backup (pid 99) was at work"),
]  # fmt: skip
