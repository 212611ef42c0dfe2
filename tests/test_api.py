"""What authors of checks and healers import: that it is all there, described, loaded late, and
enough; and the steps that fill in what can be derived.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from program import environment

from conftest import PROJECT
from miyabi_healing import api
from miyabi_healing.host import process_status

FILE = PROJECT / "miyabi_healing" / "api.py"
HEALERS = sorted((PROJECT / "healers").glob("*.py"))


def imported(file: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
    return found


@pytest.mark.parametrize("file", HEALERS, ids=lambda file: file.stem)
def test_healer_imports_the_api_and_the_standard_library_alone(file: Path) -> None:
    others = {
        name for name in imported(file) if name.partition(".")[0] not in sys.stdlib_module_names
    }
    assert others == {"miyabi_healing.api"}


def test_every_name_is_there_and_says_what_it_is() -> None:
    assert set(api.NAMES) & set(api.READINGS) == set()
    assert set(api.__all__) == set(dir(api)) == {*api.NAMES, *api.READINGS}
    for name, (_, what) in {**api.NAMES, **api.READINGS}.items():
        found = getattr(api, name)
        assert found is getattr(api, name)
        assert what
        if callable(found):
            assert found.__doc__, name


def test_names_for_type_checkers_are_those_of_the_tables() -> None:
    """mypy does not see the tables, and nobody else sees these imports."""
    (block,) = (node for node in ast.parse(FILE.read_text()).body if isinstance(node, ast.If))
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for each in node.names:
            assert each.name == each.asname
            seen[each.name] = node.module
    tables = {**api.NAMES, **api.READINGS}
    assert seen == {
        name: place if place == "msgspec" else f"miyabi_healing.{place}"
        for name, (place, _) in tables.items()
    }


def test_names_that_are_promised_are_not_dropped() -> None:
    """Others have written healers with these; a name that is renamed breaks theirs."""
    promised = """
        HealerContext Host Issue Limit Severity Plan Goal Kept quarantine delete retire_worktree
        archive_log trim_log signal_process run_tool reclaim unit Step Quarantine Delete Unit
        RetireWorktree ArchiveLog TrimLog CutLog Signal Run Reclaim Purge Mount Repository Worktree
        LogGroup LogFile Processes Process Memory Identity identity_at used newest MEGABYTE
        size_text display Meta
    """.split()
    assert [name for name in promised if name not in api.NAMES] == []


def test_every_kind_of_step_that_a_healer_can_plan_is_in_it() -> None:
    from miyabi_healing.model import steps

    kinds = {
        name
        for name, each in vars(steps).items()
        if isinstance(each, type) and issubclass(each, steps.Step)
    }
    assert kinds | {"Unit"} <= set(api.NAMES)


def test_name_that_is_not_there_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'quarentine'"):
        api.quarentine  # noqa: B018
    with pytest.raises(ImportError, match="quarentine"):
        exec("from miyabi_healing.api import quarentine")


def loaded_after(statement: str) -> set[str]:
    """The modules of ours that are loaded once a statement has run in a fresh interpreter."""
    script = (
        f"{statement}\nimport json, sys\n"
        "print(json.dumps([each for each in sys.modules if each.startswith('miyabi_healing')]))"
    )
    without_coverage = environment(COVERAGE_PROCESS_START=None, COVERAGE_PROCESS_CONFIG=None)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT, env=without_coverage, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(json.loads(done.stdout))


def test_nothing_is_loaded_until_its_name_is_used() -> None:
    nothing = {"miyabi_healing", "miyabi_healing.api"}
    assert loaded_after("import miyabi_healing.api; dir(miyabi_healing.api)") == nothing
    room = {"miyabi_healing.model", "miyabi_healing.model.issue"}
    assert loaded_after("from miyabi_healing.api import Issue") == nothing | room


# Steps that fill in what can be derived.


def test_quarantine_knows_what_its_target_is(tmp_path: Path) -> None:
    path = tmp_path / "core\n1"
    path.write_bytes(b"x" * 5000)
    step = api.quarantine(path, "a core dump", counts="dumps")
    assert (step.path, step.identity) == (path, api.identity_at(path))
    assert (step.target, step.reason, step.counts) == (
        f"{tmp_path}/core\\n1",
        "a core dump",
        "dumps",
    )
    assert (step.later, step.undo) == (api.used(path.lstat()), "moved back from quarantine")


def test_what_is_given_stands(tmp_path: Path) -> None:
    """An identity that was measured earlier is the one that must still hold at the step."""
    path = tmp_path / "a"
    path.write_text("a")
    before = api.identity_at(path)
    path.unlink()
    step = api.quarantine(path, "", identity=before, later=1, target="A", undo="by hand")
    assert (step.identity, step.later, step.target, step.undo) == (before, 1, "A", "by hand")
    with pytest.raises(FileNotFoundError):
        api.quarantine(path, "")
    path.mkdir()
    assert api.quarantine(path, "", identity=before).identity == before


def test_deletion_weighs_what_it_is_given_as_a_path(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"x" * 5000)
    step = api.delete(tmp_path, [api.unit(tmp_path / "one"), tmp_path / "two"], "made again")
    assert [each.path.name for each in step.units] == ["one", "two"]
    assert step.bytes == sum(api.used(path.lstat()) for path in tmp_path.iterdir())
    assert (step.target, step.undo, step.files) == (str(tmp_path), "", 2)


def test_worktree_whose_folder_is_gone_is_called_after_what_is_left(tmp_path: Path) -> None:
    tree, admin = tmp_path / "tree", tmp_path / "admin"
    tree.mkdir()
    admin.mkdir()
    step = api.retire_worktree(tree, admin, tmp_path, "idle")
    assert (step.target, step.identity) == (str(tree), api.identity_at(tree))
    assert step.admin_identity == api.identity_at(admin)
    step = api.retire_worktree(None, admin, tmp_path, "gone")
    assert (step.target, step.identity) == (str(admin), None)


@pytest.mark.parametrize(
    ("archive", "kind", "undo"),
    [(True, "trim log", "what was cut off is put back in front"), (False, "cut log", "")],
)
def test_log_that_is_cut_without_an_archive_cannot_be_had_back(
    tmp_path: Path, archive: bool, kind: str, undo: str
) -> None:
    path = tmp_path / "a.log"
    path.write_text("a\n")
    step = api.trim_log(path, "long", keep_lines=1, keep_bytes=9, archive=archive)
    assert (step.kind, step.undo, step.identity) == (kind, undo, api.identity_at(path))
    closed = api.archive_log(path, "closed")
    assert (closed.undo, closed.identity) == ("unpacked from the archive", step.identity)


def test_other_steps_are_called_by_what_they_do() -> None:
    us = process_status.read_process(os.getpid())
    assert us is not None
    step = api.signal_process(us, signal.SIGTERM, "it has to end")
    assert (step.pid, step.start, step.signal) == (us.pid, us.start, signal.SIGTERM)
    assert (step.target, step.undo) == (f"SIGTERM to {us.name} (pid {us.pid})", "")
    tool = api.run_tool(["npm", "cache", "\x1b[2J"], "tidy")
    assert (tool.target, tool.argv[1]) == ("npm cache \\x1b[2J", "cache")
    control = Path("/proc/sys/vm/drop_caches")
    asked = api.reclaim(control, "1", "short of memory")
    assert (asked.target, asked.undo) == (str(control), "nothing to undo")
