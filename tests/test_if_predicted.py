"""``--if-predicted``: no run while a predictor says that the host is healthy; not knowing heals."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from program import run, settings

from miyabi_healing.cli.main import command
from miyabi_healing.model.foreseen import Foreseen
from miyabi_healing.model.outlook import Outlook, Prediction
from miyabi_healing.report import prediction
from miyabi_healing.support.predicted_health import NotKnown, read_health

# as the failure predictor of miyabi-code prints it
THEIRS = {
    "timestamp": "2025-11-26T10:30:00.123456",
    "overall_health": "warning",
    "predictions": [
        {
            "component": "disk", "level": "warning", "confidence": 0.5,
            "predicted_time": "2025-11-26T16:30:00.123456",
            "factors": ["disk_percent: 81.0 (threshold: 80.0)"],
            "recommendations": ["Remove old log files from /tmp/miyabi-*.log"],
        }
    ],
    "anomalies": [
        {"metric": "disk_percent", "current_value": 81.0, "threshold": 80, "severity": "warning"}
    ],
    "metrics_summary": {"disk_percent": 81.0},
    "recommendations": ["Remove old log files from /tmp/miyabi-*.log"],
}  # fmt: skip
HEALTHY = {**THEIRS, "overall_health": "healthy", "predictions": [], "anomalies": []}
ROW = Foreseen(
    issue="disk_space_critical", target="/", value=80, threshold=90, unit="%", measured=1.8e9,
    eta_seconds=3600, basis="grows",
)  # fmt: skip
OURS = Outlook(
    now=1.8e9, horizon=86_400, told=True,
    predictions=(Prediction(component="disk", metric="disk_percent", foreseen=ROW, seconds=3600),),
)  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "prediction.json"


@pytest.mark.parametrize(
    ("document", "health"),
    [
        (THEIRS, "warning"),
        (HEALTHY, "healthy"),
        (prediction.build_prediction(OURS), "critical"),
        (prediction.build_prediction(Outlook(now=1.8e9, horizon=1, told=True)), "healthy"),
        ({"overall_health": "failure_imminent"}, "failure_imminent"),
    ],
)
def test_document_of_theirs_and_of_ours_is_understood(
    file: Path, document: dict[str, object], health: str
) -> None:
    file.write_text(json.dumps(document, indent=2))
    assert read_health(str(file)) == health


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "not JSON"),
        (b"\xff\xfe{\0}\0", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no overall_health"),
        (b"{}", "no overall_health"),
        (b'{"overall_health": 1}', "no overall_health"),
        (b'{"overall_health": "fine\\u001b[2J"}', "means nothing here"),
        (b'{"overall_health": "HEALTHY"}', "means nothing here"),
        (json.dumps({**THEIRS, "overall_health": "healthy"}).encode(), "say otherwise"),
        (json.dumps({**HEALTHY, "could_not_tell": True}).encode(), "could not tell"),
        (b'{"overall_health": "healthy"}' + b" " * (5 << 20), "too large"),
    ],
)
def test_what_is_no_such_document_is_not_believed(file: Path, content: bytes, why: str) -> None:
    file.write_bytes(content)
    with pytest.raises(NotKnown, match=why) as raised:
        read_health(str(file))
    assert str(raised.value).isprintable()


def test_what_was_written_long_ago_says_nothing_of_now(file: Path) -> None:
    file.write_text(json.dumps(HEALTHY))
    os.utime(file, (time.time() - 5 * 3600,) * 2)
    assert read_health(str(file)) == "healthy"
    os.utime(file, (time.time() - 7 * 3600,) * 2)
    with pytest.raises(NotKnown, match="7 h ago"):
        read_health(str(file))


def test_what_was_written_in_the_future_would_never_be_too_old(file: Path) -> None:
    file.write_text(json.dumps(HEALTHY))
    os.utime(file, (time.time() + 30,) * 2)
    assert read_health(str(file)) == "healthy"
    os.utime(file, (time.time() + 3 * 86_400,) * 2)
    with pytest.raises(NotKnown, match="3 d ahead of the clock"):
        read_health(str(file))


@pytest.mark.parametrize("fifo", [False, True])
def test_what_everybody_can_write_keeps_no_host_from_being_healed(file: Path, fifo: bool) -> None:
    if fifo:
        os.mkfifo(file)
    else:
        file.write_text(json.dumps(HEALTHY))
    file.chmod(0o666)
    with pytest.raises(NotKnown, match="can be written by everybody, who could"):
        read_health(str(file), wait=0.1)


@pytest.mark.root
def test_what_belongs_to_somebody_else_keeps_root_from_nothing(file: Path) -> None:
    file.write_text(json.dumps(HEALTHY))
    os.chown(file, 12345, 12345)
    with pytest.raises(NotKnown, match="belongs to uid 12345"):
        read_health(str(file))


@pytest.mark.parametrize("name", ["/nowhere/at/all", "/dev/zero", "/dev/null", ".", ""])
def test_what_is_no_file_is_not_known(name: str) -> None:
    with pytest.raises(NotKnown):
        read_health(name, wait=5)


def test_fifo_that_nobody_writes_is_waited_for_only_so_long(file: Path) -> None:
    os.mkfifo(file)
    begun = time.monotonic()
    with pytest.raises(NotKnown, match="in time"):
        read_health(str(file), wait=0.1)
    assert time.monotonic() - begun < 5


def test_fifo_is_read_until_its_writer_has_ended(file: Path) -> None:
    os.mkfifo(file)
    os.utime(file, (0, 0))  # a pipe is as new as what comes through it
    text = json.dumps(HEALTHY)

    def write() -> None:
        with file.open("w") as stream:
            for half in (text[:30], text[30:]):
                stream.write(half)
                stream.flush()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert read_health(str(file), wait=20) == "healthy"
    writer.join()


def test_fifo_whose_writer_never_ends_is_not_waited_for(file: Path) -> None:
    os.mkfifo(file)
    keeper = os.open(file, os.O_RDWR)
    os.write(keeper, b'{"overall_health": "healthy"}')
    with pytest.raises(NotKnown, match="in time"):
        read_health(str(file), wait=0.1)
    os.close(keeper)


def invoked(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


@pytest.mark.parametrize("more", [("--watch",), ("--nagios",)])
def test_what_makes_no_sense_with_it_is_refused(file: Path, more: tuple[str, ...]) -> None:
    assert invoked("--if-predicted", str(file), *more).exit_code == 2


def test_command_refuses_it(file: Path) -> None:
    assert invoked("--if-predicted", str(file), "status").exit_code == 2


def test_healthy_makes_no_run_and_says_so(home: Path, file: Path) -> None:
    file.write_text(json.dumps(HEALTHY))
    plain = invoked("--if-predicted", str(file))
    assert (plain.exit_code, plain.stdout) == (0, f"{file} says healthy: no run was made.\n")
    quiet = invoked("--if-predicted", str(file), "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")
    as_json = invoked("--if-predicted", str(file), "--json")
    assert (as_json.exit_code, as_json.stdout) == (0, "")
    assert "no run was made" in as_json.stderr
    assert not (home / ".local").exists()


def test_not_knowing_heals_as_usual_and_says_why_once(home: Path, file: Path) -> None:
    file.write_text("{")
    chosen = settings(home, "[checks.stale_git_lock]\nthreshold = 600\n")
    done = run("--config", chosen, "--json", "--if-predicted", str(file))
    assert json.loads(done.stdout)["run_id"]
    assert done.stderr.splitlines() == [
        f"miyabi-healing: --if-predicted {file}: it is not JSON; healing as usual"
    ]
