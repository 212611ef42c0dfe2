"""Who uses a file or folder, whatever they call it, and who could without being seen: told by
device, inode and mounts.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from gatework import carry_out, plan

from conftest import ENDS_WITH_US, wait_for
from miyabi_healing.gate import execute
from miyabi_healing.gate.handlers import table
from miyabi_healing.gate.primitives import quarantine_writer
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host import open_files, unseen_users, users, visibility
from miyabi_healing.host.open_files import OpenFiles
from miyabi_healing.host.process_status import Process, read_process
from miyabi_healing.host.readings import Host
from miyabi_healing.host.users import Witness
from miyabi_healing.model import steps
from miyabi_healing.model.config import Config, SafetySettings
from miyabi_healing.model.steps import Quarantine, Step
from miyabi_healing.support import mount_table
from miyabi_healing.support.files import identity_at
from miyabi_healing.support.mount_table import MountPoint

NOBODY = 65534
Start = Callable[..., psutil.Popen]
assert execute


MAPPED = (
    "import ctypes, sys, time; ctypes.CDLL(sys.argv[1]); print('ready', flush=True); "
    "time.sleep(100)"
)
OPEN = "import sys, time; file = open(sys.argv[1]); print('ready', flush=True); time.sleep(100)"


def library() -> str:
    """Some shared library, which stays mapped and not open."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return next(line.split()[-1] for line in lines if re.search(r"/lib[a-z]+\.so[.0-9]*$", line))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "deep" / "file").write_text("x")
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "file").write_text("x")
    return folder


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users can reach, as pytest's own cannot be."""
    folder = Path(tempfile.mkdtemp()).resolve()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def ask(config: Config | None = None) -> Witness:
    return Witness(config or Config())


def container(start: Start, mount: Path, at: Path, script: str, *more: str) -> psutil.Popen:
    """Run a script in mounts of its own, with one folder mounted under another name too; it says
    when it is ready.
    """
    at.mkdir(exist_ok=True)
    text = f'mount --bind "$1" "$2" && {script}'
    command = (
        "unshare",
        "--mount",
        "--fork",
        "--kill-child",
        *more,
        "sh",
        "-c",
        text,
        "sh",
        str(mount),
        str(at),
    )
    return ready(start(*command, stdout=subprocess.PIPE))


def ready(process: psutil.Popen) -> psutil.Popen:
    """Wait for a process to say so."""
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


# Who is seen


@pytest.mark.parametrize("how", ["cwd", "open", "program", "mapped"])
def test_whoever_uses_something_in_a_folder_is_seen(tree: Path, start: Start, how: str) -> None:
    assert ask().user(tree) is None
    if how == "cwd":
        start("sleep", "100", cwd=tree / "deep")
    elif how == "open":
        with (tree / "deep" / "file").open() as file:
            start("sleep", "100", stdin=file)
    elif how == "program":
        shutil.copy(str(shutil.which("sleep")), tree / "deep" / "sleep")
        start(str(tree / "deep" / "sleep"), "100")
    else:
        shutil.copy(library(), tree / "deep" / "file")
        start(sys.executable, "-c", MAPPED, str(tree / "deep" / "file"))
    wait_for(lambda: ask().user(tree))
    assert ask().user(tree.parent / "beside") is None


@pytest.mark.root
@pytest.mark.parametrize(
    "how",
    [
        "cd $2/deep && echo ready && exec sleep 100",
        "exec 3< $2/deep/file && echo ready && exec sleep 100",
    ],
)
def test_user_in_a_container_with_another_path_is_seen(
    tree: Path, tmp_path: Path, start: Start, how: str
) -> None:
    container(start, tree, tmp_path / "workspaces", how)
    wait_for(lambda: (user := ask().user(tree)) and user.name == "sleep")
    assert ask().user(tree / "deep" / "deeper") is None
    assert ask().user(tmp_path / "beside") is None


@pytest.mark.root
def test_same_path_in_a_container_is_another_folder(
    tree: Path, tmp_path: Path, start: Start
) -> None:
    container(start, tmp_path / "beside", tree, "cd $2 && echo ready && exec sleep 100")
    assert ask().user(tree) is None
    assert ask().user(tmp_path / "beside") is not None


