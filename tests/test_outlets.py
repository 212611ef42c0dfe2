"""Telling others never costs a run anything: not its report, not its exit status, not the quiet of
a host that is well.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from endpoint import Endpoint, serving
from program import environment, run, settings

from conftest import PROJECT
from miyabi_healing.model import config
from miyabi_healing.report import documents
from miyabi_healing.report.outputs import dispatch, ping, textfile
from miyabi_healing.support import secrets

SECRET = "0a1b2c3d-secret"


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as server:
        yield server


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(dispatch.console, "complain", lines.append)
    return lines


def everything(tmp_path: Path) -> config.Config:
    return config.Config(
        ping=config.PingSettings(url_file="/nowhere"),
        metrics=config.MetricsSettings(f"{tmp_path}/m.prom"),
    )


def tell(settings: config.Config, code: int = 0, dry_run: bool = False) -> None:
    dispatch.send_outputs(
        documents.failed_report("why"), code, settings, dry_run=dry_run, seconds=1
    )


def test_each_outlet_is_told_whatever_happened_to_the_one_before(
    home: Path, tmp_path: Path, monitor: Endpoint, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    def bug(*_: object) -> None:
        raise RuntimeError(f"something with {SECRET} in it")

    monkeypatch.setitem(
        secrets.withdrawn, secrets.PING, secrets.Secret(f"{monitor.url}/ok/{SECRET}")
    )
    monkeypatch.setattr(textfile, "send", bug)
    tell(everything(tmp_path), 3)
    assert (said, monitor.paths()) == (["textfile: RuntimeError"], [f"/ok/{SECRET}/3"])
    monkeypatch.setattr(ping, "start", bug)
    dispatch.begin_run(everything(tmp_path), dry_run=False)
    assert said[1:] == ["ping: RuntimeError"]


def test_busy_and_dry_passes_are_told_to_nobody(
    home: Path, tmp_path: Path, said: list[str]
) -> None:
    tell(everything(tmp_path), 75)
    tell(everything(tmp_path), dry_run=True)
    dispatch.begin_run(everything(tmp_path), dry_run=True)
    assert (said, list(tmp_path.glob("*.prom"))) == ([], [])
    tell(everything(tmp_path))
    assert said == ["ping: /nowhere: No such file or directory"]
    assert (tmp_path / "m.prom").exists()


def test_only_what_is_set_up_is_wanted(home: Path, tmp_path: Path) -> None:
    assert dispatch.wanted(everything(tmp_path), ())
    assert not dispatch.wanted(config.Config(), ())


def world(home: Path, monitor: Endpoint, act: str) -> tuple[str, ...]:
    """Everything set up, and a host that is well."""
    (home / "url").write_text(f"{monitor.url}/{act}/{SECRET}")
    text = (
        f'[ping]\nurl_file = "{home}/url"\ntime_limit = 20\n[metrics]\ntextfile = "{home}/m.prom"\n'
    )
    return ("--config", settings(home, text), "--junitxml", str(home / "out.xml"), "--github")


def test_host_that_is_well_is_quiet_with_everything_set_up(home: Path, monitor: Endpoint) -> None:
    done = run("--quiet", *world(home, monitor, "ok"), GITHUB_STEP_SUMMARY=str(home / "summary.md"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert all((home / name).stat().st_size for name in ("m.prom", "out.xml", "summary.md"))
    assert monitor.paths() == [f"/ok/{SECRET}/start", f"/ok/{SECRET}/0"]


def test_closed_standard_error_changes_nothing(home: Path, monitor: Endpoint) -> None:
    arguments = world(home, monitor, "status500")
    command = [
        "sh",
        "-c",
        'exec "$@" 2>&-',
        "sh",
        sys.executable,
        str(PROJECT / "self_healer.py"),
        *arguments,
    ]
    done = subprocess.run(command, cwd=home, env=environment(), stdout=subprocess.PIPE, timeout=60)
    assert (done.returncode, b"System is healthy" in done.stdout) == (0, True)
    assert len(monitor.got) == 2


def test_watch_that_is_well_is_quiet_with_everything_set_up(home: Path, monitor: Endpoint) -> None:
    arguments = world(home, monitor, "ok")[:2]
    command = [
        sys.executable,
        str(PROJECT / "self_healer.py"),
        "--watch",
        "--interval",
        "0.1",
        "--quiet",
        *arguments,
    ]
    program = subprocess.Popen(
        command,
        cwd=home,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(monitor.got) < 6:
        assert program.poll() is None
    program.terminate()
    assert program.communicate(timeout=30)[1] == ""
    assert (home / "m.prom").exists()
