"""What was promised to be kept is kept, whatever the wall clock says: runs count the time that they
have seen pass.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gatework import make_older, plan, work
from program import report, run, settings

from miyabi_healing.gate import execute
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host.readings import Host
from miyabi_healing.model import config
from miyabi_healing.model.config import Config, PolicySettings
from miyabi_healing.model.steps import Quarantine
from miyabi_healing.state import history, quarantine, retention, run_clock
from miyabi_healing.state.journal import Journal
from miyabi_healing.state.quarantine import QuarantineEntry
from miyabi_healing.state.run_clock import Moment, Reading, State, advance
from miyabi_healing.support.files import identity_at
from miyabi_healing.support.formatting import DAY
from miyabi_healing.support.paths import JOURNAL

YEAR = 365 * DAY
NOW = 2e9
START = State("a clock", 100, 5000, "boot", NOW, NOW)


def later(state: State, seconds: float, jump: float = 0, boot: str = "boot") -> State:
    """The clock after so much time, with the wall clock having jumped besides; in another boot,
    after so much of it.
    """
    begun = state.boot if boot == state.boot_id else 0
    return advance(state, Reading(state.wall + seconds + jump, begun + seconds, boot))


# The clock itself


@pytest.mark.parametrize(
    ("reading", "counted"),
    [
        (Reading(NOW + 60, 5060, "boot"), 60),
        (Reading(NOW + 10 * YEAR, 5060, "boot"), 60),
        (Reading(NOW - 20 * YEAR, 5060, "boot"), 60),
        (Reading(NOW + 5 * DAY, 5000 + 5 * DAY, "boot"), DAY),
        (Reading(NOW + 5 * DAY, 300, "another boot"), 300),
        (Reading(NOW + 5 * DAY, 9000, "another boot"), 9000),
        (Reading(NOW + 60, 4000, "boot"), 0),
        (Reading(NOW + 60, 5060, ""), 60),
        (Reading(NOW + 60, 300, ""), 300),
    ],
    ids=["a minute", "ten years ahead", "1970", "five days", "reboot", "reboot long "
                                                                       "ago", "boot clock set "
                                                                              "back", "no boot id",
         "no boot id, and a reboot for certain"],
)  # fmt: skip
def test_run_adds_what_has_passed_for_certain_and_never_more_than_a_day(
    reading: Reading, counted: float
) -> None:
    assert advance(START, reading).seen - START.seen == counted


def test_wall_clock_that_jumps_is_believed_once_that_has_lasted_for_a_day() -> None:
    state = later(START, 60, jump=10 * YEAR)
    for _ in range(23):
        assert run_clock.moment_of(state).doubt == 10 * YEAR
        state = later(state, 3600)
    assert run_clock.moment_of(later(state, 3700)).doubt == 0
    back = later(state, 60, jump=-10 * YEAR)
    assert (run_clock.moment_of(back).doubt, back.believed) == (0, back.wall)


def test_another_jump_begins_the_doubt_anew() -> None:
    state = later(later(START, 60, jump=10 * YEAR), DAY - 60)
    assert run_clock.moment_of(later(state, 61, jump=3 * DAY)).doubt > 0
    assert run_clock.moment_of(later(state, 61)).doubt == 0


@pytest.mark.parametrize(("off", "doubted"), [(0.5 * DAY, False), (3 * DAY, True)])
def test_host_that_was_off_is_doubted_for_a_day_only_where_it_was_off_for_longer(
    off: float, doubted: bool
) -> None:
    assert (run_clock.moment_of(later(START, 300, jump=off, boot="another")).doubt > 0) == doubted


def test_host_has_a_clock_that_counts() -> None:
    first = run_clock.read_clocks()
    assert first.boot > 0
    assert first.boot_id == (
        run_clock.BOOT_ID.read_text().strip() if run_clock.BOOT_ID.exists() else ""
    )
    assert 0 <= run_clock.read_clocks().boot - first.boot < 60


def test_run_clock_is_stored_with_the_pass_and_costs_no_write_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_clock, "read_clocks", lambda: Reading(NOW, 1000, "boot"))
    journal = Journal(tmp_path / JOURNAL)
    said: list[str] = []
    journal.database.set_trace_callback(said.append)
    monkeypatch.setattr(run_clock, "read_clocks", lambda: Reading(NOW + 600, 1600, "boot"))
    history.record(journal, "run", NOW, [], config.HistorySettings())
    writes = [
        each.split()[0] for each in said if not each.startswith(("select", "pragma", "SELECT"))
    ]
    assert (writes[0], writes[-1], writes.count("begin"), writes.count("commit")) == (
        "begin",
        "commit",
        1,
        1,
    )
    journal.close()
    reopened = Journal(tmp_path / JOURNAL)
    assert reopened.now().seen == 600
    reopened.close()


def test_journal_that_is_begun_anew_has_another_clock(tmp_path: Path) -> None:
    clocks = set()
    for _ in range(2):
        journal = Journal(tmp_path / JOURNAL)
        clocks.add(journal.now().clock)
        journal.close()
    (tmp_path / JOURNAL).unlink()
    journal = Journal(tmp_path / JOURNAL)
    clocks.add(journal.now().clock)
    journal.close()
    assert len(clocks) == 2


# What is in quarantine


def held(days: float, by_runs: float | None, clock: str = "a clock") -> QuarantineEntry:
    facts: dict[str, Any] = {"time": NOW - days * DAY, "kind": "quarantine"}
    if by_runs is not None:
        facts |= {"seen": 100 * DAY - by_runs * DAY, "clock": clock}
    return QuarantineEntry(Path("/quarantine/run/0001-quarantine"), facts)


@pytest.mark.parametrize(
    ("thing", "over"),
    [
        (held(31, 31), True),
        (held(31, 29), False),
        (held(29, 31), False),
        (held(3650, 1), False),
        (held(20_000, 1), False),
        (held(-3650, 31), True),
        (held(-3650, 29), False),
        (held(31, None), True),
        (held(31, 0, clock="a clock that was lost"), True),
    ],
    ids=["both", "the wall clock "
                 "alone", "the run clock "
                          "alone", "ten years ahead", "set aside in "
                                                      "1970", "set aside in the future",
         "set aside in the future, lately", "of an older version", "of a lost journal"],
)  # fmt: skip
def test_thing_has_expired_only_when_both_clocks_say_so(thing: QuarantineEntry, over: bool) -> None:
    assert thing.is_older(30, Moment(NOW, NOW, 100 * DAY, "a clock")) == over


@pytest.mark.parametrize("thing", [held(31, None), held(31, 31, clock="a clock that was lost")])
def test_thing_of_another_clock_counts_from_the_beginning_of_this_one(
    thing: QuarantineEntry,
) -> None:
    assert not thing.is_older(30, Moment(NOW, NOW, 29 * DAY, "a clock"))
    assert thing.end_of(30, Moment(NOW, NOW, 29 * DAY, "a clock")) == (NOW + DAY, True)
    assert thing.is_older(30, Moment(NOW, NOW, 30 * DAY, "a clock"))


@pytest.mark.parametrize(
    ("thing", "end"),
    [
        (held(10, 10), (20, False)),
        (held(10, 3), (27, True)),
        (held(-50, 3), (27, True)),
        (held(3, 10), (27, False)),
    ],
)
def test_earliest_end_is_that_of_the_slower_clock(
    thing: QuarantineEntry, end: tuple[float, bool]
) -> None:
    at, by_runs = thing.end_of(30, Moment(NOW, NOW, 100 * DAY, "a clock"))
    assert ((at - NOW) / DAY, by_runs) == end


def test_oldest_is_told_by_both_clocks() -> None:
    things = [
        replace(held(days, by_runs), folder=Path(f"/q/r/{days}"))
        for days, by_runs in ((20_000, 1), (5, 5), (9, 8))
    ]
    now = Moment(NOW, NOW, 100 * DAY, "a clock")
    assert [each.folder.name for each in retention.oldest_first(things, now)] == ["9", "5", "20000"]


def state_of(home: Path) -> Path:
    return home / ".local" / "state" / "miyabi-healing"


def put_aside(home: Path, name: str = "thing") -> QuarantineEntry:
    (home / name).write_text("precious")
    host = Host(Config(policy=PolicySettings(cooldown=0)))
    context = Context(host, "some-run", state_of(home), (home,))
    step = Quarantine(target=name, reason="", path=home / name, identity=identity_at(home / name))
    with work(context) as prepared:
        execute.carry_out_plan(plan(step), prepared, [])
    return next(
        each
        for each in quarantine.find_entries(state_of(home))
        if each.original == str(home / name)
    )


def test_what_is_said_of_the_end_is_true_by_both_clocks(home: Path) -> None:
    thing = put_aside(home)
    day = (datetime.datetime.now() + datetime.timedelta(days=30)).strftime("%Y-%m-%d")
    (row,) = json.loads(run("quarantine", "list", "--json").stdout)["things"]
    assert (row["until"][:10], row["until_by"]) == (day, "wall clock")
    make_older(thing, 20, runs=False)
    (row,) = json.loads(run("quarantine", "list", "--json").stdout)["things"]
    assert (row["until"][:10], row["until_by"]) == (day, "run clock")
    assert " at the earliest · rollback" in run("quarantine", "list").stdout
    every = run("quarantine", "list", "-v").stdout
    assert "at the earliest (only time that runs see pass counts)" in " ".join(every.split())
    _, document = report("--config", settings(home))
    assert (
        document["quarantine"]["next_expiry"][:10],
        document["quarantine"]["next_expiry_by"],
    ) == (day, "run clock")
    wanted = f"the first is deleted on {day} "
    for said in (run("status").stdout, run("--config", settings(home), "--dry-run").stdout):
        words = " ".join(said.split())
        assert wanted in words
        assert "at the earliest, as only time that runs see pass counts" in words


def test_purge_by_age_means_what_is_so_old_for_certain(home: Path) -> None:
    make_older(put_aside(home, "a"), 10)
    make_older(put_aside(home, "b"), 10, runs=False)
    assert run("quarantine", "purge", "--older-than", "9d").stdout.startswith("Purged 1 thing(s)")
    assert [each.original for each in quarantine.find_entries(state_of(home))] == [str(home / "b")]


# The program, with a wall clock of its own

SHIFTED = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
int clock_gettime(clockid_t which, struct timespec *when) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(which, when);
    const char *name = which == CLOCK_REALTIME ? "WALL" : which == CLOCK_BOOTTIME ? "BOOT" : "NONE";
    const char *by = getenv(name);
    if (by) when->tv_sec += atol(by);
    return result;
}
time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library that moves the clocks of the program that loads it by ``WALL`` and ``BOOT``
    seconds.
    """
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(SHIFTED)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", folder / "clock.so", folder / "clock.c", "-ldl"],
        check=True,
    )
    return str(folder / "clock.so")


