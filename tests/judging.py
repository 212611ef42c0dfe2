"""What becomes of a worktree in a test: asked as the healer asks, and its plan."""

from __future__ import annotations

import os
import time
from pathlib import Path

from gatework import work
from gitworld import commit

from miyabi_healing.gate import execute, rollback
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host.context import HealerContext
from miyabi_healing.host.git import repositories as git_view
from miyabi_healing.host.git.verdict import Verdict
from miyabi_healing.host.git.worktrees import Waits, WorktreeInspector
from miyabi_healing.host.readings import Host
from miyabi_healing.model.actions import Outcome
from miyabi_healing.model.config import Budgets, Config
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.plan import Plan
from miyabi_healing.runner import registry


def view(repo: Path, config: Config | None = None) -> git_view.Repository:
    return git_view.open_repository(str(repo), config or Config())


def reason(repo: Path, tree: Path, idle_days: float = 0) -> str | None:
    said = verdict(repo, tree, Waits(idle_days)).reason
    return said.category if said else None


def verdict(repo: Path, tree: Path, waits: Waits | None = None) -> Verdict:
    place = view(repo)
    found = next(each for each in place.worktrees() if each.path == tree)
    return WorktreeInspector(place).verdict(found, waits or Waits())


def plan(repo: Path, config: Config | None = None, clear: float = 0, **options: float) -> Plan:
    place = view(repo, config)
    healer, kind = registry.load_healer(
        "cleanup_worktrees", registry.builtin("healers") / "cleanup_worktrees.py"
    )
    assert kind is not None
    issue = Issue("excessive_worktrees", str(repo), "", 1, Limit(0, clear_at=clear))
    return healer(
        HealerContext(Host(place.config), {"repository": place}),
        issue,
        kind(**{"idle_days": 0, **options}),
    )


def context(tmp_path: Path, repo: Path) -> Context:
    return Context(Host(Config()), "run", tmp_path / "state", (repo,))


def ignoring(repo: Path, *patterns: str) -> None:
    commit(repo, ".gitignore", "".join(f"{each}\n" for each in patterns))


def put(file: Path, text: str = "made by hand\n") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def make_idle(repo: Path, tree: Path, days: float) -> None:
    """Nothing has happened in a worktree for so long."""
    (place,) = (each for each in view(repo).worktrees() if each.path == tree)
    old = time.time() - days * 86_400
    reflog = place.admin / "logs" / "HEAD"
    lines = []
    for line in reflog.read_text().splitlines():
        head, tab, words = line.partition("\t")
        who, _seconds, zone = head.rsplit(" ", 2)
        lines.append(f"{who} {int(old)} {zone}{tab}{words}\n")
    reflog.write_text("".join(lines))
    for folder, _folders, names in (*os.walk(tree), *os.walk(place.admin)):
        for name in (*names, "."):
            os.utime(os.path.join(folder, name), (old, old))


def retire_all(repo: Path, where: Context, budgets: Budgets | None = None) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with work(where, budgets=budgets) as prepared:
        execute.carry_out_plan(plan(repo), prepared, outcomes)
    return outcomes


def undo_all(where: Context) -> list[tuple[str, str]]:
    with work(where) as prepared:
        rows = rollback.choose(where.state, prepared.journal, None)
        done = rollback.carry_out_rollback(rows, prepared.context, prepared.journal)
    return [(each.status, each.message) for each in done]
