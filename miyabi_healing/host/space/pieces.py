"""A look at a folder in pieces, which can be shared out: the upper folders first, then each of the
others by itself.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_healing.host.space.folder_tree import Folder, Totals, prune
from miyabi_healing.host.space.walk import Stopped, Walk
from miyabi_healing.support.formatting import display, size_text
from miyabi_healing.support.tree_size import READ_FOLDER

SOON = 0.2  # seconds: what is over by then needs no further process; and between two words
_UNITS = 400  # folders that are given out, at most about so many
_UPPER = 10  # levels: what is below that is nobody's upper folder
Progress = Callable[[str], None]


@dataclass
class Look:
    """What was seen below `path`. `stopped` is why there may be more; empty where all was seen."""

    path: str
    tree: Folder
    unread: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    snapshots: list[str] = field(default_factory=list)
    kinds: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    stopped: str = ""


@dataclass
class Piece:
    """A folder that is waiting to be looked at, with its path from the top."""

    folder: Folder
    path: str
    depth: int
    done: bool = False


@dataclass
class Pieces:
    """A look in pieces: the upper folders first, until there are enough of others to share out."""

    walk: Walk
    look: Look
    asked: list[int]
    opened: list[Folder] = field(default_factory=list)

    def begin(self, top: int, tell: Progress) -> list[Piece]:
        """Look at the upper folders; returns those that are waiting then."""
        walk, end = self.walk, time.monotonic() + SOON
        walk.tell = self._heard(tell)
        waiting = deque([Piece(self.look.tree, self.look.path, 0)])
        wholes: list[Piece] = []
        while waiting and len(waiting) < _UNITS and time.monotonic() < end and not self.asked:
            piece = waiting.popleft()
            place = walk.places.of(piece.path, piece.folder.name)
            if piece.depth == _UPPER or (piece.depth and place and place.whole):
                wholes.append(piece)
            else:
                try:
                    self._open(top, piece, waiting)
                except Stopped:
                    piece.folder.at_least = True
        return [*wholes, *waiting]

    def _open(self, top: int, piece: Piece, waiting: deque[Piece]) -> None:
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
            if not walk.is_inside(handle, status, path):
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
                waiting.append(Piece(inner, below, piece.depth + 1))
        finally:
            os.close(handle)

    def one(self, top: int, piece: Piece) -> None:
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

    def finish(self, top: int, waiting: list[Piece], tell: Progress) -> None:
        """Look at the pieces one after the other."""
        self.walk.tell = self._heard(tell)
        for number, piece in enumerate(waiting):
            try:
                if self.asked:
                    raise Stopped
                self.one(top, piece)
            except Stopped:
                for each in waiting[number:]:
                    each.folder.at_least = True
                break
        self.close()

    def _heard(self, tell: Progress) -> Callable[[str, Totals], None]:
        """Passes on how far it is, a few times a second, and stops where that was asked for."""
        last = time.monotonic()

        def heard(path: str, totals: Totals) -> None:
            nonlocal last
            if self.asked:
                raise Stopped
            if time.monotonic() - last > SOON:
                last = time.monotonic()
                tell(words(path, totals.bytes, totals.files))

        return heard

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
    return f"{size_text(size)} in {files:,} files so far: {display(path)}"
