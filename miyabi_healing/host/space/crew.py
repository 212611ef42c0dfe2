"""Processes that look at the pieces of a folder side by side. Threads are no faster than one: they
wait for each other.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import select
import signal
import struct
import time
from dataclasses import dataclass

from miyabi_healing.host.space.folder_tree import Folder, Totals
from miyabi_healing.host.space.pieces import SOON, Piece, Pieces, Progress, words
from miyabi_healing.host.space.walk import Stopped, add_kinds
from miyabi_healing.support.tree_size import READ_FOLDER

_STALLED = 60.0  # seconds in which no process comes any further: a disk that does not answer
_GRACE = 5.0  # seconds for a process that was asked to stop
_MOST_SHARES = 1000  # their numbers fit into a pipe, which takes a page at least (pipe(7))
_FLOW = struct.Struct("QQ")  # bytes and files so far


@dataclass
class _Result:
    """What one process has seen: the folders by the number of their piece."""

    folders: dict[int, Folder]
    unread: list[str]
    outside: list[str]
    snapshots: list[str]
    kinds: dict[str, tuple[int, int, int]]


class Crew:
    """Processes that take pieces as they come, and send what they saw at their end."""

    def __init__(self, pieces: Pieces, waiting: list[Piece], tell: Progress) -> None:
        self.pieces, self.waiting, self.tell = pieces, waiting, tell
        self.counts: mmap.mmap
        self.shares = 0
        self.results: dict[int, bytearray] = {}
        self.children: dict[int, int] = {}

    def work(self, count: int) -> None:
        self.counts = mmap.mmap(-1, _FLOW.size * count)
        queue, give = os.pipe()
        try:
            self.shares = min(len(self.waiting), _MOST_SHARES)
            os.write(give, b"".join(struct.pack("I", each) for each in range(self.shares)))
            os.close(give)
            for number in range(count):
                self._start(number, queue)
        finally:
            os.close(queue)
        silent = set(self.children)
        try:
            self._collect(count, silent)
        finally:
            for answer, pid in self.children.items():
                os.close(answer)
                _end(pid, answer in silent)
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
        walk.unread, walk.outside, walk.snapshots, walk.totals = [], [], [], Totals()
        walk.kinds = {}

        def heard(_path: str, totals: Totals) -> None:
            _FLOW.pack_into(self.counts, number * _FLOW.size, totals.bytes, totals.files)
            if asked or os.getppid() != parent:
                raise Stopped

        walk.tell = heard
        folders: dict[int, Folder] = {}
        top = os.open(self.pieces.look.path, READ_FOLDER)
        with contextlib.suppress(Stopped):
            while not asked and (word := os.read(queue, 4)):
                (share,) = struct.unpack("I", word)
                for which in range(share, len(self.waiting), self.shares):
                    folders[which] = self.waiting[which].folder
                    self.pieces.one(top, self.waiting[which])
        with os.fdopen(result, "wb") as file:
            pickle.dump(
                _Result(folders, walk.unread, walk.outside, walk.snapshots, walk.kinds),
                file,
                pickle.HIGHEST_PROTOCOL,
            )

    def _collect(self, count: int, waiting: set[int]) -> None:
        """Wait for the processes whose pipes are in `waiting`, until all of them are closed."""
        look, asked = self.pieces.look, self.pieces.asked
        moved, before, passed_on = time.monotonic(), b"", False
        while waiting:
            ready, _, _ = select.select(list(waiting), [], [], SOON)
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
        walk.snapshots += result.snapshots
        add_kinds(walk.kinds, result.kinds)
        for number, folder in result.folders.items():
            piece = self.waiting[number]
            piece.done = True
            for name in Folder.__slots__:
                setattr(piece.folder, name, getattr(folder, name))
        walk.totals.files += sum(each.rough_files for each in result.folders.values())


def _end(pid: int, silent: bool) -> None:
    """See a process of ours end. One that is `silent` is ended, and left behind where the kernel
    does not let it go.
    """
    with contextlib.suppress(ChildProcessError):
        if not silent:
            os.waitpid(pid, 0)
            return
        os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + SOON
        while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < end:
            time.sleep(0.005)
