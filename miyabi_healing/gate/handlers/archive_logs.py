"""Compressing the small closed logs of one folder into one archive in the quarantine.

There may be thousands, so what can be asked, or made durable, for all of them is: one look at who
has them open, one archive on disk before the first of them goes. What is known of each is held by
an open descriptor from when it was read until it is deleted. One that was written or opened since
is left where it is, and the others go.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from miyabi_healing.gate.handlers import bundle_restore, log_files
from miyabi_healing.gate.handlers.handler import (
    TAKEN_BACK,
    UNTOUCHED,
    Restorable,
    StepHandler,
    Undo,
)
from miyabi_healing.gate.primitives import compression, quarantine_writer
from miyabi_healing.gate.primitives.context import Context, Refused, StepResult, TargetUse
from miyabi_healing.gate.primitives.log_bundle import Bundle
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry
from miyabi_healing.gate.primitives.roots import root_of
from miyabi_healing.gate.primitives.syscalls import rename_new
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.host import log_places, log_text, log_writers
from miyabi_healing.model.identity import Identity
from miyabi_healing.model.steps import ArchiveLogs, BundledLog
from miyabi_healing.support import descriptors, file_identity
from miyabi_healing.support.files import open_beneath, used
from miyabi_healing.support.formatting import display

_MOST_NAMED = 3  # of those that were left alone


@dataclass(frozen=True)
class _Held:
    """A log that was read into the archive, and is held open; `gone` is the name that it gets while
    it is looked at for the last time.
    """

    log: BundledLog
    descriptor: int
    gone: str


class ArchiveLogsHandler(StepHandler[ArchiveLogs]):
    """Compressing small closed logs of one folder into one archive."""

    step_type = ArchiveLogs
    after_crash = UNTOUCHED
    next_run = TAKEN_BACK
    undo = Restorable(
        {
            "log-bundle": Undo(
                bundle_restore.bundle_objection,
                bundle_restore.restore_bundle,
                elsewhere=bundle_restore.would_be_beside,
            )
        }
    )

    def target_use(self, step: ArchiveLogs) -> TargetUse:
        parts = tuple(step.folder / each.name for each in step.files)
        return TargetUse((step.folder,), parts, judged=True)

    def recheck(self, step: ArchiveLogs, context: Context) -> str | None:
        """Only the folder, and that anything is left to do: each log is looked at where it is
        read.
        """
        if (root := root_of(step.folder / "any", context.roots)) is None:
            return "outside the allowed roots"
        if any("/" in each.name or each.name in ("", ".", "..") for each in step.files):
            return "a log lies outside the folder"
        if not os.access(step.folder, os.W_OK):
            return "its folder lets nothing be removed"
        place = log_places.LogPlace(step.folder, root, context.host.config.logs)
        reasons = (_objection(place, each) for each in step.files)
        first = next(reasons, "there is nothing to archive")
        return first if first and all(reasons) else None

    def apply(self, step: ArchiveLogs, context: Context) -> StepResult:
        root = root_of(step.folder / "any", context.roots)
        assert root is not None  # recheck has just said so
        left: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            stack.enter_context(descriptors.room_for(len(step.files)))
            folder, _ = stack.enter_context(open_beneath(root, step.folder / "any"))
            place, bundle = stack.enter_context(_bundling(step, context))
            place_of_logs = log_places.LogPlace(step.folder, root, context.host.config.logs)
            held = list(_read_all(step, folder, place, bundle, place_of_logs, left, stack))
            before = sum(each.log.bytes for each in held)
            if not held:
                raise Refused(_words(left))
            bundle.end()
            bundle.sync()
            if bundle.size > before * log_files.PAYS:
                raise Refused("compressing them frees nothing")
            place.write_manifest(root=str(root), packed="zstd", **bundle.facts)
            compression.verify(place.payload, place.manifest)
            parent = os.fstat(folder)
            away = _set_aside(held, folder, place, left)
            going = _look_once_more(step, context, away, folder, left)
            going = _delete(going, folder, left)
            times = [parent.st_atime_ns, parent.st_mtime_ns, os.fstat(folder).st_mtime_ns]
            os.fsync(folder)
            if not going:
                del place.manifest["touched"]
                raise Refused(_words(left))
            place.write_manifest(parent_times=times, stayed=sorted(left))
        freed = max(sum(each.log.bytes for each in going) - place.occupied, 0)
        details: dict[str, object] = {"archived_bytes": bundle.raw, "logs_archived": len(going)}
        if left:
            details["left_alone"] = {display(name): why for name, why in [*left.items()][:20]}
        return StepResult(
            freed=freed,
            message=_words(left),
            details=details,
            undo={"entry": str(place.folder)},
            measured={"logs_archived": len(going)},
            later=bundle.size,
        )

    def least_cost(self, step: ArchiveLogs) -> Cost:
        return Cost(files=len(step.files))

    def cost(self, step: ArchiveLogs, deadline: float) -> Cost:
        size = 0
        for each in step.files:
            with contextlib.suppress(FileNotFoundError):
                size += used(os.lstat(step.folder / each.name))
        kept = int(size * log_files.PACKED)
        return Cost(files=len(step.files), bytes=max(size, step.bytes), kept=kept)


def _words(left: dict[str, str]) -> str:
    """What was left alone, and why, in a line; empty where nothing was."""
    if not left:
        return ""
    some = "; ".join(f"{display(name)}: {why}" for name, why in [*left.items()][:_MOST_NAMED])
    return f"{len(left)} left alone: {some}" + ("; …" if len(left) > _MOST_NAMED else "")


def _objection(place: log_places.LogPlace, log: BundledLog) -> str | None:
    """Why a log is not to be archived (any more), by what it is and where. Raises OSError."""
    try:
        status = os.lstat(place.folder / log.name)
    except FileNotFoundError:
        return "it is gone already"
    if not Identity.of(status).unchanged(log.identity):
        return "it changed since it was measured"
    return place.objection(log.name, status)


@contextlib.contextmanager
def _bundling(step: ArchiveLogs, context: Context) -> Iterator[tuple[WrittenEntry, Bundle]]:
    """An archive to fill, in a place of its own. What fails inside takes it back, unless some of
    the logs already lack their names.
    """
    size = sum(each.identity.size for each in step.files)
    place = log_files.archive_place(
        context, step.folder / "any", size, "log-bundle", original=step.folder
    )
    try:
        bundle = Bundle(place.payload)
        try:
            yield place, bundle
        finally:
            bundle.close()
    except BaseException:
        if not place.manifest.get("touched"):
            quarantine_writer.drop(place)
        raise


def _read_all(
    step: ArchiveLogs,
    folder: int,
    place: WrittenEntry,
    bundle: Bundle,
    rules: log_places.LogPlace,
    left: dict[str, str],
    stack: contextlib.ExitStack,
) -> Iterator[_Held]:
    """Put each log into the archive, and hold it; those that are not to be archived are noted in
    `left`.
    """
    filesystem = file_identity.filesystem(folder)
    for log in step.files:
        try:
            if reason := _objection(rules, log):
                left[log.name] = reason
                continue
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(log.name, flags, dir_fd=folder)
        except OSError as error:
            left[log.name] = f"it cannot be read: {error.strerror}"
            continue
        stack.callback(os.close, descriptor)
        status = os.fstat(descriptor)
        reason = (
            "it was replaced since it was measured"
            if not Identity.of(status).unchanged(log.identity)
            or not stat.S_ISREG(status.st_mode)
            or status.st_nlink != 1
            else log_text.why_not_text(descriptor, log.name)
        )
        content = b"" if reason else os.pread(descriptor, status.st_size, 0)
        if reason or len(content) != status.st_size:
            left[log.name] = reason or "it became shorter at the last moment"
            continue
        gone = log_files.aside(place, f"gone.{len(bundle)}")
        about = log_files.facts_of_log(descriptor, status, filesystem)
        bundle.add_file(log.name, content, about)
        yield _Held(log, descriptor, gone)


def _set_aside(
    held: Sequence[_Held], folder: int, place: WrittenEntry, left: dict[str, str]
) -> list[_Held]:
    """Rename the logs to where nobody opens them; those that were are returned."""
    place.manifest["touched"] = True  # until all have their names again, the archive stays
    away = []
    for each in held:
        try:
            rename_new(folder, each.log.name, folder, each.gone)
        except OSError as error:  # it is gone, or something is mounted on it
            left[each.log.name] = f"it cannot be renamed: {error.strerror}"
        else:
            away.append(each)
    return away


def _delete(going: Sequence[_Held], folder: int, left: dict[str, str]) -> list[_Held]:
    """Delete the logs that are in the archive; those that would not go get their names again."""
    deleted = []
    for each in going:
        try:
            os.unlink(each.gone, dir_fd=folder)
        except OSError as error:
            rename_new(folder, each.gone, folder, each.log.name)
            left[each.log.name] = f"it cannot be deleted: {error.strerror}"
        else:
            deleted.append(each)
    return deleted


def _look_once_more(
    step: ArchiveLogs, context: Context, away: Sequence[_Held], folder: int, left: dict[str, str]
) -> list[_Held]:
    """Those that are what was read, and that nobody has open, now that nobody can come any more;
    the others get their names again.
    """
    ours = frozenset(each.descriptor for each in away)
    writers = log_writers.FolderWriters(context.host.witness(), step.folder, ours)
    going = []
    for each in away:
        status = os.stat(each.gone, dir_fd=folder, follow_symlinks=False)
        if (
            Identity.of(status) == each.log.identity == Identity.of(os.fstat(each.descriptor))
            and status.st_nlink == 1
        ):
            reason = writers.why_not_closed(each.gone, status)
        else:
            reason = "it was written or replaced at the last moment"
        if reason is None:
            going.append(each)
            continue
        rename_new(folder, each.gone, folder, each.log.name)
        left[each.log.name] = reason
    return going
