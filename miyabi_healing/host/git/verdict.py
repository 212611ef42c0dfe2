"""What becomes of a worktree, and what that rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from miyabi_healing.host.git.repositories import Worktree
from miyabi_healing.support.command_errors import OutOfTime, ToolError
from miyabi_healing.support.formatting import display


@dataclass(frozen=True)
class Reason:
    """Why a worktree stays: a `category` that is counted, what exactly, and what a person can do
    about it: a command, or what is waited for.

    `decide` is whether nothing but a person will ever clear it; `command` shows it or settles it,
    to be run as it is, empty where there is none.
    """

    category: str
    detail: str = ""
    remedy: str = ""
    decide: bool = False
    command: str = ""

    def __str__(self) -> str:
        return f"{self.category}: {self.detail}" if self.detail else self.category


@dataclass(frozen=True)
class Verdict:
    """Whether a worktree may go: `reason` is why it stays, None where it may go. `evidence` is what
    speaks for its going, in words that a person can check, as far as it was looked for.
    """

    worktree: Worktree
    reason: Reason | None
    evidence: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        return str(self.reason) if self.reason else "; ".join(self.evidence)


# What a question about a worktree is answered with: why it stays, or what speaks for its going,
# empty where there is nothing to be said.
Answer = Reason | str


def judged(question: Callable[[Worktree], Iterator[Answer]], worktree: Worktree) -> Verdict:
    """The verdict by some answers about a worktree; where one cannot be had, that is a reason to
    keep it.
    """
    evidence: list[str] = []
    reason: Reason | None = None
    try:
        for answer in question(worktree):
            if isinstance(answer, Reason):
                reason = answer
                break
            if answer:
                evidence.append(answer)
    except OutOfTime as error:
        reason = Reason("out of time", display(error))
    except (ToolError, OSError) as error:
        reason = Reason("not readable", display(error))
    return Verdict(worktree, reason, tuple(evidence))
