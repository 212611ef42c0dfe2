"""The kinds of things that can be asked about, and who explains each: the place for one more."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from miyabi_healing.host.explain import (
    caches,
    locks,
    logs,
    orphans,
    processes,
    quarantine,
    worktrees,
)
from miyabi_healing.host.explain.question import Question
from miyabi_healing.model.explanation import Explanation
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.formatting import display

Explainer = Callable[[Question], Explanation | None]

KINDS: dict[str, Explainer] = {
    "quarantine": quarantine.explain,
    "lock": locks.explain,
    "log": logs.explain,
    "cache": caches.explain,
    "worktree": worktrees.explain,
}
OF_PROCESSES: dict[str, Explainer] = {"process": processes.explain, "orphan": orphans.explain}


def explanations(question: Question) -> Iterator[Explanation]:
    """What becomes of a thing, as each of the kinds that it is."""
    for kind, explain in (OF_PROCESSES if question.pid is not None else KINDS).items():
        try:
            found = explain(question)
        except (OSError, ToolError) as error:
            found = Explanation(
                kind=kind,
                target=display(question.word),
                verdict=f"as a {kind} it could not be looked at: {display(error)}",
                certain=False,
            )
        if found:
            yield found
