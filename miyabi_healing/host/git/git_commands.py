"""Git started in a repository: as its owner, with the safest settings there are, and only where
nobody else could have had a hand in it.

A repository's configuration names programs to run, and was written by whoever could write to it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from miyabi_healing.host.git.repository_paths import held_folder, held_git_folder
from miyabi_healing.support import commands, ownership
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.formatting import display

_GIT_TIME_LIMIT = 120.0
# Everything by which a repository could have git start a program, or ask a network, that a caller
# can switch off; and what we have it write is on disk when it ends.
_SETTINGS = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.untrackedCache=false",
    "core.sshCommand=false",
    "core.askPass=",
    "core.alternateRefsCommand=",
    "credential.helper=",
    "diff.external=",
    "protocol.allow=never",
    "core.fsync=all",  # a ref that a power cut leaves empty cannot even be deleted any more
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "log.showSignature=false",
)
SAFE = tuple(part for setting in _SETTINGS for part in ("-c", setting))
_SURROUNDINGS = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_PAGER": "cat",
}
# git's setup.c, verify_repository_format
_UNKNOWN = re.compile(r"unknown repository extensions? found:((?:\n\t\S+)+)")
# what it means, and since which git 2 that can be read (git-config(1), extensions.*)
_EXTENSIONS = {
    "refstorage": ("keeps its references as reftable", 45),
    "relativeworktrees": ("has relative paths to its worktrees", 48),
}
# What git believes in a git folder: whoever can write one of these chooses what it does.
_BELIEVED = (
    "config",
    "config.worktree",
    "HEAD",
    "commondir",
    "info",
    "info/attributes",
    "info/exclude",
    "info/grafts",
    "objects",
    "objects/info",
    "objects/info/alternates",
    "refs",
    "reftable",
    "reftable/tables.list",
    "packed-refs",
    "shallow",
    "worktrees",
    "modules",
)


def ask_git(
    common: Path,
    owner: int,
    arguments: Sequence[str],
    *,
    linked: str | None = None,
    work_tree: Path | None = None,
    stdin: bytes = b"",
    environment: dict[str, str] | None = None,
) -> bytes:
    """Ask git something and return its answer. Changes nothing: no optional locks, no hooks, no
    monitor, no network.

    Of the repository whose git folder `common` is, or of its worktree that is `linked` by that
    name; its files are in `work_tree`, where that matters. It runs in the very git folder that was
    looked at, as root in the name of its owner, and only where nobody else could have had a hand in
    it. Raises ToolError, also where git says no.
    """
    places = {"GIT_DIR": "." if linked is None else f"worktrees/{linked}"}
    if work_tree is not None:
        places["GIT_WORK_TREE"] = str(work_tree)
    try:
        with _trusted(common, owner, linked) as folder:
            result = commands.run_program(
                ["git", "--no-pager", "--no-optional-locks", *SAFE, *arguments],
                time_limit=_GIT_TIME_LIMIT,
                cwd=folder,
                stdin=stdin,
                environment={**_SURROUNDINGS, **places, **(environment or {})},
                user=owner if os.geteuid() == 0 else None,
            )
    except OSError as error:
        raise ToolError(f"git was not started: {error}") from None
    if result.code:
        raise ToolError(_why(arguments[0], result))
    return result.stdout


def _why(command: str, result: commands.Result) -> str:
    """What git complains of; of a repository that is too new for it, what about it is."""
    complaint = result.stderr.decode("utf-8", "replace").strip()
    found = _UNKNOWN.search(complaint)
    if not found:
        # a list, in lines of its own, belongs to the line before it
        last = complaint.replace("\n\t", " ").splitlines()
        return f"git {command}: {last[-1] if last else result.complaint}"
    names = found[1].split()
    does = " and ".join(_EXTENSIONS.get(each, (f"uses {display(each)}", 0))[0] for each in names)
    since = max(_EXTENSIONS.get(each, ("", 0))[1] for each in names)
    said = commands.run_program(["git", "version"], time_limit=_GIT_TIME_LIMIT).stdout.split()
    installed = ".".join(os.fsdecode(said[2]).split(".")[:2]) if len(said) > 2 else "here"
    newer = f"git 2.{since} or newer can" if all(each in _EXTENSIONS for each in names) else ""
    return (
        f"this repository {does}, which git {installed} cannot read: {newer or 'a newer one may'}"
    )


@contextmanager
def _trusted(common: Path, owner: int, linked: str | None) -> Iterator[int]:
    """The git folder, held open, in which git may be started. Raises OSError where somebody else
    has a hand in it.

    As an ordinary user git's own rule holds (safe.directory in git-config(1)): it has to be ours.
    As root, who has more to lose, all that git would believe has to be the owner's alone, and every
    folder on the way there.
    """
    if os.geteuid() != 0:
        with held_git_folder(common, owner) as folder:
            yield folder
        return
    with ownership.walked(common) as found:
        both = frozenset((ownership.ROOT, owner))
        reason = found.objection(both) or _others_in(found.descriptor, common, linked, both)
        if found.owner != owner:
            reason = f"it belongs to {ownership.user_name(found.owner)} now"
        if reason:
            raise PermissionError(errno.EPERM, reason, display(common))
        yield found.descriptor


def _others_in(common: int, path: Path, linked: str | None, users: frozenset[int]) -> str | None:
    """Who else can change what git believes in a git folder that is open; None where nobody can.
    Raises OSError.
    """
    names = list(_BELIEVED)
    if linked is not None:
        admin = f"worktrees/{linked}"
        with held_folder(admin, common, reading=True) as folder:
            names += [admin, *(f"{admin}/{name}" for name in os.listdir(folder))]
    for name in names:
        try:
            status = os.stat(name, dir_fd=common, follow_symlinks=False)
        except FileNotFoundError:
            continue
        here = os.path.join(path, name)
        if reason := ownership.who_else(here, status, users):
            return f"{display(here)} {reason}"
        if stat.S_ISLNK(status.st_mode):
            return f"{display(here)} is a symbolic link"
    return None
