"""The folders in which steps may change something. Whatever a healer plans, the gate refuses what
lies elsewhere.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from miyabi_healing.host import caches
from miyabi_healing.host.git import repositories, repository_paths
from miyabi_healing.model.config import Config
from miyabi_healing.support.files import is_beneath
from miyabi_healing.support.globbing import fixed_part


def allowed(config: Config, repos: Sequence[str] | None = None) -> tuple[Path, ...]:
    """The roots that a configuration allows: homes, log folders, repositories, where coordinators
    have their claims, and what it adds itself. `repos` are the repositories, where they were looked
    for already.
    """
    homes = caches.home_folders(config.caches)
    logs = [fixed_part(pattern) for pattern in config.logs.all_patterns]
    folders: list[Path] = []
    for path in repository_paths.configured(config).paths if repos is None else repos:
        # then nothing in it can be changed either
        with contextlib.suppress(repositories.NoRepository, OSError):
            found = repositories.open_repository(path, config)
            folders += [found.main, found.common]
    claims = [
        fixed_part(os.path.realpath(os.path.expanduser(each)))
        for one in config.coordinators.values()
        for each in (one.tasks, one.claims, one.locks)
        if each
    ]
    added = [Path(os.path.abspath(os.path.expanduser(each))) for each in config.safety.roots]
    return tuple(dict.fromkeys([*homes, *logs, *folders, *claims, *added]))


def root_of(path: Path, roots: Sequence[Path]) -> Path | None:
    """The allowed root that `path` lies beneath, the highest one; None where it lies in none."""
    return min(
        (root for root in roots if is_beneath(path, root)),
        key=lambda root: len(root.parts),
        default=None,
    )
