"""The units under a real systemd: one of the test's own, as process 1 of namespaces of its own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import settings

from conftest import wait_for

pytestmark = [pytest.mark.root, pytest.mark.slow]
PLACE = "/opt/100%of $US"
CONFIG = "/root/%h of ${US}.toml"
NOBODY = 65534
REMAINS = "[checks.large_log_files]\nthreshold = 0\n[healers.prune_logs]\nenabled = false\n"
TARGETS = ("mini", "sysinit", "basic", "shutdown", "timers", "multi-user", "default")
BOOT = """
set -e
echo $$ > "$GROUP/cgroup.procs"
exec unshare --fork --pid --kill-child --mount-proc --mount --cgroup --ipc --uts --net \\
    --propagation private sh -c '
set -e
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /opt
mount -t tmpfs -o mode=755 tmpfs /etc/systemd/system
mount -t tmpfs -o mode=755 tmpfs /var/lib/systemd
mkdir /run/targets /run/root /run/work
mount -t overlay -o lowerdir=/root,upperdir=/run/root,workdir=/run/work overlay /root
chmod 755 /root
for name in $TARGETS; do
    printf "[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\n" > /run/targets/$name.target
done
cp -R "$COPY" "$PLACE"
export container=lxc SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/targets
exec /lib/systemd/systemd --system --unit=mini.target --log-target=console --show-status=no
'
"""


class Machine:
    """A machine whose process 1 is systemd: `run` runs a command inside, and returns its output."""

    def __init__(self, init: int) -> None:
        self.init = init

    def run(self, *argv: str, check: bool = True) -> str:
        enter = [
            "nsenter",
            "--target",
            str(self.init),
            "--mount",
            "--pid",
            "--cgroup",
            "--ipc",
            "--uts",
            "--net",
            "--wd=/",
        ]
        env = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
        }
        done = subprocess.run(
            [*enter, "--", *argv], env=env, capture_output=True, text=True, timeout=60
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return (done.stdout + done.stderr).strip()

    def healing(self, *arguments: str, check: bool = True) -> str:
        return self.run(f"{PLACE}/run_healing.sh", *arguments, check=check)

    def write(self, path: str, text: str) -> None:
        self.run("sh", "-c", 'mkdir -p "${1%/*}" && printf %s "$2" > "$1"', "sh", path, text)

    def show(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--value", "--property", name, unit)


@pytest.fixture
def machine(copy: Path, tmp_path: Path) -> Iterator[Machine]:
    top = next(
        (
            top
            for top in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
            if Path(top, "cgroup.procs").exists()
        ),
        None,
    )
    if not (top and shutil.which("nsenter") and Path("/lib/systemd/systemd").exists()):
        pytest.skip("needs systemd, nsenter and cgroups of version 2")
    group = Path(top) / f"miyabi-test-{os.getpid()}"
    group.mkdir()
    env = {
        **os.environ,
        "GROUP": str(group),
        "COPY": str(copy),
        "PLACE": PLACE,
        "TARGETS": " ".join(TARGETS),
    }
    with (tmp_path / "boot.log").open("w") as log:
        process = subprocess.Popen(
            ["sh", "-c", BOOT], env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        wait_for(lambda: process.poll() is not None or children.read_text().strip(), 10)
        found = Machine(int((children.read_text().split() or ["0"])[0]))

        def is_up_or_over() -> bool:
            if process.poll() is not None:
                return True
            return "running" in found.run("systemctl", "is-system-running", check=False)

        wait_for(is_up_or_over, 20)
        if process.poll() is not None:
            pytest.skip(
                f"systemd does not start here: {(tmp_path / 'boot.log').read_text()[-300:]}"
            )
        yield found
    finally:
        process.kill()
        process.wait()
        wait_for(lambda: gone(group), 10)
        clear_root_of(tmp_path)


def clear_root_of(folder: Path) -> None:
    """Take away what was set aside from `folder`: the machine's own disk is the host's, and has its
    quarantine at the top.
    """
    base = Path("/.miyabi-healing")
    for manifest in base.glob("*/*/manifest.json"):
        if str(json.loads(manifest.read_text()).get("original", "")).startswith(f"{folder}/"):
            subprocess.run(["rm", "-r", str(manifest.parent)], check=True)
            subprocess.run(
                ["rmdir", "--ignore-fail-on-non-empty", str(manifest.parent.parent), str(base)],
                check=True,
            )


USER_MANAGER = """
[Service]
Type=notify
User=nobody
Delegate=yes
Environment=HOME=/run/home XDG_RUNTIME_DIR=/run/user/65534
Environment=SYSTEMD_UNIT_PATH=/run/home/.config/systemd/user:/run/targets
ExecStart=/lib/systemd/systemd --user --unit=mini.target
"""


def gone(group: Path) -> bool:
    """Whether the cgroup and all below it could be removed (by a program: the net of the tests
    knows nothing of cgroups).
    """
    folders = sorted((each for each, _, _ in os.walk(group)), reverse=True)
    return subprocess.run(["rmdir", *folders], capture_output=True).returncode == 0


def work_for(machine: Machine, folder: Path) -> Path:
    """A stale lock in a repository and a large log of somebody else's, and a configuration that
    looks at nothing but them.
    """
    repo, logs = folder / "a repository", folder / "logs"
    logs.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(repo)], check=True)
    lock = repo / ".git" / "index.lock"
    lock.touch()
    os.utime(lock, (time.time() - 9000,) * 2)
    log = logs / "app.log"
    log.write_text("".join(f"line {number}\n" for number in range(200_000)))
    for path in (repo, *repo.rglob("*"), logs, log):
        os.chown(path, NOBODY, NOBODY)
    for path in (folder, *folder.parents):
        if path.stat().st_uid == 0 and path.name.startswith("pytest"):
            path.chmod(0o755)
    text = f'''
[git]
repos = ["{repo}"]
[checks.large_log_files]
threshold = 1
[checks.stale_git_lock]
threshold = 0
[healers.prune_logs]
keep_megabytes = 0.1
[safety]
ours_alone = ["{folder}"]  # of which this machine, that has PIDs of its own, could not know
'''
    machine.write(CONFIG, Path(settings(folder, text)).read_text())
    return lock


def text_for(folder: Path, text: str = "") -> str:
    return Path(settings(folder, text)).read_text()


def test_watch_service_runs_heals_reloads_and_stops(machine: Machine, tmp_path: Path) -> None:
    lock = work_for(machine, tmp_path / "work")
    log = tmp_path / "work" / "logs" / "app.log"
    machine.healing("--config", CONFIG, "install", "--kind", "systemd-watch", "--interval", "1")
    name = "miyabi-healing-watch.service"
    assert machine.show(name, "ActiveState") == "active"  # it said READY=1
    wait_for(lambda: not lock.exists() and log.stat().st_blocks * 512 < 300_000, 40)
    assert log.stat().st_uid == NOBODY
    wait_for(
        lambda: machine.show(name, "StatusText") == "No issues detected. System is healthy.", 20
    )

    before = machine.show(name, "MainPID")
    machine.write(CONFIG, text_for(tmp_path))
    machine.run("systemctl", "reload", name)
    assert machine.show(name, "MainPID") == before
    assert machine.show(name, "WatchdogTimestampMonotonic") != "0"
    machine.run("systemctl", "stop", name)
    assert machine.show(name, "ActiveState") == "inactive"  # 143 is no failure


def test_timer_heals_shows_what_remains_makes_room_for_the_watch_and_leaves_nothing(
    machine: Machine, tmp_path: Path
) -> None:
    lock = work_for(machine, tmp_path / "work")
    machine.healing("install", "--kind", "systemd-timer", "--dry-run")
    assert machine.run("ls", "/etc/systemd/system") == ""
    state = "/root/state %h of ${US}"
    machine.run(
        "env", f"XDG_STATE_HOME={state}", f"{PLACE}/run_healing.sh", "--config", CONFIG, "install"
    )
    assert machine.show("miyabi-healing.timer", "ActiveState") == "active"
    said = machine.healing("status", check=False)
    assert "Next run: 20" in said
    assert " (systemd timer, every 15 min)." in said
    machine.run("systemctl", "start", "miyabi-healing.service")
    assert not lock.exists()
    assert machine.show("miyabi-healing.service", "ActiveState") == "inactive"
    assert "journal.sqlite3" in machine.run("ls", f"{state}/miyabi-healing")

    machine.write(CONFIG, text_for(tmp_path / "work", REMAINS))
    machine.run("systemctl", "start", "miyabi-healing.service", check=False)
    assert machine.show("miyabi-healing.service", "ActiveState") == "failed"
    assert machine.show("miyabi-healing.service", "ExecMainStatus") == "1"
    assert machine.show("miyabi-healing.timer", "ActiveState") == "active"

    # That systemd forgets when the timer last ran needs a D-Bus, which this machine has not.
    assert "run systemctl clean --what=state miyabi-healing.timer" in machine.healing(
        "install", "--uninstall", "--dry-run"
    )
    machine.healing("install", "--kind", "systemd-watch", "--interval", "1h")
    assert machine.show("miyabi-healing.timer", "LoadState") == "not-found"
    assert machine.show("miyabi-healing-watch.service", "ActiveState") == "active"
    machine.healing("install", "--uninstall")
    assert machine.run("find", "/etc/systemd/system", "-type", "f,l") == ""
    assert machine.show("miyabi-healing-watch.service", "ActiveState") == "inactive"
    assert machine.healing("install", "--uninstall") == "Nothing is installed."


def test_user_unit_heals_under_a_users_own_systemd(machine: Machine, tmp_path: Path) -> None:
    alone = '[safety]\nours_alone = ["/run/home"]\n'
    text = text_for(
        tmp_path,
        '[logs]\npatterns = ["/run/home/logs/*.log"]\n[checks.large_log_files]\nthreshold = 1\n'
        + alone,
    )
    machine.write("/run/home/.config/miyabi-healing/config.toml", text)
    machine.write("/run/targets/manager.service", USER_MANAGER)
    work = "mkdir -p /run/home/logs /run/user/65534; seq 1000000 > /run/home/logs/app.log"
    machine.run(
        "sh",
        "-c",
        f"{work}; chown -R 65534:65534 /run/home /run/user/65534; chmod 700 /run/user/65534",
    )
    machine.run("systemctl", "start", "manager.service")
    nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "env",
        "HOME=/run/home",
    ]
    if machine.run(*nobody, f"{PLACE}/.venv/bin/python", "-c", "import pytest", check=False):
        pytest.skip("nobody can run this Python and these packages here")
    machine.run(
        *nobody, f"{PLACE}/run_healing.sh", "install", "--kind", "systemd-watch", "--interval", "1"
    )
    show = [
        *nobody,
        "XDG_RUNTIME_DIR=/run/user/65534",
        "systemctl",
        "--user",
        "show",
        "miyabi-healing-watch.service",
        "--value",
    ]
    assert machine.run(*show, "--property=ActiveState") == "active"
    wait_for(
        lambda: (
            machine.run(*show, "--property=StatusText") == "No issues detected. System is healthy."
        ),
        40,
    )
    assert int(machine.run("stat", "--format=%b", "/run/home/logs/app.log")) < 2000
    said = machine.run(*nobody, f"{PLACE}/run_healing.sh", "install", "--uninstall")
    assert "run systemctl --user disable miyabi-healing-watch.service" in said
    assert machine.run("find", "/run/home/.config/systemd", "-type", "f,l") == ""


COORDINATOR = """
[Service]
ExecStart=sh -c "while :; do touch /run/work/heartbeat; sleep 0.1; done"
"""
FAIL_OVER = """
[coordinators.builder]
unit = "coordinator.service"
tasks = "/run/work/tasks.json"
list = "/tasks"
owned_by = "pid"
heartbeat = "/run/work/heartbeat"
heartbeat_limit = 1
[safety]
ours_alone = ["/run/work"]
[policy]
cooldown = 0
"""


def test_service_that_hands_out_tasks_is_failed_over(machine: Machine, tmp_path: Path) -> None:
    """One that was killed, and one that hangs: systemd itself would leave the first, and never see
    the second.
    """
    name = "coordinator.service"
    machine.write(f"/run/targets/{name}", COORDINATOR)
    machine.write(CONFIG, text_for(tmp_path, FAIL_OVER))
    machine.run("mkdir", "-p", "/run/work")
    for signal_name in ("KILL", "STOP"):
        machine.run("systemctl", "reset-failed", name, check=False)
        machine.run("systemctl", "start", name)
        pid = machine.show(name, "MainPID")
        task = {"id": "t1", "status": "in_progress", "assigned_to": int(pid)}
        machine.write("/run/work/tasks.json", json.dumps({"tasks": [task]}))
        machine.run("kill", f"-{signal_name}", pid)
        if signal_name == "STOP":
            time.sleep(1.2)
        else:
            wait_for(lambda: machine.show(name, "ActiveState") == "failed")
        said = machine.healing("--config", CONFIG, "--quiet", check=False)
        assert "Overall: Success" in said, said
        assert machine.show(name, "ActiveState") == "active"
        assert machine.show(name, "MainPID") != pid
        left = json.loads(machine.run("cat", "/run/work/tasks.json"))["tasks"]
        assert left == [{**task, "status": "pending", "assigned_to": None}]


STARTED = """
[coordinators.builder]
pid_file = "/run/work/pid"
start = ["/run/work/start.sh"]
tasks = "/run/work/tasks.json"
[safety]
ours_alone = ["/run/work"]
"""


def test_what_a_timer_has_started_outlives_its_service(machine: Machine, tmp_path: Path) -> None:
    machine.healing("install")
    machine.write(CONFIG, text_for(tmp_path, STARTED))
    machine.write("/run/work/tasks.json", "[]")
    script = "#!/bin/sh\nsetsid sh -c 'echo $$ > /run/work/pid; sleep 900' >/dev/null 2>&1 &\n"
    machine.write("/run/work/start.sh", script)
    machine.run("chmod", "+x", "/run/work/start.sh")
    words = [f"{PLACE}/run_healing.sh", "--config", CONFIG, "--quiet"]
    run = f"#!/bin/sh\nexec {shlex.join(words)}\n"
    machine.write("/run/work/run.sh", run)
    machine.run("chmod", "+x", "/run/work/run.sh")
    instead = "[Service]\nExecStart=\nExecStart=/run/work/run.sh\n"
    machine.write("/etc/systemd/system/miyabi-healing.service.d/probe.conf", instead)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "miyabi-healing.service")
    assert machine.run("sh", "-c", "kill -0 $(cat /run/work/pid) && echo lives") == "lives"


NEGLIGENT = """
[Service]
Restart=on-failure
ExecStart=/usr/bin/env python3 -c "import os, time; [os.fork() or os._exit(0) for _ in \\
    range(0 if os.path.exists('/run/once') else 8)]; open('/run/once', 'w'); time.sleep(600)"
