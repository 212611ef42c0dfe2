"""Another user prepares things for root to trip over: nothing of theirs is believed, followed or
put anywhere.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gatework import plan, work
from gitworld import merge, repository, worktree

from miyabi_healing.gate import execute, rollback, undo
from miyabi_healing.gate.handlers import late_look
from miyabi_healing.gate.primitives import quarantine_locations
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host.readings import Host
from miyabi_healing.model.actions import Outcome
from miyabi_healing.model.config import Config
from miyabi_healing.model.steps import Quarantine, RetireWorktree, Step
from miyabi_healing.state import quarantine, run_lock
from miyabi_healing.support.files import identity_at

pytestmark = pytest.mark.root
THEM = 65534


def context(top: Path, *roots: Path) -> Context:
    return Context(Host(Config()), "run", top / "state", roots)


def do(step: Step, where: Context) -> Outcome:
    outcomes: list[Outcome] = []
    with work(where) as prepared:
        execute.carry_out_plan(plan(step), prepared, outcomes)
    return outcomes[0]


def set_aside(path: Path) -> Quarantine:
    return Quarantine(target=str(path), reason="", path=path, identity=identity_at(path))


def plant(base: Path, original: Path, root: Path) -> Path:
    """An entry as ours would be, in a quarantine of theirs: it asks for a file of theirs to be put
    where only root may.
    """
    entry = base / "zzz-run" / "0001-quarantine"
    entry.mkdir(parents=True, mode=0o700)
    (entry / "thing").write_text("theirs")
    facts = {
        "original": str(original),
        "root": str(root),
        "kind": "quarantine",
        "run": "zzz-run",
        "step": 1,
    }
    (entry / "manifest.json").write_text(json.dumps({**facts, "time": time.time() + 5}))
    for path in (base, *base.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.chown(path, THEM, THEM)
    return entry


def test_quarantine_that_others_planted_is_never_given_back_from(
    tmp_path: Path, mounted: Callable[..., Path]
) -> None:
    """A shared /tmp on a filesystem of its own is enough for that, and the default patterns of
    logs.
    """
    shared = mounted("tmpfs", "8M", options=",mode=1777")
    (shared / "root's").mkdir()
    plant(shared / quarantine_locations.FOLDER, shared / "root's" / "evil", shared)
    (shared / "a.log").write_text("x")
    where = context(tmp_path, shared)
    assert do(set_aside(shared / "a.log"), where).status == "skipped"
    assert quarantine.find_entries(where.state) == []
    # as an older version did
    quarantine_locations.register(where.state, shared / quarantine_locations.FOLDER)
    assert quarantine.find_entries(where.state) == []
    with work(where) as prepared, pytest.raises(rollback.Unknown):
        rollback.choose(where.state, prepared.journal, None)
    assert undo.entries(where.state, "zzz-run", 1) == []
    assert list((shared / "root's").iterdir()) == []


@pytest.mark.parametrize(
    "whose", ["theirs", "writable by others", "a link", "another name of a file"]
)
def test_manifest_that_others_can_have_written_is_not_read(tmp_path: Path, whose: str) -> None:
    (tmp_path / "a").write_text("x")
    where = context(tmp_path, tmp_path)
    assert do(set_aside(tmp_path / "a"), where).status == "applied"
    (held,) = quarantine.find_entries(where.state)
    manifest = held.folder / "manifest.json"
    assert held.manifest
    if whose == "theirs":
        os.chown(manifest, THEM, THEM)
    elif whose == "writable by others":
        manifest.chmod(0o666)
    elif whose == "a link":
        manifest.rename(tmp_path / "elsewhere")
        manifest.symlink_to(tmp_path / "elsewhere")
    else:
        os.link(manifest, tmp_path / "elsewhere")
    assert quarantine.read_entry(held.folder).manifest == {}


@pytest.fixture
def top(home: Path) -> Iterator[Path]:
    """A folder that other users can get at, pytest's own being root's alone: in it ``root's``,
    where only root may write.
    """
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "root's").mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def developer(top: Path) -> Path:
    """A home of another user's, with a repository that has a merged worktree in ``trees/evil``."""
    repo = repository(top / "home" / "repo")
    worktree(repo, "evil")
    merge(repo, "evil", "merge")
    for path in (top / "home", *(top / "home").rglob("*")):
        os.chown(path, THEM, THEM, follow_symlinks=False)
    return top / "home"


