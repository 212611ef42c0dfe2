"""Many small files in one archive: a tar file (POSIX.1-2001, pax), compressed a file at a time, so
that each can be had alone; with a list of them behind it.

``tar --zstd -xf`` unpacks it: the list is in a frame that zstd passes over.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miyabi_healing.gate.primitives import compression

_HEADER = struct.calcsize("<II")  # of a skippable frame
_END = bytes(2 * tarfile.BLOCKSIZE)

Row = Mapping[str, Any]  # what the list says of one file


class Bundle(compression.Archive):
    """Such an archive being written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._rows: list[Row] = []
        self._index = [0, 0]

    def __len__(self) -> int:
        return len(self._rows)

    def add_file(self, name: str, content: bytes, about: Row) -> None:
        """Append one file; `about` is what else the list says of it."""
        begin = self.size
        header = _header_of(name, len(content), about)
        self.add(b"".join((header, content, bytes(-len(content) % tarfile.BLOCKSIZE))))
        self._rows.append(
            {
                "name": name,
                **about,
                "sha256": hashlib.sha256(content).hexdigest(),
                "frame": [begin, self.size - begin],
                "header": len(header),
            }
        )

    def end(self) -> None:
        """Append the end of the tar file, and the list."""
        self.add(_END)
        begin = self.size
        self.add_beside(json.dumps(self._rows).encode())
        self._index = [begin, self.size - begin]

    @property
    def facts(self) -> dict[str, object]:
        return {**super().facts, "files": len(self._rows), "index": self._index}


def _header_of(name: str, size: int, about: Row) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, about["mode"]
    info.uid, info.gid = about["uid"], about["gid"]
    info.mtime = about["mtime_ns"] // 10**9
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def read_list(archive: Path, facts: Row) -> list[Row]:
    """What is in an archive, by its own list. Raises OSError where that is damaged."""
    begin, length = facts["index"]
    data = _part(archive, begin, length)
    try:
        magic, inside = struct.unpack_from("<II", data)
        if (magic, inside) != (compression.SKIPPABLE, length - _HEADER):
            raise compression.damaged(archive)
        rows = json.loads(compression.library().decompress(data[_HEADER:]))
        for each in rows:
            if not each["name"] or each["name"] in (".", "..") or "/" in each["name"]:
                raise compression.damaged(archive)
        return list(rows)
    except (compression.library().ZstdError, ValueError, LookupError, TypeError, struct.error):
        raise compression.damaged(archive) from None


def read_file(archive: Path, row: Row) -> bytes:
    """The content of one file. Raises OSError where it is not what was put in."""
    try:
        data: bytes = compression.library().decompress(_part(archive, *row["frame"]))
    except compression.library().ZstdError:
        raise compression.damaged(archive) from None
    content = data[row["header"] : row["header"] + row["size"]]
    if hashlib.sha256(content).hexdigest() != row["sha256"]:
        raise compression.damaged(archive)
    return content


def _part(archive: Path, begin: int, length: int) -> bytes:
    descriptor = os.open(archive, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, length, begin)
    finally:
        os.close(descriptor)
