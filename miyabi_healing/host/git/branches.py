"""A repository's branches: where they are, which of them is the base, and whose work is all in it.
Looks only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from miyabi_healing.host.git import ref_store, reflog
from miyabi_healing.host.git.merges import Base, MergeVerdict, verdicts, why_not
from miyabi_healing.host.git.repositories import Repository
from miyabi_healing.support.command_errors import ToolError

_DEFAULTS: dict[Path, str] = {}
_BRANCHES = ("refs/heads/", "refs/remotes/")


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
    def bases(self) -> tuple[Base, ...] | str:
        """The branches that merged work ends up in, each of which is enough: the configured one and
        its like of each remote; else what a remote's HEAD says, ``init.defaultBranch``, main and
        master, and develop and trunk where a remote has them, local and of remotes. Why there is
        none, where that is so.
        """
        remotes = {name.split("/")[2] for name in self.refs if name.startswith("refs/remotes/")}

        def everywhere(name: str) -> list[str]:
            return [f"refs/heads/{name}", *(f"refs/remotes/{each}/{name}" for each in remotes)]

        wanted = self.repository.config.git.base
        if wanted:
            names = [wanted, f"refs/remotes/{wanted}", *everywhere(wanted)]
        else:
            heads = [self.refs.get(f"refs/remotes/{each}/HEAD", ("", ""))[1] for each in remotes]
            usual = [self.default_branch, "main", "master"]
            usual += [each for each in ("develop", "trunk") if self._is_remote(each)]
            names = [*heads, *(name for each in usual if each for name in everywhere(each))]
        found = tuple(Base(each, self.refs[each][0]) for each in _once(names) if each in self.refs)
        if found:
            return found
        return (
            f"git.base is {wanted!r}, and no such branch exists"
            if wanted
            else "no branch is called as a base mostly is; set git.base"
        )

    def _is_remote(self, name: str) -> bool:
        return any(
            each.startswith("refs/remotes/") and each.endswith(f"/{name}") for each in self.refs
        )

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

    @cached_property
    def _verdicts(self) -> dict[str, dict[str, MergeVerdict]]:
        """By branch and by base, what is known so far."""
        return {}

    def merged_among(self, names: Iterable[str]) -> dict[str, str]:
        """Those of some local branches whose whole work is in a base, however it got there, with
        the evidence in words; none where there is no base.
        """
        if isinstance(self.bases, str):
            return {}
        left = {name: self.refs[name][0] for name in _once(names) if name in self.refs}
        merged: dict[str, str] = {}
        first = {each.commit: each for each in reversed(self.bases)}
        for base in (each for each in self.bases if first[each.commit] is each):
            for name, verdict in verdicts(self.repository, base, left).items():
                self._verdicts.setdefault(name, {})[base.name] = verdict
                if verdict.merged:
                    merged[name] = verdict.merged
                    del left[name]
        return merged

    def own_work(self, name: str) -> str:
        """Why a branch does not count as merged, in words; empty where it does, or where there is
        no base.
        """
        if name not in self._verdicts and self.merged_among([name]):
            return ""
        return why_not(list(self._verdicts.get(name, {}).values()))

    def made_at(self, name: str) -> str | None:
        """The commit that a branch was made at, or the oldest that it is known to have been at;
        None where its reflog does not say.
        """
        place = self.repository
        if store := ref_store.store_of(place.common, place.owner):
            first = next(iter(store.entries(name)), None)
        else:
            first = reflog.first(place.common / "logs" / name)
        # a bare repository keeps no reflog until something is done in a worktree (git-config(1),
        # core.logAllRefUpdates): then the first entry is a commit, and not where the branch began
        if first is None:
            return None
        return first.old if first.old.strip("0") else first.new

    def held_by_none(self, commits: Iterable[str]) -> frozenset[str]:
        """Those of some commits that no branch, local or of a remote, and no tag holds; a commit
        that git does not have is held by none.
        """
        wanted = frozenset(each for each in commits if each)
        if not wanted:
            return wanted
        asked = "".join(f"{each}\n" for each in sorted(wanted)).encode()
        known = self.repository.git("cat-file", "--batch-check=%(objectname)", stdin=asked)
        there = wanted & frozenset(known.decode("ascii", "replace").split("\n"))
        asked = "".join(f"{each}\n" for each in sorted(there)).encode()
        alone = self.repository.git(
            "rev-list", "--stdin", "--not", "--branches", "--remotes", "--tags", stdin=asked
        )
        return (wanted - there) | (there & frozenset(alone.decode("ascii").split()))


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
