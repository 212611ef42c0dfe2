"""The rules that everything else rests on: who may change the host, what a check imports, and what a healthy pass costs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from program import environment, settings

from conftest import PROJECT

WRITES = {
    "os": set(
        "remove unlink rmdir rename replace kill killpg truncate ftruncate link symlink chown chmod write pwrite mkdir".split()
    ),
    "shutil": {"rmtree", "move", "copy", "copytree"},
    "signal": {"pidfd_send_signal"},
}
METHODS = {"unlink", "rmdir", "rename", "replace", "write_text", "write_bytes", "touch", "symlink_to", "hardlink_to", "chmod",
           "send_signal", "terminate", "kill", "mkdir"}  # fmt: skip
ALLOWED = {
    "safekeeping.py": "the journal, its ballast and what was damaged, in the state folder",
    "tools.py": "signals to the programs that it started",
    "child.py": "signals to the pass that it started, and the pipe between them",
    "presence.py": "the file in the state folder by which a watch says that it is there",
    "lock.py": "the lock file of the state folder, and that folder",
    "journal.py": "the journal in the state folder, and that folder",
    "outlets/textfile.py": "the metrics file that the configuration names, and the temporary one beside it",
    "host/worktrees.py": "the owner of its own scratch folder",
    "output.py": "files of the program's own that somebody asked for: units, a configuration",
}


def calls(file: Path) -> set[str]:
    """What a module calls that could change the host; ``str.replace`` is told apart by its two arguments."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, node.func.value
        if isinstance(owner, ast.Name) and name in WRITES.get(owner.id, ()):
            found.add(f"{owner.id}.{name}")
        elif name in METHODS and not (name == "replace" and len(node.args) == 2):
            found.add(f".{name}")
    return found


def modules() -> list[Path]:
    return sorted(file for top in ("checks", "healers", "miyabi_healing") for file in (PROJECT / top).rglob("*.py"))


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(PROJECT)))
def test_only_the_gate_changes_the_host(file: Path) -> None:
    inside = str(file.relative_to(PROJECT)).removeprefix("miyabi_healing/")
    if not inside.startswith("gate/") and inside not in ALLOWED:
        assert calls(file) == set()


@pytest.mark.parametrize("file", sorted((PROJECT / "checks").glob("*.py")), ids=lambda file: file.stem)
def test_check_imports_nothing_of_the_engine_and_is_short(file: Path) -> None:
    tree = ast.parse(file.read_text())
    imported = [name.name for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)) for name in node.names]
    assert imported == ["pytest"]
    assert len([line for line in file.read_text().splitlines() if line.strip()]) <= 12


HEAVY = {
    "sh",
    "rich",
    "backports.zstd",
    "jsonschema",
    "asyncio",
    "http",
    "prometheus_client",
    "miyabi_healing.gate",
    "hypothesis",
}
WATCHED = """
import json, sys
started = []
starting = {"subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec", "os.system"}
sys.addaudithook(lambda event, _: event in starting and started.append(event))
sys.path.insert(0, sys.argv[1])
from miyabi_healing import config, session
document, code = session.run_pass(config.load(sys.argv[2]), dry_run=False)
print(json.dumps({"code": code, "started": started, "modules": sorted(sys.modules)}))
"""


def test_healthy_pass_starts_no_program_and_loads_nothing_heavy(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(PROJECT), settings(home)],
        cwd=PROJECT, env=environment(COVERAGE_PROCESS_START=None, COVERAGE_PROCESS_CONFIG=None), capture_output=True, text=True,
    )  # fmt: skip
    seen = json.loads(done.stdout)
    assert (seen["code"], seen["started"]) == (0, []), done.stderr
    assert HEAVY & set(seen["modules"]) == set()


def test_documents_name_every_option_of_every_healer() -> None:
    page = (PROJECT / "docs" / "configuration.md").read_text()
    for file in (PROJECT / "healers").glob("*.py"):
        options = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ClassDef))
        fields = [each.target for node in options for each in node.body if isinstance(each, ast.AnnAssign)]
        assert [name.id for name in fields if isinstance(name, ast.Name) and f"`{name.id} = " not in page] == []
