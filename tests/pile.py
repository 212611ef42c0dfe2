"""A pile of agents' worktrees as people report it: three repositories with remotes, and 66 linked
worktrees of which 48 hold nothing that would be missed.

Made by the forms of public reports (27 to 764 worktrees): merged by every way that hosts of code
have, detached ones, locks of agents that are gone, what tools make again, copies and litter.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gitworld import git
from judging import put

DAY = 86_400
IGNORED = "node_modules/\ntarget/\n.venv/\n.env\n.claude/\n*.pyc\n.DS_Store\n*.csv\n*.whl\n"
ALLOWED = ("-c", "protocol.file.allow=always")
LOCK = "claude agent agent-{pid} (pid {pid} start Fri Jun 19 21:37:40 2020)"
ONE = "import numbers\n"


@dataclass(frozen=True)
class Tree:
    """A linked worktree: the `repo` it is of, its `path`, whether it may go, and since when nobody
    used it (`days`). `is_there` is false where its folder was deleted or is out of reach.
    """

    repo: Path
    path: Path
    may_go: bool
    days: float = 60
    is_there: bool = True

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def admin(self) -> Path:
        return self.repo / ".git" / "worktrees" / self.name


@dataclass
class Home:
    """One repository below HOME, and the place where its branches are merged: `server` is a clone
    of its remote at `base`, as a host of code does it, so the repository learns it by fetching.
    """

    repo: Path
    server: Path
    base: str
    trees: list[Tree] = field(default_factory=list)

    def worktree(self, name: str, may_go: bool, where: Path | None = None, **facts: object) -> Tree:
        """One on a branch of its own (``at`` names a commit to be detached at) from the base as it
        is known by now.
        """
        path = where or self.repo.parent / f"{self.repo.name}-trees" / name
        at = facts.pop("at", None)
        how = ("--detach",) if at else ("--no-track", "-b", name)
        git(self.repo, "worktree", "add", "-q", *how, str(path), str(at or f"origin/{self.base}"))
        self.trees.append(Tree(self.repo, path, may_go, **facts))  # type: ignore[arg-type]
        return self.trees[-1]

    def work(self, tree: Tree, commits: int = 1) -> None:
        for number in range(1, commits + 1):
            put(tree.path / f"src/{tree.name}-{number}.py", f"{ONE}# part {number}\n")
            git(tree.path, "add", "-A")
            git(tree.path, "commit", "-q", "-m", f"{tree.name}: part {number}")

    def merge(self, branch: str, how: str = "squash") -> None:
        """Bring a branch's work into the base on the server."""
        git(self.server, "fetch", "-q", str(self.repo), branch)
        if how == "ff":
            git(self.server, "merge", "-q", "--ff-only", "FETCH_HEAD")
        elif how == "merge":
            git(self.server, "merge", "-q", "--no-ff", "--no-edit", "FETCH_HEAD")
        elif how == "rebase":
            put(self.server / f"other/{branch}", "other work\n")
            self.commit("other work")
            git(self.server, "cherry-pick", "HEAD~..FETCH_HEAD", f"^{self.start}")
        elif how == "cherry":
            git(self.server, "cherry-pick", "-x", f"{self.start}..FETCH_HEAD")
        else:
            git(self.server, "merge", "-q", "--squash", "FETCH_HEAD")
            if how == "edited":
                put(self.server / f"tests/{branch}.py", "from review import *\n")
                edit(self.server / "src/main.py", "print(49)", f"print(49)  # {branch}")
            self.commit(f"squash {branch}")

    @property
    def start(self) -> str:
        return git(self.repo, "rev-parse", f"origin/{self.base}")

    def commit(self, message: str) -> None:
        git(self.server, "add", "-A")
        git(self.server, "commit", "-q", "-m", message)

    def publish(self) -> None:
        """What was merged is known to the repository as its remote's."""
        git(self.server, "push", "-q", "origin", "HEAD")
        git(self.repo, "fetch", "-q", "--prune", "origin")

    def merged(self, name: str, how: str = "squash", commits: int = 1, **facts: object) -> Tree:
        tree = self.worktree(name, bool(facts.pop("may_go", True)), **facts)  # type: ignore[arg-type]
        self.work(tree, commits)
        self.merge(name, how)
        return tree


def edit(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new, 1))


