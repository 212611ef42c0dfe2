"""Repositories by patterns with ``**``: all of them, each once, without looking where none can be,
and what was left out is said.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from gitworld import commit, git, repository, worktree
from program import report, run, settings
from test_repositories_of_others import THEM, as_user

from conftest import Served
from miyabi_healing.host.git import repository_paths, repository_search
from miyabi_healing.model.config import Config, GitSettings
from miyabi_healing.model.limit_settings import CheckSettings
from miyabi_healing.support import folder_walk
from miyabi_healing.support.folder_walk import Bounds, FolderWalk

ALLOW_FILES = ("-c", "protocol.file.allow=always")


def found(*patterns: object) -> set[str]:
    return set(configured(*patterns).paths)


def configured(*patterns: object) -> repository_paths.Found:
    return repository_paths.configured(Config(git=GitSettings(repos=tuple(map(str, patterns)))))


def test_every_repository_is_found_at_any_depth_bare_ones_and_the_top_itself_too(
    home: Path,
) -> None:
    src = repository(home / "src")
    deep = repository(src / "org" / "team" / "app")
    beside = repository(src / "org" / "lib")
    git(home, "init", "-q", "--bare", str(src / "mirrors" / "app.git"))
    assert found(src / "**") == {str(src), str(deep), str(beside), f"{src}/mirrors/app.git"}


def test_repository_inside_a_work_tree_of_another_is_one_and_a_submodule_is_not(home: Path) -> None:
    outer = repository(home / "src" / "outer")
    inner = repository(outer / "vendor" / "deep" / "inner")
    lib = repository(home / "elsewhere" / "lib")
    (lib / "src").mkdir()
    commit(lib, "src/code", "one\n")
    git(outer, *ALLOW_FILES, "submodule", "--quiet", "add", str(lib), "libs/sub")
    assert found(home / "src" / "**") == {str(outer), str(inner)}


def test_linked_worktrees_are_their_repository_wherever_that_is(home: Path) -> None:
    """Also one that has no folder in it but files alone."""
    far = repository(home / "far" / "app")
    worktree(far, "one")
    for name in ("one", "two"):
        git(far, "worktree", "add", "-q", "--detach", str(home / "src" / "trees" / name))
    assert found(home / "src" / "**") == {str(far)}
    assert found(home / "**") == {str(far)}


def test_folder_whose_repository_is_gone_is_a_note_and_makes_nothing_unknown(home: Path) -> None:
    """Hosts with many agents are full of them."""
    app = repository(home / "src" / "app")
    for name in ("one", "two"):
        (home / "src" / "trees" / name).mkdir(parents=True)
        (home / "src" / "trees" / name / ".git").write_text(f"gitdir: {home}/no/.git/worktrees/x\n")
    for pattern in (home / "src" / "**", home / "src" / "trees" / "*"):
        search = configured(app, pattern)
        assert search.paths == (str(app),)
        (note,) = search.notes
        assert note.startswith(f"{home}/src/trees/")
        assert "and 1 more: left over, the git folder that it names is gone" in note
    named = configured(home / "src" / "trees" / "one")
    assert named.paths == (f"{home}/src/trees/one",)


def test_repository_named_twice_is_looked_after_once(home: Path) -> None:
    repo = repository(home / "src" / "app")
    (home / "src" / "link").symlink_to(repo)
    assert found(home / "src" / "**", home / "src" / "*", repo) == {str(repo)}


@pytest.mark.root
def test_repository_mounted_twice_is_looked_after_once(home: Path) -> None:
    repo = repository(home / "src" / "app")
    again = home / "src" / "mounted"
    again.mkdir()
    subprocess.run(["mount", "--bind", str(repo), str(again)], check=True)
    try:
        assert found(home / "src" / "**") == {str(repo)}
    finally:
        subprocess.run(["umount", str(again)], check=True)


@pytest.mark.parametrize(
    "folder",
    ["src/app/node_modules/dep", "src/app/target/x", "src/app/.cache/x", "src/.hidden", "env/x"],
)
def test_what_tools_make_again_and_hidden_folders_are_not_looked_into(
    home: Path, folder: str
) -> None:
    app = repository(home / "src" / "app")
    repository(home / folder)
    (home / "env" / "pyvenv.cfg").parent.mkdir(exist_ok=True)
    (home / "env" / "pyvenv.cfg").touch()
    assert found(home / "**") == {str(app)}


def test_folder_outside_a_work_tree_is_looked_into_whatever_it_is_called(home: Path) -> None:
    """A name says nothing: people keep clones in folders called build, out, deps and target."""
    clones = [repository(home / "src" / name / "app") for name in ("build", "out", "target")]
    assert found(home / "src" / "**") == set(map(str, clones))


def test_links_are_not_followed_and_circles_end(home: Path) -> None:
    app = repository(home / "src" / "app")
    repository(home / "elsewhere" / "app")
    (home / "src" / "away").symlink_to(home / "elsewhere")
    (home / "src" / "circle").symlink_to(home / "src")
    assert found(home / "src" / "**") == {str(app)}


def test_what_follows_the_stars_has_to_fit(home: Path) -> None:
    for name in ("src/app-one", "src/team/app-two", "src/team/lib", "src/team/app-two/app-three"):
        repository(home / name)
    apps = {f"{home}/src/{name}" for name in ("app-one", "team/app-two", "team/app-two/app-three")}
    assert found(home / "src" / "**" / "app-*") == apps
    assert found(home / "src" / "**" / "team" / "*") == {
        f"{home}/src/team/app-two", f"{home}/src/team/lib"
    }  # fmt: skip


def test_found_anew_each_time(home: Path) -> None:
    one = repository(home / "src" / "one")
    assert found(home / "src" / "**") == {str(one)}
    two = repository(home / "src" / "two")
    assert found(home / "src" / "**") == {str(one), str(two)}


def test_empty_folders_of_a_work_tree_need_not_be_opened(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = repository(home / "src" / "app")
    for number in range(20):
        (repo / "lib" / f"leaf{number}").mkdir(parents=True)
    opened: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: opened.append(str(path)) or real(path))
    assert found(home / "src" / "**") == {str(repo)}
    if os.stat(repo / "lib").st_nlink == 22:  # btrfs counts no links
        assert not [path for path in opened if "leaf" in path]


def test_link_counts_are_not_believed_where_they_tell_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a filesystem that gives every folder two links."""
    outer = repository(home / "src" / "outer")
    inner = repository(outer / "vendor" / "inner")
    real = FolderWalk._look

    def flat(self: FolderWalk, *arguments: object) -> folder_walk.Looked | None:
        path, level, device, _links, later = arguments
        return real(self, path, level, device, 2, later)  # type: ignore[arg-type]

    monkeypatch.setattr(FolderWalk, "_look", flat)
    monkeypatch.setattr(folder_walk, "_NO_SUBFOLDER", 2)
    walk = FolderWalk(str(home / "src"))
    assert [each.path for each in walk if ".git" in each.names] == [str(outer), str(inner)]
    assert not any(walk._counts_links.values())


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        (Bounds(folders=2), "only 2 folders"),
        (Bounds(levels=1), "only 1 levels, as in "),
        (Bounds(seconds=-1), "only -1 seconds"),
    ],
)
def test_bound_that_is_reached_is_said_with_the_way_out(
    home: Path, bounds: Bounds, said: str
) -> None:
    repository(home / "src" / "a" / "b" / "app")
    (note,) = repository_search.search(f"{home}/src/**", bounds=bounds).notes
    assert said in note
    assert "name what is missing" in note
    assert repository_search.search(f"{home}/src/**").notes == ()