@pytest.fixture
def lock_and_settings(home: Path) -> tuple[Path, str]:
    subprocess.run(["git", "init", "-q", str(home / "repo")], check=True)
    lock = home / "repo" / ".git" / "index.lock"
    return lock, settings(home, f'[git]\nrepos = ["{home}/repo"]\n')


def stale(lock: Path, wall: float) -> None:
    lock.touch()
    os.utime(lock, (time.time() + wall - 7200,) * 2)


@pytest.mark.parametrize(("first", "second"), [(0, 10 * YEAR), (100_000 - NOW, 0), (10 * YEAR, 0)])
def test_wall_clock_that_is_wrong_for_a_run_purges_nothing(
    lock_and_settings: tuple[Path, str], shifted: str, first: float, second: float
) -> None:
    lock, file = lock_and_settings
    stale(lock, max(first, -time.time() + 10_000))
    first = max(first, 100_000 - int(time.time()))
    report("--config", file, LD_PRELOAD=shifted, WALL=str(int(first)))
    assert not lock.exists()
    _, document = report("--config", file, LD_PRELOAD=shifted, WALL=str(int(second)))
    assert document["quarantine"]["purged"] == []
    assert run("rollback").returncode == 0
    assert lock.exists()


def test_thing_goes_when_both_clocks_have_gone_on(
    lock_and_settings: tuple[Path, str], shifted: str
) -> None:
    lock, file = lock_and_settings
    Path(file).write_text(f"{Path(file).read_text()}[quarantine]\ndays = 2\n")
    stale(lock, 0)
    report("--config", file)
    for days in (1, 2):
        _, document = report(
            "--config",
            file,
            LD_PRELOAD=shifted,
            WALL=str(int(days * DAY + 60)),
            BOOT=str(int(days * DAY + 60)),
        )
    (purged,) = document["quarantine"]["purged"]
    assert (purged["status"], document["quarantine"]["things"]) == ("applied", 0)
    assert purged["reason"].startswith("kept for 2 days; its time is 2")


