"""The first configuration of a host: what is there is in it, whatever its name, and it can be
read.
"""

from __future__ import annotations

import glob
import math
import os
import pty
import pwd
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from gitworld import git
from program import environment, run

from conftest import PROJECT
from miyabi_healing.cli.setup import config_template, discovery, log_search
from miyabi_healing.host import process_status
from miyabi_healing.host.git import repository_paths
from miyabi_healing.model import config
from miyabi_healing.runner import registry
from miyabi_healing.support import atomic_write, config_loader, mount_table

ODD = [
    "plain",
    'quo"te',
    "back\\slash",
    "new\nline",
    "tab\t",
    "br[a]cket*",
    "ünïcode",
    "#hash",
    "del\x7f",
    "%s",
]


@pytest.fixture
def file(home: Path) -> Path:
    return home / ".config" / "miyabi-healing" / "config.toml"


def repository(path: Path) -> Path:
    path.mkdir(parents=True)
    git(path, "init", "-q")
    git(path, "commit", "-q", "--allow-empty", "-m", "first")
    return path


def logs(folder: Path, size: int = 2_000_000) -> Path:
    folder.mkdir(parents=True)
    (folder / "app.log").write_bytes(b"an ordinary line of a log\n" * (size // 26 + 1))
    return folder


def looked(home: Path, **options: float) -> discovery.Findings:
    return discovery.search_homes([home], **options)  # type: ignore[arg-type]


def test_what_is_found_is_set_and_the_configuration_holds(home: Path, file: Path) -> None:
    repo = repository(home / "src" / "app")
    for number in range(3):
        git(repo, "worktree", "add", "-q", "--detach", str(home / "wt" / f"w{number}"))
    logs(home / ".agent" / "logs")
    (home / ".npm" / "_cacache").mkdir(parents=True)
    (home / ".npm" / "_cacache" / "x").write_bytes(b"x" * 50_000)
    (home / ".cache" / "huggingface" / "hub").mkdir(parents=True)
    done = run("init")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        f"Wrote {file}: repositories: 1 (worktrees: 4), folders with logs: 1, known caches: 2 ("
        in done.stdout
    )
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    text = file.read_text()
    assert '"~/src/app",  # 4 worktrees: 3 in ~/wt\n' in text
    assert re.search(r"#   npm: [5-9]\d\.\d kB in ~/.npm/_cacache\n", text)
    assert text.index("Costly to make again") < text.index("#   huggingface: ")
    settings = config_loader.load_config(str(file))
    assert settings.logs.patterns == (*config.LogSettings().patterns, "~/.agent/logs/*.log")
    assert repository_paths.configured(settings).paths == (str(repo),)
    registry.validate_settings(settings, registry.checks_folders(settings))
    assert run("--dry-run", "--quiet").returncode in (0, 1)


def test_several_repositories_below_a_folder_are_a_pattern_that_finds_them_all(
    home: Path, file: Path
) -> None:
    """Those inside them, and those to come, too; what no pattern finds is named by itself."""
    org = [repository(home / "src" / "org" / name) for name in ("app", "lib")]
    inner = repository(org[0] / "vendor" / "inner")
    alone = [repository(home / name) for name in ("work/one", "dot", ".tool/a", ".tool/b")]
    hidden = repository(home / "src" / "org" / ".hidden" / "app")
    for number in range(3):
        git(org[0], "worktree", "add", "-q", "--detach", str(home / "wt" / f"w{number}"))
    assert run("init").returncode == 0
    text = file.read_text()
    assert '"~/src/org/**",  # 2 repositories, and 1 inside them; 3 linked worktrees\n' in text, (
        text
    )
    assert "# ~/src/org/app: 4 worktrees: 3 in ~/wt\n" in text
    settings = config_loader.load_config(str(file))
    found = repository_paths.configured(settings)
    assert set(found.paths) == {str(each) for each in (*org, inner, *alone, hidden)}
    assert found.notes == ()
    new = repository(home / "src" / "org" / "new")
    assert str(new) in repository_paths.configured(settings).paths


@pytest.mark.parametrize(("number", "budget"), [(20, 20), (21, 200)])
def test_more_worktrees_than_a_run_may_retire_raise_its_budget(
    home: Path, file: Path, number: int, budget: int
) -> None:
    """Wherever they are: here none of two repositories is over its own limit."""
    one, two = repository(home / "src" / "one"), repository(home / "two")
    for each in range(number):
        repo = (one, two)[each % 2]
        git(repo, "worktree", "add", "-q", "--detach", str(home / "wt" / f"w{each}"))
    assert run("init").returncode == 0
    settings = config_loader.load_config(str(file))
    assert settings.budgets.worktrees == budget
    said = "21 linked worktrees in 2 repositories; 20 a run otherwise" in file.read_text()
    assert said == (number == 21)
    assert settings.check("worktree_space").threshold is None


PILES = [
    # GB that worktrees take, their limit, what a run may move, what the quarantine may hold
    (1, None, 20, 50),
    (5, None, 20, 50),
    (5.5, 5, 20, 50),
    (9, 5, 20, 50),
    (18, 9, 20, 50),
    (19, 9, 30, 50),
    (30, 10, 40, 90),
    (121, 60, 200, 200),
    (372, 100, 500, 500),
    (5000, 2000, 6000, 6000),
]


@pytest.mark.parametrize(("gigabytes", "limit", "budget", "held"), PILES)
def test_worktrees_that_take_gigabytes_get_a_limit_below_that_and_one_run_may_take_them(
    home: Path, gigabytes: float, limit: int | None, budget: int, held: int
) -> None:
    """Where the budget or a full quarantine ended it earlier, what is left might never go."""
    repo = repository(home / "app")
    git(repo, "worktree", "add", "-q", "--detach", str(home / "wt" / "w"))
    found = looked(home)
    assert found.space is not None
    ((tree, _),) = found.space.sizes
    found.space = replace(found.space, sizes=((tree, int(gigabytes * 1e9)),))
    text = config_template.render_config(found, "host", "today")
    settings = config_loader.interpret(tomllib.loads(text), "it")
    check = settings.check("worktree_space")
    assert (check.threshold, check.high) == (limit, limit and 2 * limit)
    registry.validate_settings(settings, registry.checks_folders(settings))
    if limit:
        assert limit < gigabytes
    assert (settings.budgets.gigabytes, settings.quarantine.gigabytes) == (budget, held)
    assert gigabytes < min(budget, held)


def test_everything_else_is_commented_out_with_its_default(home: Path) -> None:
    text = run("init", "--output", "-").stdout
    assert config_loader.interpret(tomllib.loads(text), "the defaults") == config.Config()
    active = re.sub(r"^# (\[[\w.]+\]|\w+ = .*)$", r"\1", text, flags=re.MULTILINE)
    settings = config_loader.interpret(tomllib.loads(active), "the defaults")
    registry.validate_settings(settings, registry.checks_folders(settings))
    for name in (
        "disk",
        "git",
        "logs",
        "processes",
        "caches",
        "budgets",
        "policy",
        "quarantine",
        "history",
        "watch",
        "safety",
    ):
        assert getattr(settings, name) == getattr(config.Config(), name)
        assert f"# [{name}]" in text
    assert set(settings.checks) == registry.checks_folders(settings).check_names()
    assert set(settings.healers) == set(registry.checks_folders(settings).healer_files())
    assert settings.checks["disk_space_critical"].threshold == 90
    assert settings.checks["zombie_processes"].gate == (2, 3)
    for name, path in registry.checks_folders(settings).healer_files().items():
        kind = registry.load_healer(name, path)[1]
        assert registry.options(settings, name, kind) == (kind() if kind else registry.NoOptions())


def test_names_that_ask_for_trouble_are_found_again_and_others_are_left_out(
    home: Path, file: Path
) -> None:
    repos = {str(repository(home / "src" / name)) for name in ODD}
    folders = [logs(home / "logs" / name, 1_100_000) for name in ODD]
    outside = repository(Path(os.fsdecode(os.fsencode(home) + b"/\xff\xfe")))
    repos.add(str(repository(Path(os.fsdecode(os.fsencode(home) + b"/src/\xff\xfe")))))
    done = run("init")
    assert done.returncode == 0, done.stderr
    settings = config_loader.load_config(str(file))
    assert set(repository_paths.configured(settings).paths) == repos
    assert r"# left out, for its name is no UTF-8: ~/\xff\xfe" in file.read_text()
    assert outside.is_dir()
    matched = {
        name
        for pattern in settings.logs.patterns[2:]
        for name in glob.glob(os.path.expanduser(pattern))
    }
    assert matched == {str(folder / "app.log") for folder in folders}


def test_home_that_is_a_pattern_itself_is_taken_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "h[o]me"
    folder = logs(odd / "logs")
    monkeypatch.setenv("HOME", str(odd))
    assert glob.glob(os.path.expanduser(config_template.pattern(folder))) == [
        str(folder / "app.log")
    ]
    other = logs(tmp_path / "other*" / "logs")
    settings = config_loader.interpret(
        tomllib.loads(config_template.render_config(looked(other.parent), "host", "today")), "it"
    )
    assert [glob.glob(each) for each in settings.caches.homes] == [[str(other.parent)]]


def test_nothing_is_overwritten(home: Path, file: Path) -> None:
    file.parent.mkdir(parents=True)
    for make in (
        lambda: file.write_text("mine"),
        lambda: file.symlink_to(home / "nowhere"),
        file.mkdir,
    ):
        make()
        done = run("init")
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{file} exists, and is never overwritten" in done.stderr
        file.rmdir() if file.is_dir() else file.unlink()
    assert not (home / "nowhere").exists()
    with pytest.raises(FileExistsError):
        atomic_write.create(home / ".gitconfig", b"late")
    assert b"[user]" in (home / ".gitconfig").read_bytes()


def test_it_writes_where_it_is_told_and_where_it_would_be_read(home: Path, tmp_path: Path) -> None:
    assert run("init", "--output", str(tmp_path / "a" / "b.toml")).returncode == 0
    assert run("--config", str(tmp_path / "c.toml"), "init").returncode == 0
    assert run("init", MIYABI_HEALING_CONFIG=str(tmp_path / "d.toml")).returncode == 0
    assert all(
        config_loader.load_config(str(tmp_path / name)) for name in ("a/b.toml", "c.toml", "d.toml")
    )
    assert not (home / ".config").exists()
    assert run("--dry-run", "init").stdout.startswith("# Miyabi Healing on ")
    assert run("init", "--home", str(tmp_path / "none")).returncode == 2
    (tmp_path / "a file").touch()
    done = run("init", "--output", str(tmp_path / "a file" / "b.toml"))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_on_a_terminal_it_asks_once(answer: str, code: int, home: Path, file: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "self_healer.py"), "init"],
        cwd=home, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b"[Y/n]" not in seen:
        seen += os.read(ours, 4096)
    assert str(file).encode() in seen.replace(b"\r\n", b"")
    os.write(ours, answer.encode() + b"\n")
    try:
        while os.read(ours, 4096):
            pass
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait(20) == code
    assert file.exists() == (code == 0)


