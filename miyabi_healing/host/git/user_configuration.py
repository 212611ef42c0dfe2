"""The locks of a user's own git configuration and credentials, which no repository has: one that is
left behind stops ``git config --global``, and each login that is remembered. Looks only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host.git import git_processes, locks
from miyabi_healing.host.git.lock_holders import Suspect
from miyabi_healing.host.git.lock_places import USER_FILE, user_lock_paths
from miyabi_healing.host.git.locks import Holders, Lock, OldLocks
from miyabi_healing.host.process_status import LINUX, PROC, Process
from miyabi_healing.model.config import Config
from miyabi_healing.support import mount_answers
from miyabi_healing.support.formatting import display


@dataclass(frozen=True)
class UserConfiguration:
    """A user's own configuration of git, in their `home`."""

    home: str
    config: Config

    def __str__(self) -> str:
        return f"the user configuration {display(os.path.join(self.home, USER_FILE))}"

    @property
    def folders(self) -> UserConfiguration:
        """Where its locks lie, for those that look at locks alone."""
        return self

    def old_locks(self, older_than: float) -> OldLocks:
        """Its locks unchanged for `older_than` seconds, as of a repository. Raises OSError."""
        return locks.old(self, older_than)

    def locks(self) -> tuple[Lock, ...]:
        """Those that lie there now, held or not. What belongs to neither the home's owner nor root
        is none of git's.
        """
        owners = {0, os.stat(self.home).st_uid}
        found = (locks.lock_at(Path(path)) for path in user_lock_paths(self.home))
        return tuple(lock for lock in found if lock and lock.owner in owners)

    def suspects(self, holders: Holders) -> Callable[[Lock], Iterable[Suspect]]:
        """Who may be writing it: git that has this home, or may have, unless its command leaves the
        configuration alone; and whoever names the file.
        """
        return lambda lock: (
            Suspect(each, why, frozenset(), anywhere=True)
            for each in holders.files.everyone
            if each.pid != os.getpid() and not each.kernel and (why := self._tie(each, lock))
        )

    def _tie(self, process: Process, lock: Lock) -> str | None:
        """What ties a process to a lock; None where nothing does."""
        if git_processes.is_git(process):
            command = git_processes.command_of(process)
            if command is None:
                return None
            if not git_processes.leaves_configuration(command) and self._is_home_of(process, lock):
                return "which may be writing it"
        file = str(lock.path.with_suffix(""))
        if any(file in each for each in git_processes.arguments_of(process)):
            return "whose command line names it"
        return None

    def _is_home_of(self, process: Process, lock: Lock) -> bool:
        """Whether a process has its configuration here, by its environment; True where that cannot
        be told. In a container the home has another path, and is the same folder.
        """
        if not LINUX:
            return True
        words = git_processes.words_of(process, "environ")
        values = dict(each.split("=", 1) for each in words if "=" in each)
        if "HOME" not in values:
            return process.uid in (0, lock.owner)
        kept_in = lock.path.parent
        for name, ours in (
            ("HOME", self.home),
            ("XDG_CONFIG_HOME", str(kept_in.parent)),
            ("GIT_CONFIG_GLOBAL", str(kept_in)),
        ):
            value = values.get(name, "")
            theirs = os.path.dirname(value) if name == "GIT_CONFIG_GLOBAL" else value
            path = f"{PROC}/{process.pid}/root{theirs}"
            # what leads nowhere, or does not answer, is not the home that was just looked at
            if theirs and mount_answers.comes_to_an_end(path) and _is_same_folder(path, ours):
                return True
        return False


def _is_same_folder(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
