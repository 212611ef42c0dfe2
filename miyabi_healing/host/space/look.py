"""The whole look at a folder: all that is in it, by several processes side by side (one takes 1.4
times as long as ``du``, two take 0.8 of it), with words about how far it is, until it is stopped.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import select
import signal
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_healing.host.space.folder_tree import Folder, Totals, prune, settle
from miyabi_healing.host.space.places import Places
from miyabi_healing.host.space.walk import Stopped, Walk
from miyabi_healing.support import mount_answers
from miyabi_healing.support.mount_table import mount_table
from miyabi_healing.support.tree_size import READ_FOLDER

INTERRUPTED = "stopped by Ctrl-C"
_UNITS = 400  # folders that are given out, at most about so many
_SOON = 0.2  # seconds: what is over by then needs no further process
_STALLED = 60.0  # seconds in which no process comes any further: a disk that does not answer
_GRACE = 5.0  # seconds for a process that was asked to stop
_FLOW = struct.Struct("QQ")  # bytes and files so far
Progress = Callable[[str], None]


@dataclass
class Look:
    """What was seen below `path`. `stopped` is why there may be more; empty where all was seen."""

    path: str
    tree: Folder
    unread: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    stopped: str = ""


def look_at(path: str, places: Places, tell: Progress, processes: int = 0) -> Look:
    """Look at a folder and all below on its filesystem; `tell` is called a few times a second.

    Ctrl-C ends it early, with what was seen. `processes` is for how many at a time, 0 for what the
    machine has. Raises OSError where the folder itself cannot be looked at, NoAnswer where its
    mount does not answer.
    """
    mount_answers.check(path)
    path = os.path.realpath(path)
    top = os.open(path, READ_FOLDER)
    points = frozenset(row.path for row in mount_table())
    look = Look(path, Folder(path))
    try:
        with _asked_to_stop() as asked:
            status = os.fstat(top)
            look.tree.bytes = status.st_blocks * 512
            walk = Walk(status.st_dev, places, points)
            pieces = _Pieces(walk, look, asked)
            waiting = pieces.begin(top)
            count = min(processes or _processors(), len(waiting))
            if waiting and not asked and count > 1:
                _Crew(pieces, waiting, tell).work(count)
            elif waiting:
                pieces.finish(top, waiting, tell)
            if asked:
                look.stopped = INTERRUPTED
                look.tree.at_least = True
    finally:
        os.close(top)
    look.unread += walk.unread
    look.outside += walk.outside
    settle(look.tree, set())
    return look


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """A list that is not empty any more once somebody has pressed Ctrl-C."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass
class _Piece:
    """A folder that is waiting to be looked at, with its path from the top."""

    folder: Folder
    path: str
    depth: int
    done: bool = False


@dataclass
class _Pieces:
    """A look in pieces: the upper folders first, until there are enough of others to share out."""

    walk: Walk
    look: Look
    asked: list[int]
    opened: list[Folder] = field(default_factory=list)

    def begin(self, top: int) -> list[_Piece]:
        """Look at the upper folders; returns those that are waiting then."""
        walk, end = self.walk, time.monotonic() + _SOON
        waiting = deque([_Piece(self.look.tree, self.look.path, 0)])
        wholes: list[_Piece] = []
        while waiting and len(waiting) < _UNITS and time.monotonic() < end and not self.asked:
            piece = waiting.popleft()
            place = walk.places.of(piece.path, piece.folder.name)
            if piece.depth and place and place.whole:
                wholes.append(piece)
            else:
                self._open(top, piece, waiting)
        return [*wholes, *waiting]

    def _open(self, top: int, piece: _Piece, waiting: deque[_Piece]) -> None:
        folder, path, walk = piece.folder, piece.path, self.walk
        relative = os.path.relpath(path, self.look.path)
        try:
            handle = open_below(top, relative)
        except FileNotFoundError:
            folder.files = 0
            return
        except OSError:
            folder.at_least = True
            walk.unread.append(path)
            return
        try:
            status = os.fstat(handle)
            if status.st_dev != walk.device:
                walk.outside.append(path)
                folder.files = 0
                return
            if piece.depth:
                folder.bytes += status.st_blocks * 512
            self.opened.append(folder)
            for name in walk.names(handle, folder, path):
                below = path.rstrip("/") + "/" + name
                if below in walk.points:
                    walk.outside.append(below)
                    continue
                inner = Folder(name)
                folder.below.append(inner)
                waiting.append(_Piece(inner, below, piece.depth + 1))
        finally:
            os.close(handle)

    def one(self, top: int, piece: _Piece) -> None:
        """Look at all of a piece. Raises Stopped."""
        around = os.path.dirname(os.path.relpath(piece.path, self.look.path)) or "."
        try:
            parent = open_below(top, around)
        except OSError:
            piece.folder.at_least = True
            self.walk.unread.append(piece.path)
            return
        try:
            self.walk.enter(parent, piece.folder, piece.path, piece.depth)
        finally:
            os.close(parent)

    def finish(self, top: int, waiting: list[_Piece], tell: Progress) -> None:
        """Look at the pieces one after the other."""
        last = time.monotonic()

        def heard(path: str, totals: Totals) -> None:
            nonlocal last
            if self.asked:
                raise Stopped
            if time.monotonic() - last > _SOON:
                last = time.monotonic()
                tell(words(path, totals.bytes, totals.files))

        self.walk.tell = heard
        for number, piece in enumerate(waiting):
            try:
                self.one(top, piece)
            except Stopped:
                for each in waiting[number:]:
                    each.folder.at_least = True
                break
        self.close()

    def close(self) -> None:
        for folder in reversed(self.opened):
            prune(folder, self.walk.totals)


