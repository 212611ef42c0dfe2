"""How the repositories that were found are written down: several below one folder as a pattern, so
that those to come are looked after, too.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.cli.setup.discovery import Repo
from miyabi_healing.host.git import repository_paths
from miyabi_healing.model.config import Config, GitSettings
from miyabi_healing.support.globbing import ANY_DEPTH


@dataclass(frozen=True)
class Group:
    """A `pattern` with what was found by it: the repositories, and how many more lie inside
    these.
    """

    pattern: str
    repos: tuple[Repo, ...]
    inside: int


def groups(
    repos: Sequence[Repo], homes: Sequence[Path], written: Callable[[Path, str], str]
) -> tuple[list[Group], list[Repo]]:
    """The patterns for repositories of which several lie below one folder of a home, and the
    repositories that no pattern finds. `written` words a folder with a name in it as a pattern.
    """
    found: list[Group] = []
    left = {repo.path: repo for repo in repos}
    for several in _together(repos, homes):
        top = Path(os.path.commonpath([repo.path.parent for repo in several]))
        pattern = written(top, ANY_DEPTH)
        if not _is_text(pattern):
            continue
        # what it says it finds, it was seen to find
        seen = repository_paths.configured(Config(git=GitSettings(repos=(pattern,)))).paths
        met = tuple(repo for repo in several if str(repo.path) in seen)
        if len(met) > 1:
            found.append(Group(pattern, met, len(seen) - len(met)))
            for repo in met:
                del left[repo.path]
    return found, list(left.values())


def _together(repos: Sequence[Repo], homes: Sequence[Path]) -> Iterator[list[Repo]]:
    """Those that share their first folder below a home; never all of a home."""
    shared: dict[Path, list[Repo]] = defaultdict(list)
    for repo in repos:
        for home in homes:
            if home in repo.path.parents and repo.path.parent != home:
                shared[home / repo.path.relative_to(home).parts[0]].append(repo)
                break
    for folder, several in shared.items():
        if len(several) > 1 and not folder.name.startswith("."):
            yield several


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
