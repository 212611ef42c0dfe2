"""The situations that a report can tell of, made as the program makes them: results of runs, from
which the report is built.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from miyabi_healing.model.actions import ActionResult, Outcome, StepStatus
from miyabi_healing.model.foreseen import Foreseen
from miyabi_healing.model.identity import Identity
from miyabi_healing.model.issue import Issue, Limit, Severity
from miyabi_healing.model.plan import Goal, Kept, Plan
from miyabi_healing.model.results import CheckResult, QuarantineSummary, RunResult
from miyabi_healing.model.steps import (
    ArchiveLog,
    Delete,
    Quarantine,
    RetireWorktree,
    Run,
    Signal,
    Step,
    TrimLog,
)
from miyabi_healing.report import documents
from miyabi_healing.report.document_types import Document

WHEN = "2025-11-26T10:30:00"
RUN = "20251126T103000-4711"
HOME = "/home/me"
NOBODY = Identity(0, 0, 0, 0, 0)
PERCENT = Limit(90, Severity.HIGH, {Severity.CRITICAL: 95}, "%")
TREES = Limit(15, Severity.MEDIUM, {Severity.HIGH: 20})
LOGS, LOCK, ZOMBIES = Limit(500, unit="MB"), Limit(600, unit="s"), Limit(5)
IDLE = "last used {} days ago (git's HEAD); merged: its tip {:07x} is in main; clean"


def retire(name: str, days: int = 20) -> RetireWorktree:
    path = Path(HOME, "src/worktrees", name)
    return RetireWorktree(
        target=str(path), reason=IDLE.format(days, abs(hash_of(name))), later=170_000,
        undo="moved back from quarantine", counts="worktrees_removed", path=path,
        admin=Path("/x"), common=Path("/x"), admin_identity=NOBODY,
    )  # fmt: skip


def hash_of(name: str) -> int:
    return sum(ord(each) * 31**number for number, each in enumerate(name)) % 0xFFFFFFF


def trim(name: str, size: int) -> TrimLog:
    path = Path(HOME, "logs", name)
    return TrimLog(
        target=str(path),
        reason=f"{size} MB; the last 1000 lines stay, the rest is kept compressed",
        bytes=int(size * 0.85e6), later=int(size * 0.15e6), counts="logs_trimmed",
        undo="what was cut off is put back in front", path=path, identity=NOBODY,
        keep_lines=1000, keep_bytes=10_000_000,
    )  # fmt: skip


def archive(name: str) -> ArchiveLog:
    path = Path("/var/log/build", name)
    return ArchiveLog(
        target=str(path), reason="closed, untouched for 40.0 days, rotated; kept compressed",
        bytes=850_000, later=150_000, counts="logs_archived", undo="unpacked from its archive",
        path=path, identity=NOBODY,
    )  # fmt: skip


LOCK_STEP = Quarantine(
    target=f"{HOME}/src/app/.git/index.lock", reason="unchanged for 61 min and held by nobody",
    undo="moved back from quarantine", counts="locks_removed", path=Path("/x"), identity=NOBODY,
)  # fmt: skip
TERM = Signal(
    target="SIGTERM to worker (pid 4711)",
    reason="it does not reap its 8 zombies (sh), seen for 3 min; for good: restart or upgrade it",
    counts="signals_to_end", pid=4711, start=1, signal=15,
)  # fmt: skip
NPM = Run(
    target="npm cache verify", reason="npm tidies its own cache", bytes=410_000_000,
    counts="caches_cleaned", argv=("npm",), time_limit=120, optional=True,
)  # fmt: skip
PIP = Delete(
    target=f"{HOME}/.cache/pip", reason="12 idle part(s), 840 files; pip makes them again",
    bytes=96_000_000, counts="caches_cleaned", root=Path("/x"), units=(), optional=True,
)  # fmt: skip


def tree(name: str, reason: str, detail: str, command: str = "", count: int = 1) -> Kept:
    target = f"{HOME}/src/worktrees/{name}"
    return Kept(target, reason, detail, count, bool(command), command.format(target))


KEPT = (
    Kept(f"{HOME}/src/app", "main"),
    tree("unmerged27", "not merged", "94 kB, its 3 commits are in no base: 3138d8d one, 6a13cc4 b",
         "git -C {} log unmerged27 --not main"),
    tree("squashplus26", "not merged", "86 kB, its commit is in no base: 0500f56 three",
         "git -C {} log squashplus26 --not main"),
    tree("dirty16", "dirty", "86 kB, readme", "git -C {} status --ignored"),
    tree("untracked17", "untracked", "94 kB, notes.txt", "git -C {} status --ignored"),
    tree("env20", "ignored files", "102 kB, .env", "git -C {} status --ignored"),
    tree("my work", "ignored files", "102 kB, .env",
         "git -C '/home/me/src/worktrees/my work' status --ignored"),
    tree("usb22", "locked", "on a usb stick",
         "git -C /home/me/src/app/.git worktree unlock {}"),
    tree("inuse24", "in use", "106 kB, by zsh (pid 4711)"),
    tree("young0", "not idle", "115 kB, last used 2 h ago (git's index), idle after 7 days"),
    tree("young1", "not idle", "111 kB, last used 2.0 days ago (its reflog), idle after 7 days"),
)  # fmt: skip
GOALS = {
    "cleanup_worktrees": "every worktree that may go is gone",
    "prune_logs": "below 450 MB",
    "cleanup_disk": "below 85 %",
}
WORDS: dict[str, Callable[[Counter[str]], str]] = {
    "cleanup_worktrees": lambda n: f"Cleaned {n['worktrees_removed']} worktrees",
    "prune_logs": lambda n: f"Shortened {n['logs_trimmed']} log file(s)",
    "fix_git_locks": lambda n: f"Set aside {n['locks_removed']} stale lock file(s)",
    "kill_zombies": lambda n: f"8 zombie(s) reaped: sent {n['signals_to_end']} signal(s)",
    "cleanup_disk": lambda n: f"Cleaned {n['caches_cleaned']} cache part(s)",
}


def action(
    healer: str, issue: Issue, outcomes: Sequence[Outcome], kept: Sequence[Kept] = (), **more: Any
) -> ActionResult:
    expected = more.pop("expected", None)
    plan = Plan(
        tuple(each.step for each in outcomes), Goal(GOALS.get(healer, "it is done"), lambda: False),
        tuple(kept), WORDS.get(healer), expects=lambda _: expected,
    )  # fmt: skip
    return ActionResult(healer, issue, plan, list(outcomes), duration=1.23, **more)


def done(steps: Sequence[Step], freed: int = 0, first: int = 1) -> list[Outcome]:
    return [
        Outcome(step, StepStatus.APPLIED, freed=freed or step.bytes, number=number, duration=0.1)
        for number, step in enumerate(steps, first)
    ]


def planned(steps: Sequence[Step]) -> list[Outcome]:
    return [Outcome(step, StepStatus.PLANNED) for step in steps]


def left(steps: Sequence[Step], status: StepStatus, *messages: str) -> list[Outcome]:
    return [
        Outcome(step, status, messages[number % len(messages)]) for number, step in enumerate(steps)
    ]


def issue(name: str, target: str, value: float, limit: Limit, words: str, **more: Any) -> Issue:
    return Issue(name, target, words, value, limit, **more)


APP = f"{HOME}/src/app"
WORKTREES = issue("excessive_worktrees", APP, 29, TREES, f"Found 29 git worktrees in {APP}")
LOG_GROUP = f"{HOME}/logs/*.log"
BIG_LOGS = issue("large_log_files", LOG_GROUP, 812.4, LOGS, "2 log files take 812.4 MB")
OLD_LOCK = issue("stale_git_lock", APP, 3660, LOCK, f"Found 1 stale lock file(s) in {APP}")
DEAD = issue("zombie_processes", "", 8, ZOMBIES, "Found 8 zombie processes")
FULL = issue("disk_space_critical", "/data", 97.3, PERCENT, "/data is 97.3 % full (space)")


def found(
    one: Issue, actions: Sequence[ActionResult] = (), after: float | None = None
) -> CheckResult:
    """A check with its issue; where it ran again, `after` is what it measured."""
    for each in actions:
        if after is not None:
            each.value_after, each.passed = after, after <= one.limit.threshold
    measured = {"value": one.metric_value if after is None else after, "description": "measured"}
    return CheckResult(one.name, one.target, one.limit, one, list(actions), measured=measured)  # type: ignore[arg-type]


def fine(name: str, target: str, value: float, limit: Limit, waived: str = "") -> CheckResult:
    measured = {"value": value, "description": "measured"}
    return CheckResult(name, target, limit, measured=measured, waived=waived)  # type: ignore[arg-type]


HEALTHY = (
    fine("disk_space_critical", "/", 54.2, PERCENT),
    fine("high_memory_usage", "", 3.1, PERCENT),
    fine("swap_usage", "", 0, PERCENT),
)


def report(
    checks: Sequence[CheckResult],
    *,
    dry_run: bool = False,
    blocked: str = "",
    held: tuple[int, int] = (0, 0),
    notes: Sequence[str] = (),
    unknown: Sequence[tuple[str, str]] = (),
    interrupted: Sequence[str] = (),
    foreseen: Sequence[Foreseen] = (),
) -> Document:
    """The report of a run, by the code that makes every report; at a time of its own."""
    tests = []
    for number, check in enumerate(checks):
        over = check.issue and not check.healed
        test: dict[str, Any] = {
            "nodeid": f"test_{number}",
            "outcome": "failed" if over else "healed" if check.healed else "passed",
        }
        if check.name not in interrupted:
            test["call"] = {}
        if check.measured:
            test["user_properties"] = [{"measured": check.measured}]
        tests.append(test)
    expiry = time.mktime(time.strptime("2025-12-26T10:29:00", "%Y-%m-%dT%H:%M:%S"))
    quarantine = QuarantineSummary(*held, 50_000_000_000, expiry if held[0] else None, days=30)
    result = RunResult(
        RUN, dry_run, blocked, {f"test_{number}": each for number, each in enumerate(checks)},
        tuple(unknown), tuple(notes), (), (), quarantine, interrupted=bool(interrupted),
        foreseen=tuple(foreseen),
    )  # fmt: skip
    document = documents.build_report({"tests": tests, "duration": 0.312}, result)
    document["timestamp"], document["host"] = WHEN, "host"
    document["notes"] = list(notes) + [each for each in document["notes"] if "waived" in each]
    return document


AGENTS = [retire(f"agent-{number:03}") for number in range(6)]
SQUASHED = [retire(f"agent-{number:03}-squash", 20 + number) for number in range(5)]
OTHERS = [retire(f"mergecommit{number}", 31) for number in range(12, 16)] + [retire("modules21")]
ALL = [*AGENTS, *SQUASHED, *OTHERS]


def healthy() -> Document:
    repositories = [
        fine("excessive_worktrees", f"{HOME}/src/{name}", number, TREES)
        for name, number in (("app", 13), ("lib", 4), ("web", 1))
    ]
    waived = fine("zombie_processes", "", 9, ZOMBIES, "waived until 2026-01-31: ticket 4711")
    logs = fine("large_log_files", LOG_GROUP, 231.7, LOGS)
    return report([*HEALTHY, *repositories, logs, fine("stale_git_lock", APP, 0, LOCK), waived])


def healed() -> Document:
    logs = [trim("server.log", 500), trim("worker.log", 300)]
    return report(
        [
            found(WORKTREES, [action("cleanup_worktrees", WORKTREES, done(ALL), KEPT)], 13),
            found(BIG_LOGS, [action("prune_logs", BIG_LOGS, done(logs, 339_700_000, 17))], 12.4),
            found(OLD_LOCK, [action("fix_git_locks", OLD_LOCK, done([LOCK_STEP], 0, 19))], 0),
            found(DEAD, [action("kill_zombies", DEAD, done([TERM], 0, 20))], 0),
            *HEALTHY,
        ],
        held=(19, 122_720_000),
    )


def kept() -> Document:
    folders = [
        {"path": f"{HOME}/recordings", "verdict": "a person's", "what": "12 films",
         "bytes": 310_000_000_000, "files": 12, "at_least": False},
        {"path": "/data/db", "verdict": "in use", "what": "a database: postgres (pid 812)",
         "bytes": 94_000_000_000, "files": 1210, "at_least": True, "estimate": 120_000_000_000},
    ]  # fmt: skip
    disk = action("cleanup_disk", FULL, [], [
        Kept(f"{HOME}/.cargo", "costly", "2.1 GB; name 'cargo' in caches.also to clean it too",
             decide=True),
        Kept(f"{HOME}/.npm", "owner running", "npm (pid 99)"),
    ])  # fmt: skip
    assert disk.plan
    disk.plan = replace(disk.plan, details={"largest_folders": folders, "glance": {"by": "bytes"}})
    memory = issue(
        "high_memory_usage", "", 93.4, PERCENT, "93.4 % of the memory is taken (host)",
        used_by=tuple({"name": each, "bytes": 1, "text": f"{each}, {size} GB, for 3 h (pid 12)"}
                      for each, size in (("firefox", 9.1), ("clangd", 7.4), ("java", 3.3),
                                         ("node", 1.2))),
    )  # fmt: skip
    trees = action("cleanup_worktrees", WORKTREES, [], [*KEPT, *(
        tree(f"young-{number:02}", "not idle", f"last used {number} days ago, idle after 7 days")
        for number in range(3, 20)
    )])  # fmt: skip
    return report([found(WORKTREES, [trees], 29), found(FULL, [disk], 97.3), found(memory)])


def paused() -> Document:
    why = "paused until 2025-11-26 17:46 by root: migration"
    return report(
        [
            found(WORKTREES, [
                action("cleanup_worktrees", WORKTREES, left(ALL, StepStatus.BLOCKED, why), KEPT,
                       brake=why)
            ], 29),
            found(OLD_LOCK, [
                action("fix_git_locks", OLD_LOCK, left([LOCK_STEP], StepStatus.BLOCKED, why),
                       brake=why)
            ], 3720),
            *HEALTHY,
        ],
    )  # fmt: skip


def blocked() -> Document:
    budget = "budget: 5 worktrees a run"
    rest = "cooldown: last tried 3 min ago; again in 57 min"
    trees = [*done(ALL[:5]), *left(ALL[5:], StepStatus.BLOCKED, budget)]
    gone = left([trim("server.log", 500)], StepStatus.SKIPPED, "it changed since it was measured")
    logs = [*done([archive("old.log")], 850_000, 6), *gone]
    return report(
        [
            found(WORKTREES, [action("cleanup_worktrees", WORKTREES, trees, KEPT)], 24),
            found(BIG_LOGS, [action("prune_logs", BIG_LOGS, logs)], 811.4),
            found(OLD_LOCK, [
                action("fix_git_locks", OLD_LOCK, left([LOCK_STEP], StepStatus.BLOCKED, rest),
                       brake=rest)
            ], 3720),
        ],
        held=(6, 1_000_000),
    )  # fmt: skip


def rolled_back() -> Document:
    """The run after a rollback: what somebody has had back is left alone."""
    messages = [
        f"rolled back by hand (step {number}): left alone until 2025-12-02 10:1{number % 3}"
        for number in range(1, 17)
    ]
    trees = left(ALL, StepStatus.BLOCKED, *messages)
    return report([found(WORKTREES, [action("cleanup_worktrees", WORKTREES, trees, KEPT)], 29)])


def undone() -> Document:
    """A healer that failed half way undid its own steps; another one crashed."""
    trees = [
        *left(AGENTS, StepStatus.UNDONE, ""),
        *left(SQUASHED[:1], StepStatus.FAILED, "OSError: [Errno 30] Read-only file system"),
        *left(SQUASHED[1:], StepStatus.BLOCKED, "an earlier step failed"),
    ]
    broken = ActionResult("prune_logs", BIG_LOGS, problem="ValueError: no (prune_logs.py, line 7)")
    return report(
        [
            found(WORKTREES, [action("cleanup_worktrees", WORKTREES, trees)], 29),
            found(BIG_LOGS, [broken], 812.4),
        ]
    )


def unknown() -> Document:
    silent = "/mnt/share lies on a mount that does not answer"
    checks = [
        replace(fine("disk_space_critical", "/mnt/share", 0, PERCENT), error=silent, measured=None),
        replace(fine("large_log_files", "/mnt/share/*.log", 0, LOGS), error=silent, measured=None),
        *HEALTHY,
    ]
    why = "ImportError: No module named 'nowhere' (test_mine.py, line 3)"
    return report(checks, unknown=[(f"{HOME}/my-healing", why)], notes=["a look as root sees more"])


def dry_run() -> Document:
    """100 steps."""
    trees = [*ALL, *(retire(f"build-{number}", 9 + number) for number in range(8, 42))]
    logs = [archive(f"job-{number:04}.log") for number in range(30)]
    logs_issue = issue("large_log_files", "/var/log/build/*.log", 734, LOGS, "30 logs take 734 MB")
    disk = [NPM, *[PIP] * 6, *[replace(PIP, target=f"{HOME}/.cache/uv")] * 12]
    return report(
        [
            found(WORKTREES, [
                action("cleanup_worktrees", WORKTREES, planned(trees[:50]), KEPT, expected=13)
            ]),
            found(logs_issue, [
                action("prune_logs", logs_issue, planned([*logs, trim("server.log", 500)]),
                       expected=420.5)
            ]),
            found(FULL, [action("cleanup_disk", FULL, planned(disk[:19]))]),
            *HEALTHY,
        ],
        dry_run=True,
        notes=["an old lock is held: ~/src/app/.git/gc.pid (git gc, pid 812)"],
    )  # fmt: skip


def interrupted() -> Document:
    lost = replace(found(BIG_LOGS, [], None), issue=None, measured=None)
    trees = action("cleanup_worktrees", WORKTREES, done(AGENTS[:2]), problem="interrupted")
    return report(
        [found(WORKTREES, [trees], None), lost, *HEALTHY],
        interrupted=["excessive_worktrees", "large_log_files"],
        held=(2, 340_000),
    )


MORNING = time.mktime((2025, 11, 26, 10, 30, 0, 0, 0, -1))


def reaches(hours: float, early: float = 0, late: float = 0, **more: Any) -> Foreseen:
    """A limit of ``/`` that is reached in so many hours, give or take some."""
    given: dict[str, Any] = {
        "issue": "disk_space_critical", "target": "/", "value": 78.4, "threshold": 90,
        "unit": "%", "measured": MORNING, "eta_seconds": hours * 3600,
        "earliest": (hours - early) * 3600 if early else None,
        "latest": (hours + late) * 3600 if late else None,
        "basis": "grows 0.86 an hour for 9 hours", "seen": 3,
    }  # fmt: skip
    return Foreseen(**{**given, **more})


def foreseen() -> Document:
    """A healthy host on which two limits will be crossed."""
    checks = [replace(HEALTHY[0], measured={"value": 78.4, "description": "m"}), *HEALTHY[1:]]
    logs = reaches(
        31, issue="large_log_files", target=LOG_GROUP, value=302, threshold=500, unit="MB",
        basis="grows in steps of 21 every 3 hours", seen=2,
    )  # fmt: skip
    disk = reaches(
        13.2, 2.6, 2.1, alarms=4, came_true=3, causes=(f"{HOME}/.cache/huggingface",)
    )  # fmt: skip
    logged = fine("large_log_files", LOG_GROUP, 302, LOGS)
    return report([*checks, logged], foreseen=[logs, disk])


def because() -> Document:
    """Why a disk is full, and worktrees are many."""
    disk = action("cleanup_disk", FULL, done([PIP]))
    document = report(
        [found(FULL, [disk], 93.1), found(WORKTREES), *HEALTHY], foreseen=[reaches(4)]
    )
    full, trees = document["issues_detected"]
    full["because"] = [
        {"grade": "came just before", "what": "docker.service", "share": None,
         "text": "docker.service (pid 812) was started 40 s before it began to grow", "pid": 812},
        {"grade": "accounts for", "what": "/data/ana/.cache/huggingface", "share": 0.475,
         "text": "new files in /data/ana/.cache/huggingface are 47 % of what grew, 75 GB"},
        {"grade": "accounts for", "what": "/data/log/app.log", "share": 0.316, "pid": 4711,
         "text": "/data/log/app.log is deleted and still open in java (pid 4711), 50 GB",
         "command": "systemctl restart app.service"},
        {"grade": "went together", "what": "backup", "share": None,
         "text": "backup (pid 99) was at work whenever it grew"},
    ]  # fmt: skip
    trees["because"] = [
        {"grade": "went together", "what": "claude", "share": None,
         "text": f"claude (pid 99) works in {HOME}/src/worktrees"},
    ]  # fmt: skip
    return document


ALL_SITUATIONS: dict[str, Callable[[], Document]] = {
    each.__name__: each
    for each in (
        healthy, healed, kept, paused, blocked, rolled_back, undone, unknown, dry_run, interrupted,
        foreseen, because,
    )
}  # fmt: skip
