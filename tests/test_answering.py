"""Mounts that do not answer: a FUSE filesystem whose program is stopped blocks whoever looks at it,
but not this program.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from gitworld import git as run_git
from gitworld import merged_worktree, repository
from program import environment, report, run, settings

from conftest import ENDS_WITH_US, PROJECT, Served, wait_for
from miyabi_healing.cli.setup import discovery
from miyabi_healing.gate.primitives import roots
from miyabi_healing.host import caches, filesystems, logs
from miyabi_healing.host.git import repositories, repository_paths
from miyabi_healing.host.git.worktrees import WorktreeInspector
from miyabi_healing.host.open_files import scan_open_files
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import CacheSettings, Config, GitSettings
from miyabi_healing.support import globbing, mount_answers, mount_questions, mount_table

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(sys.platform != "linux", reason="a table of mounts is Linux's"),
]
Serve = Callable[[Path], Served]
Start = Callable[..., psutil.Popen]


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@pytest.fixture
def nas(home: Path, served: Serve) -> Served:
    """A mount in the home, with a log; it answers until it is stopped."""
    found = served(home / "nas")
    (found.folder / "app.log").write_text("x\n" * 100)
    return found


def holder(start: Start, code: str, *arguments: object, **options: object) -> psutil.Popen:
    """A process that has done something and stays."""
    script = f"import os, sys, time\n{code}\nprint(flush=True)\ntime.sleep(100)"
    process = start(
        sys.executable, "-c", script, *map(str, arguments), stdout=subprocess.PIPE, **options
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process a second is enough; the programs that are started wait as long as ever."""
    monkeypatch.setattr(mount_questions, "LIMIT", 1.0)


# Asking


def test_two_that_do_not_answer_cost_one_wait_and_the_third_is_looked_at(
    tmp_path: Path, served: Serve
) -> None:
    dead = [served(tmp_path / name) for name in ("one", "two")]
    alive = served(tmp_path / "three")
    for each in dead:
        each.stop()
    with at_most(mount_questions.LIMIT + 1):
        found = [mount_answers.where(str(each.point / "some/file")) for each in (*dead, alive)]
    assert [each and each.path for each in found] == [str(dead[0].point), str(dead[1].point), None]
    with at_most(0.2):  # asked once in a run
        assert mount_answers.is_silent(dead[0].point)
    with pytest.raises(
        mount_answers.NoAnswer, match=r"one \(fuse.*\) does not answer: nothing is known of .*one/x"
    ):
        mount_answers.check(dead[0].point / "x")
    assert len(mount_answers.notes()) == 1
    assert not [
        each
        for each in psutil.Process().children()
        if each.pid not in {one.server.pid for one in (*dead, alive)}
    ]


