"""What a healer wants done: typed steps, in order, towards a goal. Nothing in this module changes
the host.

A step is data; `miyabi_healing.gate.execute` is the one place that carries steps out. Besides what
the gate re-checks of its own accord (identity, allowed roots, protected processes, budgets), a step
may bring a guard: asked immediately before the step, it answers None to go on or the reason why
not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

from miyabi_healing.model.steps import Step


@dataclass(frozen=True)
class Goal:
    """When a plan has done enough: asked between steps."""

    text: str
    met: Callable[[], bool] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Kept:
    """Something a healer looked at and left alone. `reason` is a short category that is counted;
    `detail` says more. `count` is how many things `target` stands for. `decide` is whether a
    person has to decide about it, as nothing else will ever clear it; `command` is what shows it or
    settles it, to be run as it is, empty where there is none.
    """

    target: str
    reason: str
    detail: str = ""
    count: int = 1
    decide: bool = False
    command: str = ""


@dataclass(frozen=True)
class Plan:
    """Steps towards a goal, and what was left alone.

    `done` words what was achieved, from the details counted by the steps: ``lambda n: f"Cleaned
    {n['worktrees']} …"``. `details` are measurements for the report; `min_gain` is the least
    improvement of the metric that may be called partial success. `if_short` gives further ones,
    and is only asked where the plan was not enough, or was not carried out. `in_batches` says that
    steps of one kind in a row may be carried out together: then the goal is asked between batches
    alone. `expects` says what the issue's metric would come to if these of its steps were carried
    out, in this order: for a dry run, None where only the step itself will tell.

    `sightings` are things that the healer waits to see again before it acts on them: the next run's
    context knows for how long they have been there. `tried` gives more of them, and is only asked
    once the plan has been carried out.

    Where the check passes right after is no proof yet (a program that was started can end again),
    `unproven` is set: then attempts are only forgiven once a later run finds it healthy.
    """

    steps: tuple[Step, ...]
    goal: Goal
    kept: tuple[Kept, ...] = ()
    done: Callable[[Counter[str]], str] | None = field(default=None, compare=False, repr=False)
    details: dict[str, object] = field(default_factory=dict)
    min_gain: float = 0
    in_batches: bool = False
    expects: Callable[[Sequence[Step]], float | None] | None = field(
        default=None, compare=False, repr=False
    )
    sightings: tuple[str, ...] = ()
    tried: Callable[[], tuple[str, ...]] = field(default=tuple, compare=False, repr=False)
    if_short: Callable[[], dict[str, object]] | None = field(
        default=None, compare=False, repr=False
    )
    unproven: bool = False


def fault(plan: object) -> str | None:
    """What is wrong with what a healer returned, before anything is done with it; None where it is
    a plan.
    """
    if not isinstance(plan, Plan):
        return f"returned {type(plan).__name__}, not a Plan"
    if not isinstance(plan.goal, Goal):
        return f"has a goal that is {type(plan.goal).__name__}, not a Goal"
    each: object
    for kind, name in ((Step, "steps"), (Kept, "kept")):
        if not isinstance(there := getattr(plan, name), (tuple, list)):
            return f"has {name} that are {type(there).__name__}, not a tuple"
        for each in there:
            if not isinstance(each, kind):
                return f"has {type(each).__name__} among its {name}"
    for each in plan.sightings:
        if not isinstance(each, str):
            return f"has {type(each).__name__} among its sightings"
    fields = {"target": str, "reason": str, "undo": str, "counts": str, "bytes": int, "later": int}
    for step, (name, wanted) in product(plan.steps, fields.items()):
        if not isinstance(value := getattr(step, name), wanted):
            return f"has a step whose {name} is {type(value).__name__}, not {wanted.__name__}"
    return None
