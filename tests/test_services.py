"""What starts the program for good: rendered right, installed where it belongs, and gone again
without a trace.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import plistlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from program import environment, run, settings

from conftest import PROJECT
from miyabi_healing.cli.setup import service_steps, service_trust, service_units

HOSTILE = "100%of $US"
FAKE_CRONTAB = """#!/bin/sh
case $1 in
    -l) cat "$HOME/crontab" 2>/dev/null || { echo "no crontab for you" >&2; exit 1; } ;;
    -r) rm "$HOME/crontab" ;;
    -) cat > "$HOME/crontab" ;;
esac
"""
LOGGER = """#!/bin/sh
cat > "$HOME/logged"
echo "$@" > "$HOME/logger-arguments"
"""


def job(
    program: Path, kind: str = "systemd-timer", system: bool = False, interval: float | None = None
) -> service_units.Job:
    every = interval or service_units.INTERVALS.get(kind, service_units.INTERVAL)
    words = (str(program), "--config", f'/x/"{HOSTILE}"\\')
    return service_units.Job(
        words, every, system, Path("/Users/you"), {"XDG_STATE_HOME": f"/y/{HOSTILE}"}
    )


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program whose name asks for trouble."""
    file = tmp_path / HOSTILE / "run it.sh"
    file.parent.mkdir()
    file.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@" "$XDG_STATE_HOME"\n')
    file.chmod(0o755)
    return file


