"""As an ordinary user it does what that user may, says what it could not see, and never asks for more by itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import settings

from conftest import PROJECT

NOBODY = 65534
PYTHON = "/usr/bin/python3"
LINES = b"".join(b"line %06d, and what it says\n" % number for number in range(100_000))


@pytest.fixture
def home() -> Iterator[Path]:
    """A home of nobody's, where nobody can get at it: pytest's own folders are root's alone."""
    folder = Path(tempfile.mkdtemp())
    (folder / "logs").mkdir()
    (folder / "logs" / "app.log").write_bytes(LINES)
    settings(folder, f'[logs]\npatterns = ["{folder}/logs/*.log"]\n[checks.large_log_files]\nthreshold = 1\n')
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def as_nobody(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    packages = os.path.dirname(os.path.dirname(pytest.__file__))
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": packages}
    options = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": home, "env": environment}
    try:
        subprocess.run([PYTHON, "-c", "import msgspec, pytest_jsonreport"], check=True, capture_output=True, **options)  # type: ignore[call-overload]
        program = [PYTHON, str(PROJECT / "self_healer.py"), *arguments]
        return subprocess.run(program, capture_output=True, text=True, **options)  # type: ignore[call-overload, no-any-return]
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nobody can run this Python and these packages here: {error}")


@pytest.mark.root
def test_ordinary_user_heals_what_is_theirs_and_is_told_what_could_not_be_seen(home: Path) -> None:
    before = (home / "logs" / "app.log").stat()
    done = as_nobody(home, "--config", str(home / "config.toml"), "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["summary"]) == (0, "Successfully healed 1 issue(s).")
    assert any("processes of other users could not be looked into" in note for note in document["notes"])
    after = (home / "logs" / "app.log").stat()
    assert (after.st_ino, after.st_uid) == (before.st_ino, NOBODY)
    assert {path.stat().st_uid for path in (home / ".local").rglob("*")} == {NOBODY}
    done = as_nobody(home, "rollback")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (home / "logs" / "app.log").read_bytes() == LINES


def test_nothing_in_the_program_asks_for_another_users_rights() -> None:
    sources = [path for top in ("miyabi_healing", "healers", "checks") for path in (PROJECT / top).rglob("*.py")]
    words = ('"sudo"', '"su"', '"doas"', '"pkexec"', "'sudo'")
    assert [path for path in sources if any(word in path.read_text() for word in words)] == []