@pytest.mark.root
def test_user_behind_a_second_mount_of_ours_is_seen(
    tree: Path, tmp_path: Path, start: Start
) -> None:
    again = tmp_path / "again"
    again.mkdir()
    subprocess.run(["mount", "--bind", str(tree.parent), str(again)], check=True)
    try:
        start("sleep", "100", cwd=again / "tree" / "deep")
        wait_for(lambda: ask().user(tree))
        assert ask().user(tmp_path / "beside") is None
    finally:
        subprocess.run(["umount", "-l", str(again)], check=True)


@pytest.mark.root
def test_process_with_another_root_is_seen(tree: Path, tmp_path: Path, start: Start) -> None:
    code = (
        "import os, sys, time; os.chroot(sys.argv[1]); os.chdir(sys.argv[2]); print('ready', "
        "flush=True); time.sleep(100)"
    )
    ready(start(sys.executable, "-c", code, str(tmp_path), "/tree/deep", stdout=subprocess.PIPE))
    assert ask().user(tree) is not None
    assert ask().user(tmp_path / "beside") is None
    assert ask().user(tmp_path) is not None


@pytest.mark.root
def test_folder_that_was_given_to_an_idle_container_is_in_use(
    tree: Path, tmp_path: Path, start: Start
) -> None:
    container(start, tree, tmp_path / "workspaces", "cd / && echo ready && exec sleep 100")
    user = ask().user(tree)
    assert user is not None
    assert users.words(user).endswith(f"mounted at {tmp_path}/workspaces")
    assert ask().user(tmp_path / "beside") is None


@pytest.mark.root
def test_copy_of_our_own_mounts_is_no_use(
    tree: Path, start: Start, mounted: Callable[..., Path]
) -> None:
    point = mounted("tmpfs", "1M")
    start("unshare", "--mount", "sleep", "100", cwd="/")
    wait_for(lambda: ask().elsewhere)
    assert ask().user(point) is None


@pytest.mark.root
def test_user_behind_a_mount_that_was_taken_away_is_seen(
    tmp_path: Path, start: Start, mounted: Callable[..., Path]
) -> None:
    point = mounted("ext4", "16M")
    (point / "tree").mkdir()
    (point / "beside").mkdir()
    start("sleep", "100", cwd=point / "tree")
    wait_for(lambda: ask().user(point / "tree"))
    device = subprocess.run(
        ["findmnt", "-no", "SOURCE", str(point)], capture_output=True, text=True, check=True
    ).stdout.strip()
    subprocess.run(["umount", "-l", str(point)], check=True)
    subprocess.run(["mount", device, str(point)], check=True)
    assert ask().user(point / "tree") is not None
    assert ask().user(point / "beside") is None


@pytest.mark.root
@pytest.mark.parametrize("kind", ["btrfs", "btrfs subvolume", "xfs", "overlay"])
@pytest.mark.parametrize("code", [OPEN, MAPPED], ids=["open", "mapped"])
def test_users_in_a_container_are_seen_on_any_filesystem(
    start: Start, mounted: Callable[..., Path], tmp_path: Path, kind: str, code: str
) -> None:
    if kind == "overlay":
        # two filesystems: files and folders get different device numbers
        lower = mounted("tmpfs", "9M", name="lower")
        upper, work, top = (tmp_path / name for name in ("upper", "work", "top"))
        for each in (upper, work, top, lower / "tree", lower / "beside"):
            each.mkdir()
        shutil.copy(library(), lower / "tree" / "file")
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        if subprocess.run(
            ["mount", "-t", "overlay", "-o", options, "overlay", str(top)], check=False
        ).returncode:
            pytest.skip("no overlays here")
    else:
        name = kind.partition(" ")[0]
        if not shutil.which(f"mkfs.{name}"):
            pytest.skip(f"needs mkfs.{name}")
        top = mounted(name, "400M")
        if name != kind:
            subprocess.run(["btrfs", "-q", "subvolume", "create", str(top / "inner")], check=True)
            top = top / "inner"
        (top / "tree").mkdir()
        (top / "beside").mkdir()
        shutil.copy(library(), top / "tree" / "file")
    try:
        run = f'exec {sys.executable} -c "{code}" $2/file'
        process = container(start, top / "tree", tmp_path / "workspaces", run)
        looked = ask()
        looked.__dict__["elsewhere"] = {}  # the mount alone would tell
        assert looked.user(top / "tree") is not None
        assert looked.user(top / "beside") is None
        assert looked.user(top / "tree" / "file") is not None
        process.kill()
        process.wait()
    finally:
        if kind == "overlay":
            subprocess.run(["umount", "-l", str(top)], check=True)


