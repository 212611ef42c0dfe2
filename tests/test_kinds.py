"""What a step is called in people's journals and manifests stays what it is, whatever becomes of
the classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import pytest

from conftest import PROJECT
from miyabi_healing.gate.handlers.handler import Restorable
from miyabi_healing.gate.handlers.table import HANDLERS
from miyabi_healing.model import plan
from miyabi_healing.model.steps import CutLog, Quarantine, Step, TrimLog

# A value that changes here is one by which no older journal can be read any more.
KINDS = {
    "Delete": "delete",
    "Quarantine": "quarantine",
    "RetireWorktree": "retire worktree",
    "ArchiveLog": "archive log",
    "ArchiveLogs": "archive logs",
    "TrimLog": "trim log",
    "CutLog": "cut log",
    "Signal": "signal",
    "Run": "run",
    "Reclaim": "reclaim",
    "Purge": "purge",
    "GiveBack": "give back",
    "GiveBackRows": "give back rows",
}


def below(kind: type[Step]) -> Iterator[type[Step]]:
    for each in kind.__subclasses__():
        yield each
        yield from below(each)


def kinds() -> list[type[Step]]:
    """The kinds of step that there are, wherever in the package they are; not those that tests make
    up.
    """
    package = plan.__name__.partition(".")[0]
    return [each for each in below(Step) if each.__module__.partition(".")[0] == package]


def test_kinds_are_what_older_journals_name() -> None:
    assert {each.__name__: each.kind for each in kinds()} == KINDS
    assert len(kinds()) == len(KINDS)


def test_every_kind_is_its_own_and_no_other_step_has_it() -> None:
    assert [each for each in kinds() if "kind" not in vars(each)] == []
    assert len({each.kind for each in kinds()}) == len(kinds())


def test_kind_is_no_field_of_a_step() -> None:
    assert [each for each in kinds() if "kind" in {field.name for field in fields(each)}] == []


@pytest.mark.parametrize("base", [Step, Quarantine, TrimLog, CutLog])
@pytest.mark.parametrize("given", [{}, {"kind": ""}, {"kind": None}])
def test_step_without_a_kind_of_its_own_cannot_be_made(
    base: type[Step], given: dict[str, object]
) -> None:
    with pytest.raises(TypeError, match="Burn has no kind of its own"):
        type("Burn", (base,), given)


def test_documents_name_every_kind_and_every_entry() -> None:
    pages = {name: (PROJECT / "docs" / f"{name}.md").read_text() for name in ("state-folder",)}
    for kind, handler in HANDLERS.items():
        assert f"`{kind}`" in pages["state-folder"], kind
        made = handler.undo.entries if isinstance(handler.undo, Restorable) else {}
        for entry in made:
            assert f"`{entry}`" in pages["state-folder"], entry
