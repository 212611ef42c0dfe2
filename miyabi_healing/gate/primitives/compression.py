"""Compression for archives, in zstd."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from typing import TYPE_CHECKING, Any

from miyabi_healing.support.zstd import library as library

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PIECE = 4 << 20
SKIPPABLE = 0x184D2A50  # the first of the magic numbers of frames that are passed over
_LEVEL = 3  # 0.15 of ordinary logs, at the speed of a disk


def unpack(path: Path, facts: Mapping[str, Any]) -> Iterator[bytes]:
    """What an archive holds, piece by piece, by the `facts` of its manifest. Raises OSError where
    it is damaged.
    """
    zstd, content, left = library(), hashlib.sha256(), facts["raw"]
    try:
        with zstd.open(path, "rb") as stream:
            while left and (data := stream.read(min(PIECE, left))):
                if "packed_sha256" not in facts:
                    content.update(data)
                left -= len(data)
                yield data
    except (zstd.ZstdError, EOFError):
        raise damaged(path) from None
    if left or ("packed_sha256" not in facts and content.hexdigest() != facts["sha256"]):
        raise damaged(path)


def verify(path: Path, facts: Mapping[str, Any]) -> None:
    """Make sure that an archive is as it was made, before anything is done with it. Raises OSError
    where it is not.

    Its own bytes were hashed, which are fewer; the checksums in them (RFC 8878, 3.1.1) tie what
    comes out to that. An earlier version hashed what comes out: there damage shows at the end.
    """
    if "packed_sha256" in facts and _hash_of(path, facts["packed_bytes"]) != facts["packed_sha256"]:
        raise damaged(path)


def damaged(path: Path) -> OSError:
    return OSError(errno.EIO, "the archive is damaged", str(path))


def _hash_of(path: Path, length: int) -> str:
    """The SHA-256 of the first `length` bytes of a file. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while length and (data := file.read(min(PIECE, length))):
            digest.update(data)
            length -= len(data)
    return digest.hexdigest()


class Archive:
    """A zstd file being written, of which what was flushed is on disk and readable whatever happens
    next.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        self._library = library()
        parameter = self._library.CompressionParameter
        self._compressor = self._library.ZstdCompressor(
            options={parameter.compression_level: _LEVEL, parameter.checksum_flag: 1}
        )
        self._digest = hashlib.sha256()
        self.raw = 0
        self.size = 0

    def add(self, data: bytes | memoryview) -> None:
        """Append `data` as a frame of its own (frames may be concatenated, RFC 8878, 3.1)."""
        self._write(self._compressor.compress(data, self._compressor.FLUSH_FRAME))
        self.raw += len(data)

    def add_beside(self, data: bytes) -> None:
        """Append `data` so that who unpacks the file passes over it: as a skippable frame (RFC
        8878, 3.1.2).
        """
        packed = self._compressor.compress(data, self._compressor.FLUSH_FRAME)
        self._write(struct.pack("<II", SKIPPABLE, len(packed)) + packed)

    def _write(self, packed: bytes) -> None:
        rest = memoryview(packed)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._digest.update(packed)
        self.size += len(packed)

    def sync(self) -> None:
        os.fsync(self._descriptor)

    @property
    def facts(self) -> dict[str, object]:
        """What the manifest says of it, to be sure of it later."""
        return {
            "raw": self.raw,
            "packed_bytes": self.size,
            "packed_sha256": self._digest.hexdigest(),
        }

    def close(self) -> None:
        os.close(self._descriptor)
