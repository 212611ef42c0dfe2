"""Compression for archives: the standard library's zstd, or its backport before Python 3.14."""

from __future__ import annotations

import hashlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

LEVEL = 3  # 0.15 of ordinary logs, at the speed of a disk


def library() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


class Archive:
    """A zstd file being written, of which what was flushed is on disk and readable whatever happens next."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._library = library()
        self._digest = hashlib.sha256()
        self.raw = 0

    def add(self, data: bytes) -> None:
        """Append `data` as a frame of its own and put it on disk (frames may be concatenated, RFC 8878, 3.1)."""
        packed = memoryview(self._library.compress(data, level=LEVEL))
        while packed:
            packed = packed[os.write(self._descriptor, packed) :]
        self._digest.update(data)
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
        os.close(self._descriptor)
