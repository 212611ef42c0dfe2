"""Caches: weighed for what deleting them really frees, left alone while anybody uses them by
whatever name.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_delete import context, deletion, fill, plan

from conftest import wait_for
from miyabi_healing.gate.handlers.table import apply, recheck
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.host import cache_owners, cache_rows, caches, open_files, users
from miyabi_healing.host.open_files import scan_open_files
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import CacheSettings, Config, ConfigError
from miyabi_healing.model.steps import Delete, Run
from miyabi_healing.support import commands

Start = Callable[..., psutil.Popen]


def found(home: Path, **settings: tuple[str, ...]) -> dict[str, caches.Cache]:
    return {
        cache.name: cache
        for cache in caches.find_caches(CacheSettings(homes=(str(home),), **settings))
    }


def parts(home: Path, name: str) -> set[str]:
    """The units of one cache, by their paths below it."""
    cache = found(home)[name]
    return {
        str(unit.path.relative_to(cache.path)) for unit, _ in caches.units(cache, scan_open_files())
    }


def stubs(folder: Path, *names: str) -> str:
    """A PATH that has these programs, which say what they were called with, and nothing else."""
    folder.mkdir()
    for name in names:
        (folder / name).write_text('#!/bin/sh\necho "$0 $*"\n')
        (folder / name).chmod(0o755)
    return str(folder)


# Finding and weighing


def test_units_are_small_enough_to_stop_in_between(home: Path) -> None:
    for folder in (
        ".npm/_cacache/content-v2/sha512/aa/bb",
        ".npm/_cacache/content-v2/sha512/ac/bb",
        ".cache/yarn/v6/npm-left-pad",
    ):
        fill(home / folder)
    assert parts(home, "npm") == {"content-v2/sha512/aa", "content-v2/sha512/ac"}
    assert parts(home, "yarn") == {"v6/npm-left-pad"}


def test_corpus_of_gos_fuzzing_is_no_part_of_its_cache(home: Path) -> None:
    fill(home / ".cache" / "go-build" / "fuzz" / "example")
    fill(home / ".cache" / "go-build" / "0a")
    assert parts(home, "go-build") == {"0a"}


def test_own_moved_cache_folder_counts_within_the_home(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(home / "var" / "cache" / "thumbnails")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "var" / "cache"))
    assert found(home)["thumbnails"].path == home / "var" / "cache" / "thumbnails"
    fill(tmp_path / "other" / ".cache" / "thumbnails")
    assert (
        found(tmp_path / "other")["thumbnails"].path == tmp_path / "other" / ".cache" / "thumbnails"
    )


@pytest.mark.parametrize("also", ["npm", "mavne", "/etc"])
def test_only_costly_caches_can_be_asked_for(also: str) -> None:
    with pytest.raises(
        ConfigError,
        match=r"caches\.also: .*: no such cache; (did you mean|valid: actions-runner-work, apt)",
    ):
        cache_rows.validate_caches(CacheSettings(also=(also,)))
    cache_rows.validate_caches(CacheSettings(also=("docker", "maven")))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 2), st.integers(0, 2)), max_size=5)
)
def test_weight_is_what_deleting_frees(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[int, int, int]]
) -> None:
    """Each file has so many bytes, and so many further names inside the unit and outside it."""
    top = tmp_path_factory.mktemp("weigh")
    root = top / "home" / "cache"
    root.mkdir(parents=True)
    freed = 0
    for number, (size, inside, outside) in enumerate(files):
        file = root / "unit" / str(number)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x" * size)
        freed += 0 if outside else file.stat().st_blocks * 512
        for other in range(inside):
            os.link(file, root / "unit" / f"{number} {other}")
        for other in range(outside):
            os.link(file, top / f"{number} {other}")
    step = deletion(root)
    assert sum(unit.bytes for unit in step.units) == freed
    assert step.files == sum(1 + inside for _, inside, _ in files)
    assert apply(step, context(root.parent)).freed == freed


# In use, by whatever name


def linked(home: Path) -> tuple[Path, Context]:
    """The home by another name, and the context that is configured with it."""
    link = home.parent / "link"
    link.symlink_to(home)
    return link, Context(
        Host(Config(caches=CacheSettings(homes=(str(link),)))),
        "run",
        home.parent / "state",
        (link,),
    )


def test_open_file_is_seen_behind_a_linked_home(home: Path, start: Start) -> None:
    link, where = linked(home)
    root = fill(home / ".cache" / "thumbnails")
    with (root / "part 0").open() as file:
        start("sleep", "100", stdin=file)
    step = deletion(link / ".cache" / "thumbnails")
    step = replace(step, units=step.units[:1])
    wait_for(lambda: recheck(step, where))
    assert " is in use by " in str(recheck(step, where))
    (planned,) = plan(link, idle_minutes=0).steps
    assert isinstance(planned, Delete)
    assert [unit.path.name for unit in planned.units] == ["part 1", "part 2"]


@pytest.mark.root
def test_open_file_is_seen_behind_another_mount(home: Path, tmp_path: Path, start: Start) -> None:
    """As from a container: the process has the file by a path that has nothing of the home in
    it.
    """
    root = fill(home / ".cache" / "thumbnails" / "large").parent
    (tmp_path / "inside").mkdir()
    subprocess.run(["mount", "--bind", str(root), str(tmp_path / "inside")], check=True)
    try:
        with (tmp_path / "inside" / "large" / "part 0").open() as file:
            process = start("sleep", "100", stdin=file)
        step = deletion(root)
        wait_for(lambda: recheck(step, context(home)))
        assert " is in use by " in str(recheck(step, context(home)))
        process.kill()
        process.wait()
    finally:
        subprocess.run(["umount", str(tmp_path / "inside")], check=True)
    assert recheck(step, context(home)) is None


def test_open_file_is_seen_by_its_path_where_the_device_reads_differently(home: Path) -> None:
    """overlayfs and btrfs tell another device for a mapped file than stat(2) does."""
    root = fill(home / ".cache" / "thumbnails" / "large")
    file = root / "part 0"
    mapped = open_files.OpenFile(
        1, "viewer", file.stat().st_dev + 1, file.stat().st_ino, os.path.realpath(file)
    )
    files = open_files.OpenFiles((mapped,), ())
    assert caches.weigh_unit(file, file.stat().st_dev, files)[1] is None
    held = caches.weigh_all(sorted(root.iterdir()), root, file.stat().st_dev, files)
    assert [unit.path.name for unit, holder in held if holder] == ["part 0"]


def test_process_in_a_folder_of_a_unit_uses_it(home: Path, start: Start) -> None:
    root = fill(home / ".cache" / "thumbnails" / "large" / "deep").parent.parent
    start("sleep", "100", cwd=root / "large" / "deep")
    step = deletion(root)
    wait_for(lambda: recheck(step, context(home)))
    assert " is in use by " in str(recheck(step, context(home)))


@pytest.mark.parametrize("change", ["added", "written", "removed"])
def test_change_deep_inside_stops_the_step(home: Path, change: str) -> None:
    deep = fill(home / ".cache" / "thumbnails" / "large" / "deep")
    step = deletion(home / ".cache" / "thumbnails")
    assert recheck(step, context(home)) is None
    time.sleep(0.02)  # files are stamped by a clock that goes in ticks
    if change == "added":
        (deep / "fresh").write_text("new")
    elif change == "written":
        (deep / "part 0").write_text("new")
    else:
        (deep / "part 0").unlink()
    assert recheck(step, context(home)) == "large changed since it was measured"


def test_replaced_part_is_known_by_more_than_its_age(home: Path) -> None:
    root = fill(home / ".cache" / "thumbnails", 1)
    step = deletion(root)
    step = replace(step, units=(replace(step.units[0], newest=float("inf")),))
    assert recheck(step, context(home)) is None
    (home / "other").write_bytes(b"x" * 1000)
    (home / "other").rename(root / "part 0")
    assert recheck(step, context(home)) == "part 0 changed since it was measured"


def test_parts_gone_meanwhile_do_not_matter(home: Path) -> None:
    root = fill(home / ".cache" / "thumbnails")
    step = deletion(root)
    (root / "part 0").unlink()
    assert recheck(step, context(home)) is None
    assert apply(step, context(home)).details["files_deleted"] == 2


# Deleting


@pytest.mark.root
def test_folder_of_the_same_filesystem_mounted_inside_is_not_entered(home: Path) -> None:
    precious = fill(home / "precious")
    root = fill(home / ".cache" / "thumbnails")
    inside = root / "unit" / "mounted"
    inside.mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(precious), str(inside)], check=True)
    try:
        done = apply(deletion(root), context(home))
        assert len(list(precious.iterdir())) == 3
    finally:
        subprocess.run(["umount", str(inside)], check=True)
    assert "mounted here" in str(done.details["not_deleted"])
    assert [path.name for path in root.iterdir()] == ["unit"]


def test_folders_nested_too_deep_are_told_and_the_rest_goes(home: Path) -> None:
    root = fill(home / ".cache" / "thumbnails")
    folder = os.open(root, os.O_RDONLY)
    for _ in range(1200):  # deeper than Python's stack and most limits on descriptors
        os.mkdir("d", dir_fd=folder)
        deeper = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    try:
        done = apply(deletion(root), context(home))
        assert done.details["files_deleted"] == 3
        assert "nested" in str(done.details["not_deleted"])
    finally:
        subprocess.run(["rm", "-rf", str(root)], check=True)


@pytest.mark.parametrize("links", ["folder", "parent"])
def test_cache_that_became_a_link_is_left_alone(home: Path, tmp_path: Path, links: str) -> None:
    """Measured as a folder, a link when it is to be deleted: what it leads to stays, even under the
    same names.
    """
    root = fill(home / ".cache" / "thumbnails")
    step = deletion(root)
    aside = root if links == "folder" else root.parent
    aside.rename(tmp_path / "victim")
    aside.symlink_to(tmp_path / "victim")
    with pytest.raises(Refused, match="nothing could be deleted"):
        apply(step, context(home))
    assert len(list((tmp_path / "victim").rglob("part *"))) == 3


@pytest.mark.parametrize("swapped", ["large", "deep", "deeper"])
def test_folder_swapped_for_a_link_at_the_worst_moment_leads_nowhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    """Between the look at a folder and its opening, where a race would have to hit: the very same
    names lie behind the link.
    """
    root = fill(home / ".cache" / "thumbnails" / "large" / "deep" / "deeper").parents[2]
    victim = fill(tmp_path / "victim" / "deep" / "deeper").parents[1]
    for folder in (victim, victim / "deep", victim / "deeper"):
        fill(folder)
    precious = sorted(victim.rglob("*"))
    step = deletion(root)
    real, done = os.open, []

    def late(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == swapped and not done:
            place = next(root.rglob(swapped))
            place.rename(tmp_path / "aside")
            place.symlink_to(victim)
            done.append(path)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", late)
    with contextlib.suppress(Refused):
        apply(step, context(home))
    assert done
    assert sorted(victim.rglob("*")) == precious


def test_deletion_goes_on_where_its_list_cannot_be_written(home: Path) -> None:
    root = fill(home / ".cache" / "thumbnails")
    (home.parent / "state").write_text("in the way")
    done = apply(deletion(root), context(home))
    assert str(done.details["manifest"]).startswith("not written: ")
    assert list(root.iterdir()) == []


# Owners' tools


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No owner of a cache runs on this host, whatever else it is busy with."""
    monkeypatch.setattr(cache_owners.CacheOwners, "of", lambda self, cache: None)