"""


def test_negligent_service_is_restarted_only_where_that_is_allowed(
    machine: Machine, tmp_path: Path
) -> None:
    name, rules = "negligent.service", "[checks.zombie_processes]\n[healers.kill_zombies]\n"
    machine.write(f"/run/targets/{name}", NEGLIGENT)
    machine.run("systemctl", "start", name)
    wait_for(lambda: machine.run("ps", "-eo", "stat=").count("Z") == 8)
    first = machine.show(name, "MainPID")
    machine.write(CONFIG, text_for(tmp_path, f"{rules}seen_for = 0\n"))
    said = " ".join(machine.healing("--config", CONFIG, check=False).split())
    assert "a service: " in said
    assert f"(pid {first}) – of {name}, 8 zombies" in said
    assert f"cure: systemctl restart {name}" in said
    assert machine.show(name, "MainPID") == first
    machine.write(CONFIG, text_for(tmp_path, f"{rules}seen_for = 0\nrestart = true\n"))
    said = machine.healing("--config", CONFIG)
    assert "Restarted 1 service(s)" in said
    assert machine.show(name, "ActiveState") == "active"
    assert machine.show(name, "MainPID") != first
    assert machine.show(name, "NRestarts") == "0"  # by us, and not by its own Restart=


PROBE = """
import ctypes, json, os, signal, socket, subprocess, sys
from miyabi_healing.gate.primitives.syscalls import (
    KEEP_SIZE, PUNCH_HOLE, fallocate, rename_new,
)

