"""References that are no files (``reftable``, git-init(1), ``--ref-format``): git is asked for
them. Looks only.

Then a HEAD file names a branch that cannot be (gitrepository-layout(5)), there is no ``logs``, and
of what was begun and not ended some marks are references, too (gitglossary(7), pseudoref).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host.git import git_commands, reftables
from miyabi_healing.host.git.reflog import Entry
from miyabi_healing.support.command_errors import OutOfTime, ToolError
from miyabi_healing.support.files import read_small

STAND_IN = "ref: refs/heads/.invalid"
_OWN = ("refs/worktree", "refs/bisect", "refs/rewritten")  # git-worktree(1), REFS
_BEGUN = ("CHERRY_PICK_HEAD", "REVERT_HEAD", "MERGE_HEAD")


@dataclass(frozen=True)
class RefStore:
    """The references of a git folder, or of its worktree that is `linked` by that name. Its answers
    raise ToolError.
    """

    common: Path
    owner: int
    linked: str | None = None

    def _ask(self, *arguments: str) -> str:
        # no file of a work tree has a say, wherever that is by now
        answer = git_commands.ask_git(
            self.common, self.owner, arguments, linked=self.linked, work_tree=self.common
        )
        return os.fsdecode(answer).strip()

    @property
    def branch(self) -> str:
        """The full name of the branch that HEAD is at; empty where it is detached."""
        try:
            return self._ask("symbolic-ref", "--quiet", "HEAD")
        except OutOfTime:
            raise
        except ToolError:
            self._ask("rev-parse", "--verify", "HEAD^{commit}")  # detached, or all is unknown
            return ""

    @property
    def head(self) -> str:
        """The commit that HEAD is at."""
        return self._ask("rev-parse", "--verify", "HEAD^{commit}")

    def entries(self, name: str) -> tuple[Entry, ...]:
        """The reflog of a reference, the oldest first; none where it has none. Raises OSError."""
        inside = f"worktrees/{self.linked}" if self.linked else ""
        return reftables.entries(self.common / inside, name, self.owner)

    @property
    def own(self) -> tuple[str, ...]:
        """The references that are a worktree's alone, HEAD aside."""
        return tuple(self._ask("for-each-ref", "--format=%(refname)", *_OWN).splitlines())

    @property
    def roots(self) -> tuple[str, ...]:
        """The references that say what was begun and not ended."""
        arguments = ("for-each-ref", "--include-root-refs", "--format=%(refname)", *_BEGUN)
        return tuple(self._ask(*arguments).splitlines())


def store_of(common: Path, owner: int) -> RefStore | None:
    """Whom to ask for the references of a git folder; None where they are files. Raises OSError."""
    try:
        head = read_small(common / "HEAD", owner=owner).strip()
    except FileNotFoundError:
        return None
    return RefStore(common, owner) if head == STAND_IN.encode() else None
