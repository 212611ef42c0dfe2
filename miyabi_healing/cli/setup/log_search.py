"""Where logs lie that `init` proposes: by their names anywhere, by their folder where a name says
less, in repositories what git does not track, and as root the system's own. Reads only.
"""

from __future__ import annotations

import fnmatch
import os
import pwd
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host import logs
from miyabi_healing.support import globbing, mount_answers
from miyabi_healing.support.files import MEGABYTE, used

WORTH = MEGABYTE  # smaller log folders are not worth a line
_ANYWHERE = ("*.log", "*.log.[0-9]*", "*.log-[0-9]*", "nohup.out")
_IN_LOG_FOLDERS = ("*.txt", "*.jsonl", "*.out", "*.err")
_LOG_FOLDERS = frozenset(("log", "logs"))
_KNOWN = {".claude/debug": ("*.txt",)}  # by the end of a folder's path
# what agents' conversations are kept in: a person's, whatever the names in there
_SESSIONS = ("/.claude/projects/", "/.codex/sessions/", "/.gemini/tmp/")
_SYSTEM = "/var/log"
_DOCKER = "/var/lib/docker/containers/*/*-json.log"
_DEPTH_IN_REPOSITORY, _DEPTH_IN_SYSTEM = 4, 3
_LARGEST_INDEX = 64 * MEGABYTE
_SKIPPED = frozenset(
    (
        "node_modules site-packages __pycache__ .git .cache .Trash Trash Caches "
        ".venv venv .cargo .rustup proc"
    ).split()
)

Looked = tuple[Path, list[str], list[os.DirEntry[str]]]


@dataclass(frozen=True)
class LogFolder:
    """The files of one pattern, `names`, in a folder with logs, and the bytes they occupy. `path`
    may be a pattern itself where `names` is empty.
    """

    path: Path
    files: int
    bytes: int
    names: str = "*.log"


def weigh_logs(
    path: Path, names: Sequence[str], entries: Sequence[os.DirEntry[str]]
) -> Iterator[LogFolder]:
    """A folder's logs, pattern by pattern; none that are not worth a line, or that are a
    database's.
    """
    if any(each in f"{path}/" for each in _SESSIONS):
        return
    for pattern in _patterns_for(path):
        fitting = [each for each in entries if fnmatch.fnmatchcase(each.name, pattern)]
        if not fitting:
            continue
        no_log = logs.no_log_folder(path, names)
        count, total = 0, 0
        for entry in fitting:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            reason = logs.no_log_file(entry.name, status) or no_log(entry.name)
            if not reason and not logs.no_text(path / entry.name, status, logs.SAMPLED):
                count, total = count + 1, total + used(status)
        if total >= WORTH:
            yield LogFolder(path, count, total, pattern)


def _patterns_for(path: Path) -> tuple[str, ...]:
    known = next((names for end, names in _KNOWN.items() if str(path).endswith(f"/{end}")), ())
    return (*_ANYWHERE, *known, *(_IN_LOG_FOLDERS if path.name in _LOG_FOLDERS else ()))


def walk(
    top: Path,
    depth: int,
    end: float,
    enter: Callable[[Path, Sequence[str]], bool] = lambda path, names: True,
) -> Iterator[Looked]:
    """Every folder from `top` on with its names and entries, breadth first, so deep and until
    `end`; on one filesystem, through no link, and not into what `enter` says no of. Raises
    TimeoutError when the time is over.
    """
    try:
        mount_answers.check(top)
        device = top.stat().st_dev
    except OSError:
        return
    waiting = deque([(top, 0)])
    while waiting:
        if time.monotonic() > end:
            raise TimeoutError
        path, level = waiting.popleft()
        try:
            with os.scandir(path) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            continue
        names = [entry.name for entry in entries]
        yield path, names, entries
        if level < depth and enter(path, names):
            waiting.extend(
                (Path(entry.path), level + 1) for entry in entries if may_enter(entry, device)
            )


def may_enter(entry: os.DirEntry[str], device: int) -> bool:
    """Whether a folder may be looked into: no link, not elsewhere, and nothing's own rubbish."""
    if entry.name in _SKIPPED or mount_answers.is_silent(entry.path, follow=False):
        return False
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_dev == device


def in_repository(top: Path, end: float) -> Iterator[LogFolder]:
    """The logs in a repository's work tree, but for those that git tracks. Raises TimeoutError."""
    index: bytes | None = None

    def enter(path: Path, names: Sequence[str]) -> bool:
        return path == top or ".git" not in names  # such a one is found by itself

    for path, names, entries in walk(top, _DEPTH_IN_REPOSITORY, end, enter):
        if not enter(path, names):
            continue
        for found in weigh_logs(path, names, entries):
            index = _index(top) if index is None else index
            inside = path.relative_to(top)
            tracked = any(
                os.fsencode(inside / name) in index for name in fnmatch.filter(names, found.names)
            )
            if index and not tracked:
                yield found


def _index(top: Path) -> bytes:
    """A repository's list of what it tracks, in which whole names stand (gitformat-index(5));
    empty where they do not, or it cannot be read.
    """
    try:
        with (top / ".git" / "index").open("rb") as file:
            data = file.read(_LARGEST_INDEX + 1)
    except FileNotFoundError:
        return b"none" if (top / ".git" / "HEAD").exists() else b""
    except OSError:
        return b""
    return data if data[4:8] < b"\0\0\0\4" and len(data) <= _LARGEST_INDEX else b""


def of_the_system(homes: Sequence[Path], end: float) -> Iterator[LogFolder]:
    """What lies below /var/log, and Docker's logs of containers: for root, in its own
    configuration. Raises TimeoutError.
    """
    if os.geteuid() or Path(pwd.getpwuid(0).pw_dir) not in homes:
        return
    for path, names, entries in walk(Path(_SYSTEM), _DEPTH_IN_SYSTEM, end):
        yield from weigh_logs(path, names, entries)
    found = [
        used(status)
        for folder in globbing.pattern_folders(_DOCKER)
        for name, status in folder.matches
        if not logs.no_log_file(name, status)
    ]
    if sum(found) >= WORTH:
        yield LogFolder(Path(_DOCKER), len(found), sum(found), "")
