"""The small records of runs in which something grew, and the reasons that they found: JSON in zstd,
the last `MOST` of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec

from miyabi_healing.model.because import Because
from miyabi_healing.model.look import Look
from miyabi_healing.state.journal import Journal
from miyabi_healing.support.zstd import library

MOST = 50
_FIRST = 9  # the version of the journal that has them
_LEVEL = 3


def store_look(journal: Journal, number: int, look: Look) -> None:
    """Keep the record of a run, whose `number` is its id in `pass`; once more replaces it. Raises
    sqlite3.Error.
    """
    parameter = library().CompressionParameter
    options = {parameter.compression_level: _LEVEL, parameter.checksum_flag: 1}
    packed = library().compress(_encoded(look), options=options)
    with journal.at_once():
        journal.write("insert or replace into look (pass, record) values (?, ?)", (number, packed))
        journal.write(
            "delete from look where pass not in (select pass from look order by pass desc limit ?)",
            (MOST,),
        )


def looks(journal: Journal) -> Iterator[Look]:
    """The records of this boot and others, the newest first; a damaged one is passed over. Raises
    sqlite3.Error.
    """
    if journal.version < _FIRST:
        return
    for (packed,) in journal.all("select record from look order by pass desc limit ?", MOST):
        try:
            yield _decoded(library().decompress(packed))
        except (library().ZstdError, msgspec.ValidationError, ValueError):
            continue


def _encoded(look: Look) -> bytes:
    """Also of a name that is no UTF-8: anybody may make such a file, and it must cost no more than
    itself.
    """
    try:
        return msgspec.json.encode(look)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(look)).encode()


def _decoded(text: bytes) -> Look:
    """Raises ValueError."""
    try:
        return msgspec.json.decode(text, type=Look)
    except msgspec.DecodeError:  # of half a surrogate, as well
        return msgspec.convert(json.loads(text), Look)


def causes_of(journal: Journal, issue: str, target: str) -> tuple[Because, ...]:
    """What the last run that looked found about an issue, also one that has not occurred; nothing
    where it has no words for it. Raises sqlite3.Error.
    """
    for look in looks(journal):
        found = [each for name, where, each in look.because if (name, where) == (issue, target)]
        if found:
            return found[0]
        if any(each.path == target for each in look.mounts):
            return ()  # it was looked at since, and nothing can be said
    return ()


def causes_with(journal: Journal, path: str) -> Iterator[tuple[str, str, Because]]:
    """The reasons of the last record that a path is a part of, each with its issue and target.
    Raises sqlite3.Error.
    """
    last = next(looks(journal), None)
    for issue, target, found in last.because if last else ():
        for each in found:
            inside = f"{each.path.rstrip('/')}/"
            if each.path and (path == each.path or path.startswith(inside)):
                yield issue, target, each
