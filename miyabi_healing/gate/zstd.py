"""Compression for archives: the standard library's zstd, or its backport before Python 3.14."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PIECE = 4 << 20
LEVEL = 3  # 0.15 of ordinary logs, at the speed of a disk


def library() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def unpack(path: Path, length: int, sha256: str) -> Iterator[bytes]:
    """The first `length` bytes an archive holds, piece by piece. Raises OSError at the end where they are not the right ones."""
    digest = hashlib.sha256()
    with library().open(path, "rb") as stream:
        while length and (data := stream.read(min(PIECE, length))):
            digest.update(data)
            length -= len(data)
            yield data
    if length or digest.hexdigest() != sha256:
        raise OSError(errno.EIO, "the archive is damaged", str(path))


class Archive:
    """A zstd file being written, of which what was flushed is on disk and readable whatever happens next."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._library = library()
        self._digest = hashlib.sha256()
        self._beside = ThreadPoolExecutor(1)
        self.raw = 0

    def add(self, data: bytes) -> None:
        """Append `data` as a frame of its own (frames may be concatenated, RFC 8878, 3.1); it is hashed while it is packed."""
        hashed = self._beside.submit(self._digest.update, data)
        packed = memoryview(self._library.compress(data, level=LEVEL))
        while packed:
            packed = packed[os.write(self._descriptor, packed) :]
        hashed.result()
        self.raw += len(data)

    def sync(self) -> None:
        os.fsync(self._descriptor)

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def close(self) -> None:
        self._beside.shutdown()
        os.close(self._descriptor)
