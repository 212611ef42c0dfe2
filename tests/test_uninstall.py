"""Uninstalling: what this program has made is gone, what is in quarantine is not lost by it, and
nothing else is touched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from program import environment, run, settings

from miyabi_healing.cli.setup import hook_files, removal, service_units
from miyabi_healing.state import run_lock, watch_presence
from miyabi_healing.support import paths

CHECK = """
import pathlib, pytest

@pytest.mark.heal("tidy")
@pytest.mark.limit(1)
def test_things(measure, limit):
    assert measure(len(list((pathlib.Path.home() / "things").glob("*"))), "things") <= limit
"""
HEALER = """
import pathlib
from miyabi_healing.support.files import identity_at
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.steps import Quarantine

def tidy(context, issue, options):
    steps = tuple(
        Quarantine(
            target=str(path), reason="too many", undo="moved back",
            path=path, identity=identity_at(path),
        )
        for path in sorted((pathlib.Path.home() / "things").glob("*"))
    )
    return Plan(steps, Goal("never", lambda: False))
"""
JOB = service_units.Job(("/opt/run_healing.sh",), 900, False)
CRONTAB = """#!/bin/sh
case $1 in
    -l) cat "$HOME/crontab" 2>/dev/null || { echo "no crontab for you" >&2; exit 1; } ;;
    -r) rm "$HOME/crontab" ;;
    -) cat > "$HOME/crontab" ;;
esac
"""


def tree(home: Path) -> set[str]:
    """What is below a home, but for what the test itself and caches of Python put there."""
    found = {str(path.relative_to(home)) for path in home.rglob("*")}
    return {each for each in found if "__pycache__" not in each and not each.startswith("bin")}


def have_cron(home: Path) -> None:
    (home / "bin").mkdir()
    (home / "bin" / "crontab").write_text(CRONTAB)
    (home / "bin" / "crontab").chmod(0o755)


def test_all_that_was_made_is_gone_and_nothing_before_it_is_said(home: Path, copy: Path) -> None:
    have_cron(home)
    (home / "mine" / "healers").mkdir(parents=True)
    (home / "mine" / "test_things.py").write_text(CHECK)
    (home / "mine" / "healers" / "tidy.py").write_text(HEALER)
    (home / "things").mkdir()
    (home / ".claude").mkdir()
    (home / ".claude" / "settings.json").write_text('{"model": "x"}')
    outputs = '[metrics]\ntextfile = "~/metrics.prom"\n[report]\nhtml = "~/page.html"\n'
    config = settings(home, f'{outputs}[extend]\nfolders = ["~/mine"]\n')
    before = tree(home)
    for number in range(3):
        (home / "things" / f"thing {number}").write_text("x")
    given = environment(PATH=f"{home}/bin:/usr/bin:/bin", XDG_RUNTIME_DIR=str(home))

    def start(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [f"{copy}/run_healing.sh", "--config", config, *words],
            cwd=home,
            env=given,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr

    assert start("--quiet")[0] == 0
    assert start("hooks", "install", "claude", "--yes")[0] == 0
    assert start("install", "--user", "--kind", "cron")[0] == 0
    made = tree(home)
    assert {"metrics.prom", "page.html"} <= made
    for words, code, said in (
        (("--yes",), 1, "are in quarantine and would be lost"),
        (("--with-quarantine",), 2, "without a terminal it needs --yes"),
        (("--with-quarantine", "--dry-run"), 0, f"remove {copy}/.venv"),
    ):
        status, shown = start("uninstall", "--user", *words)
        assert (status, said in shown) == (code, True), shown
        assert (tree(home), (copy / ".venv").exists()) == (made, True)
    status, shown = start("uninstall", "--user", "--with-quarantine", "--yes")
    assert (status, "Traceback" in shown) == (0, False), shown
    for said in ("run crontab -r", "take our hook out", "is in quarantine: 3 thing(s)", "Removed."):
        assert said in shown
    assert f"Your configuration stays: {config}" in shown
    assert tree(home) - {".local", ".local/state"} == before
    assert (home / ".claude" / "settings.json").read_text() == '{"model": "x"}'
    assert not (copy / ".venv").exists()
    assert (Path(sys.prefix) / "lib").is_dir()  # what a link in it led to


@pytest.fixture
def asked(home: Path, copy: Path) -> tuple[str, ...]:
    """The command, in a checkout of the test's own."""
    state = home / ".local" / "state" / "miyabi-healing"
    state.mkdir(parents=True, mode=0o700)
    (state / "journal.sqlite3").write_text("")
    have_cron(home)  # what would be removed first
    (home / "crontab").write_text(service_units.cron_block(JOB, "a host"))
    command = (sys.executable, f"{copy}/self_healer.py", "--config", settings(home))
    return (*command, "uninstall", "--user", "--yes")