def turn(folder: Path, target: Path) -> None:
    """What its owner can do at any moment: put a link where the folder was."""
    folder.rename(folder.with_name("aside"))
    folder.symlink_to(target)
    os.lchown(folder, THEM, THEM)


def retirement(home: Path) -> RetireWorktree:
    common, tree = home / "repo" / ".git", home / "trees" / "evil"
    admin = common / "worktrees" / "evil"
    return RetireWorktree(
        target="",
        reason="",
        path=tree,
        admin=admin,
        common=common,
        admin_identity=identity_at(admin),
        identity=identity_at(tree),
    )


def test_worktree_that_is_put_back_does_not_go_through_its_owners_link(
    developer: Path, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its owner could have root move a folder of theirs (a unit's drop-ins, say) to where only
    root may write.
    """

    def late(*_: object) -> str:
        turn(developer / "trees", top / "root's")
        return "dirty at the last moment"

    monkeypatch.setattr(late_look, "late_objection", late)
    outcome = do(retirement(developer), context(top, developer))
    assert (outcome.status, "cannot be taken back" in outcome.message) == ("failed", True), outcome
    assert list((top / "root's").iterdir()) == []
    (developer / "trees").unlink()
    (developer / "aside").rename(developer / "trees")
    with work(context(top, developer)) as prepared:
        rows = rollback.choose(top / "state", prepared.journal, None)
        assert [
            each.status
            for each in rollback.carry_out_rollback(rows, prepared.context, prepared.journal)
        ] == ["undone"]
    assert (developer / "trees" / "evil" / "evil.txt").exists()


def test_administrative_folder_is_not_made_through_its_owners_link(
    developer: Path, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_look, "late_objection", lambda *_: None)
    assert do(retirement(developer), context(top, developer)).status == "applied"
    (developer / "repo" / ".git" / "worktrees").rmdir()
    turn(developer / "repo" / ".git", top / "root's")
    with work(context(top, developer)) as prepared:
        rows = rollback.choose(top / "state", prepared.journal, None)
        assert [
            each.status
            for each in rollback.carry_out_rollback(rows, prepared.context, prepared.journal)
        ] == ["refused"]
    assert list((top / "root's").iterdir()) == []


@pytest.mark.parametrize(("owner", "followed"), [(0, True), (THEM, False)])
def test_links_on_the_way_to_a_root_are_followed_only_if_they_are_ours(
    tmp_path: Path, owner: int, followed: bool
) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("../" + tmp_path.name + "/real")
    os.lchown(tmp_path / "link", owner, owner)
    (tmp_path / "real" / "deep" / "a").write_text("x")
    path = tmp_path / "link" / "deep" / "a"
    outcome = do(set_aside(path), context(tmp_path, tmp_path / "link" / "deep"))
    assert (outcome.status == "applied", path.exists()) == (followed, not followed), outcome
    if not followed:
        assert "another user's symbolic link is in the way" in outcome.message


@pytest.mark.parametrize(
    ("owner", "mode", "said"),
    [(THEM, 0o700, "belongs to"), (0, 0o777, "can be written by everybody")],
)
def test_state_folder_that_others_can_write_to_is_refused(
    tmp_path: Path, owner: int, mode: int, said: str
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(mode)
    os.chown(tmp_path / "state", owner, owner)
    with pytest.raises(PermissionError, match=said):
        run_lock.acquire(tmp_path / "state")
    assert list((tmp_path / "state").iterdir()) == []
