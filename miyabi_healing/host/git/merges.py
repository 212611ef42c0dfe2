"""Whose whole work is in a commit: git is asked what merging would change. Looks only; the trees
that git makes for that lie in a scratch folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from miyabi_healing.host.git.repositories import Repository
from miyabi_healing.support.command_errors import ToolError

# repository, base, commit: what is merged into a commit stays so
_MERGES: dict[tuple[Path, str, str], bool] = {}
IN_MEMORY = "/dev/shm"
# Nothing is packed that is there for a moment only, and no commit's name is looked for among those
# of branches.
_FOR_MERGES = {
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "core.compression", "GIT_CONFIG_VALUE_0": "0",
    "GIT_CONFIG_KEY_1": "core.warnAmbiguousRefs", "GIT_CONFIG_VALUE_1": "false",
}  # fmt: skip


def merged_into(repository: Repository, base: str, commits: Mapping[str, str]) -> frozenset[str]:
    """Those branches, of some with their `commits`, whose whole work is in the commit `base`,
    however it got there.

    A branch is merged when merging it would change nothing: right for fast-forwards, merges,
    rebases and squashes alike. Where the base has rewritten the same lines since, that cannot be
    said, and the branch does not count as merged.
    """
    keys = {name: (repository.common, base, commit) for name, commit in commits.items()}
    if unknown := {name: commits[name] for name, key in keys.items() if key not in _MERGES}:
        found = _look_for_merged(repository, base, unknown)
        _MERGES.update((keys[name], name in found) for name in unknown)
    return frozenset(name for name, key in keys.items() if _MERGES[key])


def _look_for_merged(repository: Repository, base: str, commits: Mapping[str, str]) -> set[str]:
    """The same, asked of git: a constant number of processes, however many branches there are."""
    try:
        return _absorbed(repository, base, commits)
    except ToolError:  # an older git: what only it could have judged is kept
        listing = repository.git(
            "for-each-ref", f"--merged={base}", "--format=%(refname)", "refs/heads/"
        )
        return set(commits) & {os.fsdecode(line) for line in listing.splitlines()}


def _absorbed(repository: Repository, base: str, commits: Mapping[str, str]) -> set[str]:
    """Those branches that a merge into the base would add nothing from (git-merge-tree(1)).

    The base merged with itself comes first: that tells its tree. Raises ToolError where git is
    older than 2.39.
    """
    requests = "".join(f"{base} {commit}\n" for commit in (base, *commits.values())).encode()
    with scratch(repository.owner) as folder:  # merge-tree writes the trees it makes
        places = {
            "GIT_OBJECT_DIRECTORY": folder,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(repository.common / "objects"),
            **_FOR_MERGES,
        }
        answer = repository.git(
            "merge-tree",
            "--write-tree",
            "--allow-unrelated-histories",
            "--no-messages",
            "--stdin",
            stdin=requests,
            environment=places,
        )
    top, *trees = clean_merges(answer) or [None]
    return {name for name, tree in zip(commits, trees, strict=False) if tree and tree == top}


@contextlib.contextmanager
def scratch(owner: int) -> Iterator[str]:
    """A folder that is `owner`'s for a moment, in memory where that can be: the disk may be full or
    slow.

    Its owner may set traps in it while root deletes it: so by descriptors alone, and what refuses
    stays. tempfile's own way then changes modes and deletes by path, which may lead anywhere by now
    (CVE-2023-6597, and more than that).
    """
    place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK | os.X_OK) else None
    folder = tempfile.mkdtemp(prefix="miyabi-healing-", dir=place)
    try:
        if os.geteuid() == 0:
            os.chown(folder, owner, -1)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clean_merges(answer: bytes) -> list[str | None]:
    """The trees ``git merge-tree --stdin --no-messages`` answers with, None for a merge with
    conflicts.
    """
    trees: list[str | None] = []
    fields = iter(answer.decode("ascii", "replace").split("\0"))
    for status in fields:
        if not status:
            break
        tree = next(fields, "")
        trees.append(tree if status == "1" else None)
        for rest in fields:  # the conflicted files, up to an empty field
            if not rest:
                break
    return trees