def test_pattern_or_repository_that_is_gone_is_unknown_alone_and_the_others_are_checked(
    home: Path,
) -> None:
    repo = repository(home / "src" / "app")
    repos = f'["~/src/**", "~/nothing/*", "~/none/**", "{home}/gone"]'
    file = settings(home, f"[git]\nrepos = {repos}\n[checks.excessive_worktrees]\nthreshold = 0\n")
    code, document = report("--dry-run", "--config", file)
    assert code == 3
    assert [each["target"] for each in document["issues_detected"]] == [str(repo)]
    said = {each["target"]: each["message"] for each in document["errors"]}
    assert set(said) == {f"{home}/nothing/*", f"{home}/none/**", f"{home}/gone"}
    assert said[f"{home}/nothing/*"].startswith(f"git.repos: {home}/nothing/* finds no repository")
    assert said[f"{home}/gone"] == f"git.repos: {home}/gone is gone: mend or remove it"
    text = run("--dry-run", "--config", file).stdout
    for name in said:
        assert "".join(text.split()).count(name) == 1
    assert "excessive_worktrees, stale_git_lock" in text


@pytest.mark.root
def test_mount_below_that_does_not_answer_is_unknown_and_holds_nothing_up(
    home: Path, served: Callable[[Path], Served]
) -> None:
    nas = served(home / "nas" / "point")
    near = repository(home / "src" / "app")
    far = repository(nas.point / "src" / "far")
    assert str(far) in found(nas.point / "**")
    nas.stop()
    assert found(home / "src" / "**", nas.point.parent / "**") == {str(near), str(nas.point)}


@pytest.mark.root
def test_another_filesystem_is_looked_into_and_one_of_the_kernel_is_not(
    home: Path, mounted: Callable[..., Path]
) -> None:
    (home / "src").mkdir()
    app = repository(mounted("tmpfs", "8M", "home/src/disk") / "deep" / "app")
    assert found(home / "src" / "**") == {str(app)}
    walk = FolderWalk("/", Bounds(levels=1))
    assert not any(each.path in ("/proc", "/sys") for each in walk)


@pytest.mark.root
def test_folder_that_cannot_be_read_is_said(home: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        app = repository(Path(folder) / "src" / "app")
        os.chown(app / ".git", THEM, THEM)
        (Path(folder) / "src" / "shut").mkdir(mode=0o700)

        def look() -> tuple[list[str], list[str]]:
            search = configured(f"{folder}/src/**")
            return list(search.paths), list(search.notes)

        paths, (note,) = as_user(THEM, look)
        assert paths == [str(app)]
        assert f"1 folder(s) cannot be read, as {folder}/src/shut" in note


@pytest.mark.parametrize("limited", [False, True])
def test_worktrees_of_several_repositories_that_are_many_together_are_a_note(
    home: Path, limited: bool
) -> None:
    """Each has few; a limit over all of them says it better, where there is one."""
    for name in ("one", "two"):
        made = repository(home / "src" / name)
        for number in range(15):
            (made / ".git/worktrees" / str(number)).mkdir(parents=True)
    checks = {"worktree_space": CheckSettings(threshold=50)} if limited else {}
    settings = Config(git=GitSettings(repos=(f"{home}/src/**",)), checks=checks)
    assert repository_paths.configured(settings).notes == ()
    (made / ".git/worktrees/more").mkdir()
    notes = repository_paths.configured(settings).notes
    assert [each.partition(":")[0] for each in notes] == (
        [] if limited else ["2 repositories had 33 worktrees together at the start"]
    )
