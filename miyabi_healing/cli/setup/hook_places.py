"""Where the hooks of agents and of git are: found, looked at, and written as a whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.cli.setup import hook_files
from miyabi_healing.support import atomic_write, command_errors, commands, mount_answers
from miyabi_healing.support.files import is_within
from miyabi_healing.support.formatting import display


class NoHook(Exception):
    """A file cannot, or must not, be written; the message names it, and says why."""


@dataclass(frozen=True)
class HookFile:
    """The file that a hook is in, without links, and what it holds; None where it is not there.

    `shared` is that it is git's for more than one repository.
    """

    path: Path
    data: bytes | None
    mode: int
    shared: bool = False

    @property
    def has_ours(self) -> bool:
        return self.data is not None and hook_files.MARKER.encode() in self.data


def find_file(kind: str, repo: str) -> HookFile:
    """The file of a kind of hook as it is now. Raises NoHook where it cannot, or must not, be
    written.
    """
    path, shared = _git_hook(Path(repo)) if kind == "git" else (_agent_file(kind), False)
    try:
        mount_answers.check(path)
        where = path.resolve()
        status = where.stat() if where.exists() else None
        if status and not stat.S_ISREG(status.st_mode):
            raise NoHook(f"{display(path)} is no regular file")
        owner = (status or _above(where).stat()).st_uid
        if owner != os.geteuid():
            raise NoHook(f"{display(where)} is not yours: run this as its owner")
        data = where.read_bytes() if status else None
    except (OSError, RuntimeError) as error:  # a circle of links
        raise NoHook(f"{display(path)}: {error}") from None
    if kind == "git" and status and not status.st_mode & stat.S_IXUSR:
        raise NoHook(
            f"{display(where)} is not executable, so git never runs it: chmod +x, or move it away"
        )
    new = 0o755 if kind == "git" else 0o600
    mode = stat.S_IMODE(status.st_mode) if status else new
    return HookFile(where, data, mode, shared)


def file_without_hook(kind: str, file: HookFile) -> bytes | None:
    """What a file is without our hook; None where it goes. Raises NoHook."""
    data = file.data or b""
    return edited(file, lambda: hook_files.without_hook(kind, data))


def edited(file: HookFile, edit: Callable[[], bytes | None]) -> bytes | None:
    try:
        return edit()
    except hook_files.Unwritable as error:
        raise NoHook(f"{display(file.path)}{error}") from None


def _agent_file(kind: str) -> Path:
    """An agent's own settings, where it reads them from. Raises NoHook where it was never used."""
    variable, usual, name = {
        "claude": ("CLAUDE_CONFIG_DIR", ".claude", "settings.json"),
        "codex": ("CODEX_HOME", ".codex", "config.toml"),
    }[kind]
    folder = Path(os.environ.get(variable) or Path.home() / usual)
    if not folder.is_dir():
        raise NoHook(f"there is no {display(folder)}: start {kind} once")
    return folder / name


def _git_hook(repo: Path) -> tuple[Path, bool]:
    """Where git looks for the hook (core.hooksPath; that of the main worktree in linked ones), and
    whether other repositories may have theirs there, too. Raises NoHook.
    """
    asked = ("--path-format=absolute", "--git-common-dir", "--git-path", "hooks", "--show-cdup")
    try:
        result = commands.run_program(
            ("git", "rev-parse", *asked), time_limit=20, cwd=repo.absolute()
        )
    except (command_errors.ToolError, OSError) as error:
        raise NoHook(f"{display(repo)}: {error}") from None
    if result.code:
        raise NoHook(f"{display(repo)}: {result.complaint}")
    common, folder, up = map(os.fsdecode, result.stdout.split(b"\n")[:3])
    top = os.path.realpath(repo / up)
    if is_within(os.path.realpath(folder), top) and not is_within(folder, common):
        raise NoHook(
            f"{display(folder)} (core.hooksPath) is part of the project: whoever clones it would "
            "have the hook"
        )
    shared = not is_within(folder, common)
    return Path(folder) / hook_files.GIT_HOOK, shared


def _above(path: Path) -> Path:
    return next(each for each in path.parents if each.is_dir())


def write_file(file: HookFile, after: bytes | None) -> None:
    """Put it in place, or remove it, if it is still what was shown. Raises NoHook."""
    try:
        now = file.path.read_bytes() if file.path.exists() else None
        if now != file.data:
            raise NoHook(f"{display(file.path)} has changed meanwhile; try again")
        if after is None:
            atomic_write.remove_file(file.path)
        else:
            like = None if file.data is None else file.path
            atomic_write.replace(file.path, after, mode=file.mode, like=like)
    except OSError as error:
        raise NoHook(f"{display(file.path)}: {error.strerror}") from None