def open_below(top: int, relative: str) -> int:
    """A folder below an open one, through no link. Raises OSError."""
    handle = os.dup(top)
    for name in Path(relative).parts:
        try:
            deeper = os.open(name, READ_FOLDER, dir_fd=handle)
        finally:
            os.close(handle)
        handle = deeper
    return handle


def words(path: str, size: int, files: int) -> str:
    from miyabi_healing.support.formatting import display, size_text

    return f"{size_text(size)} in {files:,} files so far: {display(path)}"


@dataclass
class _Result:
    """What one process has seen: the folders by the number of their piece."""

    folders: dict[int, Folder]
    unread: list[str]
    outside: list[str]


class _Crew:
    """Processes that take pieces as they come, and send what they saw at their end."""

    def __init__(self, pieces: _Pieces, waiting: list[_Piece], tell: Progress) -> None:
        self.pieces, self.waiting, self.tell = pieces, waiting, tell
        self.counts: mmap.mmap
        self.results: dict[int, bytearray] = {}
        self.children: dict[int, int] = {}

    def work(self, count: int) -> None:
        self.counts = mmap.mmap(-1, _FLOW.size * count)
        queue, give = os.pipe()
        try:
            # 64 kB are in a pipe, or a page at least: enough for 1,024 numbers
            os.write(give, b"".join(struct.pack("I", each) for each in range(len(self.waiting))))
            os.close(give)
            for number in range(count):
                self._start(number, queue)
        finally:
            os.close(queue)
        try:
            self._collect(count)
        finally:
            for pid in self.children.values():
                _end(pid)
        for data in self.results.values():
            self._take(bytes(data))
        for piece in self.waiting:
            piece.folder.at_least |= not piece.done
        self.pieces.close()

    def _start(self, number: int, queue: int) -> None:
        parent = os.getpid()
        answer, result = os.pipe()
        pid = os.fork()
        if pid:
            os.close(result)
            self.children[answer], self.results[answer] = pid, bytearray()
            return
        try:
            os.close(answer)
            self._serve(number, queue, result, parent)
        finally:
            os._exit(0)

    def _serve(self, number: int, queue: int, result: int, parent: int) -> None:
        """What a process of the crew does."""
        walk, asked = self.pieces.walk, self.pieces.asked
        walk.unread, walk.outside, walk.totals = [], [], Totals()

        def heard(_path: str, totals: Totals) -> None:
            _FLOW.pack_into(self.counts, number * _FLOW.size, totals.bytes, totals.files)
            if asked or os.getppid() != parent:
                raise Stopped

        walk.tell = heard
        folders: dict[int, Folder] = {}
        top = os.open(self.pieces.look.path, READ_FOLDER)
        with contextlib.suppress(Stopped):
            while not asked and (word := os.read(queue, 4)):
                (which,) = struct.unpack("I", word)
                piece = self.waiting[which]
                folders[which] = piece.folder
                self.pieces.one(top, piece)
        with os.fdopen(result, "wb") as file:
            pickle.dump(_Result(folders, walk.unread, walk.outside), file, pickle.HIGHEST_PROTOCOL)

    def _collect(self, count: int) -> None:
        look, asked = self.pieces.look, self.pieces.asked
        moved, before, passed_on = time.monotonic(), b"", False
        waiting = set(self.results)
        while waiting:
            ready, _, _ = select.select(list(waiting), [], [], _SOON)
            for each in ready:
                data = os.read(each, 1 << 20)
                self.results[each] += data
                if not data:
                    waiting.discard(each)
            now = time.monotonic()
            if ready or self.counts[:] != before:
                moved, before = now, self.counts[:]
            if asked and not passed_on:
                passed_on, moved = True, now
                for pid in self.children.values():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGINT)
            if now - moved > (_GRACE if passed_on else _STALLED):
                look.stopped = f"nothing more came from the disk for {now - moved:.0f} s"
                return
            flows = [_FLOW.unpack_from(before, each * _FLOW.size) for each in range(count)]
            size, files = (sum(column) for column in zip(*flows, strict=True))
            totals = self.pieces.walk.totals
            self.tell(words(look.path, totals.bytes + size, totals.files + files))

    def _take(self, data: bytes) -> None:
        try:
            result: _Result = pickle.loads(data)
        except (pickle.UnpicklingError, EOFError):
            return  # its pieces count as not seen
        walk = self.pieces.walk
        walk.unread += result.unread
        walk.outside += result.outside
        for number, folder in result.folders.items():
            piece = self.waiting[number]
            piece.done = True
            for name in Folder.__slots__:
                setattr(piece.folder, name, getattr(folder, name))
        walk.totals.files += sum(each.rough_files for each in result.folders.values())


def _end(pid: int) -> None:
    """End a process of ours, without waiting for one that the kernel does not let go."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        if os.waitpid(pid, os.WNOHANG) == (0, 0):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)