# The search


def test_in_a_container_it_offers_to_say_that_folders_from_outside_are_ours_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "ours_alone = []" in config_template.render_config(looked(home), "host", "today")
    monkeypatch.setattr(process_status, "container", lambda: "this is a container")
    shared, inner = str(home / "work"), home / "inner"
    inner.mkdir()
    rows = [
        ("/", "overlay"),
        ("/proc", "proc"),
        ("/dev/shm", "tmpfs"),
        ("/etc/hosts", "ext4"),
        (shared, "virtiofs"),
        (str(inner), "ext4"),
        (str(home / "gone"), "ext4"),
    ]
    table = [
        mount_table.MountPoint(number, 1, "/x", path, kind, "")
        for number, (path, kind) in enumerate(rows)
    ]
    monkeypatch.setattr(mount_table, "mount_table", lambda: tuple(table))
    text = config_template.render_config(looked(home), "host", "today")
    assert f'\n# ours_alone = ["{shared}", "{inner}"]\n' in text
    assert "left alone" in text.partition("# ours_alone")[0].rpartition("[safety]")[2]
    assert tomllib.loads(text).get("safety") is None
    meant = "\n".join(
        line.removeprefix("# ")
        for line in text.splitlines()
        if re.match(r"# (\[safety\]|ours_alone)", line)
    )
    assert config_loader.interpret(tomllib.loads(meant), "x").safety.ours_alone == (
        shared,
        str(inner),
    )
    # no overlay: the whole of it may be somebody else's, too
    table[0] = mount_table.MountPoint(0, 1, "/", "/", "ext4", "")
    assert f'# ours_alone = ["{home}", ' in config_template.render_config(
        looked(home), "host", "today"
    )


