"""Archiving and cutting away the beginning of a live log."""

from __future__ import annotations

import hashlib
import os

from miyabi_healing.gate.handlers import log_files, trim_restore
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
from miyabi_healing.model.steps import TrimLog
from miyabi_healing.support.files import used
from miyabi_healing.support.tree_size import weigh_tree


class TrimLogHandler(StepHandler[TrimLog]):
    """Archiving and cutting away the beginning of a live log."""

    step_type = TrimLog
    after_crash = UNTOUCHED
    next_run = TAKEN_BACK
    undo = Restorable({"log-trim": Undo(trim_restore.trim_objection, trim_restore.restore_trim)})

    def target_use(self, step: TrimLog) -> TargetUse:
        return TargetUse((step.path,), judged=True)  # by how they write

    def recheck(self, step: TrimLog, context: Context) -> str | None:
        return log_files.log_objection(step, context)

    def apply(self, step: TrimLog, context: Context) -> StepResult:
        with log_files.opened(step, context, os.O_RDWR) as (descriptor, _folder, _name):
            status = os.fstat(descriptor)
            where = log_cutting.find_cut(descriptor, status, step.keep_lines, step.keep_bytes)
            if where.floor <= where.start:
                raise Refused("there is nothing to trim")
            # every part given back makes room for the next one's archive
            room = min(where.cut - where.start, log_files.CHUNK)
            with log_files.archiving(context, step.path, room, "log-trim") as (place, archive):
                witness = os.pread(descriptor, log_files.WITNESS, where.cut)
                known_by = {
                    "witness": len(witness),
                    "witness_sha256": hashlib.sha256(witness).hexdigest(),
                }
                cuts = {"start": where.start, "floor": where.floor, "cut": where.cut}
                place.write_manifest(
                    **log_files.manifest_of_log(step, context, descriptor, status),
                    **cuts,
                    **known_by,
                )
                for begin in range(where.start, where.cut, log_files.CHUNK):
                    end = min(begin + log_files.CHUNK, where.cut)
                    for piece in log_files.contents(descriptor, begin, end):
                        archive.add(piece)
                    archive.sync()
                    place.write_manifest(archived=end, taken=begin, **archive.facts)
                    log_files.free_blocks(descriptor, status, place, begin, end, where.floor)
            collapsed = log_files.collapse(step, context, descriptor, status, place)
            after = os.fstat(descriptor)
            ways = {"collapsed": where.floor if collapsed else 0, "filler": where.cut - where.floor}
            place.write_manifest(
                taken=where.cut, **ways, left_size=after.st_size, left_mtime_ns=after.st_mtime_ns
            )
            freed = used(status) - used(os.fstat(descriptor)) - place.occupied
        details: dict[str, object] = {
            "archived_bytes": archive.raw,
            "way": "collapsed" if collapsed else "punched",
        }
        return StepResult(
            freed=max(freed, 0),
            message="" if collapsed else log_files.why_as_long(after),
            details=details,
            undo={"entry": str(place.folder)},
            later=archive.size,
        )

    def cost(self, step: TrimLog, deadline: float) -> Cost:
        size = weigh_tree(step.path, deadline)
        return Cost(files=1, bytes=max(size, step.bytes), kept=int(size * log_files.PACKED))
