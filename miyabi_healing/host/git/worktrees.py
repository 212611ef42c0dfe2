"""Which worktrees hold nothing that would be missed: merged, clean, idle, and nobody inside. Looks
only.

The order of the questions is from cheap to dear: the file system, then one or two git commands for
all branches, then the processes, and ``git status`` last, on what is left. Each answers with a
`Reason` to keep the worktree, or with the evidence that speaks for its going.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from miyabi_healing.host.git import (
    agent_locks,
    checkouts,
    last_use,
    missing_worktrees,
    reflog,
    submodules,
)
from miyabi_healing.host.git.branches import Branches
from miyabi_healing.host.git.checkouts import Checkout
from miyabi_healing.host.git.last_use import LastUse
from miyabi_healing.host.git.missed_files import MissedFiles
from miyabi_healing.host.git.repositories import Repository, Worktree
from miyabi_healing.host.git.verdict import Answer, Reason, Verdict, judged
from miyabi_healing.host.users import Witness, words
from miyabi_healing.support import deadline
from miyabi_healing.support.command_errors import OutOfTime, ToolError
from miyabi_healing.support.formatting import DAY, display, duration_text
from miyabi_healing.support.invocation import shell_word

_MOST_AT_A_TIME = 4
_FRESH_FOR = 30  # days without use after which nobody is about to begin in it
_LEFT_FOR = 30  # days that git keeps commits which only a reflog knows: gc.reflogExpireUnreachable
_SHOWN = 3

Found = TypeVar("Found")


@dataclass(frozen=True)
class Waits:
    """How many days nobody may have used a worktree (`idle`), and how many the folder of one that
    is not merged must have been missing (`missing`), before it may go.
    """

    idle: float = 0
    missing: float = 0


NO_WAIT = Waits()


class WorktreeInspector:
    """One look at a repository's branches and at who is using its worktrees; ask a new one for
    fresh answers.

    `about` are the worktrees that will be asked about, all of them unless told; `witness` is a look
    at who uses what that was taken already.
    """

    def __init__(
        self,
        repository: Repository,
        about: Sequence[Worktree] | None = None,
        witness: Witness | None = None,
    ) -> None:
        self.repository = repository
        self.branches = Branches(repository)
        self.about = repository.worktrees() if about is None else about
        self.witness = witness or Witness(repository.config)

    @cached_property
    def merged(self) -> Mapping[str, str]:
        """The branches of the worktrees whose whole work is in a base, and what shows it."""
        return self.branches.merged_among(_of_each(self.about, lambda tree: [tree.branch]))

    @cached_property
    def _bases(self) -> tuple[Path, ...]:
        """In a bare repository, which has no main worktree, those of the base branches: they stay
        as it does, and the others are given copies of their files. Raises ToolError, OSError.
        """
        place = self.repository
        if (place.common / "index").exists():
            return ()
        if place.git("rev-parse", "--is-bare-repository").strip() != b"true":
            return ()
        bases = self.branches.bases
        if isinstance(bases, str):
            return ()
        return tuple(
            each.path
            for each in place.worktrees()
            if each.linked_back and any(base.is_of(each.branch) for base in bases)
        )

    @cached_property
    def alone(self) -> frozenset[str]:
        """The commits that detached worktrees are at, or lately were, and no branch or tag holds.
        Raises ToolError.
        """

        def commits(tree: Worktree) -> list[str]:
            return [] if tree.branch else [tree.head, *_lately_at(tree)]

        return self.branches.held_by_none(_of_each(self.about, commits))

    def verdict(self, worktree: Worktree, waits: Waits = NO_WAIT) -> Verdict:
        """Whether nothing in `worktree` would be missed."""
        return self.verdicts([worktree], waits)[0]

    def verdicts(self, worktrees: Sequence[Worktree], waits: Waits = NO_WAIT) -> list[Verdict]:
        """The same for many: where only the content is left to be asked, several are asked at a
        time.
        """
        found = [
            judged(lambda each: self._without_content(each, waits), each) for each in worktrees
        ]
        left = [
            each.worktree for each in found if each.reason is None and each.worktree.linked_back
        ]
        contents = iter(side_by_side(lambda each: judged(self._content, each), left))
        return [
            replace(content, evidence=(*each.evidence, *content.evidence))
            if each.worktree in left and (content := next(contents))
            else each
            for each in found
        ]

    def not_idle(self, worktree: Worktree, waits: Waits) -> Reason | None:
        """What speaks for waiting with one that may go otherwise; None where nothing does."""
        if not worktree.linked_back:
            return self.verdict(worktree, waits).reason
        # all of it was looked at lately: what is at its top, and what git writes, is enough
        answer = by_its_last_use(last_use.last_use(worktree, most=1), waits.idle)
        return answer if isinstance(answer, Reason) else None

    def _without_content(self, worktree: Worktree, waits: Waits) -> Iterator[Answer]:
        if not worktree.linked_back:
            yield from self._of_missing(worktree, waits)
            return
        yield from self.by_the_files(worktree)
        if waits.idle:  # the gate does not wait: a step's guard asks
            yield by_its_last_use(last_use.last_use(worktree), waits.idle)
        yield self.by_the_branch(worktree)
        yield from self.by_the_processes(worktree.path, worktree.admin)

    def _of_missing(self, worktree: Worktree, waits: Waits) -> Iterator[Answer]:
        """Of one whose folder is not there only git's record may go, and that it is a record of
        nothing.
        """
        yield from self.by_the_files(worktree)
        trace = last_use.last_use(worktree)
        yield by_its_last_use(trace, waits.idle)
        yield missing_worktrees.by_its_place(self.repository, worktree)
        yield missing_worktrees.by_its_index(self.repository, worktree)
        yield submodules.missed_in_git_folders(worktree) or ""
        branch = self.by_the_branch(worktree)
        if isinstance(branch, str) or branch.category == "detached":
            yield branch
        elif trace.days < waits.missing:
            yield Reason(
                "moved or missing",
                f"{branch}; the record of such a one goes {waits.missing:g} days after its last "
                f"use, and that was {trace.days:.0f} days ago",
                f"git worktree repair, where {display(worktree.path)} is now",
            )
        else:
            yield f"git's own time for it is over: last used {trace.days:.0f} days ago"
        yield from self.by_the_processes(worktree.admin)

    def by_the_files(self, worktree: Worktree) -> Iterator[Answer]:
        """What git keeps in its folder for it, apart from its branch."""
        path, word = display(worktree.path), shell_word(worktree.path)
        if stranger := worktree.stranger:
            yield Reason("another user's", stranger)
        if (lock := worktree.lock_reason) is not None:
            if why := self._lock_holds(worktree, lock):
                agent = agent_locks.names_a_process(lock, self.repository.config.git.agents)
                unlock = f"git -C {shell_word(self.repository.common)} worktree unlock {word}"
                yield Reason("locked", why, f"git worktree unlock {path}", not agent, unlock)
            yield f"its lock's process is gone: {display(lock)}"
        if Path.cwd().is_relative_to(worktree.path):
            yield Reason("current", "the program was started in it")
        if operation := worktree.operation:
            yield Reason(
                "in progress",
                operation,
                f"git -C {path} status says how to end it",
                True,
                f"git -C {word} status",
            )
        if worktree.has_own_refs:
            yield Reason(
                "refs of its own",
                "refs/worktree or refs/bisect",
                f"git -C {path} for-each-ref",
                True,
                f"git -C {word} for-each-ref refs/worktree refs/bisect",
            )

    def _lock_holds(self, worktree: Worktree, reason: str) -> str | None:
        """Why a lock of a worktree is to be respected; None where its agent is gone for certain."""
        agents = self.repository.config.git.agents
        if why := agent_locks.holder(reason, agents):
            return why
        unseen = self.witness.unseen(worktree.admin)
        return f"{reason}: {unseen}" if unseen else None

    def by_the_branch(self, worktree: Worktree) -> Answer:
        """Whether its commits are all somewhere else."""
        name = worktree.branch
        if not name:
            return self._by_its_commit(worktree)
        refs = self.branches.refs
        short = name.removeprefix("refs/heads/")
        if name not in refs:
            return Reason("no commits", f"{display(name)} does not exist yet")
        bases = self.branches.bases
        if isinstance(bases, str):
            return Reason("base unknown", bases, "set git.base in the configuration", True)
        if any(base.is_of(name) for base in bases):
            return Reason("base branch", display(name))
        first = self.branches.made_at(name)
        if first in (None, refs[name][0]) and last_use.last_use(worktree).days < _FRESH_FOR:
            waits = f"it may go once it was idle for {_FRESH_FOR} days"
            if first is None:
                return Reason("no reflog", f"merged and fresh cannot be told apart; {waits}", waits)
            return Reason("fresh", f"no commit was made on it yet; {waits}", waits)
        if evidence := self.merged.get(name):
            return evidence
        names = ", ".join(str(base) for base in bases)
        return Reason(
            "not merged",
            self.branches.own_work(name) or f"{display(short)} has work that {names} has not",
            f"merge it into one of {names}; git log {display(short)} --not {bases[0]} shows it",
            True,
            f"git -C {shell_word(worktree.path)} log {shell_word(short)} --not "
            f"{shell_word(bases[0])}",
        )

    def _by_its_commit(self, worktree: Worktree) -> Answer:
        """Whether a branch or tag holds all commits that a detached worktree is at, and lately
        was.
        """
        at, path, word = worktree.head, display(worktree.path), shell_word(worktree.path)
        if not at or at in self.alone:
            return Reason(
                "detached",
                f"no branch or tag holds its commit {at[:7]}",
                f"git -C {path} branch NAME keeps it",
                True,
                f"git -C {word} branch keep-{at[:7]} {at[:7]}" if at else "",
            )
        for commit in _lately_at(worktree):
            if commit in self.alone:
                return Reason(
                    "detached",
                    f"it was at {commit[:7]} in the last {_LEFT_FOR} days, which no branch or tag "
                    "holds",
                    f"git -C {path} branch NAME {commit[:7]} keeps it",
                    True,
                    f"git -C {word} branch keep-{commit[:7]} {commit[:7]}",
                )
        return f"detached: a branch or tag holds its commit {at[:7]}"

    def by_the_processes(self, *folders: Path) -> Iterator[Answer]:
        """Who uses one of some folders, or could without being seen."""
        for folder in folders:
            if reason := self.by_the_users(folder):
                yield reason
            elif unseen := self.witness.unseen(folder):
                yield Reason("could be in use", unseen, decide=True)

    def by_the_users(self, folder: Path) -> Reason | None:
        """The same of those who are seen alone, wherever the folder is by now."""
        user = self.witness.user(folder)
        return Reason("in use", words(user)) if user else None

    def _content(self, worktree: Worktree) -> Iterator[Answer]:
        yield self.by_the_content(worktree)

    def by_the_content(self, worktree: Worktree, folder: Path | None = None) -> Answer:
        """Whether what is in it is all git's, or can be made again, or is litter or a copy.

        `folder` is where the worktree's files are, if moved. Raises ToolError, OSError.
        """
        top = self.checkout(worktree, folder)
        found: list[str] = []
        reason = checkouts.missed(top, found) or submodules.missed_in_submodules(
            worktree, top, found
        )
        if reason:
            return reason
        if not found:
            return "clean"
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return (
            f"clean but for what can be made again, litter or copies: {', '.join(found[:_SHOWN])}"
            f"{more}"
        )

    def checkout(self, worktree: Worktree, folder: Path | None = None) -> Checkout:
        """What git has checked out in a worktree, whose files are in `folder`, if moved."""
        folder, place = folder or worktree.path, self.repository
        files = MissedFiles(
            folder, worktree.path, place.main, place.owner, place.config.git, self._bases
        )

        def ask(*arguments: str) -> bytes:
            return place.git(*arguments, worktree=worktree, folder=folder)

        return Checkout(worktree.admin, files, ask)


def by_its_last_use(used: LastUse, wait: float) -> Answer:
    """Whether nobody has used it for so many days."""
    when = f"last used {_days(used.days)} ago ({display(used.shown_by)})"
    if used.days < wait:
        return Reason(
            "not idle", f"{when}, idle after {wait:g} days", f"it is idle after {wait:g} days"
        )
    return when


def _days(days: float) -> str:
    """How many days, with tenths only where they tell something; less than two in hours."""
    if days < 2:
        return duration_text(max(days, 0) * DAY)
    return f"{days:.{0 if days >= 10 else 1}f} days"


def _of_each(
    worktrees: Iterable[Worktree], question: Callable[[Worktree], Iterable[str]]
) -> Iterator[str]:
    """What several worktrees say together; one that cannot be asked is said to be so when it is
    judged, and speaks for no other. Raises OutOfTime.
    """
    for each in worktrees:
        try:
            yield from question(each)
        except OutOfTime:
            raise
        except (ToolError, OSError):
            continue


def _lately_at(worktree: Worktree) -> list[str]:
    """The commits that a detached worktree has left in the time for which git itself keeps them.
    Raises OSError, ToolError.
    """
    return list(reflog.commits(worktree.reflog, time.time() - _LEFT_FOR * DAY))


def side_by_side(
    question: Callable[[Worktree], Found], worktrees: Sequence[Worktree]
) -> Iterable[Found]:
    """Ask about worktrees, as many at a time as there are processors: the answers are git's, in
    processes of its own.
    """
    if len(worktrees) < 2:
        return map(question, worktrees)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(worktrees), os.cpu_count() or 1, _MOST_AT_A_TIME)) as pool:
        try:
            return list(pool.map(question, worktrees))
        except Exception:
            raise
        except BaseException:
            # somebody wants the program to stop: then none of them may keep it waiting
            deadline.cut_short()
            raise