WAIVED = """
import pytest

@pytest.mark.limit(1)
def test_things(measure, limit):
    assert measure(2, "Found 2 things") <= limit
"""


@pytest.mark.parametrize(
    ("wall", "boot", "waived", "note"),
    [
        (60, 60, True, None),
        (
            20 * DAY,
            60,
            True,
            "the wall clock is 20 days ahead of what runs have seen: it ends the waiver of things "
            "once",
        ),
        (20 * DAY, 20 * DAY, False, "the waiver of things has expired"),
    ],
)
def test_waiver_ends_when_the_wall_clock_is_past_it_and_believed(
    home: Path, shifted: str, wall: float, boot: float, waived: bool, note: str | None
) -> None:
    (home / "mine").mkdir()
    (home / "mine" / "test_things.py").write_text(WAIVED)
    until = datetime.date.today() + datetime.timedelta(days=10)
    options = (
        "--config",
        settings(home, f'[waivers.things]\nreason = "x"\nuntil = {until}\n'),
        "--checks",
        str(home / "mine"),
    )
    report(*options)
    changes = {"LD_PRELOAD": shifted, "WALL": str(int(wall)), "BOOT": str(int(boot))}
    _, document = report(*options, **changes)
    assert (document["issues_detected"] == []) == waived
    assert note is None or any(each.startswith(note) for each in document["notes"])
    if waived and note:  # it is not believed at once, but when that has lasted for a day
        report(*options, LD_PRELOAD=shifted, WALL=str(int(wall + DAY)), BOOT=str(int(boot + DAY)))
        _, document = report(
            *options, LD_PRELOAD=shifted, WALL=str(int(wall + DAY)), BOOT=str(int(boot + DAY))
        )
        assert document["issues_detected"] != []


def test_pause_is_kept_while_the_wall_clock_is_ahead(home: Path, shifted: str) -> None:
    run("pause", "--for", "2h", "--reason", "a release")
    ahead = {"LD_PRELOAD": shifted, "WALL": str(int(10 * YEAR))}
    assert "Healing is paused until " in run("status", **ahead).stdout
    later = {"LD_PRELOAD": shifted, "WALL": "7300", "BOOT": "7300"}
    assert "Healing is paused" not in run("status", **later).stdout
    assert run("resume", **later).stdout == "Healing was not paused.\n"