@pytest.mark.usefixtures("alone")
def test_owners_go_first_gently_and_thoroughly_last(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (
        ".npm/_cacache/tmp/a",
        ".cache/pip/http/a",
        ".cache/thumbnails/large",
        ".local/share/pnpm/store/v3",
    ):
        fill(home / folder)
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin", "npm", "pip", "pnpm"))
    steps = plan(home, idle_minutes=0).steps
    assert [step.target for step in steps] == [
        f"npm cache verify --cache {home}/.npm",
        f"pnpm store prune --store-dir {home}/.local/share/pnpm/store",
        f"{home}/.cache/thumbnails",
        f"npm cache clean --force --cache {home}/.npm",
        f"pip --cache-dir {home}/.cache/pip cache purge",
        # and where these freed nothing
        f"{home}/.npm/_cacache",
        f"{home}/.cache/pip",
    ]


@pytest.mark.usefixtures("alone")
def test_what_somebody_unseen_could_use_is_kept_also_from_its_owner(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (".cache/pip/http/a", ".cache/thumbnails/large", "Downloads"):
        fill(home / folder)
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin", "pip"))
    found = plan(home, idle_minutes=0, downloads_days=0, move_downloads=True)
    assert {type(step).__name__ for step in found.steps} == {"Run", "Delete", "Quarantine"}
    assert [step.changes for step in found.steps if isinstance(step, Run)] == [
        (home / ".cache" / "pip",)
    ]
    monkeypatch.setattr(users, "container", lambda: "this is a container")
    found = plan(home, idle_minutes=0, downloads_days=0, move_downloads=True)
    assert found.steps == ()
    assert {kept.reason for kept in found.kept} == {"could be in use"}
    assert len(found.kept) == 5  # two caches, three downloads


@pytest.mark.usefixtures("alone")
def test_without_its_tool_a_cache_is_deleted_or_kept(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (
        ".npm/_cacache/tmp/a",
        ".local/share/pnpm/store/v3",
        ".m2/repository/org/apache",
    ):
        fill(home / folder)
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin"))
    found = plan(home, idle_minutes=0)
    assert [step.target for step in found.steps] == [f"{home}/.npm/_cacache"]
    assert {kept.reason: kept.target for kept in found.kept} == {
        "tool missing": f"{home}/.local/share/pnpm/store",
        "costly": f"{home}/.m2/repository",
    }


def test_tool_runs_away_from_anybodys_project(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project's settings in the folder we were started from must not steer it, nor stop an owner
    who may not enter there.
    """
    monkeypatch.chdir(home)
    done = apply(Run(target="", reason="", argv=("pwd",), time_limit=5), context(home))
    assert done.details["said"] == "/"


@pytest.mark.skipif(commands.find_program("pip") is None, reason="needs pip")
def test_real_pip_empties_a_real_cache(home: Path) -> None:
    folder = fill(home / ".cache" / "pip" / "http" / "a" / "b" / "c" / "d" / "e")
    cache = found(home)["pip"]
    apply(
        Run(target="", reason="", argv=cache.command(cache.kind.strong), time_limit=60),
        context(home),
    )
    assert [path for path in folder.rglob("*") if path.is_file()] == []