def home_of(top: Path, name: str, base: str, default: str = "") -> Home:
    """``~/src/NAME`` with its remote beside HOME, whose HEAD is `default`."""
    origin, server, repo = top / f"{name}.git", top / f"{name}-server", top / "home/src" / name
    git(top, "init", "-q", "-b", base, str(server))
    (server / ".gitignore").write_text(IGNORED)
    (server / "data.bin").write_bytes(os.urandom(300_000))
    put(server / "CHANGELOG.md", "# Changes\n\n- first\n")
    put(server / "src/main.py", "".join(f"print({each})\n" for each in range(50)))
    git(server, "add", "-A")
    git(server, "commit", "-q", "-m", "first")
    for number in range(3):
        git(server, "commit", "-q", "--allow-empty", "-m", f"step {number}")
    git(top, "clone", "-q", "--bare", str(server), str(origin))
    git(server, "remote", "add", "origin", str(origin))
    if default:
        git(server, "push", "-q", "origin", f"{base}:{default}")
        git(origin, "symbolic-ref", "HEAD", f"refs/heads/{default}")
    git(top, "clone", "-q", str(origin), str(repo))
    return Home(repo, server, base)


def merged_in_every_way(top: Path) -> Home:
    """Local main is behind its remote: nobody has pulled."""
    here = home_of(top, "app", "main")
    ways = ("merge", "squash", "edited", "rebase", "cherry")
    for how in ("ff", *ways):
        for number in (1, 2):
            here.merged(f"{how}-{number}", how, commits=number)
            if how == "ff":  # the next one begins where this one ended
                here.publish()
    for how in ("squash", "rebase"):
        for number in range(3):  # each from the base of its day, each at the top of one file
            here.publish()
            tree = here.worktree(f"hot-{how}-{number}", True)
            edit(tree.path / "CHANGELOG.md", "# Changes\n\n", f"# Changes\n\n- {tree.name}\n")
            here.work(tree, commits=2)
            here.merge(tree.name, how)
    for name in ("gone-1", "gone-2"):
        tree = here.merged(name)
        git(tree.path, "push", "-q", "-u", "origin", name)
        git(top / "app.git", "update-ref", "-d", f"refs/heads/{name}")
    here.work(here.worktree("unpushed", False))
    for name in ("dirty", "untracked", "staged", "hidden-edit", "below-build"):
        here.merged(name, may_go=False)
    trees = here.repo.parent / "app-trees"
    put(trees / "dirty/src/main.py")
    put(trees / "untracked/notes.txt")
    put(trees / "staged/src/main.py")
    git(trees / "staged", "add", "-A")
    git(trees / "hidden-edit", "update-index", "--assume-unchanged", "src/main.py")
    put(trees / "hidden-edit/src/main.py")
    put(trees / "below-build/docs/build/labels.csv")
    git(here.repo, "config", "gc.worktreePruneExpire", "never")
    shutil.rmtree(here.merged("never-pruned", may_go=False, is_there=False).path)
    here.publish()
    return here


def detached_locked_and_with_submodules(top: Path, alive: int) -> Home:
    """Work is merged into develop; the remote's HEAD is main."""
    here = home_of(top, "lib", "develop", "main")
    git(top, "init", "-q", "-b", "main", str(top / "vendor"))
    (top / "vendor/blob.bin").write_bytes(os.urandom(200_000))
    git(top / "vendor", "add", "-A")
    git(top / "vendor", "commit", "-q", "-m", "vendor")
    git(here.server, *ALLOWED, "submodule", "--quiet", "add", str(top / "vendor"), "vendor")
    here.commit("vendor")
    here.publish()
    here.merged("develop-1", commits=2)
    here.merged("develop-2", "merge")
    for number in range(8):
        here.worktree(f"codex-{number}", True, at=f"origin/main~{number % 4}")
    gone = subprocess.Popen(["true"])
    gone.wait()
    for name in ("left-1", "left-2"):
        lock(here.merged(name), LOCK.format(pid=gone.pid))
    here.worktree("never-used-1", True)
    here.worktree("never-used-2", True)
    with_submodule = here.merged("submodule"), here.merged("stashed", may_go=False)
    for tree in with_submodule:
        git(tree.path, *ALLOWED, "submodule", "--quiet", "update", "--init")
    put(with_submodule[1].path / "vendor/blob.bin")
    git(with_submodule[1].path / "vendor", "stash", "--quiet")
    here.work(here.worktree("detached-own", False, at="origin/main"))
    lately = here.worktree("detached-lately", False, at="origin/main", days=9)
    here.work(lately)
    git(lately.path, "checkout", "-q", "origin/main")
    lock(here.merged("locked-live", may_go=False), LOCK.format(pid=alive))
    lock(here.merged("locked-by-hand", may_go=False), "on the disk of the laptop")
    git(here.repo, "branch", "-q", "develop", "origin/develop")
    base = here.repo.parent / "lib-trees/develop"
    git(here.repo, "worktree", "add", "-q", str(base), "develop")
    here.trees.append(Tree(here.repo, base, False))
    here.publish()
    return here


