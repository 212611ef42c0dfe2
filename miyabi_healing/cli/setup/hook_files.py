"""What a hook of an agent or of git is, and what its file comes to with it and without it. Renders
texts and writes nothing.

Sources: https://code.claude.com/docs/en/hooks, https://developers.openai.com/codex/hooks,
githooks(5).
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Sequence
from typing import Any

from miyabi_healing.cli.setup import json_edit
from miyabi_healing.cli.setup.service_units import UNIT_NAME

MARKER = "Written by miyabi-healing hooks"
KINDS = ("claude", "codex", "git")
GIT_HOOK = "post-merge"  # after a merge, git pull included: what was merged may go, once it is idle
_ALONE = b"# This file was made for the hook alone:\n"  # heads a file that was not there
_SHELL = b"#!/bin/sh\n"
_BEGIN, _END = f"# BEGIN {MARKER}\n", f"# END {MARKER}\n"
_KEYS = ("hooks", "SessionEnd")
_MADE = re.compile(f"# {MARKER} \\((\\d)\\)$")
_SECONDS = {"claude": 5, "codex": 3}  # it takes some milliseconds; Codex allows three seconds
_SHELLS = re.compile(rb"#!\s*\S*?/(?:env\s+)?(?:ba|da|k|z)?sh(?:\s+-[a-z]+)?\s*")


class Unwritable(Exception):
    """The file cannot have the hook; the message says why, from its line on: ``:3: …``."""


def command(program: Sequence[str], look_only: bool) -> str:
    """What is started: a run in the background, in a session of its own, that nobody waits for.
    What it prints goes where that of cron goes. Raises Unwritable.
    """
    if odd := next((word for word in program if not word.isprintable()), None):
        raise Unwritable(f": {odd!r} cannot be written there; move the program or the file")
    words = shlex.join([*program, "--quiet", *(["--dry-run"] if look_only else [])])
    run = shlex.quote(f"{words} 2>&1 | logger -t {UNIT_NAME}")
    return f"$(command -v setsid || echo nohup) sh -c {run}"


def with_hook(kind: str, before: bytes | None, program: Sequence[str], look_only: bool) -> bytes:
    """A file with our hook, an older one of ours replaced; None is a file that is not there.
    Raises Unwritable.
    """
    run = command(program, look_only)
    rest = before if before is None else without_hook(kind, before)
    if kind == "claude":
        return _settings(rest, run)
    if kind == "codex":
        return _toml(_ALONE if rest is None else rest, run)
    return _script(rest, run)


def without_hook(kind: str, before: bytes) -> bytes | None:
    """A file without our hook, as it was before; None for one that is nothing but ours. Raises
    Unwritable.
    """
    if MARKER.encode() not in before:
        return before
    after = _without_settings(before) if kind == "claude" else _without_block(before)
    if after and (left := after.find(MARKER.encode())) >= 0:
        line = after.count(b"\n", 0, left) + 1
        raise Unwritable(f":{line}: our hook is not as it was written; take it out by hand")
    return None if after in (_ALONE, _SHELL + _ALONE) else after


def _settings(before: bytes | None, run: str) -> bytes:
    """Claude Code's settings, in which a matcher group has a list of handlers."""
    text = _text(b"{}\n" if before is None else before)

    def group(made: int) -> dict[str, object]:
        made += before is None
        line = f"{run} </dev/null >/dev/null 2>&1 & # {MARKER} ({made})"
        handler = {"type": "command", "command": line, "timeout": _SECONDS["claude"]}
        return {"hooks": [handler]}

    try:
        return json_edit.append(text, _KEYS, group).encode()
    except json_edit.Unfit as error:
        raise Unwritable(f":{error.line}: {error}") from None


def _without_settings(before: bytes) -> bytes | None:
    made = 0

    def ours(group: Any) -> int | None:
        nonlocal made
        handlers = group.get("hooks") if isinstance(group, dict) else None
        if not isinstance(handlers, list):
            return None
        for each in handlers:
            line = each.get("command") if isinstance(each, dict) else None
            if isinstance(line, str) and (found := _MADE.search(line)):
                if len(handlers) > 1:
                    raise Unwritable(f": a matcher group of {_KEYS[1]} has our hook and others; "
                                     "take ours out by hand")  # fmt: skip
                made = int(found[1])
                return made
        return None

    text = _text(before)
    try:
        after = json_edit.remove(text, _KEYS, ours)
    except json_edit.Unfit as error:
        raise Unwritable(f":{error.line}: {error}") from None
    return None if made > len(_KEYS) and not json.loads(after) else after.encode()


def _toml(before: bytes, run: str) -> bytes:
    """Codex' configuration: a table at the end, between two lines of ours."""
    _parsed(before, ":{line}: it is no TOML: {words}")
    line = json.dumps(f"{run} </dev/null >/dev/null 2>&1 &", ensure_ascii=False)
    block = (
        f"[[hooks.{_KEYS[1]}]]\n\n[[hooks.{_KEYS[1]}.hooks]]\n"
        f'type = "command"\ncommand = {line}\ntimeout = {_SECONDS["codex"]}\n'
    )
    after = _with_block(before, len(before), block)
    _parsed(after, f": its hooks are written in a form that [[hooks.{_KEYS[1]}]] cannot be added to"
                   " at the end; write them as tables")  # fmt: skip
    return after


def _parsed(data: bytes, complaint: str) -> None:
    try:
        tomllib.loads(_text(data))
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = found[1] if found else str(data.count(b"\n") + 1)
        raise Unwritable(complaint.format(line=line, words=error)) from None


def _script(before: bytes | None, run: str) -> bytes:
    """A hook of git: what is there runs on, after ours, which has begun by then."""
    block = f"(unset $(git rev-parse --local-env-vars); exec {run}) </dev/null >/dev/null 2>&1 &\n"
    if before is None:
        before = _SHELL + _ALONE
        return _with_block(before, len(before), block)
    first = before.partition(b"\n")[0] + b"\n"
    if not before.startswith(first) or not _SHELLS.fullmatch(first):
        raise Unwritable(
            f":1: it is no shell script, so nothing can be added to it: {block.strip()}"
        )
    return _with_block(before, len(first), block)


def _with_block(data: bytes, at: int, block: str) -> bytes:
    """Put lines of ours in at a place. At the end of a text whose last line has no end, ours has
    none either: so that can be told when it is taken out.
    """
    ours = f"{_BEGIN}{block}{_END}".encode()
    if at == len(data) and data and not data.endswith(b"\n"):
        ours = b"\n" + ours.removesuffix(b"\n")
    return data[:at] + ours + data[at:]


def _without_block(data: bytes) -> bytes:
    begin, end = _BEGIN.encode(), _END.encode()
    while (start := data.find(begin)) >= 0:
        stop = data.find(end.strip(), start)
        if stop < 0:
            line = data.count(b"\n", 0, start) + 1
            raise Unwritable(f":{line}: the line that ends ours is gone; mend it by hand")
        stop += len(end) - 1
        if stop == len(data):  # of a text whose last line had no end
            return data[: max(start - 1, 0)]
        data = data[:start] + data[stop + 1 :]
    return data


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unwritable(f":{line}: it is not UTF-8") from None
