"""Whose something is: by every folder on the way, every file in it, groups and access lists, and
never by one name alone.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import program
import pytest
from program import environment, settings

from conftest import PROJECT
from miyabi_healing.host import caches
from miyabi_healing.model import config
from miyabi_healing.runner import registry
from miyabi_healing.support import command_errors, commands, ownership, paths
from miyabi_healing.support.files import read_small
from miyabi_healing.support.formatting import display, printable

THEM = 65534  # nobody, whose group is its own
ROOT_ONLY = frozenset((0,))


@pytest.fixture
def top() -> Iterator[Path]:
    """A folder that other users can get at; pytest's own are root's alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def says(path: Path, users: frozenset[int] | None = None) -> str:
    return ownership.ownership_objection(path, ownership.us() if users is None else users) or ""


def test_what_only_we_can_write_is_trusted(top: Path) -> None:
    (top / "file").write_text("x")
    assert says(top / "file") == ""


@pytest.mark.parametrize(("mode", "said"), [(0o646, "by everybody"), (0o664, "by the group")])
def test_file_that_others_can_write_is_not(top: Path, mode: int, said: str) -> None:
    (top / "file").write_text("x")
    os.chown(top / "file", -1, THEM if os.geteuid() == 0 else -1)
    (top / "file").chmod(mode)
    if os.geteuid() == 0 or mode & 0o002:
        assert f"can be written {said}" in says(top / "file")


def test_folder_on_the_way_that_others_can_write_spoils_all_below(top: Path) -> None:
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("x")
    (top / "a").chmod(0o777)
    assert says(top / "a" / "b" / "file") == f"{top}/a can be written by everybody"
    (top / "a").chmod(0o1777)  # as /tmp: only its owner, and a name's own, can exchange that name
    assert says(top / "a" / "b" / "file") == ""
    assert "can be written by everybody" in says(top / "a")


@pytest.mark.root
def test_link_on_the_way_counts_as_its_owners(top: Path) -> None:
    (top / "real").mkdir()
    (top / "real" / "file").write_text("x")
    (top / "link").symlink_to("real")
    assert says(top / "link" / "file") == ""
    os.lchown(top / "link", THEM, THEM)
    assert f"{top}/link belongs to" in says(top / "link" / "file")
    assert says(top / "link" / "file", frozenset((0, THEM))) == ""


@pytest.mark.root
def test_folder_of_another_user_on_the_way_counts_as_theirs(top: Path) -> None:
    (top / "theirs").mkdir()
    (top / "theirs" / "file").write_text("of root")
    os.chown(top / "theirs", THEM, THEM)
    assert "belongs to nobody" in says(top / "theirs" / "file")
    assert says(top / "theirs" / "file", frozenset((0, THEM))) == ""


def test_group_of_which_nobody_else_is_a_member_may_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """As user private groups are, which Debian and Fedora make for everybody."""
    accounts = [pwd.struct_passwd(("me", "x", 1000, 1000, "", "/home/me", "/bin/sh"))]
    members: list[str] = []
    monkeypatch.setattr(pwd, "getpwall", lambda: accounts)
    monkeypatch.setattr(
        pwd, "getpwnam", lambda name: {"me": accounts[0], "you": accounts[-1]}[name]
    )
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group(("g", "x", gid, members)))

    def private() -> bool:
        ownership.is_private_group.cache_clear()
        return ownership.is_private_group(1000, frozenset((0, 1000)))

    assert private()
    members.append("me")
    assert private()
    members.append("a stranger to passwd")
    assert not private()
    members[:] = []
    accounts.append(pwd.struct_passwd(("you", "x", 1001, 1000, "", "/home/you", "/bin/sh")))
    assert not private()  # the group is another account's own, too
    accounts[-1] = pwd.struct_passwd(("you", "x", 1001, 1001, "", "/home/you", "/bin/sh"))
    assert private()
    members.append("you")
    assert not private()
    ownership.is_private_group.cache_clear()


