"""Where git locks, and whose a lock is: a worktree's own, or all worktrees'. Looks only.

A *site* is a worktree: ``""`` is the main one, ``worktrees/NAME`` a linked one, and
``modules/NAME/worktrees/OTHER`` one that was linked to a submodule: the path of its administrative
folder, seen from the git folder. What is shared, and what is each worktree's own, is in
gitrepository-layout(5), and in git's path.c (common_list).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from miyabi_healing.model.config import Config
from miyabi_healing.support import globbing, mount_answers
from miyabi_healing.support.files import is_within, read_small

_OF_OBJECTS = (
    "maintenance.lock",
    "info/alternates.lock",
    "info/commit-graph.lock",
    "info/commit-graphs/commit-graph-chain.lock",
    "pack/multi-pack-index.lock",
)
# The main worktree's: ``HEAD``, ``ORIG_HEAD`` and their kind, the index, and a commit's second one.
_OWN_FILE = re.compile(r"[A-Z_]+\.lock|index\.lock|next-index-\d+\.lock|config\.worktree\.lock")
_OWN_FOLDERS = tuple(
    f"{top}/{each}/"
    for top in ("refs", "logs/refs")
    for each in ("bisect", "rewritten", "worktree")
)
_OWN = ("info/sparse-checkout.lock", "logs/HEAD.lock")
MAIN = ""
USER_FILE = ".gitconfig"
_MOST_LINKS = 5  # MAXDEPTH in git's lockfile.c


def lock_paths(common: Path) -> Iterator[Path]:
    """Every name git locks with, in the common folder, the worktrees' own and those of submodules;
    never anything in a work tree.
    """
    for top, names in _git_folders(os.fspath(common)):
        yield from (Path(top, name) for name in names if name.endswith(".lock"))
        for kind in (each for each in ("info", "refs", "logs", "reftable") if each in names):
            for folder, _, inside in os.walk(os.path.join(top, kind)):
                yield from (Path(folder, name) for name in sorted(inside) if name.endswith(".lock"))
        if "objects" in names:
            yield from (Path(top, "objects", each) for each in _OF_OBJECTS)


def _git_folders(common: str) -> Iterator[tuple[str, list[str]]]:
    """The git folder, those of linked worktrees, and those of submodules with their worktrees; each
    with the names in it.
    """
    stack = [common]
    while stack:
        folder = stack.pop()
        names = _names_in(folder)
        yield folder, names
        if "modules" in names:
            stack += _submodules(os.path.join(folder, "modules"))
        if "worktrees" in names:
            linked = os.path.join(folder, "worktrees")
            stack += (os.path.join(linked, name) for name in reversed(_names_in(linked)))


def _submodules(top: str) -> Iterator[str]:
    """The git folders of submodules, whose names may be paths (``modules/vendor/x``)."""
    stack = [top]
    while stack:
        folder = stack.pop()
        names = _names_in(folder)
        whole = "HEAD" in names
        if whole or any(name.endswith(".lock") for name in names):
            yield folder
        inside = () if whole else (os.path.join(folder, name) for name in names)
        stack += [each for each in inside if os.path.isdir(each) and not os.path.islink(each)]


def _names_in(folder: str) -> list[str]:
    """The names in a folder, in order; none where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def worktrees_of_submodules(common: Path) -> Iterator[tuple[str, Path]]:
    """The worktrees that were linked to submodules: the site, and where git believes it is."""
    for folder, names in _git_folders(os.fspath(common)):
        site = os.path.relpath(folder, common)
        if "gitdir" not in names or "modules" not in site.split("/"):
            continue
        try:
            link = os.fsdecode(read_small(os.path.join(folder, "gitdir"))).strip()
        except OSError:
            continue
        if link and "\0" not in link:
            yield site, Path(os.path.normpath(os.path.join(folder, link))).parent


def site_of(path: str, sites: Collection[str]) -> str:
    """The site whose git folder a path is in, as seen from the common one (``HEAD.lock``); `sites`
    are those that are known.
    """
    # only what is known: a submodule's name, too, may be a path with ``worktrees`` in it
    inner = max(
        (each for each in sites if each and path.startswith(f"{each}/")), key=len, default=""
    )
    return inner or _superproject(path)


def _superproject(path: str) -> str:
    """The site of the repository itself that a path is in, whatever submodule it is of."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "worktrees" and len(parts) > 2 else MAIN


def holding_sites(path: str, sites: Collection[str]) -> frozenset[str] | None:
    """The sites that may hold a lock, by its path from the git folder; None where any may."""
    site = site_of(path, sites)
    rest = path[len(site) :].lstrip("/")
    if rest.startswith("modules/"):
        # the superproject's worktree, in which a submodule's files are, and the submodule's own
        within = f"{site}/modules/".lstrip("/")
        return frozenset({site, *(each for each in sites if each.startswith(within))})
    return frozenset({site}) if site or _is_own(rest) else None


def _is_own(path: str) -> bool:
    """Whether a lock of a git folder is the main worktree's alone."""
    return bool(_OWN_FILE.fullmatch(path)) or path in _OWN or path.startswith(_OWN_FOLDERS)


def locked_configurations(config: Config) -> list[str]:
    """The users' own git configurations beside which a lock lies now, as ``~/.gitconfig``: in the
    homes that [caches] names.
    """
    homes = dict.fromkeys(
        home for pattern in config.caches.homes for home in globbing.expand(pattern)
    )
    return [
        os.path.join(home, USER_FILE)
        for home in homes
        if not mount_answers.is_silent(home) and any(map(os.path.lexists, user_lock_paths(home)))
    ]


def user_lock_paths(home: str) -> list[str]:
    """Where git locks a user's own configuration and credentials (git-config(1), FILES;
    git-credential-store(1)).

    A file that is a link is locked where it leads (git's lockfile.c); out of the home, it is not
    followed.
    """
    own = os.path.expanduser("~") == home and os.environ.get("XDG_CONFIG_HOME", "")
    more = own if own and own.startswith("/") else os.path.join(home, ".config")
    files = [os.path.join(home, each) for each in (USER_FILE, ".git-credentials")]
    files += [os.path.join(more, "git", each) for each in ("config", "credentials")]
    found = []
    for file in files:
        for _ in range(_MOST_LINKS):
            try:
                link = os.readlink(file)
            except OSError:
                break
            file = os.path.normpath(os.path.join(os.path.dirname(file), link))
            if not is_within(file, home):
                break
        else:
            continue
        if is_within(file, home) or file.startswith(f"{more}/"):
            found.append(f"{file}.lock")
    return list(dict.fromkeys(found))
