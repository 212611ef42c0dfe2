"""What takes a filesystem's space: measured as ``du`` does it, named where it says most, and told
in a glance.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import click
import program
import psutil
import pytest
from rich.cells import cell_len

from miyabi_healing.host import filesystems
from miyabi_healing.host.open_files import OpenFile, OpenFiles, scan_open_files
from miyabi_healing.host.space import brief, crew, glance, picture, snapshots, walk
from miyabi_healing.host.space.deleted_files import deleted_files
from miyabi_healing.host.space.folder_tree import Folder, Totals, by_bytes, by_files, prune, settle
from miyabi_healing.host.space.glance import Glance
from miyabi_healing.host.space.largest import largest_rows
from miyabi_healing.host.space.look import INTERRUPTED, look_at
from miyabi_healing.host.space.pieces import Look
from miyabi_healing.host.space.places import Places
from miyabi_healing.model.actions import ActionResult
from miyabi_healing.model.catalogue import CacheKind
from miyabi_healing.model.config import CacheSettings, Config
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.space import SpaceRow
from miyabi_healing.report import documents, text
from miyabi_healing.report import space as words
from miyabi_healing.support.mount_table import MountPoint
from miyabi_healing.support.tree_size import READ_FOLDER

Start = Callable[..., psutil.Popen]
KB = 1000
NOBODY = 65534


@pytest.fixture
def places(home: Path) -> Places:
    return Places(CacheSettings(homes=(str(home),)))


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second has gone by whenever a glance asks how much time it has taken."""
    monkeypatch.setattr(glance, "_spent", itertools.count().__next__)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder in a place that other users can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def put(file: Path, size: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(os.urandom(size))
    return file


def du(path: Path, *options: str) -> int:
    """Bytes, or with ``--inodes`` files, as GNU's du counts them on one filesystem."""
    said = subprocess.run(
        ["du", "-xs", *(options or ("-B1",)), str(path)], capture_output=True, text=True
    ).stdout
    return int(said.split()[0])


def look(path: Path, places: Places, processes: int = 1) -> Look:
    return look_at(str(path), places, lambda told: None, processes)


def rows(path: Path, places: Places, *, files: bool = False, most: int = 10) -> list[SpaceRow]:
    found = look(path, places).tree
    return list(largest_rows(found, places, (), by_files if files else by_bytes, most))


def named(found: list[SpaceRow], top: Path) -> dict[str, str]:
    return {os.path.relpath(row.path, top): row.verdict for row in found}


# Measuring


@pytest.fixture
def tangle(tmp_path: Path) -> Path:
    """Hard links within a folder and between folders, a sparse file, links in a circle, a name with
    control characters, a FIFO and a socket's worth of depth.
    """
    top = tmp_path / "tangle"
    one = put(top / "a/one", 500 * KB)
    (top / "b/deep/er").mkdir(parents=True)
    os.link(one, top / "a/two")
    os.link(one, top / "b/deep/er/three")
    with (top / "b/sparse").open("wb") as file:
        file.truncate(1 << 30)
    (top / "b/round").symlink_to(top)
    (top / "b/gone").symlink_to(top / "nothing")
    put(top / "b/bad\n\x1b[31mname/file", 30 * KB)
    os.mkfifo(top / "a/fifo")
    for number in range(40):
        put(top / f"many/{number}/file", 2 * KB)
    return top


@pytest.mark.parametrize("processes", [1, 3])
def test_tree_is_measured_as_du_measures_it(tangle: Path, places: Places, processes: int) -> None:
    found = look(tangle, places, processes)
    assert (found.tree.bytes, found.tree.files) == (du(tangle), du(tangle, "--inodes"))
    assert (found.unread, found.outside, found.stopped) == ([], [], "")
    assert not found.tree.at_least


def test_file_with_several_names_counts_once_also_between_processes(
    tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each folder is a piece of its own, so the names are met by different processes."""
    monkeypatch.setattr("miyabi_healing.host.space.pieces._UNITS", 2)
    one = put(tmp_path / "t/0/x/file", 300 * KB)
    for number in range(1, 8):
        (tmp_path / f"t/{number}/x").mkdir(parents=True)
        os.link(one, tmp_path / f"t/{number}/x/file")
    found = look(tmp_path / "t", places, 4)
    assert found.tree.bytes == du(tmp_path / "t") < 400 * KB


@pytest.mark.root
@pytest.mark.parametrize("processes", [1, 2])
def test_another_filesystem_and_one_mounted_again_inside_do_not_count(
    mounted: Callable[..., Path], places: Places, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both among the upper folders and deeper."""
    monkeypatch.setattr("miyabi_healing.host.space.pieces._UNITS", 1 + processes)
    top = mounted("tmpfs", "8M", "outer")
    put(top / "own/file", 100 * KB)
    put(top / "beside/file")
    inner, again = top / "own/inner", top / "own/again"
    inner.mkdir()
    again.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "inner", str(inner)], check=True)
    subprocess.run(["mount", "--bind", str(top / "own"), str(again)], check=True)
    try:
        put(inner / "file", 3000 * KB)
        found = look(top, places, processes)
        assert 100 * KB < found.tree.bytes < 200 * KB
        assert sorted(found.outside) == sorted((str(again), str(inner)))
        seen = Glance(str(top), places, weigh=True)
        assert 100 * KB < seen.tree.bytes < 200 * KB
    finally:
        subprocess.run(["umount", str(again)], check=True)
        subprocess.run(["umount", str(inner)], check=True)


