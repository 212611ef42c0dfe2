"""What the worktrees of all repositories take together: measured once for each file, off until it
is asked for, and then everything that is safe goes, the largest first.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from gitworld import commit, git, merge, repository, worktree
from program import report, run, settings

from conftest import Served
from miyabi_healing.host.git import worktree_space
from miyabi_healing.host.git.worktree_space import Repositories, WorktreeSpace
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config, GitSettings
from miyabi_healing.model.results import NotMeasured

ON = (
    "[checks.worktree_space]\nthreshold = {}\nhigh = {}\n"
    "[healers.cleanup_worktrees]\nidle_days = 0\n"
)


def space(*repos: Path) -> WorktreeSpace:
    return Repositories(tuple(map(str, repos)), Config()).worktree_space


def big(tree: Path, megabytes: float, name: str = "node_modules/bundle") -> Path:
    file = tree / name
    file.parent.mkdir(exist_ok=True, parents=True)
    file.write_bytes(os.urandom(int(megabytes * 1_000_000)))
    return tree


def merged(repo: Path, name: str, megabytes: float) -> Path:
    tree = worktree(repo, name)
    merge(repo, name, "squash")
    return big(tree, megabytes)


def world(home: Path) -> tuple[Path, Path]:
    return repository(home / "one" / "app"), repository(home / "two" / "app")


def test_bytes_are_those_of_linked_worktrees_over_all_repositories(home: Path) -> None:
    one, two = world(home)
    for repo, size in ((one, 1), (two, 2)):
        big(worktree(repo, "w"), size)
        big(repo, 5)  # the main one does not count
    found = space(one, two)
    assert [tree.path.parent.parent.name for tree, _ in found.sizes] == ["two", "one"]
    assert 0.003 <= found.gigabytes < 0.0031
    assert found.unknown == ()


def test_file_with_several_names_counts_once_over_all_worktrees(home: Path) -> None:
    one, two = world(home)
    tree = big(worktree(one, "w"), 1)
    other = worktree(two, "w")
    for place in (tree / "again", other / "again"):
        os.link(tree / "node_modules" / "bundle", place)
    assert space(one, two).gigabytes < 0.0012


def test_worktree_inside_another_one_counts_once(home: Path) -> None:
    one, _ = world(home)
    outer = worktree(one, "outer")
    git(one, "worktree", "add", "-q", "-b", "inner", str(outer / "trees" / "inner"))
    big(outer / "trees" / "inner", 1)
    found = space(one)
    assert [tree.path.name for tree, _ in found.sizes] == ["inner", "outer"]
    assert found.gigabytes < 0.0011


def test_folder_that_is_another_worktree_or_gone_counts_nothing(home: Path) -> None:
    one, two = world(home)
    moved, gone = big(worktree(one, "moved"), 1), worktree(one, "gone")
    moved.rename(home / "elsewhere")
    git(two, "worktree", "add", "-q", "-b", "other", str(moved))
    big(moved, 2)
    subprocess.run(["rm", "-r", str(gone)], check=True)
    found = space(one, two)
    assert [tree.branch for tree, _ in found.sizes] == ["refs/heads/other"]
    assert 0.002 <= found.gigabytes < 0.0021


@pytest.mark.root
def test_other_filesystem_in_a_worktree_is_not_weighed(
    home: Path, mounted: Callable[..., Path]
) -> None:
    one, _ = world(home)
    tree = worktree(one, "w")
    big(mounted("tmpfs", "8M", str(tree.relative_to(home.parent) / "mounted")), 1, "bundle")
    assert space(one).gigabytes < 0.001


@pytest.mark.root
def test_worktree_on_a_mount_that_does_not_answer_is_unknown_and_the_others_are_weighed(
    home: Path, served: Callable[[Path], Served]
) -> None:
    one, _ = world(home)
    nas = served(home / "nas")
    git(one, "worktree", "add", "-q", "-b", "far", str(nas.point / "far"))
    big(worktree(one, "near"), 1)
    nas.stop()
    found = space(one)
    assert [tree.path.name for tree, _ in found.sizes] == ["near"]
    assert "take at least 1.0 MB" in str(found)
    with pytest.raises(NotMeasured, match="does not answer"):
        found.require_all()


def test_time_that_is_over_is_said_and_not_called_measured(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = world(home)
    worktree(one, "w")
    worktree(one, "x")
    monkeypatch.setattr(worktree_space, "_SECONDS", -1.0)
    found = space(one)
    with pytest.raises(NotMeasured, match=r"trees/w and 1 more: -1 s were not enough"):
        found.require_all()


def test_repository_that_is_gone_is_said_and_its_own_checks_tell(home: Path) -> None:
    one, _ = world(home)
    big(worktree(one, "w"), 1)
    found = space(one, home / "gone")
    found.require_all()
    assert "take at least 1.0 MB" in str(found)
    assert f"{home}/gone" in str(found)


def test_host_finds_repositories_by_itself_for_checks_of_ones_own(home: Path) -> None:
    one, two = world(home)
    host = Host(Config(git=GitSettings(repos=(f"{home}/**",))))
    assert [each.main for each in host.repositories()] == [one, two]


# The check


def test_off_until_it_has_a_threshold(home: Path) -> None:
    one, _ = world(home)
    file = settings(home, f'[git]\nrepos = ["{one}"]\n')
    assert report("--config", file)[1]["overall_success"]
    names = {each["name"] for each in report("--config", file)[1]["metrics"]}
    assert "worktree_space" not in names
    on = settings(home, f'[git]\nrepos = ["{one}"]\n[checks.worktree_space]\nthreshold = 1\n')
    document = report("--config", on)[1]
    (metric,) = [each for each in document["metrics"] if each["name"] == "worktree_space"]
    assert (metric["value"], metric["threshold"], metric["unit"]) == (0, 1, "GB")
    off = settings(
        home, f'[git]\nrepos = ["{one}"]\n[checks.worktree_space]\nthreshold = 1\nenabled = false\n'
    )
    assert "worktree_space" not in str(report("--config", off)[1]["metrics"])


def test_everything_safe_goes_over_all_repositories_the_largest_first_up_to_the_budget(
    home: Path,
) -> None:
    one, two = world(home)
    small, large = merged(one, "small", 0.5), merged(two, "large", 3)
    middle, work = merged(one, "middle", 1), big(worktree(two, "work"), 2)
    text = f'[git]\nrepos = ["{home}/**"]\n[budgets]\nworktrees = 2\n'
    file = settings(home, text + ON.format(0.005, 0.006))
    code, document = report("--config", file)
    (issue,) = document["issues_detected"]
    assert (issue["name"], issue["severity"], issue["unit"]) == ("worktree_space", "high", "GB")
    assert (
        f"the largest: {large} (3.0 MB), {work} (2.0 MB), {middle} (1.0 MB)"
        in (issue["description"])
    )
    (action,) = document["actions_taken"]
    steps = {each["target"]: each["status"] for each in action["steps"]}
    assert list(steps) == [str(large), str(middle), str(small)]
    assert (code, list(steps.values())) == (0, ["applied", "applied", "vetoed"])
    kept = {each["target"]: each for each in action["kept"]}
    assert kept[str(work)]["reason"] == "not merged"
    assert kept[str(work)]["detail"].startswith("2.0 MB; ")
    assert [each.exists() for each in (large, middle, small, work)] == [False, False, True, True]


def test_what_is_dirty_or_not_merged_stays_however_large(home: Path) -> None:
    one, two = world(home)
    dirty, unmerged = merged(one, "dirty", 3), big(worktree(two, "unmerged"), 3)
    (dirty / "notes.txt").write_text("not committed\n")
    file = settings(home, f'[git]\nrepos = ["{home}/**"]\n{ON.format(0.001, 1)}')
    code, document = report("--config", file)
    assert (code, document["actions_taken"][0]["steps"]) == (1, [])
    assert dirty.exists()
    assert unmerged.exists()


def test_repository_that_cannot_be_read_does_not_keep_the_others_from_it(home: Path) -> None:
    one, two = world(home)
    tree = merged(one, "done", 2)
    (two / ".git" / "worktrees").write_text("no folder")
    file = settings(home, f'[git]\nrepos = ["{home}/**"]\n{ON.format(0.001, 1)}')
    _code, document = report("--config", file)
    (action,) = document["actions_taken"]
    assert [each["target"] for each in action["steps"]] == [str(tree)]
    assert not tree.exists()


def test_below_its_limit_as_far_as_it_could_be_read_is_unknown(home: Path) -> None:
    one, two = world(home)
    big(worktree(one, "w"), 1)
    (two / ".git" / "worktrees").write_text("no folder")
    file = settings(home, f'[git]\nrepos = ["{home}/**"]\n{ON.format(1, 2)}')
    code, document = report("--dry-run", "--config", file)
    said = {each["check"]: each["message"] for each in document["errors"]}
    assert code == 3
    assert said["worktree_space"].startswith("Linked worktrees take at least 1.0 MB (1 of them)")
    assert "worktree_space" in run("--dry-run", "--config", file).stdout


def test_work_of_a_branch_is_not_lost_with_its_worktree(home: Path) -> None:
    one, _ = world(home)
    tree = merged(one, "done", 2)
    head = git(tree, "rev-parse", "HEAD")
    file = settings(home, f'[git]\nrepos = ["{home}/**"]\n{ON.format(0.001, 1)}')
    assert report("--config", file)[0] == 0
    assert git(one, "rev-parse", "done") == head
    assert run("--config", file, "rollback").returncode == 0
    assert (tree / "node_modules" / "bundle").exists()
    assert commit(tree, "more", "work goes on\n")
