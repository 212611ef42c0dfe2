"""A repository's branches: where they are, which of them is the base, and whose work is all in it.
Looks only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from miyabi_healing.host.git import merges
from miyabi_healing.host.git.repositories import Repository
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.files import read_small

_DEFAULTS: dict[Path, str] = {}
_BRANCHES = ("refs/heads/", "refs/remotes/")


@dataclass(frozen=True)
class _Base:
    """The branch that merged work ends up in: its full name and commit."""

    name: str
    commit: str


class Branches:
    """One look at the branches of a repository; ask a new one for fresh answers.

    Its answers raise ToolError where git cannot be asked.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository

    @cached_property
    def refs(self) -> dict[str, tuple[str, str]]:
        """Every branch, local and remote: full name to commit and, for a symbolic one, its
        target.
        """
        listing = self.repository.git(
            "for-each-ref", "--format=%(refname)%00%(objectname)%00%(symref)", *_BRANCHES
        )
        rows = (os.fsdecode(line).split("\0") for line in listing.splitlines())
        return {name: (commit, target) for name, commit, target in rows}

    @cached_property
    def base(self) -> _Base | str:
        """The configured base, or ``origin/HEAD``, ``init.defaultBranch``, main or master; why none
        is sure, where that is so.
        """
        wanted = self.repository.config.git.base
        if wanted:
            for name in (wanted, f"refs/heads/{wanted}", f"refs/remotes/{wanted}"):
                if name in self.refs:
                    return _Base(name, self.refs[name][0])
            return f"git.base is {wanted!r}, and no such branch exists"
        name = self.refs.get("refs/remotes/origin/HEAD", ("", ""))[1]
        if name in self.refs or (name := f"refs/heads/{self.default_branch}") in self.refs:
            return _Base(name, self.refs[name][0])
        usual = [name for name in ("refs/heads/main", "refs/heads/master") if name in self.refs]
        if len(usual) == 1:
            return _Base(usual[0], self.refs[usual[0]][0])
        found = "both main and master" if usual else "neither main nor master"
        return f"{found} found; set git.base"

    @property
    def default_branch(self) -> str:
        """What git's configuration calls a repository's first branch; asked once in a run. Empty
        where it does not say.
        """
        common = self.repository.common
        if common not in _DEFAULTS:
            try:
                _DEFAULTS[common] = os.fsdecode(
                    self.repository.git("config", "init.defaultBranch")
                ).strip()
            except ToolError:
                _DEFAULTS[common] = ""
        return _DEFAULTS[common]

    def merged_among(self, names: Iterable[str]) -> frozenset[str]:
        """Those of some local branches whose whole work is in the base, however it got there; none
        where no base is sure.
        """
        if isinstance(self.base, str):
            return frozenset()
        commits = {name: self.refs[name][0] for name in set(names) & set(self.refs)}
        return merges.merged_into(self.repository, self.base.commit, commits)

    def first_commit(self, name: str) -> str | None:
        """The commit a branch began at, by its reflog (the second field of the first line); None
        where that is not known.
        """
        reflog = self.repository.common / "logs" / name
        try:
            return read_small(reflog, whole=False).split(b" ", 2)[1].decode("ascii")
        except (OSError, IndexError, UnicodeDecodeError):
            return None
