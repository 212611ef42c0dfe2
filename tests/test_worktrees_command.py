"""``worktrees``: the table, the JSON document, and that nothing changes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from gitworld import git, merged_worktree, repository, worktree
from judging import make_idle
from program import run as run_program
from rich.cells import cell_len

from miyabi_healing.report import layout
from miyabi_healing.report.worktrees import worktrees_lines


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """In a pipe: lines have no end there."""
    return run_program(*arguments, cwd=cwd, COLUMNS=None)


@pytest.fixture
def repo(home: Path) -> Path:
    """One worktree that may go, one that has work, one leftover folder and a leftover branch."""
    repo = repository(home / "repo")
    make_idle(repo, merged_worktree(repo, "done"), 40)
    busy = worktree(repo, "busy-branch")
    (busy / "node_modules").mkdir()
    (busy / "node_modules" / "big").write_bytes(os.urandom(3_000_000))
    left = home / "trees" / "left"
    left.mkdir()
    (left / ".git").write_text(f"gitdir: {repo}/.git/worktrees/left\n")
    git(repo, "branch", "old")
    return repo


def document(*arguments: str, cwd: Path) -> dict[str, Any]:
    done = run("worktrees", "--json", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def everything(top: Path) -> set[tuple[str, float]]:
    """Every path with its time; git itself renews the times of objects that it looks for."""
    return {
        (path, 0 if "/objects" in folder else os.lstat(path).st_mtime)
        for folder, folders, names in os.walk(top)
        for path in (os.path.join(folder, name) for name in (*folders, *names))
    }


def test_table_has_verdicts_sizes_totals_and_what_is_left_over(repo: Path) -> None:
    before = everything(repo.parent)
    done = run("worktrees", cwd=repo)
    assert (done.returncode, done.stderr) == (0, "")
    head, busy, gone, _, totals, _, folders, left, _, branches, old = done.stdout.splitlines()
    assert head.split() == "WORKTREE BRANCH IDLE OWN REGENERABLE SHARED VERDICT".split()
    assert re.match(r"~/trees/busy-branch +busy-branch +0 s +3\.0 MB +3\.0 MB +0 B +stays: ", busy)
    assert re.match(r"~/trees/done +done +40 d .* may go: last used 40 days ago", gone)
    assert "clean" in gone
    assert totals.startswith("2 worktree(s), 3.0 MB; 1 may go, ")
    assert folders.startswith("Folders that git does not know any more: 1")
    assert left.startswith("  ~/trees/left: ")
    assert branches.startswith("Branches that are merged and checked out nowhere: 1")
    assert old.startswith("  old: merged")
    assert everything(repo.parent) == before, "it changed something, or left a state folder"


def test_document_has_the_same_as_data(repo: Path) -> None:
    found = document(cwd=repo)
    busy, done = found["worktrees"]
    assert (busy["path"], busy["branch"]) == (str(repo.parent / "trees/busy-branch"), "busy-branch")
    assert (busy["may_go"], busy["reason"], busy["at_least"]) == (False, "not idle", False)
    assert 3_000_000 <= busy["regenerable_bytes"] <= busy["own_bytes"] < 3_100_000
    assert (done["may_go"], done["reason"], round(done["idle_days"])) == (True, None, 40)
    assert [row["path"] for row in found["leftover_folders"]] == [str(repo.parent / "trees/left")]
    assert [row["branch"] for row in found["leftover_branches"]] == ["old"]
    assert (found["totals"]["worktrees"], found["totals"]["may_go"]) == (2, 1)
    assert found["unknown"] == []


def test_days_of_idleness_can_be_given(repo: Path) -> None:
    rows = document("--idle", "41", cwd=repo)["worktrees"]
    assert [row["reason"] for row in rows] == ["not idle", "not idle"]
    rows = document("--idle", "0", str(repo), cwd=repo.parent)["worktrees"]
    assert [row["reason"] for row in rows] == ["not merged", None]


def test_path_may_be_any_folder_of_a_repository_and_each_counts_once(repo: Path) -> None:
    inside = repo.parent / "trees" / "done"
    assert len(document(str(inside), str(repo), cwd=repo.parent)["worktrees"]) == 2


def test_where_no_repository_is_it_says_how_to_name_one(repo: Path) -> None:
    done = run("worktrees", cwd=repo.parent)
    assert done.returncode == 2
    assert "name a PATH" in done.stderr
    done = run("worktrees", str(repo.parent), cwd=repo)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is in no git repository" in done.stderr


def test_repository_that_cannot_be_looked_at_is_said_and_the_others_are_shown(repo: Path) -> None:
    config = repo.parent / "config.toml"
    config.write_text(f'[git]\nrepos = ["{repo}", "{repo.parent}/nothing"]\n')
    done = run("--config", str(config), "worktrees", cwd=repo.parent)
    assert done.returncode == 3
    assert "~/trees/done" in done.stdout
    assert f"❌ git.repos: {repo.parent}/nothing is gone: mend or remove it" in done.stdout


def test_worktree_that_nothing_can_be_said_of_is_unknown(repo: Path) -> None:
    index = repo / ".git" / "worktrees" / "busy-branch" / "index"
    index.write_bytes(b"no index")
    done = run("worktrees", "--json", cwd=repo)
    assert done.returncode == 3
    assert "what of it can be made again cannot be told" in json.loads(done.stdout)["unknown"][0]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160, 200])
def test_no_line_is_wider_than_the_screen_and_no_word_is_cut(repo: Path, width: int) -> None:
    found = document(cwd=repo)
    whole = click.unstyle("\n".join(worktrees_lines(found, 10_000)))
    lines = [click.unstyle(line) for line in worktrees_lines(found, width)]
    assert max(map(cell_len, lines)) <= width
    words = {word for line in lines for word in line.split()} - set(
        "IDLE OWN REGEN. branch".split()
    )
    assert {word for word in words if word not in whole} == set()


@pytest.mark.parametrize("width", [40, 100, 10_000])
def test_numbers_end_below_one_another(repo: Path, width: int) -> None:
    found = document(cwd=repo)
    for row, size in zip(found["worktrees"], (12_300_000, 999), strict=True):
        row["own_bytes"] = row["regenerable_bytes"] = size
    lines = click.unstyle("\n".join(worktrees_lines(found, width))).splitlines()
    large, small = (next(line for line in lines if each in line) for each in ("12.3 MB", "999 B"))
    for find in (str.index, str.rindex):
        assert find(large, "12.3 MB") + len("12.3 MB") == find(small, "999 B") + len("999 B")


def test_name_with_control_characters_is_one_printable_line(repo: Path) -> None:
    tree = repo.parent / "trees" / "a\x1b[31mb\nc"
    git(repo, "worktree", "add", "-q", "-b", "odd", str(tree))
    done = run("worktrees", cwd=repo)
    assert "\x1b" not in done.stdout
    assert r"~/trees/a\x1b[31mb\nc" in done.stdout


def test_long_words_are_broken_at_slashes_and_wide_letters_count_twice() -> None:
    assert list(layout.wrapped("a /one/two/three b", 10, "- ", "  ")) == [
        "- a /one/", "  two/", "  three b",
    ]  # fmt: skip
    assert list(layout.wrapped("枝枝枝枝枝枝", 8)) == ["枝枝枝枝", "枝枝"]
    assert layout.padded("枝", 4, right=True) == "  枝"
