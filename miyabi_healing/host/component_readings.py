"""What a predictor of failures reads of a host besides what checks measure. Looks only."""

from __future__ import annotations

import os

from miyabi_healing.host.git.git_commands import ask_git
from miyabi_healing.host.git.repositories import Repository
from miyabi_healing.host.process_status import LINUX, command_line, command_psutil
from miyabi_healing.host.processes import Processes, ancestors

_OURS = "miyabi"


def count_processes() -> int:
    """Living processes that have "miyabi" in their command line; those above us count as little as
    we do. Raises OSError.
    """
    us = ancestors(os.getpid())
    return sum(
        _OURS in " ".join(_arguments(each.pid))
        for each in Processes().all()
        if each.pid not in us and each.state not in "ZX"
    )


def _arguments(pid: int) -> list[str]:
    return (command_line(pid) if LINUX else command_psutil(pid))[1]


def count_uncommitted(repository: Repository) -> int:
    """The changed and new files of the main worktree, as ``git status --porcelain`` has a line
    each; none in a bare repository. Raises ToolError.
    """
    if repository.main == repository.common:
        return 0
    answer = ask_git(
        repository.common,
        repository.owner,
        ("status", "--porcelain", "-z", "--no-renames", "--ignore-submodules=dirty"),
        work_tree=repository.main,
    )
    return answer.count(b"\0")
