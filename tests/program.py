"""Running the program as people do: as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import PROJECT

SCHEMA = json.loads((PROJECT / "miyabi_healing" / "report" / "report.schema.json").read_text())


def environment(**changes: str | None) -> dict[str, str]:
    """Ours, without what tells the program that it runs inside a test."""
    merged = {**os.environ, "PYTEST_CURRENT_TEST": None, "PYTEST_XDIST_WORKER": None}
    merged |= {"COLUMNS": None, **changes}  # pytest sets it for its workers
    return {name: value for name, value in merged.items() if value is not None}


def run(
    *arguments: str, cwd: Path | None = None, **changes: str | None
) -> subprocess.CompletedProcess[str]:
    """``self_healer.py`` with `arguments`; no repository is looked after unless the working folder
    is one.
    """
    return subprocess.run(
        [sys.executable, str(PROJECT / "self_healer.py"), *arguments],
        cwd=cwd or os.environ["HOME"],
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=120,
    )


def report(
    *arguments: str, cwd: Path | None = None, **changes: str | None
) -> tuple[int, dict[str, Any]]:
    """The exit status and the report of a run; it is valid by the schema, whatever happened."""
    import jsonschema

    done = run("--json", *arguments, cwd=cwd, **changes)
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    return done.returncode, document


def run_pytest(
    *arguments: str, cwd: Path = PROJECT, **changes: str | None
) -> subprocess.CompletedProcess[str]:
    """Plain ``pytest`` in the project."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=cwd, env=environment(**changes), capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def settings(folder: Path, text: str = "") -> str:
    """A configuration that looks at nothing of this machine but what `text` adds; returns the
    file's name.
    """
    quiet = [
        *("disk_space_critical", "zombie_processes"),
        *("high_memory_usage", "swap_usage", "tmpfs_usage", "orphaned_processes"),
    ]
    off = "".join(
        f"[checks.{name}]\nenabled = false\n" for name in quiet if f"checks.{name}]" not in text
    )
    # no program that a test starts asks this machine's own keepers of old data
    looks = "checks.disk_space_critical]" in text and "threshold = 100\n" not in text
    never = '["journald", "docker-build"]'
    caches = f"[caches]\nnever = {never}\n" if looks and "[caches]" not in text else ""
    logs = "" if "[logs]" in text else f'[logs]\npatterns = ["{folder}/logs/*.log"]\n'
    file = folder / "config.toml"
    file.write_text(text + "\n" + off + caches + logs)
    return str(file)
