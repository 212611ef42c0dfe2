"""A short life: what is loaded later, and an end that loses nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from program import environment, run, settings

from conftest import PROJECT


def python(script: str, **options: object) -> subprocess.CompletedProcess[str]:
    prepared = (
        "import atexit, sys, threading, time; from miyabi_healing.support import startup as quick\n"
        + script
    )
    command = [sys.executable, "-c", prepared]
    return subprocess.run(
        command,
        cwd=PROJECT,
        env=environment(PYTHONUNBUFFERED=None),
        text=True,
        **{"capture_output": True, **options},
    )  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(("status", "code"), [("0", 0), ("3", 3), ("None", 0), ("True", 1)])
def test_end_has_written_and_done_everything(status: str, code: int) -> None:
    done = python(
        "atexit.register(lambda: print('cleaned', flush=True))\n"
        "sys.stdout.write('said '); sys.stderr.write('warned')\n"
        f"quick.leave(SystemExit({status}))"
    )
    assert (done.stdout, done.stderr, done.returncode) == ("said cleaned\n", "warned", code)


def test_end_waits_for_threads_and_prints_a_message_given_as_status() -> None:
    done = python(
        "threading.Thread(target=lambda: (time.sleep(0.3), print('finished'))).start()\n"
        "quick.leave(SystemExit(4))"
    )
    assert (done.stdout, done.returncode) == ("finished\n", 4)
    done = python("quick.leave(SystemExit('a message'))")
    assert (done.stderr, done.returncode) == ("a message\n", 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_end_tells_that_output_could_not_be_written() -> None:
    with open("/dev/full", "w") as full:
        done = python(
            "sys.stdout.write('lost'); quick.leave(SystemExit(0))",
            capture_output=False,
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert done.returncode == 120
    assert "No space left on device" in done.stderr


def test_postponed_module_is_loaded_by_its_first_use_and_is_whole() -> None:
    done = python(
        "with quick.postponing():\n    import zipfile\n"
        "print(type(zipfile).__name__, 'shutil' in sys.modules)\n"
        "print(zipfile.ZIP_STORED, type(zipfile).__name__, quick.Postponing in sys.meta_path)"
    )
    assert done.stdout == "_LazyModule False\n0 module False\n", done.stderr


def test_pytest_is_imported_without_colours_and_everybody_else_has_them() -> None:
    done = python(
        "with quick.postponing():\n    import pytest\n"
        "print([name for name in sys.modules if name.startswith('pygments')])\n"
        "import rich.syntax, pygments.lexers.python\n"
        "print(pygments.lexers.python.PythonLexer.name, quick.LeavingOut in sys.meta_path)"
    )
    assert done.stdout == "[]\nPython False\n", done.stderr
    done = python(
        "import pygments.lexers\nwith quick.postponing():\n    import pytest\n"
        "import pygments.lexers.diff as d; print(d.DiffLexer.name)"
    )
    assert done.stdout == "Diff\n", done.stderr


def test_what_is_written_past_python_stays_out_of_the_report(home: Path) -> None:
    """The checks of the user's own may start programs; descriptors 1 and 2 are the report's."""
    folder = home / "mine"
    folder.mkdir()
    (folder / "test_loud.py").write_text(
        "import os, pytest\n\n@pytest.mark.limit(5)\ndef test_loud(measure, limit, tmp_path, "
        "monkeypatch, capsys):\n"
        "    os.write(1, b'out')\n    os.write(2, b'err')\n    print('said')\n"
        "    assert measure(1, 'one') <= limit\n"
    )
    for more in ((), ("--checks", str(folder))):
        done = run("--config", settings(home), "--quiet", *more)
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
