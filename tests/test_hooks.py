"""Hooks of agents and of git: what a person wrote stays as it is, a malformed file is left alone,
and no hook makes anybody wait.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
from program import environment, run

from conftest import wait_for
from miyabi_healing.cli.setup import hook_files
from miyabi_healing.cli.setup.hook_places import NoHook, find_file, write_file

PROGRAM = ("/opt/it's 100 %/run_healing.sh", "--config", "/x/ü.toml")
SETTINGS = [
    None,
    b"{}",
    b"{}\n",
    b"{\n}\n",
    b"{ }",
    b'{"model":"x","a":[1,2]}',
    b'{\n    "b": 1,\n    "hooks": {},\n    "a": "\xc3\xbc"\n}',
    b'{\r\n\t"hooks": {\r\n\t\t"SessionEnd": []\r\n\t},\r\n\t"z": {"odd":   1}\r\n}\r\n',
    b'{"hooks": {"SessionEnd": [{"hooks": [{"command": "mine"}]}],\n "Stop": []}}',
    b'{\n  "hooks": {\n    "Stop": [{"matcher": "", "hooks": []}]\n  }\n}\n',
]
TOML = [
    None,
    b"",
    b"# mine\nmodel = 'x'\n",
    b"[a]\nb = 1 # no end of a line",
    b"[[hooks.SessionEnd]]\n[[hooks.SessionEnd.hooks]]\ntype = 'command'\ncommand = 'mine'\n",
]
SCRIPTS = [
    None,
    b"#!/bin/sh\n",
    b"#!/usr/bin/env bash\nset -e\nexit 1\n",
    b"#!/bin/sh -e\necho no end",
]
FILES = [
    *(("claude", each) for each in SETTINGS),
    *(("codex", each) for each in TOML),
    *(("git", each) for each in SCRIPTS),
]


@pytest.mark.parametrize(("kind", "before"), FILES)
def test_file_is_byte_for_byte_what_it_was_when_the_hook_is_gone(
    kind: str, before: bytes | None
) -> None:
    after = hook_files.with_hook(kind, before, PROGRAM, False)
    assert after.count(hook_files.MARKER.encode()) == (1 if kind == "claude" else 2)
    assert hook_files.with_hook(kind, after, PROGRAM, False) == after
    looks = hook_files.with_hook(kind, after, PROGRAM, True)
    assert looks == hook_files.with_hook(kind, before, PROGRAM, True) != after
    assert hook_files.without_hook(kind, after) == before
    if before is not None:
        assert hook_files.without_hook(kind, before) == before


def handlers(kind: str, data: bytes) -> list[dict[str, object]]:
    parsed = json.loads(data) if kind == "claude" else tomllib.loads(data.decode())
    return [each for group in parsed["hooks"]["SessionEnd"] for each in group["hooks"]]


@pytest.mark.parametrize(("kind", "before"), [each for each in FILES if each[0] != "git"])
def test_agent_reads_its_own_settings_and_one_hook_more(kind: str, before: bytes | None) -> None:
    after = hook_files.with_hook(kind, before, PROGRAM, False)
    *others, ours = handlers(kind, after)
    theirs = before is not None and b"SessionEnd" in before and b"mine" in before
    assert [each["command"] for each in others] == (["mine"] if theirs else [])
    assert (ours["type"], 0 < int(str(ours["timeout"])) <= 5) == ("command", True)
    assert shlex.join(PROGRAM)[1:].split("'")[0] in str(ours["command"])
    text = (before or b"").decode()
    without = json.loads(text or "{}") if kind == "claude" else tomllib.loads(text)
    parsed = json.loads(after) if kind == "claude" else tomllib.loads(after.decode())
    assert {**parsed, "hooks": 0} == {**without, "hooks": 0}


def test_settings_that_the_agent_wrote_anew_lose_the_hook_and_nothing_else() -> None:
    after = hook_files.with_hook("claude", None, PROGRAM, False)
    mine = {"hooks": [{"type": "command", "command": "mine"}]}
    theirs = {"model": "x", **json.loads(after)}
    theirs["hooks"]["SessionEnd"].insert(0, mine)
    left = hook_files.without_hook("claude", json.dumps(theirs, indent=4).encode())
    assert json.loads(left or b"") == {"model": "x", "hooks": {"SessionEnd": [mine]}}


def test_what_was_added_after_the_hook_stays() -> None:
    after = hook_files.with_hook("codex", b"a = 1", PROGRAM, False)
    assert hook_files.without_hook("codex", after + b"\n[b]\nc = 2\n") == b"a = 1\n[b]\nc = 2\n"


@pytest.mark.parametrize(
    ("kind", "before", "said"),
    [
        ("claude", b'{\n  "a": 1,\n}\n', ":3: it is no JSON"),
        ("claude", b"", ":1: it is no JSON"),
        ("claude", b"[]", ":1: what it holds is not an object"),
        ("claude", b'{\n"hooks": []}', ":2: hooks is not an object"),
        ("claude", b'{"hooks": {"SessionEnd": {}}}', ":1: hooks.SessionEnd is not a list"),
        ("claude", b'{"a": "\xff"}', ":1: it is not UTF-8"),
        ("codex", b"a = 1\nb =\n", ":2: it is no TOML"),
        ("codex", b"[hooks]\nSessionEnd = []\n", ": its hooks are written in a form"),
        ("git", b"#!/usr/bin/env python3\nprint()\n", ":1: it is no shell script"),
        ("git", b"\x7fELF\x02", ":1: it is no shell script"),
        ("git", b"#!/bin/sh\n# BEGIN " + hook_files.MARKER.encode() + b"\n", ":2: the line that"),
    ],
)
def test_file_that_cannot_have_it_is_left_alone_and_its_line_named(
    kind: str, before: bytes, said: str
) -> None:
    with pytest.raises(hook_files.Unwritable) as refused:
        hook_files.with_hook(kind, before, PROGRAM, False)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("kind", ["claude", "codex", "git"])
def test_hook_that_somebody_changed_is_neither_taken_for_gone_nor_added_again(kind: str) -> None:
    ours = hook_files.with_hook(kind, None, PROGRAM, False)
    changed = ours.replace(b"hooks (3)", b"hooks (3) #") if kind == "claude" else (
        ours.replace(b"\n", b"\r\n")
    )  # fmt: skip
    for edit in (
        lambda: hook_files.without_hook(kind, changed),
        lambda: hook_files.with_hook(kind, changed, PROGRAM, False),
    ):
        with pytest.raises(hook_files.Unwritable, match="not as it was written"):
            edit()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has groups to give")
def test_group_and_attributes_of_a_file_stay(home: Path) -> None:
    settings = home / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text("{}\n")
    os.chown(settings, -1, 4711)
    settings.chmod(0o640)
    attributes = {"user.mine": b"1"}
    try:
        os.setxattr(settings, "user.mine", b"1")
    except (OSError, AttributeError):  # this filesystem, or this system, has none
        attributes = {}
    write_file(find_file("claude", "."), b"{ }\n")
    status = settings.stat()
    assert (status.st_gid, status.st_mode & 0o777) == (4711, 0o640)
    assert all(os.getxattr(settings, name) == value for name, value in attributes.items())


def test_folder_of_hooks_that_repositories_share_is_named(home: Path) -> None:
    for name in ("one", "hooks"):
        (home / name).mkdir()
    for words in (["init", "-q"], ["config", "core.hooksPath", str(home / "hooks")]):
        subprocess.run(["git", *words], cwd=home / "one", check=True)
    shown = run("hooks", "install", "git", "--dry-run", cwd=home / "one").stdout
    assert f"{home}/hooks (core.hooksPath) is not this repository's alone" in shown
    assert not (home / "hooks" / "post-merge").exists()


def test_command_shows_first_asks_and_takes_back(home: Path) -> None:
    folder = home / "dotfiles"
    folder.mkdir()
    (home / ".claude").mkdir()
    (folder / "settings.json").write_text('{\n  "model": "x"\n}\n')
    (folder / "settings.json").chmod(0o640)
    link = home / ".claude" / "settings.json"
    link.symlink_to(folder / "settings.json")
    for more in ((), ("--dry-run",)):
        done = run("hooks", "install", "claude", *more)
        assert (done.returncode, "needs --yes" in done.stderr) == (
            (0, False) if more else (2, True)
        )
        assert '+    "SessionEnd": [' in done.stdout
        assert link.read_text() == '{\n  "model": "x"\n}\n'
    assert run("hooks", "install", "claude", "--yes").returncode == 0
    assert link.is_symlink()
    assert (folder / "settings.json").stat().st_mode & 0o777 == 0o640
    rows = json.loads(run("hooks", "list", "--json").stdout)["hooks"]
    assert [(each["kind"], each["installed"]) for each in rows] == [
        *(("claude", True), ("codex", False), ("git", False))
    ]
    assert run("hooks", "remove", "claude", "--yes").returncode == 0
    assert link.read_text() == '{\n  "model": "x"\n}\n'


def test_malformed_settings_are_named_with_their_line(home: Path) -> None:
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text("a = 1\nb =\n")
    done = run("hooks", "install", "codex", "--yes")
    assert done.returncode == 2
    assert f"{home}/.codex/config.toml:2: it is no TOML" in done.stderr


def test_agent_that_was_never_used_gets_no_folder(home: Path) -> None:
    with pytest.raises(NoHook, match="start claude once"):
        find_file("claude", ".")
    assert not (home / ".claude").exists()


def test_somebody_elses_settings_are_left_alone(home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs another user")
    (home / ".codex").mkdir()
    os.chown(home / ".codex", 12345, 12345)
    with pytest.raises(NoHook, match="is not yours"):
        find_file("codex", ".")


def test_file_that_changed_since_it_was_shown_is_not_written(home: Path) -> None:
    (home / ".codex").mkdir()
    file = find_file("codex", ".")
    file.path.write_text("theirs")
    with pytest.raises(NoHook, match="changed meanwhile"):
        write_file(file, b"ours")
    assert file.path.read_text() == "theirs"


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(home: Path) -> Path:
    folder = home / "repository"
    git(home, "init", "-q", str(folder))
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    git(folder, "checkout", "-q", "-b", "topic")
    git(folder, "commit", "-q", "--allow-empty", "-m", "second")
    git(folder, "checkout", "-q", "main")
    return folder


def test_merge_does_not_wait_for_the_run_and_the_hook_that_was_there_runs_on(
    home: Path, repository: Path
) -> None:
    program = home / "run it.sh"
    os.mkfifo(home / "pipe")
    program.write_text(
        f'#!/bin/sh\nread x < "{home}/pipe"; env > "{home}/ran"; pwd >> "{home}/ran"\n'
    )
    program.chmod(0o755)
    mine = f'#!/bin/sh\nset -e\ntouch "{home}/mine"\nfalse\n'.encode()
    hook = repository / ".git" / "hooks" / "post-merge"
    hook.write_bytes(hook_files.with_hook("git", mine, (str(program),), False))
    hook.chmod(0o755)
    done = subprocess.run(
        ["git", "merge", "topic"],
        cwd=repository,
        env=environment(GIT_DIR=str(repository / ".git"), GIT_WORK_TREE=str(repository)),
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert (home / "mine").exists()
    assert not (home / "ran").exists()  # it is still waiting
    (home / "pipe").write_text("\n")
    wait_for((home / "ran").exists)
    wait_for(lambda: (home / "ran").read_text().endswith(f"{repository}\n"))
    assert "GIT_DIR" not in (home / "ran").read_text()


def test_git_hook_goes_where_git_looks_for_it(home: Path, repository: Path) -> None:
    linked = home / "linked"
    git(repository, "worktree", "add", "-q", str(linked), "topic")
    where = repository / ".git" / "hooks" / "post-merge"
    assert find_file("git", str(linked)).path == where
    shared = home / "shared hooks"
    shared.mkdir()
    git(repository, "config", "core.hooksPath", str(shared))
    assert find_file("git", str(repository)).path == shared / "post-merge"
    git(repository, "config", "core.hooksPath", ".githooks")
    for folder in (repository, linked):
        with pytest.raises(NoHook, match="is part of the project"):
            find_file("git", str(folder))
    git(repository, "config", "--unset", "core.hooksPath")
    where.write_text("#!/bin/sh\n")
    where.chmod(0o644)
    with pytest.raises(NoHook, match="is not executable"):
        find_file("git", str(repository))
    with pytest.raises(NoHook, match="not a git repository"):
        find_file("git", str(home))
