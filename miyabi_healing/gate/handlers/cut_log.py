"""Cutting away the beginning of a live log, without an archive."""

from __future__ import annotations

import os

from miyabi_healing.gate.handlers import log_files
from miyabi_healing.gate.handlers.handler import Irreversible, StepHandler
from miyabi_healing.gate.primitives.context import Context, Refused, StepResult, TargetUse
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.host import log_cutting
from miyabi_healing.model.steps import CutLog
from miyabi_healing.support.files import used
from miyabi_healing.support.tree_size import weigh_tree


class CutLogHandler(StepHandler[CutLog]):
    """Cutting away the beginning of a live log, without an archive."""

    step_type = CutLog
    after_crash = "what was cut away is gone, as the configuration asks"
    next_run = after_crash
    undo = Irreversible("it was cut without an archive, as the configuration asks")

    def target_use(self, step: CutLog) -> TargetUse:
        return TargetUse((step.path,), judged=True)  # by how they write

    def recheck(self, step: CutLog, context: Context) -> str | None:
        return log_files.log_objection(step, context)

    def apply(self, step: CutLog, context: Context) -> StepResult:
        with log_files.opened(step, context, os.O_RDWR) as (descriptor, _folder, _name):
            before = os.fstat(descriptor)
            where = log_cutting.find_cut(descriptor, before, step.keep_lines, step.keep_bytes)
            if where.floor <= where.start:
                raise Refused("there is nothing to trim")
            log_files.punch_all(descriptor, before, where)
            collapsed = log_files.can_collapse(
                step, context, descriptor, before
            ) and log_files.collapse_to(descriptor, where.floor)
            after = os.fstat(descriptor)
        return StepResult(
            freed=max(used(before) - used(after), 0),
            message="" if collapsed else log_files.why_as_long(after),
            details={"way": "collapsed" if collapsed else "punched"},
        )

    def cost(self, step: CutLog, deadline: float) -> Cost:
        return Cost(files=1, bytes=max(weigh_tree(step.path, deadline), step.bytes))
