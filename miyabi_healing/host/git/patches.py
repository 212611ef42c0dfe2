"""What commits change, as keys that are equal only where the changes are: what git-patch-id(1) is
for, but exact. That one ignores white space, which is a change in Python or YAML, and what is in
binary files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from miyabi_healing.host.git.scratch_git import ScratchGit
from miyabi_healing.support.command_errors import ToolError

# All that a configuration could say otherwise is said. Renames are a removal and an addition.
_DIFF = (
    "diff-tree", "--stdin", "--always", "--root", "-r", "--no-renames", "--no-abbrev",
    "--ignore-submodules=none", "--no-color",
)  # fmt: skip
_AS_PATCH = (
    "-p", "--full-index", "--no-ext-diff", "--no-textconv", "--submodule=short", "-U3",
    "--inter-hunk-context=0", "--diff-algorithm=myers", "--no-indent-heuristic",
    "--src-prefix=a/", "--dst-prefix=b/",
)  # fmt: skip
_COMMIT = re.compile(rb"^(?:[0-9a-f]{40}|[0-9a-f]{64})\n", re.MULTILINE)
# Content has a mark before it, so these are git's own words: where a hunk lies, which its lines say
# better, and the names of contents, which only those of binary files are told apart by.
_PLACE = re.compile(rb"^@@ [^\n]*", re.MULTILINE)
_NAMES = re.compile(rb"^index [^\n]*\n(?!Binary files )", re.MULTILINE)


class Change(NamedTuple):
    """Something to be compared: a commit, and what it is compared with; empty for nothing."""

    commit: str
    parent: str


Shape = tuple[tuple[bytes, bytes, bytes], ...]
Digest = tuple[Shape, bytes]


def shapes(git: ScratchGit, changes: Iterable[Change]) -> dict[Change, Shape]:
    """Of each change, what it does to which files, without what is in them: rows of what happens,
    as which kind of file, and the path. Nothing for one that changes nothing. Raises ToolError.
    """
    wanted = list(dict.fromkeys(changes))
    if not wanted:
        return {}
    answer = git.ask(*_DIFF, "--raw", "-z", stdin=_requests(wanted))
    rows: list[list[tuple[bytes, bytes, bytes]]] = []
    fields = iter(answer.split(b"\0"))
    for field in fields:
        if field.startswith(b":"):
            old, new, _, _, status = field[1:].split(b" ")
            rows[-1].append((status, _kind(old, new), next(fields, b"")))
        elif field:
            rows.append([])
    _expect(len(wanted), len(rows))
    return {change: tuple(each) for change, each in zip(wanted, rows, strict=True)}


def _kind(old: bytes, new: bytes) -> bytes:
    """The modes, where they change; else what a file is. Whether it can be executed says nothing of
    what is done to its content.
    """
    return old[:3] if old == new else old + new


def digests(git: ScratchGit, changes: Mapping[Change, Shape]) -> dict[Change, Digest]:
    """Of each change, the whole of it: equal only where the same lines replace the same lines
    between the same lines. Raises ToolError.
    """
    wanted = list(changes)
    if not wanted:
        return {}
    answer = git.ask(*_DIFF, *_AS_PATCH, stdin=_requests(wanted))
    heads = list(_COMMIT.finditer(answer))
    _expect(len(wanted), len(heads))
    ends = [each.start() for each in heads[1:]] + [len(answer)]
    found = {}
    for change, head, end in zip(wanted, heads, ends, strict=True):
        text = _NAMES.sub(b"", _PLACE.sub(b"@@", answer[head.end() : end]))
        found[change] = (changes[change], hashlib.sha256(text).digest())
    return found


def _requests(changes: Iterable[Change]) -> str:
    return "".join(f"{each.commit} {each.parent}".strip() + "\n" for each in changes)


def _expect(asked: int, answered: int) -> None:
    if asked != answered:
        raise ToolError(f"git diff-tree: {answered} answers to {asked} questions")
