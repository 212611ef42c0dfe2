"""Steps with what can be derived filled in: what the target is now, what it is called, how it is
undone, and what it takes.

A step itself is data and looks at nothing; these look at the host, and change nothing. Whatever is
given stands as it was given.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from signal import Signals
from typing import TypedDict, Unpack

from miyabi_healing.host.process_status import Process
from miyabi_healing.model.claim import Claim
from miyabi_healing.model.identity import Identity
from miyabi_healing.model.steps import (
    ArchiveLog,
    ArchiveLogs,
    BundledLog,
    CutLog,
    Delete,
    GiveBack,
    GiveBackRows,
    Guard,
    Quarantine,
    Reclaim,
    RetireWorktree,
    Run,
    Signal,
    TrimLog,
    Unit,
)
from miyabi_healing.support.files import identity_at, used
from miyabi_healing.support.formatting import display

_FROM_QUARANTINE = "moved back from quarantine"
_FROM_ARCHIVE = "unpacked from the archive"
_IN_FRONT = "what was cut off is put back in front"
_NAMED = 3  # claims that a step names
_NOTHING = "nothing to undo"
_CLAIMED_AGAIN = "claimed again, where the task is still pending"


class _Common(TypedDict, total=False):
    """What every step can be given besides its own: see `Step`."""

    target: str
    bytes: int
    later: int
    undo: str
    counts: str
    settle: float
    optional: bool
    guard: Guard


def quarantine(
    path: Path, reason: str, *, identity: Identity | None = None, **more: Unpack[_Common]
) -> Quarantine:
    """Set a file or folder aside. Without `identity` it is measured now, a file's size as well.
    Raises OSError where it is gone.
    """
    if identity is None or "later" not in more:
        status = os.lstat(path)
        identity = identity or Identity.of(status)
        more.setdefault("later", used(status))
    more.setdefault("target", display(path))
    more.setdefault("undo", _FROM_QUARANTINE)
    return Quarantine(path=path, identity=identity, reason=reason, **more)


def delete(
    root: Path,
    units: Iterable[Unit | Path],
    reason: str,
    *,
    locks: tuple[Path, ...] = (),
    **more: Unpack[_Common],
) -> Delete:
    """Delete for good what can be made again, below `root`; a path is weighed now. Raises
    OSError.
    """
    weighed = tuple(each if isinstance(each, Unit) else unit(each) for each in units)
    more.setdefault("target", display(root))
    more.setdefault("bytes", sum(each.bytes for each in weighed))
    return Delete(root=root, units=weighed, locks=locks, reason=reason, **more)


def unit(path: Path) -> Unit:
    """Weigh a file or folder that is to be deleted as a whole. Raises OSError."""
    from miyabi_healing.host import caches  # most healers need none of them

    return caches.measure_unit(path, os.lstat(path).st_dev)


def retire_worktree(
    path: Path | None,
    admin: Path,
    common: Path,
    reason: str,
    *,
    main: Path | None = None,
    **more: Unpack[_Common],
) -> RetireWorktree:
    """Set a linked worktree aside; `path` is None where its folder is gone, `main` the main
    worktree where it is not around `common`. Raises OSError.
    """
    more.setdefault("target", display(path or admin))
    more.setdefault("undo", _FROM_QUARANTINE)
    return RetireWorktree(
        path=path,
        admin=admin,
        common=common,
        admin_identity=identity_at(admin),
        identity=identity_at(path) if path else None,
        main=main,
        reason=reason,
        **more,
    )


def archive_log(
    path: Path, reason: str, *, identity: Identity | None = None, **more: Unpack[_Common]
) -> ArchiveLog:
    """Compress a closed log. Without `identity` it is measured now. Raises OSError."""
    more.setdefault("target", display(path))
    more.setdefault("undo", _FROM_ARCHIVE)
    return ArchiveLog(path=path, identity=identity or identity_at(path), reason=reason, **more)


def archive_logs(
    folder: Path, files: Iterable[BundledLog], reason: str, **more: Unpack[_Common]
) -> ArchiveLogs:
    """Compress small closed logs of one folder together."""
    more.setdefault("target", display(folder))
    more.setdefault("undo", _FROM_ARCHIVE)
    return ArchiveLogs(folder=folder, files=tuple(files), reason=reason, **more)


def trim_log(
    path: Path,
    reason: str,
    *,
    keep_lines: int,
    keep_bytes: int,
    archive: bool = True,
    identity: Identity | None = None,
    **more: Unpack[_Common],
) -> TrimLog:
    """Cut away the beginning of a live log; without `archive`, for good. Raises OSError."""
    more.setdefault("target", display(path))
    if archive:
        more.setdefault("undo", _IN_FRONT)
    kind = TrimLog if archive else CutLog
    return kind(
        path=path,
        identity=identity or identity_at(path),
        keep_lines=keep_lines,
        keep_bytes=keep_bytes,
        reason=reason,
        **more,
    )


def signal_process(
    process: Process,
    number: Signals,
    reason: str,
    *,
    wait: float = 0,
    coordinator: str = "",
    **more: Unpack[_Common],
) -> Signal:
    """Send one signal to a process, as it was seen: its pid may be another's by now. `wait` is how
    many seconds it is given to take effect, which is measured; `coordinator` names the one that it
    is, by the configuration.
    """
    more.setdefault("target", f"{number.name} to {display(process.name)} (pid {process.pid})")
    return Signal(
        pid=process.pid,
        start=process.start,
        signal=number,
        wait=wait,
        coordinator=coordinator,
        reason=reason,
        **more,
    )


def run_tool(
    argv: Sequence[str],
    reason: str,
    *,
    time_limit: float = 60,
    user: int | None = None,
    unless_running: tuple[str, ...] = (),
    changes: tuple[Path, ...] = (),
    ends: Iterable[Process] = (),
    coordinator: str = "",
    environment: Mapping[str, str] | None = None,
    frees_on: Path | None = None,
    **more: Unpack[_Common],
) -> Run:
    """Run an owner's own tool, which is called by its command line; `ends` are the processes that
    end by it, `coordinator` names the one that they are. With `frees_on`, a path on the filesystem
    to make room on, what it frees is measured.
    """
    more.setdefault("target", display(" ".join(argv)))
    return Run(
        argv=tuple(argv),
        time_limit=time_limit,
        user=user,
        unless_running=unless_running,
        changes=changes,
        ends=tuple((each.pid, each.start) for each in ends),
        coordinator=coordinator,
        environment=tuple((environment or {}).items()),
        frees_on=frees_on,
        reason=reason,
        **more,
    )


def reclaim(control: Path, value: str, reason: str, **more: Unpack[_Common]) -> Reclaim:
    """Ask the kernel for memory through one of its control files."""
    more.setdefault("target", display(control))
    more.setdefault("undo", _NOTHING)
    return Reclaim(control=control, value=value, reason=reason, **more)


def give_back(
    coordinator: str,
    claims: Iterable[Claim],
    reason: str,
    *,
    path: Path | None = None,
    **more: Unpack[_Common],
) -> GiveBack | GiveBackRows:
    """Give claims of a coordinator back whose owners are gone: in the file of tasks at `path`, or
    in its table.
    """
    given = tuple(claims)
    names = ", ".join(display(str(each.id)) for each in given[:_NAMED])
    more_text = ", …" if len(given) > _NAMED else ""
    more.setdefault(
        "target", f"{len(given)} claim(s) of {display(coordinator)}: {names}{more_text}"
    )
    if path is None:
        return GiveBackRows(coordinator=coordinator, claims=given, reason=reason, **more)
    more.setdefault("undo", _CLAIMED_AGAIN)
    return GiveBack(coordinator=coordinator, path=path, claims=given, reason=reason, **more)