def with_files_of_tools(top: Path) -> Home:
    """The base is called trunk; git gc has just rewritten all reflogs, once all is old."""
    here = home_of(top, "tool", "trunk")
    put(here.repo / ".env", "TOKEN=1\n")
    put(here.repo / ".claude/settings.local.json", "{}\n")
    for folder in ("node_modules", "target", ".venv"):
        tree = here.merged(folder.strip("."))
        put(tree.path / folder / "deep/er/file").write_bytes(os.urandom(2_000_000))
    put(here.merged("env-copied").path / ".env", "TOKEN=1\n")
    (here.merged("env-linked").path / ".env").symlink_to(here.repo / ".env")
    put(here.merged("ds-store").path / "src/.DS_Store")
    put(here.merged("pyc").path / "src/main.pyc")
    put(here.merged("settings").path / ".claude/settings.local.json", '{"permissions": {}}\n')
    here.merged("after-gc")
    for number in (1, 2):
        name = f"agent-{number}"
        here.merged(name, where=here.repo / ".claude/worktrees" / name)
    relative = here.merged("relative-link")
    link = os.path.relpath(relative.admin, relative.path)
    (relative.path / ".git").write_text(f"gitdir: {link}\n")
    shutil.rmtree(here.merged("deleted-by-hand", is_there=False).path)
    git(here.merged("bisected", may_go=False).path, "bisect", "start")
    inside = here.merged("with-repository", may_go=False).path / "node_modules/inner"
    git(top, "init", "-q", str(inside))
    put(inside / "work.js")
    here.merged("visited", may_go=False)
    here.merged("yesterday", may_go=False, days=1)
    usb = here.repo.parent / "usb"
    here.merged("unplugged", where=usb / "unplugged", may_go=False, is_there=False)
    usb.rename(top / "usb")
    here.publish()
    git(here.repo, "merge", "-q", "--ff-only", f"origin/{here.base}")
    return here


def lock(tree: Tree, reason: str) -> None:
    git(tree.repo, "worktree", "lock", "--reason", reason, str(tree.path))


def build(top: Path, visit: Callable[[Path], int]) -> list[Tree]:
    """The whole pile in ``top/home/src``; `visit` starts a process in a folder, which goes on, and
    returns its number.
    """
    homes = (
        merged_in_every_way(top),
        detached_locked_and_with_submodules(top, visit(top)),
        with_files_of_tools(top),
    )
    trees = [tree for each in homes for tree in each.trees]
    for each in homes:
        for tree in each.trees:
            make_old(tree.admin, tree.days)
            make_old(tree.path, tree.days)
        make_old(each.repo / ".git/logs", 60)
    git(homes[-1].repo, "gc", "-q")
    visit(next(tree.path for tree in trees if tree.name == "visited"))
    return trees


def make_old(folder: Path, days: float) -> None:
    """Nothing below has happened for so long, by its times and by its reflogs."""
    old = time.time() - days * DAY
    for path, folders, names in os.walk(folder):
        if "logs" in Path(path).parts:
            for name in names:
                rewrite(Path(path, name), int(old))
        for name in (*folders, *names, "."):
            os.utime(os.path.join(path, name), (old, old), follow_symlinks=False)


def rewrite(reflog: Path, seconds: int) -> None:
    lines = []
    for line in reflog.read_text().splitlines():
        head, tab, words = line.partition("\t")
        who, _, zone = head.rsplit(" ", 2)
        lines.append(f"{who} {seconds} {zone}{tab}{words}\n")
    reflog.write_text("".join(lines))


def states(trees: Sequence[Tree]) -> dict[Path, tuple[str, ...]]:
    """All that a person would miss of each: what git says of it, and every file's content."""
    records = {
        each.split("\n")[0]: each
        for repo in {tree.repo for tree in trees}
        for each in git(repo, "worktree", "list", "--porcelain").split("\n\n")
    }
    return {
        tree.path: (records.get(f"worktree {tree.path}", "no worktree"), *_files_of(tree))
        for tree in trees
    }


def _files_of(tree: Tree) -> list[str]:
    if not tree.is_there:
        return contents(tree.admin)
    asked = ("status", "--porcelain", "--branch", "--ignored")
    return [git(tree.path, *asked, GIT_OPTIONAL_LOCKS="0"), *contents(tree.path)]


def contents(folder: Path) -> list[str]:
    found = []
    for path, folders, names in os.walk(folder):
        for name in (*names, *folders):
            file = os.path.join(path, name)
            what = os.readlink(file) if os.path.islink(file) else ""
            if not what and os.path.isfile(file):
                what = hashlib.sha1(Path(file).read_bytes()).hexdigest()
            found.append(f"{file} {os.lstat(file).st_mode:o} {what}")
    return sorted(found)


def blocks(folder: Path) -> int:
    """Bytes that the files below take on the disk, counted without the program (st_blocks)."""
    return 512 * sum(
        os.lstat(os.path.join(path, name)).st_blocks
        for path, _, names in os.walk(folder)
        for name in names
    )