@pytest.mark.root
def test_access_list_that_lets_somebody_write_is_seen(top: Path) -> None:
    if not shutil.which("setfacl"):
        pytest.skip("needs setfacl")
    (top / "file").write_text("x")
    done = subprocess.run(
        ["setfacl", "-m", f"u:{THEM}:rw", str(top / "file")], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no access lists here: {done.stderr}")
    assert "access list" in says(top / "file", ROOT_ONLY)


@pytest.mark.root
@pytest.mark.parametrize("what", ["file", "subfolder", "compiled", "link", "nothing"])
def test_tree_is_trusted_only_with_all_that_is_in_it(top: Path, what: str) -> None:
    folder = top / "checks"
    (folder / "deep" / "__pycache__").mkdir(parents=True)
    (folder / "test_a.py").write_text("")
    (folder / "deep" / "__pycache__" / "a.pyc").write_text("")
    (top / "elsewhere.py").write_text("")
    (folder / "deep" / "test_b.py").symlink_to(top / "elsewhere.py")
    if what == "file":
        os.chown(folder / "test_a.py", 0, THEM)
        (folder / "test_a.py").chmod(0o664)
    elif what == "subfolder":
        (folder / "deep").chmod(0o777)
    elif what == "compiled":
        os.chown(folder / "deep" / "__pycache__" / "a.pyc", THEM, THEM)
    elif what == "link":
        (top / "elsewhere.py").chmod(0o666)
    if what == "nothing":
        registry.refuse_untrusted(folder)
    else:
        with pytest.raises(config.ConfigError, match="code of others is not run"):
            registry.refuse_untrusted(folder)


# Tools


@pytest.mark.root
@pytest.mark.parametrize("whose", ["everybody's", "theirs", "ours"])
def test_tool_in_a_folder_that_others_can_write_is_not_started(
    top: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    folder = top / "bin"
    folder.mkdir()
    (folder / "a-tool").write_text("#!/bin/sh\necho ran\n")
    (folder / "a-tool").chmod(0o755)
    if whose == "everybody's":
        folder.chmod(0o777)
    elif whose == "theirs":
        os.chown(folder, THEM, THEM)
        os.chown(folder / "a-tool", THEM, THEM)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    if whose == "ours":
        assert commands.run_program(["a-tool"], time_limit=10).stdout == b"ran\n"
        return
    assert commands.find_program("a-tool") is None
    with pytest.raises(command_errors.ToolError, match="not started: others can write"):
        commands.run_program(["a-tool"], time_limit=10)
    if whose == "theirs":  # in whose own name their own tool may run
        assert commands.run_program(["a-tool"], time_limit=10, user=THEM).stdout == b"ran\n"
    assert (
        str(folder)
        not in commands.run_program(["sh", "-c", "echo $PATH"], time_limit=10).stdout.decode()
    )


@pytest.mark.root
def test_tool_behind_a_link_into_a_strangers_folder_is_not_started(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (top / "bin").mkdir()
    (top / "theirs").mkdir()
    (top / "theirs" / "tool").write_text("#!/bin/sh\n")
    (top / "theirs" / "tool").chmod(0o755)
    (top / "bin" / "tool").symlink_to(top / "theirs" / "tool")
    os.chown(top / "theirs", THEM, THEM)
    monkeypatch.setenv("PATH", str(top / "bin"))
    assert "theirs belongs to nobody" in commands.missing("tool")


@pytest.mark.root
def test_program_of_another_user_gets_nothing_of_our_environment_and_cannot_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    monkeypatch.setenv("LD_PRELOAD_X", "secret")
    seen = commands.run_program(["env"], time_limit=10, user=THEM).stdout.decode()
    names = {line.partition("=")[0] for line in seen.splitlines()}
    assert names <= {*commands.LISTED, "HOME", "USER", "LOGNAME", "SHELL", "PATH", "LC_ALL"}, names
    assert f"HOME={pwd.getpwuid(THEM).pw_dir}\n" in seen
    ids = commands.run_program(
        ["sh", "-c", "grep -E '^(Uid|Gid|Groups)' /proc/self/status"], time_limit=10, user=THEM
    ).stdout.split()
    assert (
        ids
        == f"Uid: {THEM} {THEM} {THEM} {THEM} Gid: {THEM} {THEM} {THEM} {THEM} Groups: "
        f"{THEM}".encode().split()
    )


def test_our_own_tools_keep_our_environment_but_git_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NPM_TOKEN", "ours")
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    assert (
        b"NPM_TOKEN" in commands.run_program(["env"], time_limit=10, whole_environment=True).stdout
    )
    assert (
        b"GIT_DIR"
        not in commands.run_program(["env"], time_limit=10, whole_environment=True).stdout
    )
    assert b"NPM_TOKEN" not in commands.run_program(["env"], time_limit=10).stdout


def test_tool_that_prints_for_ever_is_stopped_before_it_fills_our_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "MOST_OUTPUT", 1 << 20)
    with pytest.raises(command_errors.ToolError, match="printed more than 1 MiB"):
        commands.run_program(["yes"], time_limit=60)
    said = commands.run_program(
        ["sh", "-c", "yes | head -c 3000000 >&2; echo last words >&2"], time_limit=60
    )
    assert (len(said.stderr), said.complaint) == (commands.LAST_WORDS, "last words")


def test_tool_starts_in_the_very_folder_that_was_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    descriptor = os.open(tmp_path / "a", os.O_RDONLY)
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").mkdir()
    assert (
        commands.run_program(["pwd", "-P"], time_limit=10, cwd=descriptor).stdout
        == os.fsencode(tmp_path / "b") + b"\n"
    )
    os.close(descriptor)


@pytest.mark.parametrize(("mode", "said"), [(0o777, "can be written by everybody"), (0o755, "")])
def test_caches_in_a_home_that_others_can_write_are_left_alone(
    home: Path, mode: int, said: str
) -> None:
    (home / ".npm" / "_cacache").mkdir(parents=True)
    home.chmod(mode)
    (cache,) = caches.find_caches(config.CacheSettings(homes=(str(home),)))
    assert said in cache.trouble
    assert bool(cache.trouble) == bool(said)


# What others write


@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "large", "endless"])
def test_only_a_small_regular_file_is_read_and_nothing_waits(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "file"
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "link":
        (tmp_path / "target").write_text("x")
        file.symlink_to("target")
    elif kind == "folder":
        file.mkdir()
    elif kind == "large":
        file.touch()
        os.truncate(file, 8 << 30)
    else:
        file.symlink_to("/dev/zero")
    with pytest.raises(OSError, match=r"no regular file|larger than|symbolic links"):
        read_small(file)
    assert read_small(Path(__file__), limit=1 << 20).startswith(b'"""Whose')
    assert read_small(Path(__file__), limit=8, whole=False) == b'"""Whose'


@pytest.mark.root
def test_content_that_the_owner_of_a_thing_could_not_read_is_not_read_for_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o600)
    assert read_small(tmp_path / "secret", owner=0) == b"x"
    with pytest.raises(PermissionError):
        read_small(tmp_path / "secret", owner=THEM)
    (tmp_path / "secret").chmod(0o644)
    assert read_small(tmp_path / "secret", owner=THEM) == b"x"


