"""What worktrees take: what deleting frees, what can be made again, what is shared."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from gitworld import commit, git, repository, worktree
from judging import ignoring, put, view

from miyabi_healing.host.git import checkouts
from miyabi_healing.host.git.worktree_sizes import (
    WorktreeSize,
    identities,
    measure_folder,
    measure_folders,
)
from miyabi_healing.host.git.worktrees import WorktreeInspector


def fill(file: Path, kilobytes: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(os.urandom(kilobytes << 10))
    return file


def regenerable(repo: Path, tree: Path) -> list[str]:
    inspector = WorktreeInspector(view(repo))
    (found,) = (each for each in inspector.about if each.path == tree)
    return list(checkouts.regenerable_folders(inspector.checkout(found)))


def test_file_with_two_names_in_the_folder_counts_once(tmp_path: Path) -> None:
    first = fill(tmp_path / "tree" / "one", 64)
    os.link(first, tmp_path / "tree" / "two")
    assert measure_folder(tmp_path / "tree") == WorktreeSize(own=64 << 10)


def test_file_that_a_store_has_as_well_is_told_apart(tmp_path: Path) -> None:
    kept = fill(tmp_path / "store" / "file", 64)
    fill(tmp_path / "tree" / "own", 16)
    os.link(kept, tmp_path / "tree" / "linked")
    assert measure_folder(tmp_path / "tree") == WorktreeSize(own=16 << 10, shared=64 << 10)


def test_sparse_file_counts_as_what_it_occupies(tmp_path: Path) -> None:
    with (tmp_path / "image").open("wb") as file:
        file.truncate(1 << 30)
    assert measure_folder(tmp_path).own < 1 << 20


def test_what_a_link_leads_to_does_not_count(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere" / "file", 640)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "elsewhere")
    assert measure_folder(tmp_path / "tree").own < 64 << 10


@pytest.mark.root
def test_another_filesystem_inside_does_not_count(tmp_path: Path, mounted: object) -> None:
    point = mounted("tmpfs", "8M", "inside")  # type: ignore[operator]
    fill(point / "file", 640)
    assert measure_folder(tmp_path).own == 0


def test_worktree_in_another_one_does_not_count_there(tmp_path: Path) -> None:
    inner = fill(tmp_path / "outer" / "trees" / "inner" / "file", 64).parent
    fill(tmp_path / "outer" / "file", 16)
    assert measure_folder(tmp_path / "outer", apart=identities([inner])).own == 16 << 10


def test_what_can_be_made_again_is_a_part_of_its_own(tmp_path: Path) -> None:
    fill(tmp_path / "node_modules" / "deep" / "file", 64)
    fill(tmp_path / "src" / "file", 16)
    assert measure_folder(tmp_path, regenerable=["node_modules"]) == WorktreeSize(
        80 << 10, 64 << 10
    )


def test_folder_with_a_repository_inside_cannot_be_made_again(tmp_path: Path) -> None:
    fill(tmp_path / "node_modules" / "mine" / ".git" / "objects", 64)
    fill(tmp_path / "target" / "lib", 16)
    found = measure_folder(tmp_path, regenerable=["node_modules", "target"])
    assert found == WorktreeSize(80 << 10, 16 << 10)


def test_only_a_folder_that_git_itself_ignores_can_be_made_again(home: Path) -> None:
    repo = repository(home / "repo")
    ignoring(repo, "node_modules/", "build/*.o", "notes/", "venv")
    tree = worktree(repo, "work")
    commit(put(tree / "target" / "lib", "tracked").parent.parent, "target/lib", "tracked")
    for each in ("node_modules/a", "web/node_modules/b", "build/x.o", "notes/c", "dist/d"):
        put(tree / each)
    (tree / "venv").symlink_to(tree / "notes")
    (tree / "out").mkdir()
    git(tree / "out", "init", "-q")
    assert sorted(regenerable(repo, tree)) == ["node_modules", "web/node_modules"]


def test_measuring_ends_in_time_and_says_that_there_is_more(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "b" / "file", 16)
    found = measure_folder(tmp_path, until=time.monotonic() - 1)
    assert found.words == "at least 0 B"
    assert not found.unreadable


def test_large_folder_is_left_in_its_middle_when_the_time_is_over(tmp_path: Path) -> None:
    for number in range(1_500):
        (tmp_path / f"{number}").touch()
    fill(tmp_path / "file", 16)
    assert measure_folder(tmp_path, until=time.monotonic() - 1).partial
    assert not measure_folder(tmp_path).partial


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    fill(tmp_path / "file", 16)
    (tmp_path / "shut").mkdir(mode=0)
    found = measure_folder(tmp_path)
    assert found.unreadable
    assert found.words.startswith("at least 16")


def test_several_are_measured_in_their_time_and_what_is_gone_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path / "one" / "file", 16)
    found = dict(measure_folders([tmp_path / "gone", tmp_path / "one"], 5))
    assert found == {tmp_path / "one": WorktreeSize(16 << 10)}
    assert dict(measure_folders([tmp_path / "one"], -1)) == {}


def test_repository_of_its_own_in_a_worktree_takes_what_it_takes(home: Path) -> None:
    tree = worktree(repository(home / "repo"), "work")
    (tree / "inner").mkdir()
    git(tree / "inner", "init", "-q")
    fill(tree / "inner" / "file", 64)
    assert measure_folder(tree).own >= 64 << 10
