"""What somebody who follows a log with ``tail -F`` sees while it is shortened: what
docs/restoring.md says.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from conftest import wait_for
from miyabi_healing.gate.handlers.table import apply
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config
from miyabi_healing.model.steps import TrimLog
from miyabi_healing.support.files import identity_at

Start = Callable[..., psutil.Popen]
KEPT = 50
WRITER = """
import sys, time
with open(sys.argv[1], "ab", 0) as file:
    for number in range(20_000):
        file.write(b"line %06d, and some more text to fill it up a bit\\n" % number)
        if number % 20 == 0:
            time.sleep(0.001)
"""


def follow(folder: Path, start: Start) -> tuple[Counter[int], str, set[object]]:
    """Shorten a log that is written and followed; which lines the reader saw how often, what it
    complained of, and the ways.
    """
    log, seen, said = folder / "app.log", folder / "seen", folder / "said"
    log.touch()
    writer = start(sys.executable, "-c", WRITER, str(log))
    wait_for(lambda: log.stat().st_size > 20_000)
    with seen.open("wb") as output, said.open("wb") as errors:
        reader = start("tail", "-n", "+1", "-F", str(log), stdout=output, stderr=errors)
    where = Context(Host(Config()), "run", folder / "state", (folder,))
    ways: set[object] = set()
    while writer.poll() is None:
        time.sleep(0.1)
        step = TrimLog(
            target="",
            reason="",
            path=log,
            identity=identity_at(log),
            keep_lines=KEPT,
            keep_bytes=1 << 20,
        )
        with contextlib.suppress(Refused):
            ways.add(apply(step, where).details["way"])
    wait_for(lambda: b"line 019999," in seen.read_bytes())
    reader.kill()
    lines = seen.read_bytes().replace(b"\0", b"").splitlines()
    return (
        Counter(int(line.split()[1].rstrip(b",")) for line in lines if line.startswith(b"line ")),
        said.read_text(),
        ways,
    )


@pytest.mark.root
def test_reader_of_a_collapsed_log_misses_nothing_and_sees_kept_lines_again(
    mounted: Callable[..., Path], start: Start
) -> None:
    seen, said, ways = follow(mounted("ext4", "64M"), start)
    assert ways == {"collapsed"}
    assert len(seen) == 20_000
    assert "file truncated" in said


@pytest.mark.root
def test_reader_of_a_punched_log_sees_no_line_twice(
    mounted: Callable[..., Path], start: Start
) -> None:
    seen, said, ways = follow(mounted("tmpfs", "64M"), start)
    assert ways == {"punched"}
    assert max(seen.values()) == 1
    assert said == ""
