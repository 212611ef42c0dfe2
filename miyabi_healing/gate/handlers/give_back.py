"""Giving claims back in a file of tasks: compared and set, one task at a time, all in one write."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from miyabi_healing.gate.handlers.handler import (
    TAKEN_BACK,
    UNTOUCHED,
    Restorable,
    StepHandler,
    Undo,
)
from miyabi_healing.gate.handlers.task_restore import (
    cannot_claim_again,
    claim_again,
    edit_text,
    forget_again,
)
from miyabi_healing.gate.primitives import quarantine_writer, task_file
from miyabi_healing.gate.primitives.context import Context, Refused, StepResult, TargetUse
from miyabi_healing.gate.primitives.roots import root_of
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.host.coordinators import claims as reading
from miyabi_healing.host.coordinators import health, lives
from miyabi_healing.host.coordinators.claims import CannotRead
from miyabi_healing.host.coordinators.owners import Fate
from miyabi_healing.model.claim import Claim
from miyabi_healing.model.coordinator import Coordinator
from miyabi_healing.model.steps import GiveBack
from miyabi_healing.support import json_spans, ownership

ENTRY = "claims"


def settings_of(name: str, kind: Callable[[Coordinator], bool], context: Context) -> Coordinator:
    """The coordinator of a step. Raises Refused where the configuration has none such."""
    found = context.host.config.coordinators.get(name)
    if found is None or not kind(found):
        raise Refused(f"the configuration has no such coordinator {name!r}")
    return found


def anothers_way(name: str) -> str | None:
    """Why root must not write what a name leads to: somebody else than the file's owner can turn it
    to another file. Raises OSError.
    """
    if os.geteuid() != 0:
        return None
    with ownership.walked(Path(name).expanduser()) as found:
        return found.objection(frozenset((ownership.ROOT, found.owner)))


def still_gone(
    claims: Sequence[Claim], settings: Coordinator, context: Context
) -> tuple[list[Claim], list[str]]:
    """Those of some claims whose owner is gone now, and why each of the others is kept."""
    gone, kept, inside = [], [], lives.Inside()
    for each in claims:
        owner = health.judge(each, settings, context.host.config, inside)
        if owner.fate == Fate.GONE:
            gone.append(each)
        else:
            kept.append(f"{health.claim_name(each)}: {owner.fate.value}: {owner.text}")
    return gone, kept


def result(given: int, kept: Sequence[str], entry: str = "") -> StepResult:
    """What a step came to that gave some claims back and kept others."""
    details: dict[str, object] = {"claims_given_back": given}
    if kept:
        details["claims_kept"] = list(kept)
    message = f"{len(kept)} left as they are: {kept[0]}" if kept else ""
    undo: dict[str, object] = {"entry": entry} if entry else {}
    return StepResult(
        message=message, details=details, undo=undo, measured={"claims_given_back": given}
    )


class GiveBackHandler(StepHandler[GiveBack]):
    """Setting tasks back to pending whose owners are gone."""

    step_type = GiveBack
    after_crash = UNTOUCHED
    next_run = TAKEN_BACK
    undo = Restorable({ENTRY: Undo(cannot_claim_again, claim_again, forget_again)})

    def target_use(self, step: GiveBack) -> TargetUse:
        return TargetUse((step.path,), judged=True)  # others write it, which is seen

    def recheck(self, step: GiveBack, context: Context) -> str | None:
        try:
            settings = settings_of(step.coordinator, _has_file, context)
            if reading.tasks_path(settings) != step.path:
                return "it is not the file that the configuration names"
            if root_of(step.path, context.roots) is None:
                return "outside the allowed roots"
            if reason := anothers_way(settings.tasks):
                return reason
            if os.lstat(step.path).st_nlink > 1:
                return "the file has several names, and only one of them would be changed"
        except FileNotFoundError:
            return "it is gone"
        except Refused as error:
            return str(error)
        gone, kept = still_gone(step.claims, settings, context)
        return None if gone else kept[0] if kept else "there are no claims"

    def apply(self, step: GiveBack, context: Context) -> StepResult:
        settings = settings_of(step.coordinator, _has_file, context)
        root = root_of(step.path, context.roots)
        assert root is not None  # recheck has just said so
        with task_file.locked(settings.lock_file, context.deadline):
            return self._apply(step, settings, root, context)

    def _apply(
        self, step: GiveBack, settings: Coordinator, root: Path, context: Context
    ) -> StepResult:
        wanted, kept = still_gone(step.claims, settings, context)
        with _opened(step.path) as source:
            try:
                text, status = reading.read_text(source)
                changes = _changes(text, wanted, settings, kept)
            except (CannotRead, LookupError) as error:
                raise Refused(f"it cannot be read: {error}") from None
            if not changes:
                raise Refused(kept[0] if kept else "there are no claims")
            again = edit_text(text, settings.list, changes, "was", "left")
            facts = {"root": str(root), "list": settings.list, "tasks": changes}
            facts["lock"] = settings.lock_file
            entry = quarantine_writer.entry(context, step.path, ENTRY, **facts)
            try:
                task_file.fill(entry, entry.payload.name, again, status, source)
                read = task_file.Read(text, status)
                task_file.swap(entry, entry.payload.name, root, step.path, read, context)
            except BaseException:
                quarantine_writer.drop(entry)
                raise
        return result(len(changes), kept, str(entry.folder))

    def cost(self, step: GiveBack, deadline: float) -> Cost:
        size = os.lstat(step.path).st_size
        return Cost(files=1, bytes=size, kept=size, sizes={step.path: size})


def _has_file(settings: Coordinator) -> bool:
    return bool(settings.tasks)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _changes(
    text: str, wanted: Sequence[Claim], settings: Coordinator, kept: list[str]
) -> list[dict[str, object]]:
    """What is to be written: of each task where it is, and its values before and after as the text
    has them. Of those that are not what was judged any more, why is added to `kept`.
    """
    there: dict[object, list[tuple[str | int, Claim | None]]] = {}
    for key, task in reading.parsed(text, settings):
        claim = reading.claim_of(key, task, settings)
        if claim:
            there.setdefault(claim.id, []).append((key, claim))
    changes: list[dict[str, object]] = []
    spans = json_spans.member_spans(text, settings.list)
    for each in wanted:
        now = there.get(each.id, [])
        if len(now) != 1 or now[0][1] != each:
            why = "several tasks have its id" if len(now) > 1 else "it is another's now, or done"
            kept.append(f"{health.claim_name(each)}: {why}")
            continue
        key = str(now[0][0])
        changes.append(_change(text, key, spans[key], settings))
    return changes


def _change(text: str, key: str, task: json_spans.Span, settings: Coordinator) -> dict[str, object]:
    import json

    left = {settings.status: json.dumps(settings.pending), settings.owner: "null"}
    if settings.started_at:
        left[settings.started_at] = "null"
    was: dict[str, str] = {}
    for pointer in dict.fromkeys((*left, settings.id)):
        if not pointer:  # the key is its id
            continue
        try:
            start, end = json_spans.span(text, pointer, task)
        except LookupError:
            left.pop(pointer, None)
            continue
        was[pointer] = text[start:end]
        left.setdefault(pointer, was[pointer])  # the id: its number in the list can be another's
    return {"key": key, "was": was, "left": left}