@pytest.mark.root
def test_folder_that_may_not_be_read_is_named_and_the_rest_counts(public: Path) -> None:
    """As another user: in a process of its own, since a user cannot be taken back."""
    top = public / "t"
    put(top / "open/file", 200 * KB)
    put(top / "shut/file", 300 * KB)
    (top / "shut").chmod(0o700)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            known = Places(CacheSettings())
            found, seen = look(top, known), Glance(str(top), known, weigh=True)
            os.write(
                write,
                repr((found.tree.bytes, found.tree.at_least, found.unread, seen.unread)).encode(),
            )
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    size, least, *unread = eval(said)
    assert 200 * KB <= size < 300 * KB
    assert least
    assert unread == [[str(top / "shut")]] * 2


def test_folders_nested_too_deep_are_named_and_the_others_count(
    tmp_path: Path, places: Places
) -> None:
    deep = os.open(tmp_path, READ_FOLDER)
    for _ in range(260):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", READ_FOLDER, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    put(tmp_path / "e/file", 100 * KB)
    found = look(tmp_path, places)
    assert found.tree.bytes > 100 * KB
    assert found.tree.at_least
    (unread,) = found.unread
    assert unread.startswith(f"{tmp_path}/d/d/")
    assert Glance(str(tmp_path), places, weigh=True).tree.bytes > 100 * KB
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


def test_what_is_pruned_still_counts() -> None:
    """A folder of a thousand small ones is no thousand rows, and loses none of them."""
    top = Folder("top", below=[Folder(str(n), bytes=n, below=[Folder("x", 5)]) for n in range(900)])
    for each in top.below:
        for inner in each.below:
            prune(inner, Totals(10**9, 10**6))
        prune(each, Totals(10**9, 10**6))
    prune(top, Totals(10**9, 10**6))
    settle(top, set())
    assert (top.bytes, top.files) == (sum(range(900)) + 4500, 1801)
    assert len(top.below) <= 24
    assert max(top.below, key=by_bytes).name == "899"


