"""The commits that branches have and a base has not, and those that the base got meanwhile, as git
lists them: who is whose parent, and from where on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from miyabi_healing.host.git.scratch_git import ScratchGit

MOST_COMMITS = 10_000  # that are looked through, of a base and of all branches together


@dataclass(frozen=True)
class Commit:
    """A commit; `tree` and `parents` are full ids, `title` is the first line of its message."""

    id: str
    tree: str
    parents: tuple[str, ...]
    title: str


@dataclass(frozen=True)
class OwnWork:
    """What a branch has of its own: its `commits` that are not in the base, and the `forks`, the
    base's commits that those grew on. `whole` is False where there are too many to be listed.
    """

    tip: str
    commits: tuple[Commit, ...]
    forks: frozenset[str]
    whole: bool

    @property
    def changes(self) -> list[Commit]:
        """The commits that are no merges."""
        return [each for each in self.commits if len(each.parents) < 2]

    @property
    def merges(self) -> list[Commit]:
        return [each for each in self.commits if len(each.parents) > 1]


class History:
    """One base, and some branches beside it. Its answers raise ToolError."""

    def __init__(self, git: ScratchGit, base: str, tips: Iterable[str]) -> None:
        self.git, self.base, self.tips = git, base, tuple(dict.fromkeys(tips))

    @cached_property
    def _own(self) -> dict[str, Commit]:
        return _listed(self.git, [*self.tips, f"^{self.base}"])

    @cached_property
    def _since(self) -> dict[str, Commit]:
        return _listed(self.git, [self.base])

    @property
    def is_cut_short(self) -> bool:
        """Whether the base has more commits than are looked through."""
        return len(self._since) >= MOST_COMMITS

    @property
    def base_changes(self) -> Iterator[Commit]:
        """The base's commits that are no merges, the newest first; without those whose parents are
        not here: what they changed is not known.
        """
        return (
            each
            for each in self._since.values()
            if len(each.parents) < 2 and each.id not in self.git.cut
        )

    def own_work(self, tip: str) -> OwnWork:
        """What the branch at `tip` has and the base has not; no commits where it is in the base."""
        complete = len(self._own) < MOST_COMMITS
        found: dict[str, Commit] = {}
        forks: set[str] = set()
        whole, waiting = True, [tip]
        while waiting:
            name = waiting.pop()
            if commit := self._own.get(name):
                if name not in found:
                    found[name] = commit
                    waiting += commit.parents
            elif complete or name in self._since:
                forks.add(name)
            else:
                whole = False
        return OwnWork(tip, tuple(found.values()), frozenset(forks), whole)

    @cached_property
    def _reached(self) -> dict[str, int]:
        """Of each of the base's commits, itself and its ancestors, a bit each."""
        reached: dict[str, int] = {}
        for at, name in enumerate(_parents_first(self._since)):
            bits = 1 << at
            for parent in self._since[name].parents:
                bits |= reached.get(parent, 0)
            reached[name] = bits
        return reached

    @cached_property
    def _bits(self) -> dict[str, int]:
        return {name: 1 << at for at, name in enumerate(self._reached)}

    def _below(self, forks: Iterable[str]) -> int:
        """All that some of the base's commits and their ancestors are."""
        bits = 0
        for each in forks:
            bits |= self._reached.get(each, 0)
        return bits

    def since(self, works: Iterable[OwnWork]) -> set[str]:
        """The base's commits that are not older than all of some branches."""
        old = -1
        for forks in {work.forks for work in works}:
            old &= self._below(forks)
        return {name for name, bit in self._bits.items() if not bit & old}

    def is_since(self, commit: str, work: OwnWork) -> bool:
        """Whether the base got one of its commits after the branch took its last one over."""
        return not self._bits[commit] & self._below(work.forks)

    def merge_base(self, work: OwnWork) -> str | None:
        """The newest commit that base and branch share; None where several are (criss-cross
        merges), or where it cannot be told.
        """
        if len(work.forks) > 1:
            if any(each not in self._reached for each in work.forks):
                return None
            whole = self._below(work.forks)
            newest = [each for each in work.forks if self._reached[each] == whole]
            return newest[0] if newest else None
        return next(iter(work.forks), None)

    def is_certain(self, work: OwnWork) -> bool:
        """Whether nothing that a shallow repository lacks could be newer than what base and branch
        share here: a merge base that is too old makes a branch that only takes back look merged.
        """
        if not self.git.cut:
            return True
        if self.is_cut_short or any(each.id in self.git.cut for each in work.commits):
            return False
        cut = sum(self._bits[each] for each in self.git.cut if each in self._bits)
        return not cut & ~self._below(work.forks)


def _listed(git: ScratchGit, which: Iterable[str]) -> dict[str, Commit]:
    """What git rev-list(1) lists, the newest first, by id."""
    listing = git.ask(
        "rev-list",
        "--stdin",
        f"--max-count={MOST_COMMITS}",
        "--format=%H%x00%T%x00%P%x00%s",
        "--encoding=UTF-8",
        stdin="".join(f"{each}\n" for each in which),
    )
    found = {}
    for line in listing.decode("utf-8", "backslashreplace").split("\n"):
        if "\0" in line:
            name, tree, parents, title = line.split("\0", 3)
            found[name] = Commit(name, tree, tuple(parents.split()), title)
    return found


def _parents_first(commits: Mapping[str, Commit]) -> Iterator[str]:
    """All commits, each after those of its parents that are among them."""
    done: set[str] = set()
    for start in commits:
        waiting = [start]
        while waiting:
            name = waiting[-1]
            missing = [
                each for each in commits[name].parents if each in commits and each not in done
            ]
            if name not in done and missing:
                waiting += missing
                continue
            waiting.pop()
            if name not in done:
                done.add(name)
                yield name
