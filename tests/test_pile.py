"""A pile of worktrees as agents leave it, cleared with the configuration that `init` writes: all
that may go goes in one run, nothing else is touched, the numbers are true, and all comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from pile import Tree, blocks, build, states
from program import report, run

# they are about this machine, and not about what is in HOME
OF_THE_HOST = ("DISK_SPACE_CRITICAL", "HIGH_MEMORY_USAGE", "ZOMBIE_PROCESSES", "LARGE_LOG_FILES")


@pytest.fixture
def pile(
    home: Path, start: Callable[..., psutil.Popen], monkeypatch: pytest.MonkeyPatch
) -> list[Tree]:
    for name in OF_THE_HOST:
        monkeypatch.setenv(f"MIYABI_HEALING__CHECKS__{name}__ENABLED", "false")
    return build(home.parent, lambda folder: start("sleep", "600", cwd=folder).pid)


def targets(document: dict[str, Any], status: str) -> set[str]:
    return {
        step["target"]
        for action in document["actions_taken"]
        for step in action["steps"]
        if step["status"] == status
    }


def kept(document: dict[str, Any]) -> dict[str, str]:
    """The name of each that stays, with why."""
    return {
        Path(each["target"]).name: each["reason"]
        for action in document["actions_taken"]
        for each in action["kept"]
    }


def total(document: dict[str, Any], number: str) -> int:
    return sum(action["details"].get(number, 0) for action in document["actions_taken"])


STAYS = {
    "unpushed": "not merged",
    "dirty": "dirty",
    "untracked": "untracked",
    "staged": "dirty",
    "hidden-edit": "hidden edits",
    "below-build": "ignored files",
    "never-pruned": "moved or missing",
    "stashed": "submodules",
    "detached-own": "detached",
    "detached-lately": "detached",
    "locked-live": "locked",
    "locked-by-hand": "locked",
    "develop": "base branch",
    "bisected": "in progress",
    "with-repository": "ignored files",
    "visited": "in use",
    "yesterday": "not idle",
    "unplugged": "moved or missing",
}


def test_all_48_that_may_go_go_in_one_run_and_come_back_and_the_others_are_never_touched(
    home: Path, pile: list[Tree]
) -> None:
    safe, others = ([each for each in pile if each.may_go is wanted] for wanted in (True, False))
    assert (len(safe), {each.name for each in others}) == (48, set(STAYS))
    before = states(pile)
    sizes = {each.path: blocks(each.path) + blocks(each.admin) for each in pile}
    paths = {str(each.path) for each in safe}

    assert run("init").returncode == 0
    status, plan = report("--dry-run")
    assert targets(plan, "planned") == paths
    assert status == 1

    status, healed = report()
    assert (status, healed["overall_success"]) == (0, True)
    assert targets(healed, "applied") == paths
    assert not any(each.path.exists() or each.admin.exists() for each in safe)
    mains = dict.fromkeys((each.repo.name for each in pile), "main")
    assert kept(healed) == {**mains, **STAYS}
    assert states(others) == {each.path: before[each.path] for each in others}
    there = sum(each.is_there for each in safe)
    assert (total(healed, "worktrees_removed"), total(healed, "pruned")) == (there, 48 - there)
    assert total(healed, "metric_before") - total(healed, "metric_after") == 48
    assert total(healed, "bytes_freed_later") == sum(sizes[each.path] for each in safe)
    entries = (home / ".local/state/miyabi-healing/quarantine").glob("*/*/thing")
    assert sum(map(blocks, entries)) == total(healed, "bytes_freed_later")

    status, nothing = report()
    assert (status, nothing["actions_taken"]) == (0, [])

    assert run("rollback", healed["run_id"]).returncode == 0
    assert states(pile) == before
    status, left = report()  # what was rolled back by hand is left alone
    assert (status, left["overall_success"], targets(left, "applied")) == (1, False, set())
