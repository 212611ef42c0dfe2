"""Worlds for the tests, and the net beneath them: no test removes a file outside the temporary
folder or signals a stranger.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from miyabi_healing.support import invocation, mount_answers

if TYPE_CHECKING:
    from fleetwork import Postgres

PROJECT = Path(__file__).resolve().parent.parent
OWN_FOLDERS = (
    tempfile.gettempdir(),
    str(PROJECT / ".hypothesis"),
    str(PROJECT / ".pytest_cache"),
    "/dev/shm",
)
OWN_NAMES = (".pyc", ".coverage", "pytest-cache-files-", ".pytest_cache")


def pytest_configure() -> None:
    """What a shell starts in the background ignores SIGINT (sh(1)), and so would all that tests
    start and ask to end by it.
    """
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(number, usual)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write tests/golden anew, for a person to read the difference",
    )


def place_of(name: object, folder: object) -> str:
    """The real path of a name relative to a directory descriptor."""
    path = (
        os.fsdecode(name)
        if isinstance(name, (str, bytes, os.PathLike))
        else f"/proc/self/fd/{name}"
    )
    if isinstance(folder, int) and folder >= 0:
        path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    path = os.path.abspath(path)
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def is_ours(path: str) -> bool:
    return any(path.startswith(f"{top}/") for top in OWN_FOLDERS) or any(
        part in os.path.basename(path) for part in OWN_NAMES
    )


def started_here(pid: int) -> bool:
    """Whether this test run started a process: it descends from us, or it inherited what pytest
    puts in the environment. A zombie, whose parent may be gone already, takes no signal.
    """
    try:
        process = psutil.Process(pid)
        return (
            process.status() == psutil.STATUS_ZOMBIE
            or os.getpid() in [pid, *(each.pid for each in process.parents())]
            or "PYTEST_VERSION" in process.environ()
            # it was dying: its parent and its environment are gone before it is a zombie
            or process.status() == psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:  # said of one that is just ending, too
        with contextlib.suppress(psutil.NoSuchProcess):
            return process.status() == psutil.STATUS_ZOMBIE
        return True


def left_behind(test: str, before: set[str]) -> list[psutil.Process]:
    """The processes that a test has started, and that outlive it."""
    found = []
    for pid in map(int, filter(str.isdigit, set(os.listdir("/proc")) - before)):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process = psutil.Process(pid)
            named = process.environ().get("PYTEST_CURRENT_TEST", "").startswith(f"{test} (")
            ours = named or os.getpid() in (each.pid for each in process.parents())
            if ours and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                found.append(process)
    return found


def net(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("os.remove", "os.rmdir"):
        check_path(event, place_of(arguments[0], arguments[1]))
    elif event == "os.rename":
        check_path(event, place_of(arguments[0], arguments[2]))
        check_path(event, place_of(arguments[1], arguments[3]))
    elif event in ("os.kill", "os.killpg"):
        check_pid(event, abs(int(str(arguments[0]))))


def check_path(event: str, path: str) -> None:
    if not is_ours(path):
        raise PermissionError(f"the net of the tests: {event} {path}")


def check_pid(event: str, pid: int) -> None:
    if pid <= 1 or not started_here(pid):
        raise PermissionError(f"the net of the tests: {event} {pid}")


if hasattr(signal, "pidfd_send_signal"):  # it raises no audit event
    send = signal.pidfd_send_signal

    def guarded(pidfd: int, signum: int, *rest: int) -> None:
        lines = Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
        check_pid(
            "pidfd_send_signal",
            next(int(line.split()[1]) for line in lines if line.startswith("Pid:")),
        )
        send(pidfd, signum, *rest)

    signal.pidfd_send_signal = guarded  # type: ignore[assignment]

sys.addaudithook(net)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(
                    pytest.mark.skip(reason="needs root: mounts, other users, namespaces")
                )


@pytest.fixture(autouse=True)
def no_mount_of_another_test() -> None:
    """What one test has learnt of mounts says nothing in the next: numbers are used again."""
    mount_answers.forget()


@pytest.fixture(autouse=True)
def nothing_goes_on_after_a_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """What one test leaves running would be met by every later one: healers keep what a process
    could be using.
    """
    before = set(os.listdir("/proc")) if sys.platform == "linux" else set()
    yield
    if sys.platform != "linux":
        return
    end = time.monotonic() + 5
    while (left := left_behind(request.node.nodeid, before)) and time.monotonic() < end:
        time.sleep(0.01)
    words = [f"{each.pid} {each.cmdline()}" for each in left]
    for each in left:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, PermissionError):
            each.kill()
    assert not words, f"still running after the test: {words}"


@pytest.fixture(autouse=True)
def system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No healer that runs inside a test asks this machine's own keepers of old data."""
    from miyabi_healing.host import caches

    monkeypatch.setattr(caches, "of_system", lambda settings: ())


