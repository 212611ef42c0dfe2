"""What has to be known about a kind of step, all of it: a handler with a part missing cannot be
made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from miyabi_healing.gate.primitives.context import Context, StepResult, TargetUse
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.model.steps import Step

S = TypeVar("S", bound=Step)
Answer = TypeVar("Answer")
GONE = "it is not in quarantine any more: purged, or moved back by hand"
UNTOUCHED = "nothing had been changed yet"  # such a step changes nothing before it has an entry
TAKEN_BACK = "a run that may change something takes it back"


def _caught(do: Callable[[S, Context], Answer], step: S, context: Context) -> Answer | Exception:
    try:
        return do(step, context)
    except Exception as error:
        return error


def nothing(entry: WrittenEntry, context: Context) -> None:
    """What most kinds need besides being deleted."""


@dataclass(frozen=True)
class Undo:
    """How one kind of entry is given back.

    `objection` is why that cannot be (any more), None where it can; it changes nothing. `restore`
    does it and removes the entry; it raises Refused or OSError and then has left what it could not
    do. It returns where the thing is now, in words, if that is not where it was; `elsewhere` says
    so beforehand. `forget` is what else goes when it is purged.
    """

    objection: Callable[[WrittenEntry, Context], str | None]
    restore: Callable[[WrittenEntry, Context], str | None]
    forget: Callable[[WrittenEntry, Context], None] = nothing
    elsewhere: Callable[[WrittenEntry], str] = lambda entry: ""


@dataclass(frozen=True)
class Restorable:
    """What a step takes lies in quarantine: how each kind of entry that it makes is restored.

    `gone` is why it cannot be restored where nothing of it is there any more.
    """

    entries: Mapping[str, Undo]
    gone: str = GONE


@dataclass(frozen=True)
class Irreversible:
    """A step that cannot be undone, and why."""

    reason: str


class StepHandler(ABC, Generic[S]):
    """One kind of step. Whoever leaves a part out gets an error of the type checker, and a
    TypeError.
    """

    @property
    @abstractmethod
    def step_type(self) -> type[S]:
        """The class of such steps."""

    @property
    def kind(self) -> str:
        """The step's name in reports, journals and manifests: a contract."""
        return self.step_type.kind

    @property
    @abstractmethod
    def after_crash(self) -> str:
        """What came of a step that was ended in the middle, where nothing of it is in
        quarantine.
        """

    @property
    @abstractmethod
    def next_run(self) -> str:
        """What the next run that may change something does about such a step."""

    @property
    @abstractmethod
    def undo(self) -> Restorable | Irreversible:
        """How it is undone, or why it cannot be."""

    @abstractmethod
    def target_use(self, step: S) -> TargetUse:
        """What of its target somebody could be using, and what must not be this program's own."""

    @abstractmethod
    def recheck(self, step: S, context: Context) -> str | None:
        """The reason why it must not be carried out (any more); None to go on. Changes nothing."""

    @abstractmethod
    def apply(self, step: S, context: Context) -> StepResult:
        """Carry it out. Raises Refused where it found the target changed, OSError where it
        failed.
        """

    @property
    def in_batches(self) -> bool:
        """Whether several are carried out together: one that is cut short leaves none done."""
        return False

    def recheck_all(self, steps: Sequence[S], context: Context) -> Sequence[str | Exception | None]:
        """The same of several that one look judges; where it cannot be told, the error."""
        return [_caught(self.recheck, step, context) for step in steps]

    def apply_all(
        self, steps: Sequence[S], contexts: Sequence[Context]
    ) -> Sequence[StepResult | Exception]:
        """Carry several out; where one was not, the error, as of `apply`."""
        return [
            _caught(self.apply, step, context)
            for step, context in zip(steps, contexts, strict=True)
        ]

    def least_cost(self, step: S) -> Cost:
        """What of the cost is known without looking: a budget that this exceeds is not weighed
        for.
        """
        return Cost()

    @abstractmethod
    def cost(self, step: S, deadline: float) -> Cost:
        """What budgets count, measured until `deadline` (time.monotonic).

        Raises OSError where that cannot be known.
        """