def test_search_follows_no_link_goes_not_too_deep_and_leaves_rubbish_alone(
    home: Path, tmp_path: Path
) -> None:
    repository(tmp_path / "elsewhere" / "repo")
    (home / "link").symlink_to(tmp_path / "elsewhere")
    logs(home / "a" / "b" / "c" / "d" / "e" / "f" / "logs")
    for rubbish in ("node_modules", ".cache", ".local/share/Trash"):
        logs(home / rubbish / "logs")
    database = logs(home / "leveldb")
    (database / "CURRENT").touch()
    (home / "small").mkdir()
    (home / "small" / "app.log").write_text("x")
    (home / "small" / "linked.log").symlink_to(database / "app.log")
    found = looked(home)
    assert (found.repos, found.logs, found.complete) == ([], [], True)


def test_repositories_are_found_by_their_worktrees_and_submodules_are_not_theirs(
    home: Path, tmp_path: Path
) -> None:
    far = repository(tmp_path / "far")
    git(far, "worktree", "add", "-q", "--detach", str(home / "wt" / "one"))
    git(home, "init", "-q", "--bare", str(home / "bare.git"))
    outer = repository(home / "outer")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(far), "sub")
    (home / "outer" / "nested").mkdir()
    repository(home / "outer" / "nested" / "inner")
    git(home, "init", "-q")  # somebody's dotfiles
    git(
        home,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(far),
        "their-sub",
    )
    found = looked(home)
    assert {repo.path for repo in found.repos} == {far, home / "bare.git", outer, home}
    assert found.repos[0] == discovery.Repo(far, 2, ((home / "wt", 1),))