def refused(asked: tuple[str, ...], home: Path, *more: str) -> tuple[int, str]:
    """What it ends with and says; all is as before."""
    before = tree(home)
    given = environment(PATH=f"{home}/bin:/usr/bin:/bin", XDG_RUNTIME_DIR=str(home))
    done = subprocess.run([*asked, *more], cwd=home, env=given, capture_output=True, text=True)
    assert tree(home) == before  # the crontab among it
    return done.returncode, done.stderr


def test_run_that_is_at_work_is_left_alone(home: Path, asked: tuple[str, ...]) -> None:
    held = run_lock.acquire(home / ".local" / "state" / "miyabi-healing")
    try:
        assert refused(asked, home)[0] == 75
    finally:
        run_lock.release(held)


def test_watch_that_nothing_here_stops_is_left_alone(home: Path, asked: tuple[str, ...]) -> None:
    presence = watch_presence.PresenceFile(home / ".local" / "state" / "miyabi-healing")
    presence.renew(60)
    try:
        assert refused(asked, home)[0] == 75
    finally:
        presence.close()


def test_state_folder_that_is_a_link_is_not_followed(home: Path, asked: tuple[str, ...]) -> None:
    state = home / ".local" / "state" / "miyabi-healing"
    state.rename(home / "elsewhere")
    state.symlink_to(home / "elsewhere")
    code, said = refused(asked, home)
    assert (code, "is a link" in said) == (2, True)