def test_ctrl_c_shows_what_was_seen(
    tangle: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes while processes are at work: what they saw counts, and it is said that there
    may be more.
    """
    monkeypatch.setattr("miyabi_healing.host.space.pieces._UNITS", 2)
    monkeypatch.setattr(walk, "_ROUND", 1)
    real = walk.Walk.names

    def slow(self: walk.Walk, handle: int, folder: Folder, path: str) -> list[str]:
        if "/many/" in path:
            time.sleep(0.05)
        return real(self, handle, folder, path)

    monkeypatch.setattr(walk.Walk, "names", slow)
    told: list[str] = []

    def interrupt(said: str) -> None:
        told.append(said)
        if len(told) == 2:
            signal.raise_signal(signal.SIGINT)

    others = {each.pid for each in psutil.Process().children()}
    for processes in (1, 2):
        told.clear()
        before = signal.getsignal(signal.SIGINT)
        found = look_at(str(tangle), places, interrupt, processes)
        assert found.stopped == INTERRUPTED
        assert found.tree.at_least
        assert 0 < found.tree.files < du(tangle, "--inodes")
        assert signal.getsignal(signal.SIGINT) is before
    assert {each.pid for each in psutil.Process().children()} <= others


@pytest.mark.parametrize("deep", [False, True])
def test_ctrl_c_ends_a_look_at_one_folder_of_many_names(
    tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch, deep: bool
) -> None:
    """What a process has seen of it counts, and is not lost with the process after some seconds."""
    monkeypatch.setattr(walk, "_NAMES", 4)
    monkeypatch.setattr("miyabi_healing.host.space.pieces.SOON", 0.0)
    top = tmp_path / "t"
    for number in range(40):
        put(top / ("a/b/flat" if deep else "") / f"{number}")
    (top / "z").mkdir()
    if not deep:
        (top / "a").mkdir()
    told: list[str] = []

    def interrupt(said: str) -> None:
        told.append(said)
        if len(told) == 2:
            signal.raise_signal(signal.SIGINT)

    found = look_at(str(top), places, interrupt, 1)
    assert found.stopped == INTERRUPTED
    assert 0 < found.tree.files < 30
    assert all(each.at_least for each in found.tree.all_below() if "b" in each.name)


def test_folder_of_many_names_is_no_disk_that_does_not_answer(
    tangle: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miyabi_healing.host.space.pieces._UNITS", 2)
    monkeypatch.setattr("miyabi_healing.host.space.pieces.SOON", 0.05)
    monkeypatch.setattr(crew, "SOON", 0.05)
    monkeypatch.setattr(crew, "_STALLED", 0.4)
    monkeypatch.setattr(walk, "_NAMES", 1)
    for number in range(40):
        put(tangle / f"many/flat/{number}", 100)
    real = os.scandir

    class Slow:
        def __init__(self, handle: int) -> None:
            self.entries = real(handle)

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            for entry in self.entries.__enter__():
                time.sleep(0.02)
                yield entry

        def __exit__(self, *_error: object) -> None:
            self.entries.close()

    monkeypatch.setattr(walk.os, "scandir", Slow)
    found = look(tangle, places, 2)
    assert (found.stopped, found.tree.at_least) == ("", False)


def test_process_that_does_not_come_further_is_given_up(
    tangle: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that does not answer: what the others saw is shown."""
    monkeypatch.setattr("miyabi_healing.host.space.pieces._UNITS", 2)
    monkeypatch.setattr(crew, "_STALLED", 0.5)
    real = walk.Walk.names

    def stuck(self: walk.Walk, handle: int, folder: Folder, path: str) -> list[str]:
        if path.endswith("/many/7"):
            time.sleep(60)
        return real(self, handle, folder, path)

    monkeypatch.setattr(walk.Walk, "names", stuck)
    found = look(tangle, places, 2)
    assert found.stopped.startswith("nothing more came from the disk")
    assert found.tree.at_least


# Naming


def test_folder_is_opened_where_one_in_it_has_most_of_it(home: Path, places: Places) -> None:
    put(home / "work/projects/film/raw/take.bin", 900 * KB)
    put(home / "work/projects/film/notes", 9 * KB)
    put(home / "work/letter", 9 * KB)
    found = rows(home, places)
    assert found[0].path == str(home / "work/projects/film/raw/take.bin")
    assert str(home / "work") not in {row.path for row in found}


def test_folder_of_many_alike_is_named_itself(home: Path, places: Places) -> None:
    for number in range(60):
        put(home / f"shots/{number:03}/shot", 20 * KB)
    first = rows(home, places)[0]
    assert first.path == str(home / "shots")
    assert first.bytes == du(home / "shots")


def test_what_is_left_of_an_opened_folder_is_a_row_without_the_rest(
    home: Path, places: Places
) -> None:
    put(home / "src/app/big", 700 * KB)
    for number in range(40):
        put(home / f"src/file{number}", 8 * KB)
    found = {row.path: row for row in rows(home, places)}
    rest = found[str(home / "src")]
    assert rest.besides
    assert 300 * KB < rest.bytes < 400 * KB
    assert sum(row.bytes for row in found.values()) <= du(home)


def test_folder_whose_parts_would_not_all_be_named_is_named_itself(
    home: Path, places: Places
) -> None:
    """Eight of an eighth each: beside nine that are larger, seven of them would be hidden."""
    for number in range(8):
        put(home / f"src/{number}/file", 40 * KB)
    alone = {row.path for row in rows(home, places)}
    assert str(home / "src/3/file") in alone
    for number in range(9):
        put(home / f"other{number}/file", 80 * KB)
    first, *others = rows(home, places)
    assert first.path == str(home / "src")
    assert len(others) == 9


def test_cache_in_a_known_folder_is_told_where_it_is_most_of_it(home: Path) -> None:
    kind = CacheKind("A", (".claude/debug",))
    known = Places(CacheSettings(homes=(str(home),), define={"agent-debug": kind}))
    put(home / ".claude/debug/log", 500 * KB)
    put(home / ".claude/projects/p/session.jsonl", 50 * KB)
    assert named(rows(home, known), home)[".claude/debug"] == "can go"
    put(home / ".claude/projects/p/other.jsonl", 2000 * KB)
    assert named(rows(home, known), home) == {".claude": "a person's"}


def test_known_folders_are_wholes_with_their_verdicts(home: Path, places: Places) -> None:
    put(home / ".cache/thumbnails/large/a", 500 * KB)
    put(home / ".m2/repository/org/x/jar", 400 * KB)
    put(home / ".claude/projects/p/session.jsonl", 300 * KB)
    put(home / "src/app/node_modules/x/lib/index.js", 250 * KB)
    put(home / "src/app/.git/objects/pack/pack", 200 * KB)
    put(home / "src/bare.git/packed-refs", 150 * KB)
    put(home / "data/base/16384/1", 120 * KB)
    put(home / "data/PG_VERSION", 1)
    put(home / "scratch/x", 110 * KB)
    put(home / "scratch/CACHEDIR.TAG").write_bytes(
        b"Signature: 8a477f597d28d172789f06886806bc55\n# by a tool\n"
    )
    put(home / "mystery/x", 60 * KB)
    put(home / "mystery/y", 60 * KB)
    assert named(rows(home, places, most=12), home) == {
        ".cache/thumbnails": "can go",
        ".m2/repository": "costly",
        ".claude": "a person's",
        "src/app/node_modules": "costly",
        "src/app/.git": "a person's",
        "src/bare.git": "a person's",
        "data": "a person's",
        "scratch": "costly",
        "mystery": "unknown",
    }


def test_place_of_sources_is_none_of_the_caches_that_are_marked_in_it(
    home: Path, places: Places
) -> None:
    tag = b"Signature: 8a477f597d28d172789f06886806bc55\n# created by cargo.\n"
    put(home / "src/mine/film", 500 * KB)
    put(home / "src/other/film", 400 * KB)
    put(home / "src/app/target/debug/x", 450 * KB)
    put(home / "src/app/target/CACHEDIR.TAG").write_bytes(tag)
    put(home / "src/kept/CACHEDIR.TAG").write_bytes(tag)
    put(home / "src/kept/x", 450 * KB)
    found = named(rows(home, places), home)
    assert found.pop("src/app/target") == "can go"
    assert found == {"src/mine/film": "unknown", "src/other/film": "unknown", "src/kept": "costly"}


def test_what_only_its_owner_cleans_says_so_and_the_systems_own_never_can_go(home: Path) -> None:
    known = Places(CacheSettings(homes=(str(home),), also=("docker",), never=("apt",)))
    assert "only uv itself can clean" in known.paths[f"{home}/.cache/uv"].what
    journal, docker = known.paths["/var/log/journal"], known.paths["/var/lib/docker"]
    assert (journal.verdict, docker.verdict) == ("the system's", "costly")
    assert "journalctl --vacuum-size" in journal.what


@pytest.mark.parametrize(
    ("folder", "around"),
    [
        (".local/share/containers/storage/volumes", ".local/share/containers"),
        (".vscode-server/data", ".vscode-server"),
        (".julia/dev", ".julia"),
    ],
)
def test_what_nobody_makes_again_is_told_apart_from_what_is_fetched(
    home: Path, places: Places, folder: str, around: str
) -> None:
    put(home / around / "fetched/x", 400 * KB)
    put(home / folder / "made/x", 300 * KB)
    (row,) = rows(home, places)
    assert (row.path, row.verdict) == (str(home / around), "costly")
    assert f"but a person's is {os.path.relpath(folder, around)} in it" in row.what
    put(home / folder / "made/y", 2000 * KB)
    assert named(rows(home, places), home)[folder] == "a person's"


def test_costly_cache_that_may_be_cleaned_can_go_and_a_spared_one_is_none(home: Path) -> None:
    put(home / ".m2/repository/x", 100 * KB)
    put(home / ".cache/thumbnails/x", 100 * KB)
    also = Places(CacheSettings(homes=(str(home),), also=("maven",), never=("thumbnails",)))
    assert named(rows(home, also), home)[".m2/repository"] == "can go"
    assert "can go" not in {
        row.verdict for row in rows(home, also) if "thumbnails" in row.path or ".cache" in row.path
    }


def test_cache_that_somebody_has_open_cannot_go(home: Path, places: Places) -> None:
    file = put(home / ".cache/thumbnails/large/a", 500 * KB)
    near = put(home / ".cache/thumbnails-of-mine/a", 500 * KB)
    tree = look(home, places).tree
    for path, verdict in ((file, "in use"), (near, "can go")):
        held = OpenFile(4711, "viewer", 1, 1, str(path))
        found = {row.path: row for row in largest_rows(tree, places, (held,), by_bytes)}
        row = found[str(home / ".cache/thumbnails")]
        assert row.verdict == verdict
        assert ("viewer (pid 4711)" in row.what) == (verdict == "in use")


def test_most_files_are_found_where_inodes_are_short(home: Path, places: Places) -> None:
    for number in range(300):
        put(home / f"shots/{number % 25}/{number}.png")
    put(home / "film", 4000 * KB)
    first = rows(home, places, files=True)[0]
    assert first.path == str(home / "shots")
    assert first.files == 326
    assert rows(home, places)[0].path == str(home / "film")


# A glance


def test_glance_at_what_is_small_is_exact(tangle: Path, places: Places) -> None:
    seen = Glance(str(tangle), places, weigh=True, cpu=5)
    assert seen.is_whole
    assert (seen.tree.bytes, seen.tree.at_least) == (du(tangle), False)


def test_glance_without_time_says_the_least_and_an_estimate(
    home: Path, places: Places, slow_clock: None
) -> None:
    """The larger one of two is told, and no number that was not seen is said to be seen."""
    for number in range(600):
        put(home / f"large/{number % 100}/{number}", 3 * KB)
    for number in range(120):
        put(home / f"small/{number % 100}/{number}", 1 * KB)
    seen = Glance(str(home), places, weigh=True, cpu=60)
    assert not seen.is_whole
    first = largest_rows(seen.tree, places, (), by_bytes)[0]
    assert first.path == str(home / "large")
    assert first.at_least
    assert first.bytes < du(home / "large") / 2
    assert first.estimate is not None
    assert du(home / "large") / 2 < first.estimate < 2 * du(home / "large")


def test_glance_finds_a_known_folder_however_deep(
    home: Path, places: Places, slow_clock: None
) -> None:
    """Before the time is over that others would take: by its place."""
    with put(home / ".local/share/pnpm/store/v3/files/00/x").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 100_000 * KB)
    for number in range(300):
        put(home / f".local/share/app{number % 50}/{number}/x", 100)
    near = str(home / ".local")
    places.paths = {path: known for path, known in places.paths.items() if path.startswith(near)}
    tried = len(places.paths) + len(places.homes)
    seen = Glance(str(home), places, weigh=True, cpu=2 * tried + 40)
    found = named(list(largest_rows(seen.tree, places, (), by_bytes)), home)
    assert not seen.is_whole
    assert found[".local/share/pnpm/store"] == "can go"