@pytest.mark.root
def test_search_stays_on_its_filesystem(home: Path, mounted: Callable[..., Path]) -> None:
    point = mounted("tmpfs", "8M", "home/mounted")
    logs(point / "logs")
    assert looked(home).logs == []


def test_search_ends_in_time_and_says_so(home: Path) -> None:
    (home / ".npm" / "_cacache" / "folder").mkdir(parents=True)
    found = looked(home, seconds=0)
    assert not found.complete
    assert [cache.weighed for cache in found.caches] == [False]
    text = config_template.render_config(found, "host", "today")
    assert "the time was over" in text
    assert "at least" in text


def test_what_cannot_be_read_is_passed_over(home: Path) -> None:
    for number, content in enumerate([b"", b"gitdir: /nowhere\n", b"\xff\xfe", b"gitdir: ../.."]):
        (home / f"odd{number}").mkdir()
        (home / f"odd{number}" / ".git").write_bytes(content)
    (home / "loop").mkdir()
    (home / "loop" / ".git").symlink_to(".git")
    assert config_loader.interpret(
        tomllib.loads(config_template.render_config(looked(home), "host", "today")), "it"
    )


def test_documents_name_every_section_and_key() -> None:
    """In an example, as ``key = …``, or as a table ``[section.key.NAME]``."""
    page = (PROJECT / "docs" / "configuration.md").read_text()
    for section in fields(config.Config):
        value = getattr(config.Config(), section.name)
        if not is_dataclass(value):
            continue
        assert f"\n[{section.name}]" in page, section.name
        for each in fields(value):
            named = (f"\n{each.name} =", f"\n# {each.name} =", f"[{section.name}.{each.name}")
            assert any(text in page for text in named), f"{section.name}.{each.name}"


