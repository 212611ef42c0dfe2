"""The rules that everything else rests on: who may change the host, what a check imports, and what
a healthy run costs.
"""

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
        "remove unlink rmdir rename replace kill killpg truncate ftruncate link symlink chown "
        "chmod write pwrite mkdir".split()
    ),
    "shutil": {"rmtree", "move", "copy", "copytree"},
    "signal": {"pidfd_send_signal"},
}
METHODS = {
    "unlink",
    "rmdir",
    "rename",
    "replace",
    "write_text",
    "write_bytes",
    "touch",
    "symlink_to",
    "hardlink_to",
    "chmod",
    "send_signal",
    "terminate",
    "kill",
    "mkdir",
}
ALLOWED = {
    "state/store.py": "the journal, its ballast and what was damaged, in the state folder",
    "support/commands.py": "signals to the programs that it started",
    "runner/watch/run_process.py": "signals to the run that it started, and the pipe between them",
    "state/watch_presence.py": "the file in the state folder by which a watch says that it is "
    "there",
    "support/mount_questions.py": "the child that asks what may not answer: its end, and the pipe "
    "to it",
    "host/space/crew.py": "signals to the processes that it started, and the pipes to them",
    "runner/supervised.py": "signals to the child that makes the run, and the pipe to it",
    "runner/watch/prefork.py": "the pipe to the watch that it makes runs for",
    "state/run_lock.py": "the lock file of the state folder, and that folder",
    "state/journal.py": "the journal in the state folder, and that folder",
    "support/terminal.py": "standard output: what watch mode shows",
    "report/outputs/textfile.py": "what a killed write left beside the metrics file",
    "host/git/scratch_git.py": "its own scratch folder: whose it is, and its end",
    "cli/fleet/report_file.py": "the report that somebody asked for by name",
    "fleet/ansible_worker.py": "its own temporary folder, and the end of what it has started",
    "fleet/inventory.py": "the end of what it has started",
    "cli/setup/removal.py": "what uninstall removes: the state folder, the environment",
    "fleet/sqlite_store.py": "the folder of a fleet's store in a file",
    "support/atomic_write.py": "files of the program's own that somebody asked for: units, a "
    "configuration",
}

# The modules of the gate that change something: what leaves the gate has to leave this list too,
# and be allowed by name above.
IN_THE_GATE = set(
    """
    handlers/archive_log handlers/archive_logs handlers/archive_restore
    handlers/bundle_restore handlers/delete handlers/kept_commits
    handlers/log_files handlers/log_restore handlers/reclaim handlers/signal
    handlers/task_restore handlers/worktree_restore
    primitives/compression primitives/quarantine_locations primitives/quarantine_restore
    primitives/quarantine_writer primitives/syscalls
""".split()
)


def calls(file: Path) -> set[str]:
    """What a module calls that could change the host; ``str.replace`` is told apart by its two
    arguments.
    """
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
    return sorted(
        file
        for top in ("checks", "healers", "miyabi_healing")
        for file in (PROJECT / top).rglob("*.py")
    )


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(PROJECT)))
def test_only_the_gate_changes_the_host(file: Path) -> None:
    inside = str(file.relative_to(PROJECT)).removeprefix("miyabi_healing/")
    if not inside.startswith("gate/") and inside not in ALLOWED:
        assert calls(file) == set()


@pytest.mark.parametrize("inside", ALLOWED)
def test_what_may_write_outside_the_gate_is_there_and_writes(inside: str) -> None:
    """A row that is not needed would allow a new writer that comes to have that name."""
    file = PROJECT / "miyabi_healing" / inside
    assert file.is_file(), "it is gone: take it off the list, or name where it went"
    assert not inside.startswith("gate/"), "it is in the gate: take it off the list"
    assert calls(file), "it changes nothing any more: take it off the list"


def test_gate_holds_the_modules_that_change_the_host() -> None:
    gate = PROJECT / "miyabi_healing" / "gate"
    writers = {
        str(file.relative_to(gate).with_suffix("")) for file in gate.rglob("*.py") if calls(file)
    }
    assert writers == IN_THE_GATE


@pytest.mark.parametrize(
    "file", sorted((PROJECT / "checks").glob("*.py")), ids=lambda file: file.stem
)
def test_check_imports_nothing_of_the_engine_and_is_short(file: Path) -> None:
    tree = ast.parse(file.read_text())
    imported = [
        name.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in node.names
    ]
    assert imported == ["pytest"]
    assert len([line for line in file.read_text().splitlines() if line.strip()]) <= 12


