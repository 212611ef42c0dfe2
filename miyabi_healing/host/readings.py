"""Read-only views of the host: one noun a module, platform differences inside it. A healthy run
starts no subprocess.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miyabi_healing.host.caches import Cache
    from miyabi_healing.host.coordinators.health import CoordinatorHealth
    from miyabi_healing.host.filesystems import Mount
    from miyabi_healing.host.git.repositories import Repository
    from miyabi_healing.host.git.user_configuration import UserConfiguration
    from miyabi_healing.host.git.worktree_space import Repositories
    from miyabi_healing.host.logs import LogGroup
    from miyabi_healing.host.memory import Memory
    from miyabi_healing.host.orphans import Orphans
    from miyabi_healing.host.processes import Processes
    from miyabi_healing.host.swap import Swap
    from miyabi_healing.host.tmpfs import TmpfsUse
    from miyabi_healing.host.users import Witness
    from miyabi_healing.model.config import Config
    from miyabi_healing.state.quarantine import QuarantineEntry


@dataclass(frozen=True)
class Host:
    """Everything that may be looked at, as configured. Every call measures afresh."""

    config: Config

    def mount(self, path: str) -> Mount:
        from miyabi_healing.host import filesystems

        return filesystems.read_folder(path)

    def repository(self, path: str) -> Repository:
        from miyabi_healing.host.git import repositories

        return repositories.open_repository(path, self.config)

    def git_locks(self, path: str) -> Repository | UserConfiguration:
        """Where locks of git may lie: in a repository, or, by the path of its file, beside a user's
        own configuration.
        """
        from miyabi_healing.host.git import lock_places

        if os.path.basename(path) != lock_places.USER_FILE:
            return self.repository(path)
        from miyabi_healing.host.git import user_configuration

        return user_configuration.UserConfiguration(os.path.dirname(path), self.config)

    def repositories(self, paths: tuple[str, ...] | None = None) -> Repositories:
        """All that are looked after; `paths` are where they are, if they were looked for
        already.
        """
        from miyabi_healing.host.git import repository_paths, worktree_space

        if paths is None:
            paths = repository_paths.configured(self.config).paths
        return worktree_space.Repositories(paths, self.config)

    def log_group(self, pattern: str) -> LogGroup:
        from miyabi_healing.host import logs

        return logs.read_log_group(pattern, self.config)

    def processes(self) -> Processes:
        from miyabi_healing.host import processes

        return processes.Processes(self.config.processes.protected)

    def orphans(self) -> Orphans:
        """Helper processes that were left behind."""
        from miyabi_healing.host import orphans, reparented

        if not (roots := reparented.many_or_large()):
            return orphans.Orphans()
        from miyabi_healing.host import orphan_families

        return orphan_families.read_orphans(roots, self.config.processes)

    def coordinator(self, name: str) -> CoordinatorHealth:
        """One coordinator of tasks that the configuration names."""
        from miyabi_healing.host.coordinators import health

        return health.CoordinatorHealth(name, self.config)

    def witness(self) -> Witness:
        """One look at who is using what."""
        from miyabi_healing.host import users

        return users.Witness(self.config)

    def memory(self) -> Memory:
        from miyabi_healing.host import memory

        return memory.read_memory()

    def swap(self) -> Swap:
        from miyabi_healing.host import swap

        return swap.read_swap()

    def tmpfs(self) -> TmpfsUse:
        from miyabi_healing.host import memory, tmpfs

        return tmpfs.TmpfsUse(tmpfs.read_mounts(), memory.of_host().total)

    def caches(self) -> tuple[Cache, ...]:
        from miyabi_healing.host import caches

        return caches.find_caches(self.config.caches)

    def quarantine(self) -> tuple[QuarantineEntry, ...]:
        """What waits in quarantine, the oldest first."""
        from miyabi_healing.state import quarantine
        from miyabi_healing.support import paths

        return tuple(quarantine.find_entries(paths.state_folder()))