def works(action):
    try:
        action()
        return True
    except OSError as error:
        return False

def call(name, *arguments):
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        raise OSError(ctypes.get_errno(), name)

os.chdir("/opt")
open("log", "wb").write(b"x" * 65536)
os.chown("log", 65534, 65534)
os.chmod("log", 0)
log = os.open("log", os.O_RDWR)
sleeper = subprocess.Popen(["sleep", "47"], user=65534, group=65534, extra_groups=[])
here = os.open(".", os.O_RDONLY)
needed = {
    "drop_caches": lambda: os.close(os.open("/proc/sys/vm/drop_caches", os.O_WRONLY)),
    "punch": lambda: fallocate(log, PUNCH_HOLE | KEEP_SIZE, 0, 4096),
    "rename": lambda: rename_new(here, "log", here, "log.1"),
    "files of others": lambda: os.listdir(f"/proc/{sleeper.pid}/fd"),
    "pidfd": lambda: signal.pidfd_send_signal(os.pidfd_open(sleeper.pid), signal.SIGTERM),
    "owner": lambda: os.chown("log.1", 0, 0),
    "alerts": lambda: socket.create_server(("127.0.0.1", 0)).close(),
    "shared repository": lambda: (os.mkdir("shared"), os.chmod("shared", 0o2775)),
}
refused = {
    "mount": lambda: call("mount", b"none", b"/opt", b"tmpfs", 0, None),
    "namespace": lambda: call("unshare", 0x20000000),
    "clock": lambda: call("clock_settime", 0, ctypes.byref((ctypes.c_long * 2)(0, 0))),
    "raw socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "device": lambda: os.mknod("device", 0o20600, os.makedev(1, 1)),
    "tracing": lambda: call("ptrace", 0, 0, 0, 0),
    "module": lambda: call("delete_module", b"none", 0),
    "real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
}
seen = [{name: works(action) for name, action in each.items()} for each in (needed, refused)]
open("/opt/seen", "w").write(json.dumps(seen))
"""


def test_root_unit_leaves_what_healing_needs_and_little_else(machine: Machine) -> None:
    machine.healing("install")
    machine.write("/opt/probe.py", PROBE)
    python = f"{PLACE}/.venv/bin/python".replace("%", "%%")
    instead = (
        f'[Service]\nEnvironment="PYTHONPATH={PLACE.replace("%", "%%")}"\nExecStart=\n'
        f'ExecStart="{python}" /opt/probe.py\n'
    )
    machine.write("/etc/systemd/system/miyabi-healing.service.d/probe.conf", instead)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "miyabi-healing.service")
    needed, refused = json.loads(machine.run("cat", "/opt/seen"))
    assert [name for name, works in needed.items() if not works] == []
    assert [name for name, works in refused.items() if works] == []
