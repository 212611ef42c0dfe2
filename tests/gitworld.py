"""Real git repositories for tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

# whoever runs the tests may have no name in git
NOBODY = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid")


def git(folder: Path, *arguments: str, check: bool = True, **environment: str) -> str:
    done = subprocess.run(
        ["git", *NOBODY, "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env={**os.environ, **environment},
    )
    if check and done.returncode:
        raise AssertionError(f"git {arguments}: {done.stderr}")
    return done.stdout.strip()


def commit(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    git(folder, "add", "--", name)
    git(folder, "commit", "-q", "-m", f"{name}: {text[:20]}")
    return git(folder, "rev-parse", "HEAD")


def repository(folder: Path) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    (folder / ".gitignore").write_text("node_modules/\n.env\n")
    git(folder, "add", ".")
    commit(folder, "readme", "one\n")
    return folder


def worktree(repo: Path, name: str, *, work: bool = True) -> Path:
    """A linked worktree beside the repository, on a branch of its own, with one commit of work
    unless told otherwise.
    """
    path = repo.parent / "trees" / name
    path.parent.mkdir(exist_ok=True)
    git(repo, "worktree", "add", "-q", "-b", name, str(path))
    if work:
        commit(path, f"{name}.txt", f"work of {name}\n")
    return path


def merge(repo: Path, branch: str, how: str) -> None:
    """Bring a branch's work into main: ``ff``, ``merge``, ``squash``, ``edited`` (squashed with
    further edits), ``rebase``.
    """
    if how == "ff":
        git(repo, "merge", "-q", "--ff-only", branch)
    elif how == "merge":
        git(repo, "merge", "-q", "--no-ff", "--no-edit", branch)
    elif how in ("squash", "edited"):
        git(repo, "merge", "-q", "--squash", branch)
        if how == "edited":
            (repo / "also.txt").write_text("added while squashing\n")
            git(repo, "add", ".")
        git(repo, "commit", "-q", "-m", f"squash {branch}")
    else:
        git(repo, "cherry-pick", f"main..{branch}")


def merged_worktree(repo: Path, name: str, how: str = "squash") -> Path:
    path = worktree(repo, name)
    if how == "ff":
        git(path, "rebase", "-q", "main")
    merge(repo, name, how)
    return path