@pytest.fixture
def tools(home: Path) -> dict[str, str]:
    """An environment whose crontab and logger are the test's own, and whose user has no systemd of
    his own.
    """
    folder = home / "bin"
    folder.mkdir()
    for name, text in (("crontab", FAKE_CRONTAB), ("logger", LOGGER)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin", "XDG_RUNTIME_DIR": str(home)}


def left_in(home: Path) -> list[str]:
    """The files and links in a home, but for what the tests put there."""
    found = [
        path
        for path in home.rglob("*")
        if not path.is_dir() and path.name not in (".gitconfig", "crontab")
    ]
    return sorted(str(path.relative_to(home)) for path in found if path.parent != home / "bin")


# Rendering


@pytest.mark.parametrize("system", [True, False], ids=["system", "user"])
def test_units_pass_systemd_analyze_verify(system: bool, program: Path, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    folder = tmp_path / "units"
    folder.mkdir()
    names = ["miyabi-healing.service", "miyabi-healing.timer", "miyabi-healing-watch.service"]
    for name in names:
        (folder / name).write_text(service_units.render_unit(name, job(program, system=system)))
    command = [
        "systemd-analyze",
        *(() if system else ("--user",)),
        "verify",
        "--man=no",
        *(str(folder / name) for name in names),
    ]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    "seconds",
    [60 * minutes for minutes in service_units.MINUTES]
    + [3600 * hours for hours in service_units.HOURS],
)
def test_intervals_are_what_systemd_and_cron_take_them_for(seconds: int) -> None:
    minute, hour, *_ = service_units.cron_times(seconds, "a host").split()
    at = [h * 60 + m for h in cron_field(hour, 24) for m in cron_field(minute, 60)]
    assert {
        (later - earlier) % 1440 or 1440
        for earlier, later in zip(at, [*at[1:], at[0]], strict=True)
    } == {seconds // 60}
    if shutil.which("systemd-analyze"):
        iterations = [
            "systemd-analyze",
            "calendar",
            "--iterations=2",
            "--base-time=2026-01-01 00:00:00 UTC",
            service_units.calendar(seconds),
        ]
        said = subprocess.run(
            iterations, env={**os.environ, "TZ": "UTC"}, capture_output=True, text=True, check=True
        ).stdout
        second = next(
            line
            for line in said.splitlines()
            if line.strip().startswith("Iteration #2") or "Iter. #2" in line
        )
        assert second.split("2026-01-")[1].split(" UTC")[0] == after_midnight(2 * seconds)


@pytest.mark.parametrize("change", ["2026-03-28 21:05:00 UTC", "2026-10-24 21:05:00 UTC"])
@pytest.mark.parametrize("seconds", [900, 7200, 86400])
def test_timer_has_no_gap_when_clocks_change(seconds: int, change: str) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    command = ["systemd-analyze", "calendar", "--iterations=50", f"--base-time={change}"]
    said = subprocess.run(
        [*command, service_units.calendar(seconds)],
        env={**os.environ, "TZ": "Europe/Berlin", "LC_ALL": "C"},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    at = [
        datetime.strptime(line.split("UTC): ")[1], "%a %Y-%m-%d %H:%M:%S UTC")
        for line in said.splitlines()
        if "(in UTC)" in line
    ]
    between = {(later - earlier).total_seconds() for earlier, later in itertools.pairwise(at)}
    assert (len(at), between) == (50, {seconds})


def cron_field(field: str, end: int) -> list[int]:
    """The moments that one field of crontab(5) stands for."""
    span, _, step = field.partition("/")
    first, _, last = span.partition("-")
    if span == "*":
        return list(range(0, end, int(step or 1)))
    return list(range(int(first), int(last) + 1, int(step or 1))) if last else [int(first)]


def after_midnight(seconds: int) -> str:
    return f"{1 + seconds // 86400:02d} {seconds % 86400 // 3600:02d}:{seconds % 3600 // 60:02d}:00"


@pytest.mark.parametrize(
    ("hours", "least"), [(1, 45), (6, 200), (24, 300)], ids=lambda value: str(value)
)
def test_hosts_are_spread_over_the_whole_interval_of_cron(hours: int, least: int) -> None:
    at = set()
    for number in range(400):
        minute, hour, *_ = service_units.cron_times(3600 * hours, f"host{number}").split()
        at.add((min(cron_field(hour, 24)), int(minute)))
    assert len(at) >= least
    assert max(hour for hour, _ in at) == hours - 1


def test_timer_is_spread_over_the_whole_interval_and_steady() -> None:
    job = service_units.Job(("/bin/healing",), 900, system=True)
    unit = service_units.render_unit("miyabi-healing.timer", job)
    assert "\nRandomizedDelaySec=900\nFixedRandomDelay=true\nAccuracySec=9\n" in unit


def test_what_no_calendar_can_repeat_is_refused_with_what_it_can(
    home: Path, tools: dict[str, str]
) -> None:
    done = run("install", "--user", "--kind", "cron", "--interval", "7m", **tools)
    assert done.returncode == 2
    assert "every 420 s; it can every 1, 2, 3, 4, 5, 6, 10" in done.stderr
    assert left_in(home) == []


def test_systemd_starts_no_quoted_names_and_nothing_starts_unprintable_ones() -> None:
    with pytest.raises(service_units.Unusable, match="quotes or backslashes"):
        service_units.render_unit("miyabi-healing.service", job(Path("/opt/it's here/run.sh")))
    with pytest.raises(service_units.Unusable, match="neither systemd nor cron"):
        job(Path("/opt/a\nb/run.sh"))
    with pytest.raises(service_units.Unusable):
        job(Path(os.fsdecode(b"/opt/\xff/run.sh")))


def test_no_placeholder_is_left_and_none_is_seen_in_a_path() -> None:
    text = service_units.render_unit("miyabi-healing.service", job(Path("/opt/@MARKER@/run.sh")))
    assert "/opt/@MARKER@/run.sh" in text
    assert text.count("@MARKER@") == 1


def test_plist_is_what_launchd_knows() -> None:
    kinds = {
        "Label": str,
        "ProgramArguments": list,
        "StartInterval": int,
        "RunAtLoad": bool,
        "ProcessType": str,
        "LowPriorityIO": bool,
        "Nice": int,
        "ExitTimeOut": int,
        "StandardOutPath": str,
        "StandardErrorPath": str,
        "EnvironmentVariables": dict,
    }
    for system in (True, False):
        data = service_units.property_list(job(Path(f"/opt/<{HOSTILE}>&/run.sh"), system=system))
        entries = plistlib.loads(data)
        assert {name: type(value) for name, value in entries.items()} == {
            each: kinds[each] for each in entries
        }
        assert entries["ProgramArguments"] == [
            f"/opt/<{HOSTILE}>&/run.sh",
            "--config",
            f'/x/"{HOSTILE}"\\',
            "--quiet",
        ]
        assert entries["EnvironmentVariables"]["XDG_STATE_HOME"] == f"/y/{HOSTILE}"
        assert entries["ProcessType"] in ("Background", "Standard", "Adaptive", "Interactive")
        assert entries["StandardOutPath"].startswith(
            "/Library/Logs/" if system else "/Users/you/Library/Logs/"
        )
        assert service_units.MARKER.encode() in data


def test_deploy_shows_what_install_writes() -> None:
    spec = importlib.util.spec_from_file_location("generate", PROJECT / "deploy" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    there = {
        str(path.relative_to(PROJECT / "deploy")): path.read_bytes()
        for path in (PROJECT / "deploy").rglob("*")
        if path.is_file()
        and path.suffix not in (".py", ".pyc", ".in", ".sh")
        and PROJECT / "deploy/ansible" not in path.parents  # written by hand
    }
    assert there == module.contents(), "python3 noxfile.py --session deploy writes it anew"


# Running what was rendered


def through_cron(line: str) -> str:
    """What cron hands to the shell: the command, up to the first bare percent sign, ``\\%`` being
    one (crontab(5)).
    """
    command = line.split(maxsplit=5)[5]
    whole, escaped = "", False
    for letter in command:
        if letter == "%" and not escaped:
            break
        whole += "\\" if escaped and letter not in "%\\" else ""
        escaped = letter == "\\" and not escaped
        whole += "" if escaped else letter
    return whole


def cron_shell(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """As cron runs it, but for the logger, which is the test's own."""
    known = {
        "PATH": f"{home / 'bin'}:/usr/bin:/bin",
        "HOME": str(home),
        "SHELL": "/bin/sh",
        "LOGNAME": "you",
    }
    assignments = [f"{name}={value}" for name, value in known.items()]
    argv = ["env", "-i", *assignments, "sh", "-c", command]
    return subprocess.run(argv, cwd=home, capture_output=True, text=True, timeout=60)


@pytest.mark.usefixtures("tools")
def test_cron_line_starts_the_program_and_nothing_else(home: Path, program: Path) -> None:
    for odd in (program, Path(shutil.copy(program, program.with_name("it's 50%.sh")))):
        line = service_units.cron_block(job(odd, "cron"), "a host").splitlines()[1]
        done = cron_shell(through_cron(line), home)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (home / "logged").read_text().splitlines() == [
            str(odd),
            "--config",
            f'/x/"{HOSTILE}"\\',
            "--quiet",
            f"/y/{HOSTILE}",
        ]
        assert (home / "logger-arguments").read_text() == "-t miyabi-healing\n"


@pytest.mark.usefixtures("tools")
def test_cron_line_runs_a_pass_that_says_something_only_when_something_is_wrong(
    home: Path, copy: Path
) -> None:
    config = settings(home)
    line = service_units.cron_block(
        service_units.Job((f"{copy}/run_healing.sh", "--config", config), 900, False), "a host"
    ).splitlines()[1]
    done = cron_shell(through_cron(line), home)
    assert (done.returncode, (home / "logged").read_text()) == (0, ""), done.stderr
    (home / "logs").mkdir()
    (home / "logs" / "app.log").write_text("x" * 5000)
    settings(
        home, "[checks.large_log_files]\nthreshold = 0\n[healers.prune_logs]\nenabled = false\n"
    )
    done = cron_shell(through_cron(line), home)
    assert "prune_logs" in (home / "logged").read_text()
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")  # its own, not the logger's


@pytest.mark.skipif(
    sys.platform != "linux", reason="systemd, and sockets without a file, are Linux's"
)
def test_watch_unit_is_ready_alive_and_stops_under_its_own_command_line(
    home: Path, copy: Path
) -> None:
    config = settings(home)
    text = service_units.render_unit(
        "miyabi-healing-watch.service",
        service_units.Job((f"{copy}/run_healing.sh", "--config", config), 3, False),
    )
    values = dict(
        line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#")
    )
    command = [
        word.replace("%%", "%") for word in shlex.split(values["ExecStart"].removeprefix(":"))
    ]
    assert command[0] == f"{copy}/run_healing.sh"
    address = "\0miyabi-healing-test-" + str(os.getpid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(20)
        beat = str(int(values["WatchdogSec"]) * 1_000_000 // 200)
        told = environment(NOTIFY_SOCKET=address.replace("\0", "@"), WATCHDOG_USEC=beat)
        watch = subprocess.Popen(
            command, cwd="/", env=told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        said: set[str] = set()

        def hear() -> None:
            said.update(listener.recv(4096).decode().split("\n"))

        while (
            not {"READY=1", "WATCHDOG=1", "STATUS=No issues detected. System is healthy."} <= said
        ):
            hear()
        kill, option, who = values["ExecReload"].split()
        assert (os.access(kill, os.X_OK), option, who) == (True, "-HUP", "$MAINPID")
        watch.send_signal(signal.SIGHUP)
        said.clear()
        while "STATUS=No issues detected. System is healthy." not in said:
            hear()
        watch.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in said:
            hear()
        out, err = watch.communicate(timeout=20)
    assert (str(watch.returncode), out, err) == (values["SuccessExitStatus"], "", "")


# Installing


@pytest.mark.parametrize(
    "kind", [kind for kind in service_units.KINDS if kind != "launchd" or sys.platform != "darwin"]
)
def test_installing_twice_and_removing_leaves_nothing_behind(
    kind: str, home: Path, tools: dict[str, str]
) -> None:
    (home / "crontab").write_text("MAILTO=you\n0 5 * * * true # mine")
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    dry = run("install", "--user", "--kind", kind, "--dry-run", **tools)
    assert dry.returncode == 0, dry.stderr
    assert left_in(home) == []
    first = run("install", "--user", "--kind", kind, **tools)
    assert first.returncode == 0, first.stderr
    written = [line for line in first.stdout.splitlines() if line.startswith("write ")]
    assert written == [
        line.removesuffix(":") for line in dry.stdout.splitlines() if line.startswith("write ")
    ]
    crontab = (home / "crontab").read_text()
    again = run("install", "--user", "--kind", kind, **tools)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert (home / "crontab").read_text() == crontab
    assert crontab.startswith("MAILTO=you\n0 5 * * * true # mine")
    assert ("# BEGIN" in crontab) == (kind == "cron")
    done = run("install", "--user", "--uninstall", **tools)
    assert done.returncode == 0, done.stderr
    # a crontab has to end with one
    (home / "crontab").write_bytes((home / "crontab").read_bytes().removesuffix(b"\n"))
    assert {
        path: path.read_bytes() for path in home.rglob("*") if path.is_file() or path.is_symlink()
    } == before
    assert run("install", "--user", "--uninstall", **tools).stdout == "Nothing is installed.\n"


def test_one_kind_takes_the_place_of_another(home: Path, tools: dict[str, str]) -> None:
    assert run("install", "--user", "--kind", "cron", **tools).returncode == 0
    assert (
        run("install", "--user", "--kind", "systemd-watch", "--interval", "90", **tools).returncode
        == 0
    )
    assert not (home / "crontab").exists()
    assert (
        "--interval 90 " in (home / ".config/systemd/user/miyabi-healing-watch.service").read_text()
    )
    assert run("install", "--user", "--kind", "systemd-timer", **tools).returncode == 0
    units_there = sorted(
        path.name for path in (home / ".config/systemd/user").glob("*") if path.is_file()
    )
    assert units_there == ["miyabi-healing.service", "miyabi-healing.timer"]


@pytest.mark.parametrize("odd", ["file", "link", "folder"])
def test_what_others_wrote_is_never_replaced_or_removed(
    odd: str, home: Path, tools: dict[str, str]
) -> None:
    file = home / ".config/systemd/user/miyabi-healing.timer"
    file.parent.mkdir(parents=True)
    if odd == "file":
        file.write_text("[Timer]\nOnCalendar=daily\n")
    elif odd == "link":
        (home / "elsewhere").write_text(f"# {service_units.MARKER}\n")
        file.symlink_to(home / "elsewhere")
    else:
        file.mkdir()
    for arguments in (("--kind", "systemd-timer"), ("--kind", "systemd-watch"), ("--uninstall",)):
        done = run("install", "--user", *arguments, **tools)
        assert (
            done.returncode,
            f"{file} was not written by miyabi-healing install" in done.stderr,
        ) == (2, True)
    assert list(file.parent.iterdir()) == [file]
    assert (home / "elsewhere").exists() == (odd == "link")


def test_crontab_that_cannot_be_read_or_is_damaged_is_left_alone(
    home: Path, tools: dict[str, str]
) -> None:
    text = f"# BEGIN {service_units.MARKER}\n* * * * * mine\n"
    (home / "crontab").write_text(text)
    done = run("install", "--user", "--kind", "cron", **tools)
    assert (done.returncode, "mend it by hand" in done.stderr) == (2, True)
    assert (home / "crontab").read_text() == text
    (home / "bin" / "crontab").write_text("#!/bin/sh\necho 'you are not allowed' >&2; exit 1\n")
    done = run("install", "--user", "--kind", "cron", **tools)
    assert (done.returncode, "crontab -l: you are not allowed" in done.stderr) == (2, True)


def test_where_nothing_starts_it_the_rest_is_told(home: Path, tools: dict[str, str]) -> None:
    dry = run("install", "--user", "--kind", "systemd-timer", "--dry-run", **tools)
    assert (
        "leave, because what runs services is not at work here: systemctl --user daemon-reload\n"
        in dry.stdout
    )
    done = run("install", "--user", "--kind", "systemd-timer", **tools)
    assert done.returncode == 0
    assert (
        "not at work here. Where it is, run:\n    systemctl --user daemon-reload\n" in done.stdout
    )


def test_broken_configuration_keeps_nothing_installed(home: Path, tools: dict[str, str]) -> None:
    assert run("install", "--user", "--kind", "systemd-timer", **tools).returncode == 0
    config = settings(home, "[disks]\n")
    assert (
        run("--config", config, "install", "--user", "--kind", "systemd-timer", **tools).returncode
        == 2
    )
    assert run("--config", config, "install", "--user", "--uninstall", **tools).returncode == 0
    assert [path for path in left_in(home) if "miyabi" in path] == []


def test_configuration_that_is_given_is_the_services_too(home: Path, tools: dict[str, str]) -> None:
    config = settings(home)
    for arguments, variable in ((("--config", "config.toml"), None), ((), config)):
        done = run(
            *arguments,
            "install",
            "--user",
            "--kind",
            "systemd-timer",
            "--dry-run",
            **tools,
            MIYABI_HEALING_CONFIG=variable,
        )
        assert f'--config" "{config}" --quiet' in done.stdout
    (home / "config.toml").write_text("[disks]\n")
    done = run("--config", config, "install", "--user", "--kind", "systemd-timer", **tools)
    assert (done.returncode, "unknown section" in done.stderr) == (2, True)


def test_folders_that_were_moved_are_the_services_too(home: Path, tools: dict[str, str]) -> None:
    moved = {"XDG_STATE_HOME": f"{home}/50%", "XDG_CACHE_HOME": "not/absolute"}
    done = run("install", "--user", "--kind", "systemd-timer", "--dry-run", **tools, **moved)
    assert f'Environment="XDG_STATE_HOME={home}/50%%"\n' in done.stdout
    assert "XDG_CACHE_HOME" not in done.stdout


def test_program_that_may_vanish_or_be_changed_by_others_is_doubted(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = copy / "run_healing.sh"
    assert any(
        "where nothing stays" in doubt for doubt in service_trust.doubts([str(script)], False)
    )
    monkeypatch.setattr(service_trust, "TEMPORARY", ())
    assert not [doubt for doubt in service_trust.doubts([str(script)], False) if str(copy) in doubt]
    copy.chmod(0o777)
    assert f"{copy} can be changed by others than you" in list(
        service_trust.doubts([str(script)], False)
    )
    copy.chmod(0o775)
    assert f"{copy} can be changed by others than you" not in list(
        service_trust.doubts([str(script)], False)
    )
    assert f"{copy} can be changed by others than you" in list(
        service_trust.doubts([str(script)], True)
    )


@pytest.mark.root
def test_root_starts_nothing_that_others_can_change(
    copy: Path, home: Path, tools: dict[str, str]
) -> None:
    done = subprocess.run(
        [str(copy / "run_healing.sh"), "install", "--kind", "systemd-timer", "--dry-run"],
        env=environment(**tools), capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, "install the program into a folder of root's" in done.stderr) == (
        2,
        True,
    )


CRON = """
set -e
mount -t tmpfs tmpfs /var/spool/cron
mkdir /var/spool/cron/crontabs
printf '%s\\n' '# mine' '0 5 * * * true' | crontab -
crontab -l > "$HOME/before"
"$@" install --user --kind cron
crontab -l
"$@" install --user --uninstall
crontab -l | cmp - "$HOME/before"
crontab -r
"$@" install --user --kind cron
"$@" install --user --uninstall
! crontab -l
"""


@pytest.mark.root
def test_real_crontab_takes_our_lines_and_gives_them_back(home: Path) -> None:
    if not (
        shutil.which("crontab") and shutil.which("unshare") and Path("/var/spool/cron").is_dir()
    ):
        pytest.skip("needs cron and unshare")
    argv = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        CRON,
        "sh",
        sys.executable,
        str(PROJECT / "self_healer.py"),
    ]
    done = subprocess.run(argv, cwd=home, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# mine\n0 5 * * * true\n# BEGIN" in done.stdout


def test_steps_are_told_as_they_are_done() -> None:
    step: Any = service_steps.RunProgram(("systemctl", "enable", "a name"))
    assert list(step.lines()) == ["run systemctl enable 'a name'"]
