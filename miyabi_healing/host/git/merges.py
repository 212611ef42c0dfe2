"""Whose whole work is in a base, and by what evidence; docs/merged-branches.md says the rules in
words. Looks only: the trees that git makes for that lie in a scratch folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_healing.host.git.histories import MOST_COMMITS, Commit, History, OwnWork
from miyabi_healing.host.git.patches import Change, Digest, digests, shapes
from miyabi_healing.host.git.repositories import Repository
from miyabi_healing.host.git.scratch_git import ScratchGit, opened
from miyabi_healing.support.command_errors import OutOfTime, ToolError
from miyabi_healing.support.formatting import display

# repository, the base's name and commit, a branch's commit: what is merged into a commit stays so,
# and what is not, or could not be told, is asked again
_MERGES: dict[tuple[Path, str, str, str], str] = {}
_MOST_SHOWN = 3
_MERGES_IN_BATCHES = [2, 39]  # the first git that does them
_MOST_ATTEMPTS = 40  # to tell those branches apart that git cannot answer about


@dataclass(frozen=True)
class Base:
    """The branch that merged work ends up in: its full name and commit."""

    name: str
    commit: str

    def __str__(self) -> str:
        return display(self.name.removeprefix("refs/heads/").removeprefix("refs/remotes/"))

    def is_of(self, branch: str) -> bool:
        """Whether a branch is this one, or the local one of its name."""
        local = self.name.split("/", 3)[-1] if self.name.startswith("refs/remotes/") else ""
        return branch in (self.name, f"refs/heads/{local}")


@dataclass(frozen=True)
class MergeVerdict:
    """What is known of one branch and one base: `merged` is the evidence that its whole work is
    there. Without, `missing` are those of its `count` commits that are not, and `doubt` is what
    else speaks against it.
    """

    merged: str = ""
    count: int = 0
    missing: tuple[Commit, ...] = ()
    doubt: str = ""


def merged_into(repository: Repository, base: Base, commits: Mapping[str, str]) -> dict[str, str]:
    """Those branches, of some with their `commits`, whose whole work is in `base`, however it got
    there: full names, and evidence in words. Raises ToolError.
    """
    found = verdicts(repository, base, commits)
    return {name: each.merged for name, each in found.items() if each.merged}


def verdicts(
    repository: Repository, base: Base, commits: Mapping[str, str]
) -> dict[str, MergeVerdict]:
    """The same, with why not. A constant number of git processes, however many branches there are;
    only where git cannot answer about some, those are looked for by halves. Raises ToolError.
    """
    keys = {
        name: (repository.common, base.name, base.commit, commit)
        for name, commit in commits.items()
    }
    found = {name: MergeVerdict(_MERGES[key]) for name, key in keys.items() if key in _MERGES}
    if unknown := {name: commits[name] for name in keys if name not in found}:
        with opened(repository, sha256=len(base.commit) == 64) as git:
            judged = _by_halves(git, base, unknown)
        _MERGES.update((keys[name], each.merged) for name, each in judged.items() if each.merged)
        found |= judged
    return found


def why_not(found: Sequence[MergeVerdict]) -> str:
    """Why a branch is in none of the bases that these verdicts are about, in words."""
    if not found or any(each.merged for each in found):
        return ""
    compared = [each for each in found if each.count]
    said = list(dict.fromkeys(each.doubt for each in found if each.doubt))
    if compared:
        said.insert(0, _alone(compared))
    return "; ".join(said)


def _alone(compared: Sequence[MergeVerdict]) -> str:
    """What of a branch is in none of the bases, in words."""
    best = min(compared, key=lambda each: len(each.missing))
    nowhere = set.intersection(*({commit.id for commit in each.missing} for each in compared))
    alone = [each for each in best.missing if each.id in nowhere]
    whole = "its commit" if best.count == 1 else f"its {best.count} commits"
    if not best.missing:
        return f"{whole} changed nothing, and what a merge would change cannot be told"
    if not alone:
        return f"{whole} are in several bases, and all of them in none"
    which = whole if len(alone) == best.count else f"{len(alone)} of {whole}"
    titles = [f"{each.id[:7]} {display(each.title)}".strip() for each in alone]
    return f"{which} {'is' if len(alone) == 1 else 'are'} in no base: {_some(titles)}"


def _by_halves(git: ScratchGit, base: Base, commits: Mapping[str, str]) -> dict[str, MergeVerdict]:
    """The verdicts, although git cannot answer about some branches: an object is missing in a
    partial clone, or damaged. What could not be told is said, and keeps.
    """
    found: dict[str, MergeVerdict] = {}
    waiting, attempts = [list(commits)], 0
    while waiting:
        names, attempts = waiting.pop(), attempts + 1
        try:
            found |= _Judgement(git, base, {name: commits[name] for name in names}).verdicts()
        except OutOfTime:
            raise
        except ToolError as error:
            if len(names) > 1 and attempts < _MOST_ATTEMPTS:
                middle = len(names) // 2
                waiting += [names[:middle], names[middle:]]
            else:
                found |= dict.fromkeys(names, MergeVerdict(doubt=f"it could not be told: {error}"))
    return found


@dataclass
class _Judgement:
    """One look at some branches and a base, from the cheapest question to the dearest."""

    git: ScratchGit
    base: Base
    commits: Mapping[str, str]
    found: dict[str, MergeVerdict] = field(default_factory=dict)

    def verdicts(self) -> dict[str, MergeVerdict]:
        self.history = History(self.git, self.base.commit, self.commits.values())
        works = {name: self.history.own_work(tip) for name, tip in self.commits.items()}
        self._by_ancestry(works)
        self._by_merging(self._open(works))
        self._by_patches(self._open(works))
        return self.found

    def _open(self, works: Mapping[str, OwnWork]) -> dict[str, OwnWork]:
        return {name: work for name, work in works.items() if name not in self.found}

    def _merged(self, name: str, how: str) -> None:
        self.found[name] = MergeVerdict(f"merged: {how}")

    def _by_ancestry(self, works: Mapping[str, OwnWork]) -> None:
        for name, work in works.items():
            if work.whole and not work.commits:
                self._merged(name, f"its tip {work.tip[:7]} is in {self.base}")
            elif not work.whole:
                self.found[name] = MergeVerdict(
                    doubt=f"it has more commits than the {MOST_COMMITS:,} that are looked through"
                )
            elif not work.forks:
                self.found[name] = MergeVerdict(
                    doubt=f"it has no commit in common with {self.base}"
                )

    def _by_merging(self, works: Mapping[str, OwnWork]) -> None:
        """Those that a merge into the base would add nothing from. The base merged with itself
        comes first: that tells its tree.
        """
        certain = {name: work for name, work in works.items() if self.history.is_certain(work)}
        if not certain:
            return
        base = self.base.commit
        top, *trees = _merge_trees(
            self.git, [(base, base), *((base, work.tip) for work in certain.values())]
        )
        for name, tree in zip(certain, trees, strict=True):
            if tree and tree == top:
                self._merged(name, f"merging it into {self.base} would change nothing")

    def _by_patches(self, works: Mapping[str, OwnWork]) -> None:
        """Those whose changes the base got as they are, all in one commit or one by one."""
        if not works:
            return
        patches = _Patches(self.history, works)
        for name, work in works.items():
            if at := patches.squashed(name):
                how = "its commit is in" if len(work.commits) == 1 else "squashed into"
                self._merged(name, f"{how} {self.base} as {at[:7]}")
        arrivals = {name: patches.arrivals(work) for name, work in self._open(works).items()}
        altered = self._altered(
            merge
            for name, (_, missing) in arrivals.items()
            if not missing
            for merge in works[name].merges
        )
        for name, (arrived, missing) in arrivals.items():
            alone = [*missing, *(each for each in works[name].merges if each.id in altered)]
            if arrived and not alone:
                words = "commit is" if len(arrived) == 1 else f"{len(arrived)} commits are"
                self._merged(
                    name, f"its {words} in {self.base} as {_some([each[:7] for each in arrived])}"
                )
            else:
                self.found[name] = MergeVerdict(
                    "", len(works[name].commits), tuple(alone), self._limit
                )

    @property
    def _limit(self) -> str:
        if not self.history.is_cut_short:
            return ""
        return f"only the newest {MOST_COMMITS:,} commits of {self.base} were looked through"

    def _altered(self, merges: Iterable[Commit]) -> frozenset[str]:
        """Those merges that are not what git makes of their parents by itself: somebody resolved a
        conflict, or changed something else in them.
        """
        all_of_them = {each.id: each for each in merges}
        two = [each for each in all_of_them.values() if len(each.parents) == 2]
        pairs = [(each.parents[0], each.parents[1]) for each in two]
        trees = _merge_trees(self.git, pairs) if pairs else []
        plain = {each.id for each, tree in zip(two, trees, strict=True) if tree == each.tree}
        return frozenset(all_of_them) - plain


class _Patches:
    """The changes of some branches, and the base's commits that make the same ones."""

    def __init__(self, history: History, works: Mapping[str, OwnWork]) -> None:
        self.history, self.works = history, works
        self.whole = {
            name: Change(work.tip, merge_base)
            for name, work in works.items()
            if history.is_certain(work) and (merge_base := history.merge_base(work))
        }
        own = {_change(each) for work in works.values() for each in work.changes}
        since = history.since(works.values())
        of_base = [_change(each) for each in history.base_changes if each.id in since]
        asked = own.union(self.whole.values())
        self.shape = shapes(history.git, [*sorted(asked), *of_base])
        # content is only read of what does the same to the same files
        alike = {self.shape[each] for each in asked} & {self.shape[each] for each in of_base}
        alike.discard(())
        self.digest = digests(
            history.git, {each: shape for each, shape in self.shape.items() if shape in alike}
        )
        self.places: dict[Digest, list[str]] = {}
        for each in reversed(of_base):  # the oldest first: that is where the work arrived
            if digest := self.digest.get(each):
                self.places.setdefault(digest, []).append(each.commit)

    def _same(self, change: Change | None, work: OwnWork) -> list[str]:
        """The base's commits since the fork that make the same change."""
        digest = self.digest.get(change) if change else None
        places = self.places.get(digest, []) if digest else []
        return [each for each in places if self.history.is_since(each, work)]

    def squashed(self, name: str) -> str | None:
        """The base's commit that is the whole branch at once."""
        return next(iter(self._same(self.whole.get(name), self.works[name])), None)

    def arrivals(self, work: OwnWork) -> tuple[list[str], list[Commit]]:
        """As what a branch's commits are in the base, and which of them are not; those aside that
        change nothing. Each needs a counterpart for itself: who adds a line twice adds two.
        """
        used: Counter[Digest] = Counter()
        arrived, missing = [], []
        for commit in reversed(work.changes):
            change = _change(commit)
            if not self.shape[change]:
                continue
            same, digest = self._same(change, work), self.digest.get(change)
            if digest and used[digest] < len(same):
                arrived.append(same[used[digest]])
                used[digest] += 1
            else:
                missing.append(commit)
        return arrived, missing