# Logs that say less by their names, or lie where others do not look


def grown(file: Path, line: bytes = b"2026-01-02 an ordinary line of a log\n") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(line * (1_300_000 // len(line)))
    return file


def proposed(home: Path) -> set[str]:
    return {str(each.path.relative_to(home) / each.names) for each in looked(home).logs}


def test_logs_are_found_by_their_names_or_by_their_folder(home: Path) -> None:
    for path in (
        "app/nohup.out", "app/run.log.1", "app/run.log-20260101", ".pm2/logs/api-out.log",
        ".claude/debug/3f2c.txt", "bot/logs/events.jsonl", "bot/logs/today.txt",
    ):  # fmt: skip
        grown(home / path)
    assert proposed(home) == {
        "app/nohup.out", "app/*.log.[0-9]*", "app/*.log-[0-9]*", ".pm2/logs/*.log",
        ".claude/debug/*.txt", "bot/logs/*.jsonl", "bot/logs/*.txt",
    }  # fmt: skip


def test_what_is_a_persons_is_not_proposed_as_logs(home: Path) -> None:
    for path in (
        "notes/diary.txt", "data/train.jsonl", ".claude/projects/-home/3f2c.jsonl",
        ".claude/projects/x/logs/3f2c.jsonl", ".codex/sessions/logs/a.jsonl", "app/debug/a.txt",
    ):  # fmt: skip
        grown(home / path)
    assert proposed(home) == set()


def test_logs_in_a_repository_are_proposed_but_not_those_that_git_tracks(home: Path) -> None:
    repo = repository(home / "src" / "api")
    grown(repo / "logs" / "app.log")
    grown(repo / "packages" / "web" / "dev.log")
    grown(repo / "fixtures" / "sample.log")
    git(repo, "add", "-f", "fixtures")
    git(repo, "commit", "-qm", "a sample")
    inner = repository(repo / "vendor" / "other")
    grown(inner / "logs" / "inner.log")
    assert proposed(home) == {"src/api/logs/*.log", "src/api/packages/web/*.log"}
    git(repo, "update-index", "--index-version", "4")  # in which names are shortened
    assert proposed(home) == set()


def test_systems_logs_are_for_root_in_its_own_configuration(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown(tmp_path / "var" / "nginx" / "access.log")
    grown(tmp_path / "var" / "journal" / "system.log")
    grown(tmp_path / "docker" / "0a1b" / "0a1b-json.log", b'{"log":"a line"}\n')
    monkeypatch.setattr(log_search, "_SYSTEM", str(tmp_path / "var"))
    monkeypatch.setattr(log_search, "_DOCKER", f"{tmp_path}/docker/*/*-json.log")
    found = [*log_search.of_the_system([home], math.inf)]
    assert found == []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: SimpleNamespace(pw_dir=str(home)))
    found = [*log_search.of_the_system([home], math.inf)]
    assert [(each.path, each.names) for each in found] == [
        (tmp_path / "var" / "nginx", "*.log"),
        (Path(f"{tmp_path}/docker/*/*-json.log"), ""),
    ]
    lines = dict(config_template.logs(discovery.Findings((home,), logs=found)))["patterns"]
    assert f'"{tmp_path}/docker/*/*-json.log",  # 1.3 MB in 1 file(s)' in "\n".join(lines)
