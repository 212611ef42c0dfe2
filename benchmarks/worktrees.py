"""Git worktrees: counting them, telling which branches are merged, which worktrees are clean, and
taking them away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

from benchmarks.harness import Aim, Case, Command, Settings, Side, main, needs, python

CHERRY = """
for branch in $(git for-each-ref --format='%(refname)' refs/heads/topic); do
    base=$(git merge-base main $branch)
    squashed=$(git commit-tree "$branch^{tree}" -p $base -m _)
    case $(git cherry main $squashed) in -*) echo $branch ;; esac
done
"""
STATUS = """
for tree in ../trees/*; do
    test -z "$(git -C $tree status --porcelain --ignored --untracked-files=all)" || echo $tree
done
"""
REMOVE = "for tree in ../trees/*; do git worktree remove $tree; done"


def cases(settings: Settings) -> Generator[Case, None, None]:
    git, sh = needs("git"), needs("sh")
    os.environ.update(
        GIT_CONFIG_GLOBAL=str(settings.folder / "gitconfig"), GIT_CONFIG_SYSTEM="/dev/null"
    )
    (settings.folder / "gitconfig").write_text(
        "[user]\nname = Bench\nemail = bench@example.invalid\n[gc]\nauto = 0\n"
    )

    many = World(settings.folder / "many", trees=settings.scaled(500), files=1)
    many.build()
    listing = Command((git, "worktree", "list"), cwd=many.repo)
    counting = python("benchmarks.ours", "count_worktrees", many.repo, many.trees + 1)
    yield Case(
        f"counting {many.trees} worktrees",
        Side("ours", lambda: counting),
        Side("git worktree list", lambda: listing),
        (Aim(reach=0.5), Aim("core", 0.5, name="without an interpreter's start", against="cpu")),
        rounds=9,
    )
    shutil.rmtree(many.top)

    branches = World(settings.folder / "branches", trees=0, files=50, branches=settings.scaled(300))
    branches.build()
    one_by_one = Command((sh, "-c", CHERRY), cwd=branches.repo)
    asking = python("benchmarks.ours", "merged_branches", branches.repo, branches.branches // 3 * 2)
    yield Case(
        f"which of {branches.branches} branches are merged, also by squash",
        Side("ours", lambda: asking),
        Side("commit-tree and cherry a branch", lambda: one_by_one),
        (
            Aim(reach=0.05),
            Aim("core", 0.05, name="without an interpreter's start", against="wall"),
            Aim("processes", 10, absolute=True, name="git processes"),
        ),
        rounds=5,
    )
    shutil.rmtree(branches.top)

    world = World(settings.folder / "clean", trees=settings.scaled(180), files=2000)
    world.build()
    status = Command((sh, "-c", STATUS), cwd=world.repo)
    checking = python("benchmarks.ours", "dirty_worktrees", world.repo)
    yield Case(
        f"which of {world.trees} worktrees of {world.files:,} files are clean",
        Side("ours", lambda: checking),
        Side("git status one by one", lambda: status),
        (Aim(reach=0.7), Aim("core", 0.7, name="without an interpreter's start", against="wall")),
        rounds=5,
    )

    remove = Command((sh, "-c", REMOVE), cwd=world.repo)
    state = settings.folder / "state"
    taking = python("benchmarks.ours", "retire_worktrees", world.repo, state, world.trees)

    def restored() -> Command:
        world.restore(state)
        return taking

    def rebuilt() -> Command:
        world.restore(state)
        return remove

    yield Case(
        f"taking away {world.trees} merged worktrees of {world.files:,} files",
        Side("ours, undoable", restored),
        Side("git worktree remove one by one", rebuilt),
        (
            Aim(name="all of it, with finding them"),
            Aim("gate", 0.05, name="taking them away", against="wall"),
        ),
        rounds=3,
    )


class World:
    """A repository whose linked worktrees and further branches are merged by squashing."""

    def __init__(self, top: Path, trees: int, files: int, branches: int = 0) -> None:
        self.top, self.trees, self.files, self.branches = top, trees, files, branches
        self.repo = top / "repo"

    def git(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.repo,
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def build(self) -> None:
        self.repo.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        for number in range(self.files):
            path = self.repo / f"folder{number % 20}" / f"file{number}"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"line of file {number}\n" * 20)
        self.git("add", ".")
        self.git("commit", "-q", "-m", "begin")
        self.git("fast-import", "--quiet", stdin=self.commits())
        self.git("reset", "-q", "--hard")
        self.restore()

    def commits(self) -> str:
        """Branches of one commit each, and main with each of them squashed; of further branches,
        each third is not merged.
        """
        start = self.git("rev-parse", "main")
        names = [f"tree/{number}" for number in range(self.trees)] + [
            f"topic/{number}" for number in range(self.branches)
        ]
        who = "committer Bench <bench@example.invalid> 1700000000 +0000"
        lines: list[str] = []
        onto = f"from {start}\n"
        for name in names:
            text = f"work of {name}\n"
            new = f"M 100644 inline {name.replace('/', '-')}\ndata {len(text)}\n{text}"
            lines.append(f"commit refs/heads/{name}\n{who}\ndata 4\nwork\nfrom {start}\n{new}")
            number = int(name.partition("/")[2])
            if name.startswith("tree") or number % 3:
                lines.append(f"commit refs/heads/main\n{who}\ndata 6\nsquash\n{onto}{new}")
                onto = ""
        return "\n".join(lines)

    def restore(self, state: Path | None = None) -> None:
        """Every worktree there again, clean and long unused, with a reflog that says its branch has
        had a commit.

        Somebody has asked for its status since it was checked out: until then git has to read all
        its files (racy-git(7)).
        """
        if state and state.exists():
            rollback = python("benchmarks.ours", "roll_back", self.repo, state)
            subprocess.run(rollback.argv, check=True)
            shutil.rmtree(state)
        start = self.git("rev-list", "--max-parents=0", "main")
        trees = [self.top / "trees" / f"t{number}" for number in range(self.trees)]
        for number, tree in enumerate(trees):
            if not tree.exists():
                self.git("worktree", "add", "-q", "--force", str(tree), f"tree/{number}")
            log = self.repo / ".git" / "logs" / "refs" / "heads" / "tree" / f"{number}"
            log.parent.mkdir(parents=True, exist_ok=True)
            zero, tip = "0" * 40, self.git("rev-parse", f"refs/heads/tree/{number}")
            who = "Bench <bench@example.invalid> 1700000000 +0000\t"
            log.write_text(f"{zero} {start} {who}branch\n{start} {tip} {who}commit\n")
        time.sleep(1.1)
        for tree in trees:
            self.git("-C", str(tree), "status")


if __name__ == "__main__":
    main({"worktrees": cases})