@pytest.fixture(autouse=True)
def no_configuration_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that was invoked in a test's own process is named in no other's hints."""
    monkeypatch.setattr(invocation, "_options", [])


@pytest.fixture(autouse=True)
def nobody_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the tests run in a PID namespace of their own, what they make is theirs alone: of that
    the program could not know.
    """
    from miyabi_healing.host import process_status, users

    if process_status.container():
        monkeypatch.setattr(users, "container", lambda: None)
        monkeypatch.setenv("MIYABI_HEALING__SAFETY__OURS_ALONE", '["/"]')


@pytest.fixture(autouse=True)
def nobody_above(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever started the tests may be a coding agent or a CI runner: what runs below those is
    never ended, but for what the tests have made themselves.
    """
    from miyabi_healing.host import process_ending

    above, us = process_ending.above, os.getpid()
    monkeypatch.setattr(
        process_ending,
        "above",
        lambda process: itertools.takewhile(lambda each: each.pid != us, above(process)),
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A HOME of the test's own, with nothing configured; git has a name to commit under."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in [
        each
        for each in os.environ
        if each.startswith(("XDG_", "GIT", "MIYABI_", "JOURNAL_", "PYTEST_ADDOPTS"))
    ]:
        if name != "MIYABI_HEALING__SAFETY__OURS_ALONE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    (folder / ".gitconfig").write_text(
        "[user]\nname = Test\nemail = test@example.invalid\n[init]\ndefaultBranch = main\n"
    )
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout of the test's own, whose environment is made already."""
    if sys.prefix == sys.base_prefix:
        pytest.skip("the tests run in no virtual environment")
    folder = tmp_path / "a 100%of copy"
    for name in ("checks", "healers", "miyabi_healing", "requirements"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run_healing.sh", "self_healer.py"):
        shutil.copy(PROJECT / name, folder)
    venv = folder / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    (venv / "lib").symlink_to(Path(sys.prefix) / "lib")
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", venv)
    shutil.copy(folder / "requirements" / "runner.txt", venv)
    return folder


@pytest.fixture
def start() -> Iterator[Callable[..., psutil.Popen]]:
    """Start a process in a session of its own; it is gone with all its children when the test
    ends.
    """
    started: list[psutil.Popen] = []

    def run(*argv: str, **options: object) -> psutil.Popen:
        started.append(psutil.Popen(argv, **{"start_new_session": True, **options}))
        return started[-1]

    yield run
    for process in started:
        children = process.children(recursive=True) if process.is_running() else []
        # the group at once: a shell that is about to fork has no child yet that could be listed
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if process.returncode is None and os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, signal.SIGKILL)
        for each in [process, *children]:
            # what is dying already may look like nobody's: the others are ended all the same
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, PermissionError):
                each.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def wait_for(condition: Callable[[], object], seconds: float = 15) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def only_zombies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One test at a time has zombies: they are counted on the whole host, whatever process of the
    test run they belong to.
    """
    with (tmp_path_factory.getbasetemp().parent / "zombies.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def only_mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One test at a time has mounts that can block, or is about a host that has none: all see the
    same table.
    """
    with (tmp_path_factory.getbasetemp().parent / "mounts.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        unmount_what_a_killed_run_left()
        yield


# a program started below this one ends with it, also where it is killed (prctl(2))
ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")


def unmount_what_a_killed_run_left() -> None:
    """Mounts of a test's folder whose program is dead: every look at one fails with ENOTCONN."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        point, kind = line.split()[1:3]
        if kind == "fuse.bindfs" and "/pytest-of-" in point:
            look = ["env", "LC_ALL=C", "timeout", "1", "stat", point]
            looked = subprocess.run(look, capture_output=True, text=True, check=False)
            if os.strerror(errno.ENOTCONN) in looked.stderr:
                subprocess.run(["umount", "-l", point], check=False)


@pytest.fixture
def host_without_mounts_that_block(only_mounts: None) -> None:
    mount_answers.forget()
    if mount_answers.may_block():
        pytest.skip("a mount of this host can block")


class Served:
    """A mount that a program serves (bindfs(1)): `folder` has what is seen at `point`."""

    def __init__(self, folder: Path, point: Path) -> None:
        for each in (folder, point):
            each.mkdir(parents=True, exist_ok=True)
        self.folder, self.point = folder, point
        command = [
            *ENDS_WITH_US,
            "bindfs",
            "-f",
            "-o",
            "attr_timeout=0,entry_timeout=0,negative_timeout=0",
            str(folder),
            str(point),
        ]
        self.server = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(lambda: f" {point} " in Path("/proc/self/mountinfo").read_text())

    def stop(self) -> None:
        """From here on it does not answer."""
        self.server.send_signal(signal.SIGSTOP)
        mount_answers.forget()

    def end(self) -> None:
        for number in (signal.SIGCONT, signal.SIGKILL):
            self.server.send_signal(number)
        self.server.wait()
        subprocess.run(["umount", "-l", str(self.point)], capture_output=True)


@pytest.fixture
def served(tmp_path: Path, only_mounts: None, start: object) -> Iterator[Callable[[Path], Served]]:
    """Mount a folder of its own at a point, served by a program that can be stopped.

    `start` comes first: what it has started cannot end before its files are closed, which waits for
    the server.
    """
    if not shutil.which("bindfs"):
        pytest.skip("needs bindfs")
    all_of_them: list[Served] = []

    def serve(point: Path) -> Served:
        all_of_them.append(Served(tmp_path / f"served {len(all_of_them)}", point))
        mount_answers.forget()
        return all_of_them[-1]

    yield serve
    for each in reversed(all_of_them):
        each.end()
    mount_answers.forget()


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A Postgres for all tests of a worker; each has tables of its own, or begins with none."""
    from fleetwork import postgres  # which needs this module

    with postgres() as running:
        yield running


@pytest.fixture
def where(server: Postgres, request: pytest.FixtureRequest) -> str:
    """The connection string of a schema of the test's own."""
    import psycopg

    name = f"t{abs(hash(request.node.nodeid))}"
    with psycopg.connect(server.dsn, autocommit=True) as line:
        line.execute(f"create schema {name}".encode())
    return f"{server.dsn}?options=-csearch_path%3D{name}"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount filesystems of the test's own: ``mounted("ext4", "64M")`` (on a loop device) or
    ``mounted("tmpfs", "8M")``.
    """
    points: list[Path] = []

    def mount(kind: str, size: str, name: str = "", options: str = "") -> Path:
        point = tmp_path / (name or f"{kind}-{len(points)}")
        point.mkdir()
        if kind == "tmpfs":
            command = ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", str(point)]
        else:
            image = tmp_path / f"{point.name}.img"
            subprocess.run(["truncate", "-s", size, str(image)], check=True)
            subprocess.run([f"mkfs.{kind}", "-q", str(image)], check=True, capture_output=True)
            command = ["mount", "-o", f"loop{options}", str(image), str(point)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot mount here: {done.stderr.strip()}")
        points.append(point)
        return point

    yield mount
    for point in reversed(points):
        subprocess.run(["umount", "-l", str(point)], check=True)
