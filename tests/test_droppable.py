"""What tools make again is taken out of worktrees that stay: only if asked for, only what git
ignores, and only while nobody is at work there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from gatework import work
from gitworld import commit, git, repository, worktree
from judging import ignoring, make_idle, put, view
from judging import plan as planned

from miyabi_healing.gate import execute
from miyabi_healing.gate.handlers.table import recheck
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host.git import droppable
from miyabi_healing.host.planning import delete
from miyabi_healing.host.readings import Host
from miyabi_healing.model.actions import Outcome
from miyabi_healing.model.config import Config
from miyabi_healing.model.plan import Plan
from miyabi_healing.model.steps import Delete, Quarantine

Start = Callable[..., psutil.Popen]
ASKED = Config(healers={"cleanup_worktrees": {"drop_regenerable": True}})
TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# made by a tool\n"


@pytest.fixture
def repo(home: Path) -> Path:
    repo = repository(home / "repo")
    ignoring(repo, "node_modules/", "target/", "build/")
    commit(repo, "package-lock.json", "{}\n")
    return repo


def kept(repo: Path, name: str = "kept") -> Path:
    """A worktree with work that is not merged, and with what npm has installed."""
    tree = worktree(repo, name)
    packages(tree)
    make_idle(repo, tree, 40)
    return tree


def packages(folder: Path) -> Path:
    put(folder / "node_modules" / ".package-lock.json", "{}\n")
    put(folder / "node_modules" / "left-pad" / "index.js", "x" * 50_000)
    return folder / "node_modules"


def plan(repo: Path, **options: float) -> Plan:
    return planned(repo, ASKED, **{"idle_days": 7, "drop_regenerable": True, **options})


def context(repo: Path, config: Config = ASKED) -> Context:
    return Context(Host(config), "run", repo.parent / "state", (repo.parent,))


def carry_out(repo: Path, made: Plan) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with work(context(repo)) as prepared:
        execute.carry_out_plan(made, prepared, outcomes)
    return outcomes


def test_packages_of_an_idle_worktree_are_deleted_and_its_work_stays(repo: Path) -> None:
    tree = kept(repo)
    made = plan(repo)
    (step,) = made.steps
    assert isinstance(step, Delete)
    assert step.reason == "it is made again from package-lock.json"
    (outcome,) = carry_out(repo, made)
    assert (outcome.status, outcome.freed >= 50_000) == ("applied", True), outcome.message
    assert not (tree / "node_modules").exists()
    assert git(tree, "status", "--porcelain") == ""
    assert (tree / "kept.txt").exists()


def test_nothing_is_taken_out_unless_asked_for(repo: Path) -> None:
    kept(repo)
    assert planned(repo, idle_days=7).steps == ()


def test_what_nothing_shows_to_be_made_again_is_set_aside(repo: Path) -> None:
    tree = kept(repo)
    put(tree / "build" / "signed.pdf", "x" * 9_000)
    put(tree / "target" / "CACHEDIR.TAG", TAG)
    make_idle(repo, tree, 40)
    made = plan(repo)
    aside, *gone = made.steps
    assert [Path(each.target).name for each in gone] == ["node_modules", "target"]
    assert all(isinstance(each, Delete) for each in gone)
    assert isinstance(aside, Quarantine)
    assert (aside.bytes, aside.later >= 9_000) == (0, True), "it frees nothing until it is purged"
    assert [each.status for each in carry_out(repo, made)] == ["applied"] * 3
    assert sorted(os.listdir(tree)) == [".git", ".gitignore", "kept.txt", "package-lock.json",
                                        "readme"]  # fmt: skip
    assert list((repo.parent / "state").rglob("signed.pdf"))


@pytest.mark.parametrize(
    ("made", "evidence"),
    [
        ({"package-lock.json": "{}", "node_modules/.package-lock.json": "{}"}, True),
        ({"node_modules/.package-lock.json": "{}"}, False),
        ({"package-lock.json": "{}", "node_modules/mine.js": "x"}, False),
        ({"pnpm-lock.yaml": "", "node_modules/.modules.yaml": ""}, True),
        ({"yarn.lock": "", "node_modules/.yarn-integrity": ""}, True),
        ({"node_modules/CACHEDIR.TAG": TAG}, True),
        ({"node_modules/CACHEDIR.TAG": "Signature: of my own"}, False),
    ],
)
def test_mark_of_a_tool_and_what_it_makes_from_are_both_needed(
    tmp_path: Path, made: dict[str, str], evidence: bool
) -> None:
    for name, content in made.items():
        put(tmp_path / name, content)
    assert bool(droppable.made_again(tmp_path / "node_modules", os.geteuid())) is evidence


def test_folder_that_is_not_ignored_or_holds_a_repository_stays(repo: Path) -> None:
    tree = worktree(repo, "kept")
    packages(tree)
    git(tree / "node_modules" / "left-pad", "init", "-q")
    put(tree / "dist" / "CACHEDIR.TAG", TAG)
    commit(put(tree / "target" / "CACHEDIR.TAG", TAG).parents[1], "readme", "edited\n")
    git(tree, "add", "-f", "target")
    git(tree, "commit", "-q", "-m", "target is ours")
    make_idle(repo, tree, 40)
    assert plan(repo).steps == ()


def test_worktree_that_somebody_may_want_today_is_left_alone(repo: Path, start: Start) -> None:
    packages(worktree(repo, "young"))
    git(repo, "worktree", "lock", "--reason", "mine", str(kept(repo, "locked")))
    start("sleep", "600", cwd=kept(repo, "used"))
    rebased = kept(repo, "rebased")
    put(repo / ".git" / "worktrees" / rebased.name / "MERGE_HEAD")
    make_idle(repo, rebased, 40)
    assert plan(repo).steps == ()


def test_worktree_that_is_used_since_it_was_planned_is_left_alone(repo: Path, start: Start) -> None:
    tree = kept(repo)
    made = plan(repo)
    start("sleep", "600", cwd=tree)
    (outcome,) = carry_out(repo, made)
    assert "in use" in outcome.message
    assert (tree / "node_modules").exists()


def test_worktree_that_was_edited_since_it_was_planned_is_left_alone(repo: Path) -> None:
    tree = kept(repo)
    made = plan(repo)
    put(tree / "kept.txt", "edited\n")
    (outcome,) = carry_out(repo, made)
    assert "not idle" in outcome.message
    assert (tree / "node_modules").exists()


def test_package_that_is_open_keeps_its_folder(repo: Path, start: Start) -> None:
    tree = kept(repo)
    made = plan(repo)
    file = tree / "node_modules" / "left-pad" / "index.js"
    script = f"import time; file = open({str(file)!r}); print(flush=True); time.sleep(600)"
    start(sys.executable, "-S", "-c", script, stdout=-1).stdout.readline()
    (outcome,) = carry_out(repo, made)
    assert "in use" in outcome.message
    assert file.exists()


def test_gate_refuses_what_no_evidence_speaks_for_whatever_is_planned(repo: Path) -> None:
    tree = kept(repo)
    put(tree / "build" / "own")
    packages(repo)

    def refusal(root: Path, name: str, config: Config = ASKED) -> str | None:
        return recheck(delete(root, [root / name], ""), context(repo, config))

    assert refusal(tree, "node_modules") is None
    assert refusal(tree, "node_modules", Config()) is not None
    assert refusal(tree, "build") is not None
    assert refusal(tree, "kept.txt") is not None
    assert refusal(tree / "node_modules", "left-pad") is not None
    assert refusal(repo, "node_modules") == "no linked worktree"
    assert refusal(view(repo).worktrees()[0].admin, "index") is not None


def test_bytes_that_come_back_are_what_is_said(repo: Path) -> None:
    tree = kept(repo)
    os.link(tree / "node_modules" / "left-pad" / "index.js", repo.parent / "store")
    make_idle(repo, tree, 40)
    (step,) = plan(repo).steps
    assert step.bytes < 50_000
