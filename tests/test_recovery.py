"""Killed at any point, the next run takes back what was half done, or finishes it: nothing is lost, nothing done twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from program import environment

from conftest import PROJECT

STRIDE = os.environ.get("KILL_STRIDE", "12")  # 1 kills at every point: some three thousand runs
CHANGES = ["quarantine", "archive log", "trim log", "retire worktree", "delete", "purge", "signal", "run", "reclaim"]
UNDOABLE = CHANGES[:4]


@pytest.mark.parametrize(("kind", "phase"), [(kind, "apply") for kind in CHANGES] + [(kind, "undo") for kind in UNDOABLE])
def test_killed_anywhere_loses_nothing_and_does_nothing_twice(kind: str, phase: str, home: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PROJECT / "tests" / "kill_matrix.py"), kind, phase, STRIDE, str(tmp_path / "matrix")],
        env=environment(COVERAGE_PROCESS_START=None, COVERAGE_PROCESS_CONFIG=None), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    print(f"{kind}, {phase}: killed at {found['runs']} of {found['points']} points")
    assert found["problems"] == []
    assert found["runs"] > 8