def test_glance_names_the_same_folders_twice(home: Path, places: Places) -> None:
    for number in range(200):
        put(home / f"x/{number % 10}/{number % 7}/{number}", number)
    one, two = (Glance(str(home), places, weigh=True, cpu=5).tree for _ in range(2))
    assert (one.likely_bytes, one.files) == (two.likely_bytes, two.files)


@pytest.mark.root
def test_filesystem_without_inodes_names_the_folder_with_the_files(
    mounted: Callable[..., Path], home: Path
) -> None:
    point = mounted("tmpfs", "40M", "few", ",nr_inodes=600")
    (point / "shots").mkdir()
    for number in range(560):
        (point / f"shots/{number}.png").touch()
    (point / "film").write_bytes(bytes(4000 * KB))
    mount = filesystems.read_mount(str(point))
    found = brief.largest_folders(mount, Config(), ())
    listed = found["largest_folders"]
    assert isinstance(listed, list)
    assert found["glance"]["by"] == "files"  # type: ignore[index]
    assert (listed[0]["path"], listed[0]["files"]) == (str(point / "shots"), 561)
    by_space = brief.largest_folders(replace(mount, inodes_percent=0), Config(), ())
    assert by_space["largest_folders"][0]["path"] == str(point / "film")  # type: ignore[index]


