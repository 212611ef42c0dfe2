"""Git's index file, just far enough to say that nothing in it is unusual (gitformat-index(5)).
Looks only.
"""

from __future__ import annotations

import hashlib
import struct

_FIXED = 62  # bytes of an entry before its name; the two last are flags
_MARKED = 0xC000  # assume-unchanged, and that there are more flags: skip-worktree is one of them
_LENGTH = 0x0FFF  # of the name; where it is longer, all of these
_MODE = 26  # where the two bytes are that say what an entry is
_GITLINK = 0xE0
_FLAGS = struct.Struct(">H").unpack_from
_DIGEST = 20
_SPLIT_EXTENSIONS = (b"link", b"sdir")  # a split or a sparse index: other entries count too


def is_ordinary(data: bytes) -> bool:
    """Whether an index surely has files only that git looks at, and no repositories; False where
    only git itself can say.

    Only a plain index of version 2 is read: skip-worktree takes version 3, and version 4 packs the
    names.
    """
    if (
        len(data) < 12 + _DIGEST
        or data[:8] != b"DIRC\0\0\0\2"
        or hashlib.sha1(data[:-_DIGEST]).digest() != data[-_DIGEST:]
    ):
        return False
    try:
        return walk_entries(data)
    except (IndexError, ValueError, struct.error):
        # whoever owns a repository can have written anything there
        return False


def walk_entries(data: bytes) -> bool:
    """From entry to entry, as git does: by what each says of its length."""
    at, end = 12, len(data) - _DIGEST
    for _ in range(struct.unpack_from(">I", data, 8)[0]):
        (flags,) = _FLAGS(data, at + _FIXED - 2)
        if flags & _MARKED or data[at + _MODE] & 0xF0 == _GITLINK:
            return False
        length = flags & _LENGTH
        if length == _LENGTH:
            length = data.index(b"\0", at + _FIXED) - at - _FIXED
        at += (_FIXED + length + 8) & ~7
    while at < end:
        if data[at : at + 4] in _SPLIT_EXTENSIONS:
            return False
        at += 8 + int(struct.unpack_from(">I", data, at + 4)[0])
    return at == end