# What a healthy run needs, and nothing else: whoever adds a line here makes every run of every
# host heavier.
OURS = """
    cli cli.command_table cli.main host host.filesystems host.git host.git.lock_places
    host.git.locks host.git.repositories host.git.repository_paths host.logs host.memory
    host.process_status host.processes host.readings host.swap host.tmpfs model model.config
    model.exit_codes model.identity model.issue model.limit_settings model.results report
    report.documents report.outputs report.outputs.dispatch report.style report.summary report.text
    runner runner.fixtures runner.foreseeing runner.plugin runner.registry
    runner.resources runner.selection runner.session state state.history state.journal
    state.journal_rows state.quarantine state.run_clock state.run_lock state.store support
    support.config_loader support.console support.files support.formatting support.globbing
    support.interrupts support.invocation support.mount_answers support.mount_table
    support.ownership support.paths
    support.secrets support.startup
""".split()
PACKAGES = set("""
    _pytest click iniconfig miyabi_healing msgspec platformdirs pluggy py pytest pytest_jsonreport
    backports typing_extensions
""".split())  # fmt: skip
NOT_NEEDED = set(
    """
    asyncio concurrent ctypes difflib doctest email getpass http imaplib logging.handlers
    multiprocessing pdb psutil pydoc socket socketserver ssl unittest urllib.request xml xmlrpc
    zipfile importlib.metadata
""".split()
)
ALL_CHECKS = """
[checks.disk_space_critical]
threshold = 100
[checks.high_memory_usage]
threshold = 100
[checks.swap_usage]
threshold = 100
[checks.tmpfs_usage]
threshold = 100
[checks.zombie_processes]
threshold = 100000
"""
WATCHED = """
import atexit, json, os, runpy, sys
before = set(sys.modules)
started = []
starting = {"subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec", "os.system"}
sys.addaudithook(lambda event, _: event in starting and started.append(event))
def tell():
    there = [name for name, each in sys.modules.items() if type(each).__name__ != "_LazyModule"]
    loaded = sorted(name for name in there if name not in before)
    print(json.dumps({"started": started, "modules": loaded}))
atexit.register(tell)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def healthy_pass(home: Path, host_without_mounts_that_block: None) -> dict[str, list[str]]:
    """What the program loads and starts in a run with every check and a configuration, in which
    nothing is wrong.
    """
    subprocess.run(["git", "init", "-q", str(home / "repository")], check=True)
    for _ in range(2):  # the second has a journal to look into
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                WATCHED,
                str(PROJECT / "self_healer.py"),
                "--config",
                settings(home, ALL_CHECKS),
            ],
            cwd=home / "repository",
            env=environment(COVERAGE_PROCESS_START=None, COVERAGE_PROCESS_CONFIG=None),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    seen: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return seen


def test_healthy_pass_starts_no_program(healthy_pass: dict[str, list[str]]) -> None:
    assert healthy_pass["started"] == []


def test_healthy_pass_loads_what_it_needs_and_nothing_else(
    healthy_pass: dict[str, list[str]],
) -> None:
    modules = set(healthy_pass["modules"])
    ours = {
        name.removeprefix("miyabi_healing.")
        for name in modules
        if name.startswith("miyabi_healing.")
    }
    crept = sorted(ours - set(OURS))
    assert not crept, (
        "these modules of ours crept into every healthy run; import them where they are used: "
        f"{', '.join(crept)}"
    )
    gone = sorted(set(OURS) - ours)
    assert not gone, f"a healthy run is lighter by these; take them off the list: {', '.join(gone)}"
    checks = {name.partition(".")[0] for name in modules if "checks.test_" in name}
    packages = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names) - checks
    crept = sorted(packages - PACKAGES)
    assert not crept, (
        "these packages crept into every healthy run; import them where they are used: "
        f"{', '.join(crept)}"
    )
    crept = sorted(
        name
        for name in NOT_NEEDED
        if any(each == name or each.startswith(f"{name}.") for each in modules)
    )
    assert not crept, (
        "these of the standard library crept into every healthy run; import them where used: "
        f"{', '.join(crept)}"
    )


def test_host_without_configuration_loads_nothing_to_read_one(home: Path) -> None:
    script = (
        "import sys; from miyabi_healing.support.config_loader import load_config; load_config(); "
        "print({'msgspec', 'tomllib'} & set(sys.modules))"
    )
    without_coverage = environment(COVERAGE_PROCESS_START=None, COVERAGE_PROCESS_CONFIG=None)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env=without_coverage,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "set()\n", done.stderr


def test_documents_name_every_option_of_every_healer() -> None:
    page = (PROJECT / "docs" / "configuration.md").read_text()
    for file in (PROJECT / "healers").glob("*.py"):
        options = (
            node
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.ClassDef) and node.name == "Options"
        )
        fields = [
            each.target for node in options for each in node.body if isinstance(each, ast.AnnAssign)
        ]
        assert [
            name.id
            for name in fields
            if isinstance(name, ast.Name) and f"`{name.id} = " not in page
        ] == []
