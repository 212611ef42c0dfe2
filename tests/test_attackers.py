"""Another user prepares things for root to trip over: nothing of theirs is believed, followed or put anywhere."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gatework import plan, work

from miyabi_healing import gate, rollback
from miyabi_healing.config import Config
from miyabi_healing.files import Identity
from miyabi_healing.gate import store, undo
from miyabi_healing.gate.verbs import Context
from miyabi_healing.host import Host, quarantine
from miyabi_healing.plan import Outcome, Quarantine

pytestmark = pytest.mark.root
THEM = 65534


def context(top: Path, *roots: Path) -> Context:
    return Context(Host(Config()), "run", top / "state", roots)


def do(step: Quarantine, where: Context) -> Outcome:
    outcomes: list[Outcome] = []
    with work(where) as prepared:
        gate.carry_out(plan(step), prepared, outcomes)
    return outcomes[0]


def set_aside(path: Path) -> Quarantine:
    return Quarantine(target=str(path), reason="", path=path, identity=Identity.at(path))


def plant(base: Path, original: Path, root: Path) -> Path:
    """An entry as ours would be, in a quarantine of theirs: it asks for a file of theirs to be put where only root may."""
    entry = base / "zzz-run" / "0001-quarantine"
    entry.mkdir(parents=True, mode=0o700)
    (entry / "thing").write_text("theirs")
    facts = {"original": str(original), "root": str(root), "kind": "quarantine", "run": "zzz-run", "step": 1}
    (entry / "manifest.json").write_text(json.dumps({**facts, "time": time.time() + 5}))
    for path in (base, *base.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.chown(path, THEM, THEM)
    return entry


def test_quarantine_that_others_planted_is_never_given_back_from(tmp_path: Path, mounted: Callable[..., Path]) -> None:
    """A shared /tmp on a filesystem of its own is enough for that, and the default patterns of logs."""
    shared = mounted("tmpfs", "8M", options=",mode=1777")
    (shared / "root's").mkdir()
    plant(shared / store.FOLDER, shared / "root's" / "evil", shared)
    (shared / "a.log").write_text("x")
    where = context(tmp_path, shared)
    assert do(set_aside(shared / "a.log"), where).status == "skipped"
    assert quarantine.find(where.state) == []
    store.register(where.state, shared / store.FOLDER)  # as an older version did
    assert quarantine.find(where.state) == []
    with work(where) as prepared, pytest.raises(rollback.Unknown):
        rollback.choose(where.state, prepared.journal, None, None)
    assert undo.entries(where.state, "zzz-run", 1) == []
    assert list((shared / "root's").iterdir()) == []


@pytest.mark.parametrize("whose", ["theirs", "writable by others", "a link", "another name of a file"])
def test_manifest_that_others_can_have_written_is_not_read(tmp_path: Path, whose: str) -> None:
    (tmp_path / "a").write_text("x")
    where = context(tmp_path, tmp_path)
    assert do(set_aside(tmp_path / "a"), where).status == "applied"
    (held,) = quarantine.find(where.state)
    manifest = held.folder / "manifest.json"
    assert held.facts
    if whose == "theirs":
        os.chown(manifest, THEM, THEM)
    elif whose == "writable by others":
        manifest.chmod(0o666)
    elif whose == "a link":
        manifest.rename(tmp_path / "elsewhere")
        manifest.symlink_to(tmp_path / "elsewhere")
    else:
        os.link(manifest, tmp_path / "elsewhere")
    assert quarantine.read(held.folder).facts == {}