def test_thread_that_outlives_the_first_one_of_its_process_is_seen(
    tree: Path, start: Start
) -> None:
    code = (
        "import ctypes, sys, threading, time\nfile = open(sys.argv[1])\n"
        "threading.Thread(target=time.sleep, args=(100,)).start()\n"
        "ctypes.CDLL(None).syscall(60, 0)  # exit(2)\n"
    )
    process = start(sys.executable, "-c", code, str(tree / "deep" / "file"))
    wait_for(lambda: process.status() == psutil.STATUS_ZOMBIE)
    assert ask().user(tree) is not None


def is_dead(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return True
    return False


@pytest.mark.root
def test_dead_mount_that_somebody_has_a_file_open_on_hides_nobody(
    tree: Path, tmp_path: Path, start: Start
) -> None:
    if not shutil.which("bindfs") or not os.path.exists("/dev/fuse"):
        pytest.skip("needs bindfs")
    point = tmp_path / "point"
    point.mkdir()
    server = start(*ENDS_WITH_US, "bindfs", "-f", str(tree.parent / "beside"), str(point))
    wait_for(lambda: os.path.ismount(point))
    try:
        with (point / "file").open() as file:
            process = start("sleep", "100", stdin=file, cwd=tree)
        server.kill()
        server.wait()
        wait_for(lambda: is_dead(f"/proc/{process.pid}/fd/0"))
        assert ask().user(tree) is not None
        assert [each.path for each in ask().files.beneath(point)] == [str(point / "file")]
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


# Who could be there unseen


@pytest.mark.root
def test_what_was_in_the_way_of_looking_is_said(
    monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    process, namespace = start("sleep", "100"), open_files._mounts_of

    def refused(pid: int | str) -> int:
        if pid == process.pid:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return namespace(pid)

    monkeypatch.setattr(open_files, "_mounts_of", refused)
    found = open_files.scan_open_files()
    (unseen,) = (each for each in found.unseen if each.pid == process.pid)
    said = f"sleep (pid {process.pid}) cannot be looked into (Permission denied)"
    assert found.unseen_text(unseen) == said


@pytest.mark.parametrize(
    ("path", "kind", "own"),
    [("/", "overlay", True), ("/data", "overlay", False), ("/", "ext4", False)],
)
def test_in_a_container_only_its_own_root_is_its_own(
    tree: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str, own: bool
) -> None:
    unseen_by(monkeypatch)
    table = (
        MountPoint(1, 1, "/", "/", "overlay" if path != "/" else kind, ""),
        MountPoint(2, 2, "/", "/data", "overlay", ""),
    )
    monkeypatch.setattr(mount_table, "mount_table", lambda *_: table)
    monkeypatch.setattr(
        mount_table, "mount_of", lambda *_: next(each for each in table if each.path == path)
    )
    monkeypatch.setattr(users, "container", lambda: "this is a container")
    assert (ask().unseen(tree) is None) == own


def unseen_by(monkeypatch: pytest.MonkeyPatch, *found: Process) -> None:
    """Have every scan show nobody, and these as not to be looked into."""
    monkeypatch.setattr(users, "scan_open_files", lambda: OpenFiles((), found))


def shell(uid: int = 0, pid: int = 4_000_000, name: str = "bash") -> Process:
    return Process(pid, 1, 1, name, "S", pid, 0, uid, 1)


def rights(monkeypatch: pytest.MonkeyPatch, uid: int, *groups: int, capabilities: int = 0) -> None:
    monkeypatch.setattr(
        unseen_users,
        "rights",
        lambda _pid: unseen_users.Rights(uid, frozenset(groups), capabilities, 0),
    )


def in_group(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Have every process be in a control group."""
    real = open

    def opened(file: object, *arguments: object, **named: object) -> object:
        if str(file).endswith("/cgroup"):
            folder = Path(tempfile.gettempdir(), f"cgroup-{os.getpid()}")
            folder.write_text(text)
            file = folder
        return real(file, *arguments, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(unseen_users, "open", opened, raising=False)


@pytest.mark.parametrize(("uid", "keeps"), [(0, False), (NOBODY, True)])
def test_name_of_a_keeper_of_sessions_is_believed_of_roots_processes_alone(
    tree: Path, monkeypatch: pytest.MonkeyPatch, uid: int, keeps: bool
) -> None:
    """Anybody can call a process so."""
    unseen_by(monkeypatch, shell(uid, name="sshd"))
    rights(monkeypatch, uid, capabilities=unseen_users.OVERRIDES)
    monkeypatch.setattr(unseen_users, "reaches", lambda *_: True)
    assert bool(ask().unseen(tree)) == keeps


@pytest.mark.parametrize(
    ("group", "name", "keeps"),
    [
        ("0::/system.slice/nginx.service\n", "nginx", False),
        ("0::/system.slice/system-getty.slice/getty@tty1.service\n", "bash", False),
        ("0::/system.slice/systemd-udevd.service/udev\n", "(udev-worker)", False),
        (
            "12:cpu:/\n1:name=systemd:/system.slice/nginx.service\n0::/system.slice/nginx.service\n",
            "nginx",
            False,
        ),
        ("0::/system.slice/cron.service\n", "cron", False),
        ("0::/system.slice/cron.service\n", "backup.sh", True),
        ("0::/user.slice/user-0.slice/session-3.scope\n", "bash", True),
        ("0::/user.slice/user-0.slice/session-3.scope\n", "sshd", False),
        ("0::/system.slice/docker-0123.scope\n", "node", True),
        ("0::/system.slice/docker-0123.scope/system.slice/nginx.service\n", "nginx", True),
        ("0::/system.slice/containerd.service/kubepods-burstable:cri:01\n", "node", True),
        (
            "0::/machine.slice/systemd-nspawn@x.service/payload/system.slice/nginx.service\n",
            "nginx",
            True,
        ),
        ("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope\n", "node", True),
        ("0::/\n", "bash", True),
    ],
)
def test_of_roots_unseen_processes_all_but_services_could_be_at_work(
    tree: Path, monkeypatch: pytest.MonkeyPatch, group: str, name: str, keeps: bool
) -> None:
    unseen_by(monkeypatch, shell(name=name))
    rights(monkeypatch, 0)
    in_group(monkeypatch, group)
    reason = ask().unseen(tree)
    assert (reason is not None) == keeps
    assert reason is None or f"{name} (pid 4000000) cannot be looked into" in reason
    assert ask(Config(safety=SafetySettings(ours_alone=(str(tree.parent),)))).unseen(tree) is None


@pytest.mark.root
@pytest.mark.parametrize(
    ("modes", "groups", "capabilities", "reaches"),
    [
        ((0o755, 0o755), (), 0, True),
        ((0o700, 0o755), (), 0, False),
        ((0o755, 0o700), (), 0, False),
        ((0o750, 0o755), (), 0, False),
        ((0o750, 0o755), (4711,), 0, True),
        ((0o705, 0o755), (4711,), 0, False),
        ((0o700, 0o700), (), unseen_users.OVERRIDES, True),
    ],
)
def test_another_users_unseen_process_counts_where_it_can_get(
    public: Path,
    monkeypatch: pytest.MonkeyPatch,
    modes: tuple[int, int],
    groups: tuple[int, ...],
    capabilities: int,
    reaches: bool,
) -> None:
    tree = public / "home" / "tree"
    tree.mkdir(parents=True)
    for path, mode in zip((tree.parent, tree), modes, strict=True):
        os.chown(path, 1000, 4711)
        path.chmod(mode)
    unseen_by(monkeypatch, shell(uid=2000))
    rights(monkeypatch, 2000, *groups, capabilities=capabilities)
    assert (ask().unseen(tree) is not None) == reaches


@pytest.mark.root
def test_list_of_who_may_makes_a_closed_folder_unsure(
    public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("setfacl"):
        pytest.skip("needs setfacl")
    public.chmod(0o750)
    unseen_by(monkeypatch, shell(uid=2000))
    rights(monkeypatch, 2000)
    assert ask().unseen(public) is None
    subprocess.run(["setfacl", "-m", "u:2000:rx", str(public)], check=True)
    assert ask().unseen(public) is not None


@pytest.mark.root
@pytest.mark.parametrize("shared", [True, False])
def test_unseen_process_with_other_mounts_counts_where_these_lead_there(
    public: Path,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    shared: bool,
    mounted: Callable[..., Path],
) -> None:
    """A container whose mounts show nothing of the folder, and one that was given just it, though
    its home is closed.
    """
    disk = mounted("tmpfs", "1M")
    for folder in ("src/tree", "other"):
        (disk / folder).mkdir(parents=True)
    (disk / "src").chmod(0o700)
    given = disk / ("src/tree" if shared else "other")
    script = (
        f'mount --bind "{given}" "{public}" && umount -l "{disk}" && echo ready && exec sleep 100'
    )
    process = ready(
        start("unshare", "--mount", "sh", "-c", script, stdout=subprocess.PIPE, cwd="/")
    )
    unseen_by(monkeypatch, shell(pid=process.pid, uid=2000))
    for uid in (0, 2000):
        rights(monkeypatch, uid)
        assert (ask().unseen(disk / "src" / "tree") is not None) == shared


def test_what_keeps_a_browser_from_files_is_no_user(
    tree: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start("sh", "-c", "sleep 100; true", "--type=renderer")
    wait_for(process.cmdline)
    unseen_by(monkeypatch, shell(pid=process.pid, uid=os.geteuid(), name="code"))
    for seccomp, keeps in ((2, False), (0, True)):
        monkeypatch.setattr(
            unseen_users,
            "rights",
            lambda _pid, mode=seccomp: unseen_users.Rights(os.geteuid(), frozenset(), 0, mode),
        )
        assert (ask().unseen(tree) is not None) == keeps


def test_process_that_has_ended_meanwhile_is_no_user(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseen_by(monkeypatch, shell())
    assert ask().unseen(tree) is None


@pytest.mark.parametrize(
    "kind", ["nfs4", "cifs", "9p", "virtiofs", "vboxsf", "vmhgfs", "fuse.sshfs", "ext4"]
)
def test_filesystem_of_several_hosts_hides_users(
    tree: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    unseen_by(monkeypatch)
    point = MountPoint(1, 1, "/", "/", kind, "somewhere")
    monkeypatch.setattr(mount_table, "mount_of", lambda *_: point)
    reason = ask().unseen(tree)
    assert reason == (
        None
        if kind == "ext4"
        else f"users on other hosts cannot be seen ({kind}); if there are none, {users.ALONE}"
    )
    assert ask(Config(safety=SafetySettings(ours_alone=(str(tree),)))).unseen(tree) is None


@pytest.mark.root
def test_folder_of_a_filesystem_in_user_space_is_kept_unless_it_is_ours_alone(
    tree: Path, tmp_path: Path
) -> None:
    if not shutil.which("bindfs") or not os.path.exists("/dev/fuse"):
        pytest.skip("needs bindfs")
    point = tmp_path / "point"
    point.mkdir()
    if subprocess.run(["bindfs", str(tree), str(point)], check=False).returncode:
        pytest.skip("no FUSE here")
    try:
        assert "fuse" in (ask().unseen(point / "deep") or "")
        assert (
            ask(Config(safety=SafetySettings(ours_alone=(str(point),)))).unseen(point / "deep")
            is None
        )
        assert "bindfs" in users.words(ask().user(tree) or pytest.fail("it has the folder open"))
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.mark.parametrize(
    ("option", "gid", "hides"),
    [
        ("hidepid=0", "", False),
        ("hidepid=off", "", False),
        ("hidepid=1", "", True),
        ("hidepid=invisible", "", True),
        ("hidepid=invisible", ",gid={ours}", False),
        ("hidepid=ptraceable", ",gid={ours}", True),
    ],
)
def test_hidden_processes_are_a_reason_but_for_root(
    tree: Path, monkeypatch: pytest.MonkeyPatch, option: str, gid: str, hides: bool
) -> None:
    unseen_by(monkeypatch)
    text = option + gid.format(ours=os.getgroups()[0] if os.getgroups() else 0)
    monkeypatch.setattr(
        os, "getgroups", lambda: [int(text.rpartition("gid=")[2])] if "gid" in text else []
    )
    options = dict(each.partition("=")[::2] for each in text.split(","))
    monkeypatch.setattr(visibility, "mount_options", lambda _path: options)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert ("hidepid" in (ask().unseen(tree) or "")) == hides
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(visibility, "users_of_the_host", lambda: True)
    assert ask().unseen(tree) is None


@pytest.mark.root
def test_options_of_a_real_mount_are_read(tmp_path: Path) -> None:
    script = (
        "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid 65534 --clear-groups "
        f"{sys.executable} -c \"import sys; sys.path.insert(0, '{Path.cwd()}')\nfrom "
        "miyabi_healing.host import visibility\n"
        "print(visibility.mount_options('/proc').get('hidepid'))\""
    )
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            script.replace("setpriv --reuid 65534 --clear-groups ", ""),
        ],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() in ("2", "invisible"), done.stderr


def test_relative_folder_cannot_be_ours_alone() -> None:
    with pytest.raises(ValueError, match="absolute"):
        SafetySettings(ours_alone=("workspaces",))


def test_link_out_of_what_is_ours_alone_leads_out(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseen_by(monkeypatch, shell())
    rights(monkeypatch, 0)
    (tmp_path / "beside" / "link").symlink_to(tree)
    alone = Config(safety=SafetySettings(ours_alone=(str(tmp_path / "beside"),)))
    assert ask(alone).unseen(tmp_path / "beside" / "file") is None
    assert ask(alone).unseen(tmp_path / "beside" / "link" / "deep") is not None


# What the gate asks


def kinds(kind: type[Step] = Step) -> Iterator[type[Step]]:
    for each in kind.__subclasses__():
        yield each
        yield from kinds(each)


@pytest.mark.parametrize(
    "kind",
    [each for each in kinds() if each.__module__ == steps.__name__],
    ids=lambda kind: kind.__name__,
)
def test_every_kind_of_step_says_what_somebody_could_be_using(kind: type[Step]) -> None:
    assert kind.kind in table.HANDLERS


def test_unknown_kind_of_step_is_not_carried_out(tmp_path: Path) -> None:
    class Burn(Step):
        kind = "burn"

    with pytest.raises(TypeError):
        table.target_use(Burn(target="", reason=""))
    (outcome,) = carry_out(
        plan(Burn(target="", reason="")),
        Context(Host(Config()), "run", tmp_path / "state", (tmp_path,)),
    )
    assert (outcome.status, "does not know" in outcome.message) == ("vetoed", True)


def quarantine(path: Path) -> Quarantine:
    return Quarantine(target="", reason="", path=path, identity=identity_at(path))


def context(folder: Path, config: Config | None = None) -> Context:
    return Context(Host(config or Config()), "run", folder / "state", (folder,))


def test_what_somebody_uses_is_not_set_aside_whatever_its_healer_says(
    tree: Path, tmp_path: Path, start: Start
) -> None:
    process = start("sleep", "100", cwd=tree / "deep")
    wait_for(lambda: ask().user(tree))
    (outcome,) = carry_out(plan(quarantine(tree)), context(tmp_path))
    assert (outcome.status, outcome.message) == ("skipped", f"in use by sleep (pid {process.pid})")
    process.kill()
    process.wait()
    (outcome,) = carry_out(plan(quarantine(tree)), context(tmp_path))
    assert outcome.status == "applied"


def test_whoever_comes_at_the_last_moment_keeps_it(
    tree: Path, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = quarantine_writer.quarantine_path

    def late(*arguments: object, **named: object) -> object:
        start("sleep", "100", cwd=tree / "deep")
        wait_for(lambda: ask().user(tree))
        return take(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(quarantine_writer, "quarantine_path", late)
    (outcome,) = carry_out(plan(quarantine(tree)), context(tmp_path))
    assert (outcome.status, outcome.message.partition(",")[0]) == (
        "skipped",
        "in use at the last moment",
    )
    assert (tree / "deep" / "file").read_text() == "x"


def every_kind(folder: Path) -> Iterator[Step]:
    """A step of each kind whose target somebody could be using."""
    log, cache = folder / "app.log", folder / "cache"
    log.write_bytes(b"some line of a log\n" * 100_000)
    then = time.time() - 9 * 86_400
    os.utime(log, (then, then))
    cache.mkdir()
    (cache / "part").write_text("x")
    unit = steps.Unit(
        path=cache / "part",
        identity=identity_at(cache / "part"),
        files=1,
        bytes=4096,
        newest=time.time(),
    )
    told: dict[str, str] = {"target": "", "reason": ""}
    yield quarantine(cache)
    yield steps.ArchiveLog(**told, path=log, identity=identity_at(log))  # type: ignore[arg-type]
    one = steps.BundledLog(name=log.name, identity=identity_at(log), bytes=4096)
    yield steps.ArchiveLogs(**told, folder=log.parent, files=(one,))  # type: ignore[arg-type]
    for kind in (steps.TrimLog, steps.CutLog):
        yield kind(**told, path=log, identity=identity_at(log), keep_lines=3, keep_bytes=1000)  # type: ignore[arg-type]
    yield steps.Delete(**told, root=cache, units=(unit,))  # type: ignore[arg-type]
    yield steps.Run(**told, argv=("true",), time_limit=9, changes=(cache,))  # type: ignore[arg-type]


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("alone", [False, True])
def test_what_somebody_unseen_could_be_using_is_left_alone_by_steps_of_every_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, alone: bool
) -> None:
    step = [*every_kind(tmp_path)][number]
    monkeypatch.setattr(users, "container", lambda: "this is a container")
    safety = SafetySettings(
        disposable=(str(tmp_path / "cache"),), ours_alone=(str(tmp_path),) if alone else ()
    )
    (outcome,) = carry_out(plan(step), context(tmp_path, Config(safety=safety)))
    if alone:
        assert outcome.status == "applied", outcome.message
    else:
        assert (outcome.status, "who uses it from outside cannot be seen" in outcome.message) == (
            "skipped",
            True,
        )


def test_one_look_serves_all_that_a_step_is_asked_before_it_is_carried_out(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[OpenFiles] = []
    scan = users.scan_open_files

    def counted() -> OpenFiles:
        scans.append(scan())
        return scans[-1]

    monkeypatch.setattr(users, "scan_open_files", counted)
    log = tmp_path / "app.log"
    log.write_bytes(b"some line of a log\n" * 100_000)
    step = steps.ArchiveLog(target="", reason="", path=log, identity=identity_at(log))
    for each, expected in ((quarantine(tree), 2), (step, 3)):
        scans.clear()
        (outcome,) = carry_out(
            plan(each), replace(context(tmp_path), state=tmp_path / f"state {expected}")
        )
        assert outcome.status == "applied", outcome.message
        assert len(scans) == expected  # one before, and those that come late on purpose


@pytest.mark.parametrize("ends", [True, False])
def test_process_that_ends_while_it_is_looked_at_is_nobody_unseen(
    monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """Linux may say "permission denied" of one that is just gone; of one that lives, it counts."""
    with subprocess.Popen(["sleep", "100"]) as child:
        found = read_process(child.pid)
        assert found is not None
        mounts = open_files._mounts_of

        def refused(pid: object) -> int:
            if pid != child.pid:
                return mounts(pid)  # type: ignore[arg-type]
            if ends:
                child.kill()
                child.wait()
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(open_files, "living", lambda: (found,))
        monkeypatch.setattr(open_files, "_mounts_of", refused)
        assert open_files.scan_open_files().unseen == (() if ends else (found,))
        child.kill()