# What no folder shows


@pytest.mark.root
def test_deleted_file_is_explained_by_its_process_and_counts_once(
    mounted: Callable[..., Path], start: Start, home: Path
) -> None:
    """Two processes have it open; without it, its bytes are not found in any folder."""
    point = mounted("tmpfs", "40M")
    file = put(point / "log", 9000 * KB)
    put(point / "still-there", 500 * KB)
    script = "import sys; file = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
    argv = (sys.executable, "-c", script, str(file))
    both = [start(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for each in both:
        assert each.stdout is not None
        each.stdout.readline()
        each.stdout.close()
    file.unlink()
    opened = scan_open_files()
    found, total = deleted_files(opened.files, point.stat().st_dev)
    assert {row.pid for row in found} == {each.pid for each in both}
    assert 9000 * KB <= total < 9100 * KB
    assert all(row.bytes == total for row in found)
    whole = picture.whole_picture(str(point), Config(), opened, lambda told: None)
    assert whole.whole
    assert (whole.deleted_bytes, whole.unexplained) == (total, 0)
    without = picture.whole_picture(str(point), Config(), OpenFiles((), ()), lambda told: None)
    assert without.unexplained == total


def test_what_no_folder_has_may_be_deleted_files_of_processes_that_were_not_seen() -> None:
    about = dict.fromkeys(("percent", "inodes_percent", "size", "free", "reserved"), 0)
    seen = dict.fromkeys(("seen_bytes", "seen_files"), 1)
    shown = picture.SpacePicture(
        path="/x", filesystem="ext4", whole=True, short="bytes", used=10**9, rows=(),
        unexplained=8 * 10**8, unseen=3, unread=("/x/lost+found",), **about, **seen,
    )  # fmt: skip
    (line,) = [
        each
        for each in words.space_lines(words.build_space([shown], []), 1000)
        if each.startswith("Not found")
    ]
    assert "folders that could not be read" in line
    assert "deleted files of 3 processes that could not be looked into" in line
    assert "it is in" not in line


def test_volume_in_a_thin_pool_says_that_snapshots_cannot_be_told(tmp_path: Path) -> None:
    device = os.makedev(253, 7)
    for name, content in (("dm-1", "vg-pool-tpool\n"), ("dm-2", "vg-other\n")):
        (tmp_path / "253:7/slaves" / name / "dm").mkdir(parents=True)
        (tmp_path / "253:7/slaves" / name / "dm/name").write_text(content)
    (note,) = snapshots._lvm(device, tmp_path)
    assert "thin pool vg-pool" in note
    assert snapshots._lvm(os.makedev(253, 8), tmp_path) == []


def test_snapshots_of_btrfs_are_counted_in_their_usual_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = MountPoint(1, 1, "/", str(tmp_path), "btrfs", "/dev/sda1")
    other = replace(mount, source="/dev/sdb1", path=str(tmp_path / "b"))
    monkeypatch.setattr(snapshots, "mount_table", lambda: (mount, other))
    assert "none was seen" in snapshots.snapshot_notes(mount)[0]
    for number in range(3):
        (tmp_path / f".snapshots/{number}/snapshot").mkdir(parents=True)
    (note,) = snapshots.snapshot_notes(mount)
    assert f"{tmp_path}/.snapshots (3)" in note
    assert "none was seen" in snapshots.snapshot_notes(other)[0]


def test_snapshots_of_zfs_are_counted(tmp_path: Path) -> None:
    mount = MountPoint(1, 1, "/", str(tmp_path), "zfs", "tank/home")
    assert "cannot be told" in snapshots.snapshot_notes(mount)[0]
    (tmp_path / ".zfs/snapshot/daily-1").mkdir(parents=True)
    assert snapshots.snapshot_notes(mount)[0].startswith("snapshots: 1 of tank/home")


# The command, and a healing run


def test_command_shows_rows_and_what_no_folder_has(home: Path) -> None:
    put(home / ".cache/thumbnails/large/a", 500 * KB)
    put(home / "wo\nrk\x1b[31m/film", 300 * KB)
    before = sorted(home.rglob("*"))
    done = program.run("space", str(home), COLUMNS=None)
    assert (done.returncode, done.stderr) == (0, "")
    head, first, second, *_ = done.stdout.splitlines()
    assert head.startswith(f"{home}: ")
    assert "[can go] ~/.cache/thumbnails: the cache of thumbnails" in first
    assert "[unknown] ~/wo\\nrk\\x1b[31m/film" in second
    assert sorted(home.rglob("*")) == before
    found = json.loads(program.run("space", "--json", "-n", "1", "--files", str(home)).stdout)
    (one,) = found["filesystems"]
    assert (one["short"], len(one["rows"]), one["whole"]) == ("files", 1, False)
    assert program.run("space", str(home / "nothing")).returncode == 2


def test_table_on_a_narrow_screen_has_no_line_that_is_longer(home: Path, places: Places) -> None:
    put(home / ("long " * 12) / ("longer" * 8), 300 * KB)
    whole = picture.whole_picture(str(home), Config(), OpenFiles((), ()), lambda told: None)
    for width in (40, 60, 100):
        lines = list(words.space_lines(words.build_space([whole], ["/x: gone"]), width))
        assert max(cell_len(click.unstyle(line)) for line in lines) <= width


@pytest.mark.root
def test_report_of_a_full_disk_names_what_takes_it(
    mounted: Callable[..., Path], tmp_path: Path, home: Path
) -> None:
    point = mounted("tmpfs", "18M")
    put(point / "home/films/one", 9000 * KB)
    put(point / "home/films/two", 9000 * KB)
    config = program.settings(
        tmp_path,
        f'[disk]\nmounts = ["{point}"]\n[checks.disk_space_critical]\nenabled = true\n'
        f'[caches]\nhomes = ["{point}/home"]\nnever = ["journald", "docker-build"]\n',
    )
    status, document = program.report("--config", config, "--dry-run")
    assert status == 1
    (action,) = document["actions_taken"]
    (row,) = action["details"]["largest_folders"]
    assert (row["path"], row["verdict"]) == (str(point / "home/films"), "unknown")
    assert row["bytes"] >= 18_000 * KB
    said = " ".join(text.render_report(document, colour=False).split())
    assert f"[unknown] {point}/home/films" in said.replace("/ ", "/")
    assert "What takes most space:" in said


def test_plan_that_was_enough_is_not_asked_for_more() -> None:
    def asked() -> dict[str, object]:
        raise AssertionError("it was enough")

    issue = Issue("disk_space_critical", "full", "/", 97, Limit(90))
    plan = Plan((), Goal("below", lambda: True), details={"one": 1}, if_short=asked)
    action = ActionResult("cleanup_disk", issue, plan, passed=True)
    assert documents._details(action) == {"one": 1}
    action.passed = False
    assert "it was enough" in str(documents._details(action))


@pytest.mark.root
def test_subvolume_is_looked_into_and_a_snapshot_is_named(
    mounted: Callable[..., Path], places: Places
) -> None:
    for tool in ("btrfs", "mkfs.btrfs"):
        if not shutil.which(tool):
            pytest.skip(f"needs {tool}")
    point = mounted("btrfs", "120M")
    for command in (("create", point / "home"), ("snapshot", point / "home", point / "before")):
        subprocess.run(["btrfs", "-q", "subvolume", *map(str, command)], check=True)
        put(point / "home/film", 3000 * KB)
    subprocess.run(["sync", "-f", str(point)], check=True)
    found = look(point, places)
    assert 3000 * KB <= found.tree.bytes < 3200 * KB
    assert (found.snapshots, found.outside) == ([str(point / "before")], [])
    assert Glance(str(point), places, weigh=True).tree.bytes == found.tree.bytes
    whole = picture.whole_picture(str(point), Config(), OpenFiles((), ()), lambda told: None)
    said = "\n".join(words.space_lines(words.build_space([whole], []), 1000))
    assert f"Snapshots, which keep what was in them: {point}/before" in said


def test_dependencies_in_many_places_are_added_up(home: Path, places: Places) -> None:
    """Each is too small for a row, all of them together are most."""
    for number in range(30):
        put(home / f"src/{number}/node_modules/x/index.js", 20 * KB)
        put(home / f"src/{number}/node_modules/x/node_modules/y/index.js", 20 * KB)
    for processes in (1, 2):
        found = look(home, places, processes)
        folders, size, files = found.kinds["node_modules"]
        assert (folders, files) == (30, 180)
        assert 1200 * KB < size <= found.tree.bytes
    whole = picture.whole_picture(str(home), Config(), OpenFiles((), ()), lambda told: None)
    said = "\n".join(words.space_lines(words.build_space([whole], []), 1000))
    assert "In all places together: 30 × node_modules 1." in said