def test_host_without_such_mounts_reads_its_table_once_and_asks_nobody(
    tmp_path: Path, host_without_mounts_that_block: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount_answers.forget()
    for module, name in ((mount_table, "mount_table"), (mount_questions, "ask"), (os, "fork")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("nothing is to be asked"))
    mount_answers.check(tmp_path / "x")
    mount_answers.check_tree(tmp_path)
    assert mount_answers.search_path("/a:/b") == "/a:/b"


def test_kinds_that_can_block_are_the_same_in_the_table_and_in_its_text() -> None:
    for kind in (
        *mount_table.SHARED,
        "fuse.sshfs",
        "fuse.s3fs-fuse",
        "autofs",
        "ext4",
        "tmpfs",
        "fusectl",
        "overlay",
        "nfsd",
        "zfs",
    ):
        line = f"36 35 98:0 / /mnt rw,noatime shared:1 - {kind} /dev/x rw".encode()
        assert mount_answers.can_block(line) == mount_table.parse_mount(line).can_block, kind


def test_links_are_followed_by_their_text(home: Path, nas: Served) -> None:
    (home / "direct").symlink_to(nas.point / "app.log")
    (home / "relative").symlink_to("deep/../nas/app.log")
    (home / "deep").mkdir()
    (home / "deep" / "chain").symlink_to("../direct")
    (home / "circle").symlink_to("circle")
    (home / "elsewhere").symlink_to("deep")
    nas.stop()
    for name in ("direct", "relative", "deep/chain", "elsewhere/chain", "elsewhere/../nas", "nas"):
        assert mount_answers.is_silent(home / name), name
    for name in ("circle", "elsewhere", "deep", "missing/nas", "nas/../deep", ""):
        assert not mount_answers.is_silent(home / name) or name == "nas/../deep", name
    assert not mount_answers.is_silent(home / "direct", follow=False)
    assert mount_answers.is_silent(home / "elsewhere/../nas", follow=False)


def test_what_would_be_mounted_by_an_automounter_is_asked_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"36 35 0:99 / {tmp_path} rw - autofs systemd-1 rw".encode()
    monkeypatch.setattr(
        mount_table, "mount_table", lambda _process: (mount_table.parse_mount(line),)
    )
    monkeypatch.setattr(
        mount_questions, "ask", lambda places: [None if "dead" in place else 1 for place in places]
    )
    known = mount_answers._Answers()
    known.may_block = True
    monkeypatch.setattr(mount_answers, "_answers", known)
    assert mount_answers.is_silent(tmp_path / "dead")
    assert not mount_answers.is_silent(tmp_path / "alive")


# Logs


def test_pattern_that_crosses_it_is_unknown_and_others_are_not(home: Path, nas: Served) -> None:
    (home / "app").mkdir()
    (home / "app" / "app.log").write_text("x")
    (home / "link").symlink_to(home)
    (home / "into").symlink_to("nas")
    assert (
        len(logs.read_log_group(f"{home}/*/app.log").files) == 3
    )  # it answers: also through the two links
    nas.stop()
    for pattern in (
        "*/*.log",
        "nas/*.log",
        "nas/app.log",
        "link/n*/*.log",
        "into/*.log",
        "n*",
        "link/n*",
        "?as/deep/*.log",
    ):
        with pytest.raises(mount_answers.NoAnswer):
            logs.read_log_group(f"{home}/{pattern}")
    for pattern in ("app/*.log", "a*/*.log", "*.log", "none/*", "link/app/*"):
        logs.read_log_group(f"{home}/{pattern}")
    assert [each.name for each in logs.read_log_group(f"{home}/a*/*.log").files] == ["app.log"]


# Filesystems


def test_filesystem_that_does_not_answer_stays_among_those_to_measure(
    home: Path, nas: Served
) -> None:
    assert filesystems.mounts((str(home), str(nas.point))) == (str(home), str(nas.point))
    assert filesystems.read_folder(str(nas.point)).size > 0
    nas.stop()
    assert filesystems.mounts((str(home), str(nas.point))) == (str(home), str(nas.point))
    with pytest.raises(mount_answers.NoAnswer):
        filesystems.read_folder(str(nas.point))
    filesystems.read_folder(str(home))


def test_device_that_does_not_answer_is_measured_by_default_all_the_same(
    home: Path, nas: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As fuseblk: NTFS on a device, served by a program."""
    monkeypatch.setattr(
        filesystems, "partitions", lambda: iter([("/dev/sdx1", str(nas.point), "fuseblk", "rw")])
    )
    nas.stop()
    assert filesystems.mounts(()) == ("/", str(nas.point))


def test_run_names_what_does_not_answer_and_goes_on(home: Path, nas: Served) -> None:
    text = (
        f"[disk]\nmounts = ['{home}', '{nas.point}']\n[logs]\npatterns = ['{home}/*/*.log', "
        f"'{home}/logs/*.log']\n"
        "[checks.disk_space_critical]\nthreshold = 100\n[checks.high_memory_usage]\nthreshold = "
        "100\n"
        f"[caches]\nhomes = ['{home}', '{nas.point}']\n[git]\nrepos = ['{nas.point}/src', "
        f"'{home}/*']\n"
    )
    repo = repository(home / "app")
    assert report("--config", settings(home, text.replace(f"'{nas.point}/src', ", "")))[0] == 0
    nas.stop()
    with at_most(8):
        code, document = report("--config", settings(home, text))
    assert code == 3
    unknown = {(each["check"], each["target"]) for each in document["errors"]}
    assert {
        ("disk_space_critical", str(nas.point)),
        ("large_log_files", f"{home}/*/*.log"),
    } <= unknown
    assert all(
        f"{nas.point} (fuse" in each["message"] and "does not answer" in each["message"]
        for each in document["errors"]
    )
    measured = {(each["name"], each["target"]) for each in document["metrics"]}
    assert measured == {
        ("disk_space_critical", str(home)),
        ("large_log_files", f"{home}/logs/*.log"),
        ("high_memory_usage", ""),
        ("excessive_worktrees", str(repo)),
        ("stale_git_lock", str(repo)),
    }
    (note,) = [each for each in document["notes"] if "did not answer" in each]
    assert note.startswith(f"{nas.point} (fuse")
    assert f"{home}/nas" in note


@pytest.mark.parametrize(
    "what", ["state", "configuration", "checks", "PATH", "folder it is started in"]
)
def test_start_survives_it_wherever_it_is(home: Path, nas: Served, what: str) -> None:
    arguments, changes, cwd = ["--json", "--config", settings(home)], {}, home
    (nas.folder / "checks").mkdir()
    if what == "state":
        changes["XDG_STATE_HOME"] = str(nas.point)
    elif what == "configuration":
        arguments = ["--json", "--dry-run"]
        (nas.folder / "miyabi-healing").mkdir()
        (nas.folder / "miyabi-healing" / "config.toml").write_text(Path(settings(home)).read_text())
        changes["XDG_CONFIG_HOME"] = str(nas.point)
    elif what == "checks":
        arguments += ["--checks", str(nas.point / "checks")]
    elif what == "PATH":
        changes["PATH"] = f"{nas.point}:{os.environ['PATH']}"
    else:
        cwd = nas.point
    assert run(*arguments, cwd=cwd, **changes).returncode == 0
    command = [sys.executable, str(PROJECT / "self_healer.py"), *arguments]
    # it looks around in the folder
    uncovered = environment(COVERAGE_PROCESS_START=None, COVERAGE_PROCESS_CONFIG=None, **changes)
    program = subprocess.Popen(
        ["sh", "-c", 'echo; read go; exec "$@"', "sh", *command], cwd=cwd, env=uncovered, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with program:
        assert program.stdout is not None
        program.stdout.readline()
        nas.stop()
        try:
            with at_most(8):
                said = "".join(program.communicate("go\n", timeout=20))
        finally:
            program.kill()
    assert program.returncode == {"PATH": 0, "configuration": 2}.get(what, 3), said
    assert "does not answer" in said or what == "PATH"


# Processes


@pytest.mark.parametrize("how", ["file", "folder", "program", "mapping"])
def test_process_that_uses_it_is_a_holder_by_its_path(nas: Served, start: Start, how: str) -> None:
    path = nas.point / "app.log"
    if how == "program":
        path = nas.point / "sleeping"
        path.write_bytes(Path("/bin/sleep").read_bytes())
        path.chmod(0o755)
        process = start(str(path), "100")
        wait_for(lambda: process.exe() == str(path))
    elif how == "folder":
        path = nas.point
        process = holder(start, "os.chdir(sys.argv[1])", path)
    elif how == "file":
        process = holder(start, "file = open(sys.argv[1], 'a')", path)
    else:
        code = (
            "import mmap\nfile = open(sys.argv[1], 'r+'); mapped = mmap.mmap(file.fileno(), "
            "0)\n"
            "file.close()"
        )
        process = holder(start, code, path)
    before = [each for each in scan_open_files().files if each.pid == process.pid]
    assert {(each.device, each.inode) for each in before} >= {
        (os.stat(path).st_dev, os.stat(path).st_ino)
    }
    nas.stop()
    with at_most(mount_questions.LIMIT + 2):
        found = scan_open_files()
    assert process.pid in {each.pid for each in found.files if each.path == str(path)}
    assert process.pid not in {each.pid for each in found.unseen}
    assert process.pid in {
        each.pid
        for each in found.files
        if each.path.startswith("/usr") or "python" in each.path or how == "program"
    }


def test_what_it_was_unmounted_from_is_known_of_no_more_than_that_it_could_not_be_looked_into(
    nas: Served, start: Start
) -> None:
    inside = holder(start, "os.chdir(sys.argv[1])", nas.point)
    reader = holder(start, "file = open(sys.argv[1])", nas.point / "app.log")
    subprocess.run(["umount", "-l", str(nas.point)], check=True)
    mount_answers.forget()
    alive = scan_open_files()
    assert {inside.pid, reader.pid} & {each.pid for each in alive.unseen} == set()
    nas.stop()
    with at_most(mount_questions.LIMIT + 2):
        found = scan_open_files()
    assert {inside.pid, reader.pid} <= {each.pid for each in found.unseen}


def test_process_with_mounts_of_its_own_is_known_by_its_own_table(
    tmp_path: Path, host_without_mounts_that_block: None, start: Start
) -> None:
    """As in a container: what is mounted there is in no table of ours."""
    for name in ("server", "point"):
        (tmp_path / name).mkdir()
    (tmp_path / "server" / "file").touch()
    script = (
        f"{' '.join(ENDS_WITH_US)} bindfs -f {tmp_path}/server {tmp_path}/point &\n"
        f"while ! [ -e {tmp_path}/point/file ]; do sleep 0.05; done\n"
        f"exec 3< {tmp_path}/point/file; echo $!; exec sleep 100"
    )
    process = start(
        "unshare", "--mount", "--propagation", "private", "sh", "-c", script, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    server = int(process.stdout.readline())
    try:
        mount_answers.forget()
        assert not mount_answers.may_block()
        seen = {each.path for each in scan_open_files().files if each.pid == process.pid}
        assert f"{tmp_path}/point/file" in seen
        os.kill(server, signal.SIGSTOP)
        mount_answers.forget()
        with at_most(mount_questions.LIMIT + 2):
            found = scan_open_files()
        (held,) = [each for each in found.files if each.path == f"{tmp_path}/point/file"]
        assert (held.pid, held.inode) == (process.pid, 0)
    finally:
        os.kill(server, signal.SIGCONT)
        os.kill(server, signal.SIGKILL)
        mount_answers.forget()


def test_log_that_answers_is_pruned_while_a_process_uses_one_that_does_not(
    home: Path, nas: Served, start: Start
) -> None:
    (home / "logs").mkdir()
    log = home / "logs" / "app.log"
    log.write_bytes(b"line\n" * 400_000)
    text = f"[logs]\npatterns = ['{home}/logs/*.log']\n[checks.large_log_files]\nthreshold = 1\n"
    text += "[healers.prune_logs]\narchive_after_days = 0\n"
    holder(start, "file = open(sys.argv[1], 'a')", nas.point / "app.log")
    nas.stop()
    with at_most(8):
        code, document = report("--config", settings(home, text))
    assert (code, log.exists(), document["actions_taken"][0]["status"]) == (0, False, "success"), (
        document
    )
    (note,) = [each for each in document["notes"] if "did not answer" in each]
    assert note.endswith("unknown because of it: files that processes use there")


# Repositories, homes


def test_repository_and_worktree_on_it_are_unknown_and_the_others_are_looked_after(
    home: Path, nas: Served
) -> None:
    repo = repository(home / "src" / "app")
    far = repository(nas.point / "far")
    near = merged_worktree(repo, "near")
    run_git(repo, "worktree", "add", "-q", "-b", "there", str(nas.point / "there"))
    (home / "src" / "link").symlink_to(far)
    settings_of = Config(git=GitSettings(repos=(f"{home}/src/*", str(far))))
    nas.stop()
    assert repository_paths.configured(settings_of).paths == (
        str(repo),
        f"{home}/src/link",
        str(far),
    )
    with pytest.raises(mount_answers.NoAnswer):
        Host(settings_of).repository(str(far))
    place = Host(settings_of).repository(str(repo))
    assert place.worktree_count == 3
    survey = WorktreeInspector(place)
    reasons = dict(
        zip(
            [each.path.name for each in place.worktrees()],
            [each.reason for each in survey.verdicts(place.worktrees())],
            strict=True,
        )
    )
    assert reasons["near"] is None
    assert reasons["there"] is not None
    assert "does not answer" in reasons["there"].detail
    assert near.exists()
    assert roots.allowed(settings_of)[-2:] == (repo, repo / ".git")


@pytest.mark.parametrize("how", ["folder", "argument"])
def test_git_at_work_on_it_holds_no_lock_of_another_repository(
    home: Path, nas: Served, start: Start, how: str
) -> None:
    repo = repository(home / "app")
    lock = repo / ".git" / "index.lock"
    lock.touch()
    os.utime(lock, (1, 1))
    (home / "git").symlink_to(sys.executable)  # so it is called, as its helpers are
    far = "os.chdir(sys.argv[1])" if how == "folder" else "pass"
    script = f"import os, sys, time\n{far}\nprint(flush=True)\ntime.sleep(100)"
    process = start(
        str(home / "git"),
        "-c",
        script,
        str(nas.point),
        f"--git-dir={nas.point}/.git",
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    place = repositories.open_repository(str(repo), Config())
    assert [each.path for each in place.stale_locks(600)] == [lock]
    nas.stop()
    with at_most(8):
        assert [each.path for each in place.stale_locks(600)] == [lock]


def test_init_looks_past_it(home: Path, nas: Served) -> None:
    repository(home / "src" / "app")
    repository(nas.point / "far")
    nas.stop()
    with at_most(8):
        found = discovery.search_homes([home])
    assert [each.path for each in found.repos] == [home / "src" / "app"]


def test_home_on_it_is_left_and_the_other_one_is_cleaned(tmp_path: Path, served: Serve) -> None:
    (tmp_path / "homes" / "ann" / ".cache" / "thumbnails").mkdir(parents=True)
    bob = served(tmp_path / "homes" / "bob")
    (bob.folder / ".cache" / "thumbnails").mkdir(parents=True)
    rules = CacheSettings(homes=(f"{tmp_path}/homes/*",))
    assert {each.home.name for each in caches.find_caches(rules)} == {"ann", "bob"}
    bob.stop()
    assert {each.home.name for each in caches.find_caches(rules)} == {"ann"}
    assert [each.name for each in caches.home_folders(rules)] == ["ann", "bob"]


def test_cache_below_which_it_is_mounted_is_told_and_left(tmp_path: Path, served: Serve) -> None:
    folder = tmp_path / "ann" / ".cache" / "thumbnails"
    (folder / "large").mkdir(parents=True)
    inner = served(folder / "large")
    rules = CacheSettings(homes=(str(tmp_path / "ann"),))
    assert [each.trouble for each in caches.find_caches(rules)] == [""]
    inner.stop()
    (cache,) = caches.find_caches(rules)
    assert "does not answer" in cache.trouble


def test_patterns_of_folders_lead_where_glob_leads_and_to_what_does_not_answer(
    home: Path, nas: Served
) -> None:
    import glob

    for name in ("a/one", "a/.two", "b/one"):
        (home / name).mkdir(parents=True)
    for pattern in ("*", "*/*", "a", "none", "a/none", "[ab]/one", "*/.t*", "a/../b"):
        assert globbing.expand(f"{home}/{pattern}") == sorted(
            map(os.path.abspath, glob.glob(f"{home}/{pattern}"))
        )
    nas.stop()
    assert globbing.expand(f"{home}/*/one") == [f"{home}/a/one", f"{home}/b/one", f"{home}/nas"]


def test_mount_that_came_meanwhile_and_does_not_answer_hides_nobody(
    tmp_path: Path, served: Serve, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has a file there could be using that one, not everything."""
    first = served(tmp_path / "first")
    assert mount_answers.is_point(str(first.point))
    learnt_before = mount_answers._answers
    second = served(tmp_path / "second")
    process = holder(start, "file = open(sys.argv[1], 'w')", second.point / "file")
    second.stop()
    monkeypatch.setattr(mount_answers, "_answers", learnt_before)
    found = scan_open_files()
    assert process.pid not in [each.pid for each in found.unseen]
    assert (process.pid, str(second.point / "file")) in [
        (each.pid, each.path) for each in found.files
    ]