@pytest.mark.parametrize("flag", [(), ("--with-quarantine",)])
def test_quarantine_that_cannot_be_read_or_reached_keeps_everything(
    home: Path, asked: tuple[str, ...], flag: tuple[str, ...]
) -> None:
    state = home / ".local" / "state" / "miyabi-healing"
    entry = state / "quarantine" / "20251126T103000-1" / "0001-file"
    for folder in (entry, entry.parent, entry.parent.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    (entry / "thing").write_text("dear to somebody")
    code, said = refused(asked, home, *flag)
    assert (code, "it has no manifest" in said) == (1, True)
    if not flag:
        shutil.rmtree(state / "quarantine")
        (state / "bases").write_text(json.dumps(str(home / "usb" / ".miyabi-healing")) + "\n")
        code, said = refused(asked, home)
        assert (code, "is not mounted" in said) == (1, True)


def test_hook_that_cannot_be_taken_out_keeps_everything(home: Path, asked: tuple[str, ...]) -> None:
    ours = hook_files.with_hook("claude", None, ("/opt/run_healing.sh",), False)
    settings = json.loads(ours)
    settings["hooks"]["SessionEnd"][0]["hooks"].append({"type": "command", "command": "mine"})
    (home / ".claude").mkdir()
    (home / ".claude" / "settings.json").write_text(json.dumps(settings))
    code, said = refused(asked, home)
    assert (code, "take ours out by hand; nothing was removed" in said) == (1, True)


@pytest.mark.parametrize("opened", ["", "20251126T103000-1"])
def test_quarantine_that_others_can_enter_is_not_taken_for_an_empty_one(
    home: Path, asked: tuple[str, ...], opened: str
) -> None:
    base = home / "usb" / ".miyabi-healing"
    entry = base / "20251126T103000-1" / "0001-file"
    entry.mkdir(parents=True)
    (entry / "thing").write_text("dear to somebody")
    for folder in (base, entry.parent, entry):
        folder.chmod(0o755 if folder == base / opened else 0o700)
    state = home / ".local" / "state" / "miyabi-healing"
    (state / "bases").write_text(json.dumps(str(base)) + "\n")
    code, said = refused(asked, home)
    assert (code, f"{base / opened} in quarantine is not yours alone" in said) == (1, True)


def test_what_others_put_into_the_state_folder_stays_and_is_named(home: Path) -> None:
    state = paths.state_folder()
    state.mkdir(parents=True, mode=0o700)
    (home / "dear").write_text("x")
    (state / "sealed").symlink_to(home / "dear")
    for name in ("journal.sqlite3", "journal.sqlite3.damaged-20251126T103000-1-wal", "notes.txt"):
        (state / name).write_text("x")
    (state / "manifests" / "mine.jsonl").mkdir(parents=True)
    (state / "manifests" / "run.jsonl").write_text("")
    (found,) = removal.state_folders()
    assert found.others == ("manifests/mine.jsonl", "notes.txt", "sealed")
    assert list(removal.remove_state(found, [])) == [f"{state}: manifests, notes.txt, sealed"]
    left = ["manifests", "notes.txt", "sealed"]
    assert sorted(each.name for each in state.iterdir()) == left
    assert [each.name for each in (state / "manifests").iterdir()] == ["mine.jsonl"]
    assert (home / "dear").exists()


def test_single_files_go_only_as_they_were_made(home: Path, asked: tuple[str, ...]) -> None:
    fish = home / ".config" / "fish" / "completions" / "miyabi-healing.fish"
    fish.parent.mkdir(parents=True)
    page, pipe = home / "page.html", home / "metrics"
    os.mkfifo(pipe)  # is not waited for
    config = f'[report]\nhtml = "{page}"\n[metrics]\ntextfile = "{pipe}"\n'
    command = [*asked[:3], settings(home, config), "uninstall", "--user", "--dry-run"]

    def told() -> list[str]:
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        return [each for each in (str(fish), str(page), str(pipe)) if each in done.stdout]

    script = run("completion", "fish").stdout
    fish.write_text(script)
    page.write_text('<!doctype html>\n<meta name="generator" content="Miyabi Healing 0.1.0">\n')
    assert told() == [str(fish), str(page)]
    fish.write_text(f"{script}\nabbr mh miyabi-healing\n")
    page.write_text("<!doctype html>\n<p>mine\n")
    assert told() == []


def test_environment_that_is_not_ours_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "PACKAGE", home / "checkout" / "miyabi_healing")
    venv = home / "checkout" / ".venv"
    venv.mkdir(parents=True)
    (home / "checkout" / "run_healing.sh").write_text("")
    (venv / "pyvenv.cfg").write_text("")
    assert removal.environments() == []  # a person's own: it has no stamp
    (venv / "runner.txt").write_text("")
    assert removal.environments() == [venv]
    venv.rename(home / "venv")
    venv.symlink_to(home / "venv")
    with pytest.raises(removal.NotOurs, match="is a link"):
        removal.remove_environment(venv)
    assert (home / "venv" / "pyvenv.cfg").exists()
    cached = Path(f"{home}/.cache/miyabi-healing{home}/checkout/.venv")
    shutil.move(home / "venv", cached)
    removal.remove_environment(cached)
    assert not (home / ".cache" / "miyabi-healing").exists()
    assert (home / ".cache").exists()


@pytest.mark.root
def test_environment_of_somebody_else_stays(tmp_path: Path) -> None:
    """As root in a checkout of somebody's: it was made for them."""
    folder = tmp_path / ".venv"
    folder.mkdir()
    for name in ("runner.txt", "pyvenv.cfg"):
        (folder / name).touch()
    assert removal.environment_objection(folder) is None
    os.chown(folder, 65534, 65534)
    assert removal.environment_objection(folder) == "is not yours"
    with pytest.raises(removal.NotOurs, match="is not yours"):
        removal.remove_environment(folder)
    assert (folder / "pyvenv.cfg").exists()