def test_every_text_of_a_report_is_one_printable_line() -> None:
    seen = printable(
        {
            "a\n": ["\x1b[2J", ("b\r", 1, None, True)],
            "bidi": "\u202egpj",
            "half": "\ud800\udcff",
            "ok": "für ✅",
        }
    )
    assert seen == {
        "a\\n": ["\\x1b[2J", ["b\\r", 1, None, True]],
        "bidi": "\\u202egpj",
        "half": "\\ud800\\udcff",
        "ok": "für ✅",
    }
    assert display(display("\n")) == "\\n"


# Configuration, state and environment


@pytest.mark.root
@pytest.mark.parametrize("whose", ["theirs", "their group's", "ours"])
def test_root_obeys_no_configuration_that_others_can_change(
    home: Path, top: Path, whose: str
) -> None:
    file = top / "config.toml"
    file.write_text(Path(settings(home)).read_text())
    if whose == "theirs":
        os.chown(file, THEM, THEM)
    elif whose == "their group's":
        os.chown(file, 0, THEM)
        file.chmod(0o664)
    done = program.run("--config", str(file), "--dry-run")
    assert done.returncode == (0 if whose == "ours" else 2), done.stderr
    assert ("root obeys no configuration that others can change" in done.stderr) == (
        whose != "ours"
    )


@pytest.mark.root
def test_root_leaves_nothing_in_another_users_home(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `sudo -E`: what root records is in root's own home, and nobody's link leads it
    anywhere.
    """
    hers, roots = top / "home" / "alice", top / "root"
    hers.mkdir(parents=True)
    roots.mkdir()
    for name in [each for each in os.environ if each.startswith("XDG_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(
        pwd,
        "getpwuid",
        lambda uid: pwd.struct_passwd(("root", "x", uid, 0, "", str(roots), "/bin/sh")),
    )
    monkeypatch.setenv("HOME", str(hers))
    # a home of root's own, wherever
    assert paths.state_folder() == hers / ".local/state/miyabi-healing"
    assert paths.note_on_home() == ""
    os.chown(hers, THEM, THEM)
    assert paths.state_folder() == roots / ".local/state/miyabi-healing"
    assert paths.config_candidates()[0] == roots / ".config/miyabi-healing/config.toml"
    assert "belongs to another user, or lies in a folder that does" in paths.note_on_home()
    monkeypatch.setenv("XDG_STATE_HOME", str(hers / "state"))
    assert paths.state_folder() == roots / "state/miyabi-healing"
    monkeypatch.setenv("HOME", str(top))
    os.chown(hers, 0, 0)
    (hers / "state").symlink_to(roots)
    os.lchown(hers / "state", THEM, THEM)
    assert paths.state_folder() == roots / "home/alice/state/miyabi-healing"


def test_state_folder_below_a_folder_that_others_can_write_is_refused(home: Path) -> None:
    above = home / ".local"
    (above / "state" / "miyabi-healing").mkdir(parents=True, mode=0o700)
    assert paths.distrust(above / "state" / "miyabi-healing") is None
    above.chmod(0o777)
    assert "can be written by everybody" in str(paths.distrust(above / "state" / "miyabi-healing"))
    done = program.run("--config", settings(home))
    assert "can be written by everybody" in done.stdout + done.stderr or done.returncode == 0
    assert not (above / "state" / "miyabi-healing" / paths.JOURNAL).exists()


@pytest.mark.root
@pytest.mark.parametrize("whose", ["theirs", "everybody's", "ours"])
def test_root_does_not_execute_an_environment_that_others_can_change(
    top: Path, copy: Path, home: Path, whose: str
) -> None:
    project = top / "project"
    shutil.copytree(copy, project, symlinks=True)
    if whose == "theirs":
        os.chown(project / ".venv" / "bin" / "python", THEM, THEM, follow_symlinks=False)
    elif whose == "everybody's":
        (project / ".venv" / "bin").chmod(0o777)
    done = subprocess.run(
        [str(project / "run_healing.sh"), "--version"],
        env=environment(),
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == (0 if whose == "ours" else 3), done.stderr
    assert ("root does not execute" in done.stderr) == (whose != "ours")
