"""Quarantine: a rename on the same filesystem, verified, undone by renaming back."""

from __future__ import annotations

from miyabi_healing.files import Identity, display
from miyabi_healing.gate import store
from miyabi_healing.gate.roots import root_of
from miyabi_healing.gate.verbs import Context, Done, apply, recheck
from miyabi_healing.plan import Quarantine


@recheck.register
def _(step: Quarantine, context: Context) -> str | None:
    if root_of(step.path, context.roots) is None:
        return "outside the allowed roots"
    try:
        found = Identity.at(step.path)
    except FileNotFoundError:
        return "it is gone already"
    return None if found == step.identity else "it changed since it was measured"


@apply.register
def _(step: Quarantine, context: Context) -> Done:
    root = root_of(step.path, context.roots)
    assert root is not None  # recheck has just said so
    place = store.take(context, root, step.path, step.identity, step.kind)
    return Done(details={"quarantined": display(place.thing)}, undo={"entry": str(place.folder)})
