"""Compressing a closed log into the quarantine."""

from __future__ import annotations

import os

from miyabi_healing.gate.handlers import archive_restore, log_files
from miyabi_healing.gate.handlers.handler import (
    TAKEN_BACK,
    UNTOUCHED,
    Restorable,
    StepHandler,
    Undo,
)
from miyabi_healing.gate.primitives.context import Context, Refused, StepResult, TargetUse
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.host import log_cutting
from miyabi_healing.model.steps import ArchiveLog
from miyabi_healing.support.files import identity_at, used
from miyabi_healing.support.tree_size import weigh_tree


class ArchiveLogHandler(StepHandler[ArchiveLog]):
    """Compressing a closed log into the quarantine."""

    step_type = ArchiveLog
    after_crash = UNTOUCHED
    next_run = TAKEN_BACK
    undo = Restorable(
        {
            "log-archive": Undo(
                archive_restore.archive_objection,
                archive_restore.restore_archive,
                elsewhere=archive_restore.would_be_beside,
            )
        }
    )

    def target_use(self, step: ArchiveLog) -> TargetUse:
        return TargetUse((step.path,), judged=True)

    def recheck(self, step: ArchiveLog, context: Context) -> str | None:
        if reason := log_files.log_objection(step, context):
            return reason
        if identity_at(step.path) != step.identity:
            return "it changed since it was measured"
        return (
            log_files.still_open(step, context.witness)
            if os.access(step.path.parent, os.W_OK)
            else "its folder lets nothing be removed"
        )

    def apply(self, step: ArchiveLog, context: Context) -> StepResult:
        with log_files.opened(step, context, os.O_RDONLY) as (descriptor, folder, _name):
            status = os.fstat(descriptor)
            begin = log_cutting.first_data(descriptor, status.st_size)
            with log_files.archiving(
                context, step.path, min(used(status), status.st_size), "log-archive"
            ) as (place, archive):
                for piece in log_files.contents(descriptor, begin, status.st_size):
                    archive.add(piece)
                archive.sync()
                size = archive.size
                if size > used(status) * log_files.PAYS:
                    raise Refused("compressing it frees nothing")
                place.write_manifest(
                    **log_files.manifest_of_log(step, context, descriptor, status),
                    **archive.facts,
                    start=begin,
                    taken=status.st_size,
                )
                if log_files.still_open(step, context.host.witness(), but=descriptor):
                    raise Refused("it was written or opened at the last moment")
                parent, gone = os.fstat(folder), log_files.aside(place, "gone")
                log_files.take_out(step, context, descriptor, folder, place)
            os.unlink(gone, dir_fd=folder)
            times = [parent.st_atime_ns, parent.st_mtime_ns, os.fstat(folder).st_mtime_ns]
            os.fsync(folder)
            place.write_manifest(parent_times=times)
        return StepResult(
            freed=max(used(status) - place.occupied, 0),
            details={"archived_bytes": archive.raw},
            undo={"entry": str(place.folder)},
            later=size,
        )

    def cost(self, step: ArchiveLog, deadline: float) -> Cost:
        size = weigh_tree(step.path, deadline)
        return Cost(files=1, bytes=max(size, step.bytes), kept=int(size * log_files.PACKED))
