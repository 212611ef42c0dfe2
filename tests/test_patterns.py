"""Finding files by a pattern: the same ones that glob finds, only with less looking."""

from __future__ import annotations

import glob
import os
from functools import partial
from pathlib import Path

import pytest

from miyabi_healing.support import folder_walk, globbing

FILES = (
    "a.log",
    ".hidden.log",
    "b.log.1",
    "sub/a.log",
    "sub/c.txt",
    "sub/deep/x.log",
    "sub/.dot/y.log",
    "ann/a.log",
    "ann/new\nline.log",
    "br[a]ck/et.log",
    "ann/logs/z.log",
    "sub/logs/z.log",
    "UPPER.LOG",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("sub")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "sub" / "link.log").symlink_to("../a.log")
    (tmp_path / "folder.log").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "pattern",
    [
        "*.log",
        "*",
        "a*.log",
        "*/*.log",
        "*/*",
        "*/*/*.log",
        "?.log",
        "[ab]*",
        "*/logs/*.log",
        "s*b/a.log",
        "*/a.log",
        "a.log",
        "none",
        "none/*.log",
        "a.log/*.log",
        "br[[]a]ck/*",
        "*.l[o]g",
        "[",
        "*[",
        "sub/deep/*.log",
    ],
)
def test_finds_what_glob_finds(tree: Path, pattern: str) -> None:
    found = [
        os.path.join(folder.path, name)
        for folder in globbing.pattern_folders(f"{tree}/{pattern}")
        for name, _ in folder.matches
    ]
    assert sorted(found) == sorted(
        map(os.path.abspath, glob.glob(f"{tree}/{pattern}", include_hidden=True))
    )


@pytest.mark.parametrize(
    "pattern", ["**/*.log", "**", "sub/**/*.log", "**/logs/*", "**/s*/**/*.log", "none/**/*"]
)
def test_two_stars_are_any_number_of_folders_and_no_link(tree: Path, pattern: str) -> None:
    found = [
        os.path.join(folder.path, name)
        for folder in globbing.pattern_folders(f"{tree}/{pattern}")
        for name, _ in folder.matches
    ]
    all_ways = glob.glob(f"{tree}/{pattern}", include_hidden=True, recursive=True)
    links = (f"{tree}/link/", f"{tree}/circle/")
    expected = {os.path.abspath(each) for each in all_ways if not each.startswith(links)}
    assert sorted(found) == sorted(expected - {str(tree)})


def test_two_stars_that_lead_too_far_find_nothing_that_could_be_relied_on(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = partial(folder_walk.FolderWalk, bounds=folder_walk.Bounds(folders=2))
    monkeypatch.setattr(folder_walk, "FolderWalk", short)
    with pytest.raises(OSError, match="leads further than 2 folders: narrow it"):
        list(globbing.pattern_folders(f"{tree}/**/*.log"))


def test_statuses_are_of_the_names_themselves_and_nothing_else_is_looked_at(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    real = os.stat
    monkeypatch.setattr(
        os, "stat", lambda name, **options: looked.append(name) or real(name, **options)
    )
    (folder,) = globbing.pattern_folders(f"{tree}/sub/*.log")
    assert looked == ["a.log", "link.log"]
    assert {name: status.st_ino for name, status in folder.matches} == {
        name: os.lstat(tree / "sub" / name).st_ino for name in looked
    }


def test_home_and_relative_patterns(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree))
    monkeypatch.chdir(tree / "sub")
    for pattern in ("~/a.log", "../a.log"):
        (folder,) = globbing.pattern_folders(pattern)
        assert (folder.path, [name for name, _ in folder.matches]) == (str(tree), ["a.log"])
    assert list(globbing.pattern_folders("/")) == []