def _change(commit: Commit) -> Change:
    return Change(commit.id, commit.parents[0] if commit.parents else "")


def _some(names: Sequence[str]) -> str:
    """A few of many, in words."""
    more = len(names) - _MOST_SHOWN
    shown = ", ".join(names[:_MOST_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown


def _merge_trees(git: ScratchGit, pairs: Sequence[tuple[str, str]]) -> list[str | None]:
    """The trees that merging two commits gives each time (git-merge-tree(1)); None where it would
    conflict, and for all where git is older than 2.39 and cannot say. Raises ToolError.
    """
    try:
        return list(_asked(git, pairs))
    except OutOfTime:
        raise
    except ToolError:
        version = git.ask("version").split()[2].split(b".")
        if [int(each) for each in version[:2]] >= _MERGES_IN_BATCHES:
            raise
        return [None] * len(pairs)


def _asked(git: ScratchGit, pairs: Sequence[tuple[str, str]]) -> Iterator[str | None]:
    answer = git.ask(
        "merge-tree",
        "--write-tree",
        "--allow-unrelated-histories",
        "--no-messages",
        "--stdin",
        stdin="".join(f"{one} {other}\n" for one, other in pairs),
    )
    trees = clean_merges(answer)
    if len(trees) != len(pairs):
        raise ToolError(f"git merge-tree: {len(trees)} answers to {len(pairs)} questions")
    return iter(trees)


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
