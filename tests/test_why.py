"""``why``: each kind of thing is explained as its healer judges it, and nothing changes."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from gitworld import git, merged_worktree, repository, worktree
from judging import make_idle, put
from program import run as run_program
from program import settings
from test_zombies import careless

from miyabi_healing.cli import why
from miyabi_healing.host import users
from miyabi_healing.host.explain.kinds import explanations
from miyabi_healing.host.processes import Processes
from miyabi_healing.model.config import CacheSettings, Config, LogSettings, ProcessSettings
from miyabi_healing.model.explanation import Explanation
from miyabi_healing.model.limit_settings import CheckSettings
from miyabi_healing.report import explanations as words

Start = Callable[..., psutil.Popen]
LINES = "".join(f"line {number:06d}, and what it says\n" for number in range(9_000))


def ask(thing: object, **sections: Any) -> list[Explanation]:
    return list(explanations(why._question(str(thing), Config(**sections))))


def answer(thing: object, **sections: Any) -> Explanation:
    (found,) = ask(thing, **sections)
    return found


def text(found: Explanation) -> str:
    return "\n".join((found.verdict, *found.evidence, *found.changes, *found.commands))


def age(path: Path, seconds: float) -> Path:
    os.utime(path, (time.time() - seconds,) * 2)
    return path


# Worktrees


def test_worktree_that_stays_has_its_reason_its_size_and_the_way_out(home: Path) -> None:
    repo = repository(home / "repo")
    tree = worktree(repo, "busy")
    make_idle(repo, tree, 40)
    put(tree / "node_modules" / "lib", "x" * 3_000_000)
    make_idle(repo, tree, 40)
    found = answer(tree)
    assert (found.kind, found.target, found.certain) == ("worktree", str(tree), True)
    assert found.verdict.startswith("stays: not merged")
    assert found.evidence[0].startswith("last used 40 days ago")
    assert "it takes 3.0 MB (3.0 MB can be made again)" in found.evidence
    assert found.changes[0].startswith("merge it into one of main; git log busy")


def test_worktree_that_may_go_says_when_and_how_to_keep_it(home: Path) -> None:
    repo = repository(home / "repo")
    tree = home / "a name"
    git(repo, "worktree", "move", str(merged_worktree(repo, "done")), str(tree))
    make_idle(repo, tree, 40)
    found = answer(tree / "readme")
    assert found.verdict.startswith("may go: it goes once there are more than 15 (2 worktrees now)")
    assert found.evidence[0] == f"{tree / 'readme'} lies in it"
    assert f"to keep it: git worktree lock '{tree}'" in found.changes
    assert "git worktree remove" not in text(found)
    off = answer(tree, healers={"cleanup_worktrees": {"enabled": False}})
    assert "the healer is switched off: [healers.cleanup_worktrees] enabled" in off.evidence


def test_options_of_the_healer_count(home: Path) -> None:
    repo = repository(home / "repo")
    tree = merged_worktree(repo, "done")
    make_idle(repo, tree, 5)
    assert answer(tree).verdict.startswith("stays: not idle")
    found = answer(tree, healers={"cleanup_worktrees": {"idle_days": 3}})
    assert found.verdict.startswith("may go")


def test_worktree_whose_folder_is_missing_is_known_where_its_repository_is(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = repository(home / "repo")
    tree = worktree(repo, "work")
    make_idle(repo, tree, 40)
    moved = tree.rename(tree.with_name("there"))
    monkeypatch.chdir(repo)
    found = answer(tree)
    assert "its folder is not there" in found.evidence
    assert str(moved) in text(found)
    assert answer(moved / "readme").kind == "leftover folder"
    assert answer(repo).kind == "main worktree"
    assert ask(repo / "readme") == []


def test_repository_that_may_not_be_looked_at_is_uncertain(home: Path) -> None:
    repo = repository(home / "repo")
    (repo / ".git" / "HEAD").unlink()
    (repo / ".git").rename(home / "moved")
    (repo / ".git").write_text("gitdir: /nowhere\n")
    found = answer(repo)
    assert not found.certain


@pytest.mark.root
def test_repository_of_another_user_is_uncertain(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = repository(home / "repo")
    os.chown(repo / ".git", 1234, 1234)
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    found = answer(repo)
    assert not found.certain
    assert "only they, or root, can have it looked after" in found.verdict


# Locks


def test_lock_that_nobody_holds_goes_and_a_young_one_stays(home: Path) -> None:
    repo = repository(home / "repo")
    lock = age(put(repo / ".git" / "index.lock"), 3600)
    found = answer(lock)
    assert (found.kind, found.verdict) == (
        "git lock",
        "goes: the next run sets it aside in quarantine",
    )
    young = answer(put(repo / ".git" / "refs" / "heads" / "main.lock"))
    assert young.verdict == "stays: not old enough"
    patient = {"checks": {"stale_git_lock": CheckSettings(threshold=7200)}}
    assert answer(lock, **patient).verdict == "stays: not old enough"


def test_lock_that_is_held_names_its_holder_and_how_to_ask_about_that(
    home: Path, start: Start
) -> None:
    repo = repository(home / "repo")
    lock = age(put(repo / ".git" / "index.lock"), 3600)
    script = f"import time; file = open({str(lock)!r}); print(flush=True); time.sleep(600)"
    holder = start(sys.executable, "-c", script, stdout=-1)
    holder.stdout.readline()
    found = answer(lock)
    assert found.verdict.startswith("stays: held by python")
    assert found.commands[0].endswith(f" why {holder.pid}")


def test_lock_that_somebody_unseen_could_hold_stays_and_says_the_way_out(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = age(put(repository(home / "repo") / ".git" / "index.lock"), 3600)
    monkeypatch.setattr(users, "container", lambda: "this is a container")
    monkeypatch.setattr(users.Witness, "is_our_own_root", lambda *_: False)
    found = answer(lock)
    assert found.verdict.startswith("stays: somebody could hold it: this is a container")
    assert "[safety] ours_alone" in found.changes[0]


def test_lock_of_a_submodule_is_one_of_its_repository(home: Path) -> None:
    repo = repository(home / "repo")
    other = repository(home / "other")
    git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other), "sub")
    lock = age(put(repo / ".git" / "modules" / "sub" / "index.lock"), 3600)
    assert f"of the repository {repo}" in answer(lock).evidence


def test_lock_of_a_persons_is_none_of_gits(home: Path) -> None:
    repo = repository(home / "repo")
    assert ask(age(put(repo / "yarn.lock"), 3600)) == []
    assert ask(home / "nothing.lock") == []


# Logs


def logs(home: Path) -> LogSettings:
    return LogSettings(patterns=(f"{home}/logs/*.log",))


def test_log_says_its_pattern_and_what_would_be_done(home: Path) -> None:
    file = put(home / "logs" / "app.log", LINES)
    found = answer(file, logs=logs(home))
    assert found.verdict.startswith("once its kind takes over 500 MB: trim log:")
    assert f"pattern {home}/logs/*.log" in found.evidence
    assert "nobody has it open" in found.evidence


def test_small_log_says_that_it_goes_with_its_neighbours(home: Path) -> None:
    for number in range(9):
        file = put(home / "logs" / f"{number}.log", LINES[:3000])
    options = {"prune_logs": {"archive_after_days": 0}}
    found = answer(file, logs=logs(home), healers=options)
    assert found.verdict.startswith("once its kind takes over 500 MB: archive logs: 9 closed logs")
    alone = put(home / "logs" / "one" / "app.log", LINES[:3000])
    one = LogSettings(patterns=(f"{home}/logs/one/*.log",))
    assert answer(alone, logs=one, healers=options).verdict.startswith("stays: nothing to trim")


def test_log_that_no_pattern_matches_stays_and_a_pattern_is_named(home: Path) -> None:
    found = answer(put(home / "elsewhere" / "app.log", LINES), logs=logs(home))
    assert found.verdict == "stays: it matches none of the patterns of logs"
    assert found.changes == (f'[logs] patterns = ["{home}/elsewhere/*.log"] in the configuration',)
    assert ask(put(home / "elsewhere" / "notes.txt"), logs=logs(home)) == []


def test_log_that_is_none_says_what_it_is(home: Path) -> None:
    file = put(home / "logs" / "app.log")
    file.write_bytes(b"SQLite format 3\0" + bytes(2_000_000))
    assert "SQLite database" in answer(file, logs=logs(home)).verdict
    file = put(home / "logs" / "linked.log", LINES)
    os.link(file, home / "second name")
    found = answer(file, logs=logs(home))
    assert found.verdict == "stays: not safe: it has 2 names"
    assert "where it lies: it has 2 names" in found.evidence


# Caches


def test_part_of_a_cache_goes_when_idle_and_stays_when_used(
    home: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    part = put(home / ".cache" / "pip" / "http" / "file")
    assert "stays: not idle" in answer(part).verdict
    old = {"healers": {"cleanup_disk": {"idle_minutes": 0}}}
    found = answer(part, **old)
    assert found.verdict == "is cleaned when its disk is too full: its idle parts are deleted"
    assert "category A: its tool makes it again" in found.evidence
    assert "its own tool, pip, is not installed" in found.evidence
    script = f"import time; file = open({str(part)!r}); print(flush=True); time.sleep(600)"
    holder = start(sys.executable, "-S", "-c", script, stdout=-1)
    holder.stdout.readline()
    assert answer(part, **old).verdict.startswith("stays: in use by python")


def test_cache_that_nobody_asked_to_clean_stays(home: Path) -> None:
    costly = home / ".cache" / "huggingface"
    put(costly / "hub" / "model")
    found = answer(costly / "hub")
    assert found.verdict == "stays: it is costly to make again, and nobody asked for it"
    assert found.changes[0].startswith('[caches] also = ["')
    pip = put(home / ".cache" / "pip" / "http" / "file").parent
    never = answer(pip, caches=CacheSettings(never=("pip",)))
    assert never.verdict == "stays: pip is never to be cleaned"


# Processes


def test_zombie_and_its_parent_say_what_may_be_sent_to_whom(
    start: Start, only_zombies: None, home: Path
) -> None:
    parent = careless(start)
    (zombie, *_) = (each for each in Processes().zombies() if each.ppid == parent.pid)
    for found in (answer(zombie.pid), answer(f"pid:{parent.pid}")):
        left = f"(pid {parent.pid}) is left alone: seen too shortly: 4 zombies (python"
        assert left in found.verdict
    found = answer(parent.pid, healers={"kill_zombies": {"seen_for": 0}})
    assert f"(pid {parent.pid}) may be sent SIGTERM, once there are more than 5" in found.verdict
    assert answer(zombie.pid).kind == "zombie"
    kept = answer(parent.pid, processes=ProcessSettings(protected=(parent.name(),)))
    assert "is left alone: protected:" in kept.verdict


def test_any_other_process_is_left_alone(start: Start, tmp_path: Path, home: Path) -> None:
    process = start(sys.executable, "-S", "-c", "import time; time.sleep(600)")
    found = answer(process.pid)
    assert (
        found.verdict == "it is left alone: it has no zombies, and is not to be stopped for memory"
    )
    assert "it is not protected" in found.evidence
    shutil.copy(shutil.which("sleep") or "", tmp_path / "claude")
    agent = answer(start(str(tmp_path / "claude"), "600").pid)
    never = "it may be asked, but is never ended: claude is one of the coding agents"
    assert never in agent.evidence
    assert "protected: it is init" in answer(1).evidence


def test_process_says_what_memory_it_takes_and_whether_it_may_be_ended_for_it(
    start: Start, tmp_path: Path
) -> None:
    script = tmp_path / "hungry-for-a-test"
    script.write_text("x = b'x' * (30 << 20)\nprint(flush=True)\nimport time; time.sleep(600)")
    process = start(sys.executable, "-S", str(script), stdout=-1)
    process.stdout.readline()
    found = answer(process.pid)
    assert re.search(r"it takes 3\d\.\d MB of memory", text(found))
    assert found.verdict.startswith("it is left alone")
    named = {"clear_cache": {"may_stop": ["hungry-*"]}}
    assert answer(process.pid, healers=named).verdict == (
        "clear_cache may end it while more than 90 % of the memory is taken"
    )
    kept = answer(
        process.pid, healers=named, processes=ProcessSettings(protected=("hungry-for-a-test",))
    )
    assert kept.verdict.startswith("it is left alone")


# The quarantine, and the command


def run(*arguments: str, cwd: Path | None = None) -> tuple[int, str]:
    done = run_program(*arguments, cwd=cwd, COLUMNS=None)
    return done.returncode, done.stdout + done.stderr


def test_thing_in_quarantine_says_until_when_and_its_command_restores_it(home: Path) -> None:
    repo = repository(home / "repo")
    tree = merged_worktree(repo, "done")
    make_idle(repo, tree, 40)
    config = settings(home, "[checks.excessive_worktrees]\nthreshold = 1\n")
    assert run("--config", config, cwd=repo)[0] == 0
    assert not tree.exists()
    code, said = run("--config", config, "why", "--json", str(tree), cwd=repo)
    document = json.loads(said)
    (found,) = document["explanations"]
    assert (code, found["kind"], document["place"]) == (0, "quarantine", None)
    assert found["verdict"].startswith("stays until ")
    assert run("--config", config, "why", found["target"], cwd=repo)[0] == 0
    program, *arguments = found["commands"][0].split()[1:]
    assert program.endswith("self_healer.py")
    assert run("--config", config, *arguments, cwd=repo)[0] == 0
    assert tree.exists()
    code, said = run("--config", config, "why", str(tree), cwd=repo)
    assert (code, said.splitlines()[0]) == (0, f"{tree} (worktree)")
    assert "stays for now: rolled back by hand (step 1): left alone until " in " ".join(
        said.split()
    )


def test_entry_that_cannot_be_relied_on_is_uncertain(home: Path) -> None:
    entry = home / ".local/state/miyabi-healing/quarantine/run/0001-file"
    entry.mkdir(parents=True)
    for folder in (entry, *list(entry.parents)[:3]):
        folder.chmod(0o700)
    put(entry / "manifest.json", "{")
    code, said = run("why", "run/0001-file")
    assert code == 3
    assert "its manifest is damaged" in said


def test_path_that_is_none_of_these_says_what_it_lies_on(home: Path, tmp_path: Path) -> None:
    config = settings(tmp_path)
    code, said = run("--config", config, "why", str(put(home / "letter.txt")))
    assert code == 0
    assert "is no worktree, git lock, log or known cache" in said
    assert f"in the allowed folder {home}." in said
    assert "It lies on /" in said
    (tmp_path / "way").symlink_to(home)
    code, said = run("--config", config, "why", str(tmp_path / "way"))
    assert "in no allowed folder" in said
    assert f"It is a symbolic link to {home}: no link is followed." in said


def test_what_is_not_there_is_a_mistake_of_the_caller(home: Path) -> None:
    for thing in ("/nowhere/at\x1b[31mall", "999999999", "pid:x", ""):
        code, said = run("why", thing)
        assert code == 2
        assert "\x1b" not in said
    assert run("why")[0] == 2
    assert list(home.iterdir()) == [home / ".gitconfig"], "it left something behind"


def test_each_line_fits_the_screen_and_is_printable(home: Path) -> None:
    long = Explanation(
        kind="log",
        target="/a/path\nthat/goes/on/and/on/for/longer/than/the/screen",
        verdict="stays: for a reason that takes more than one line on this screen",
        evidence=("one", "another that is longer than what fits into a line here"),
        certain=False,
    )
    document = words.build_explanations("x", [long], None)
    lines = list(words.explanation_lines(document, 40))
    assert max(len(line) for line in lines if "\x1b" not in line) <= 40
    assert lines[0] == "/a/path\\nthat/goes/on/and/on/for/longer/"
    assert not document["certain"]


def test_lock_of_a_users_own_configuration_is_explained(home: Path) -> None:
    lock = age(put(home / ".gitconfig.lock"), 3600)
    found = answer(lock)
    assert found.kind == "git lock"
    assert found.verdict.startswith("goes: ")
    assert found.evidence[0].startswith("of the user configuration ")
