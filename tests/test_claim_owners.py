"""Whether the owner of a claim is gone: by the very process that it names, and never guessed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from coordinatorwork import gone, with_start

from miyabi_healing.host.coordinators import claims, health, lives, owners
from miyabi_healing.host.coordinators.claims import CannotRead
from miyabi_healing.host.coordinators.owners import Fate
from miyabi_healing.model.claim import Claim
from miyabi_healing.model.config import Config, ConfigError
from miyabi_healing.model.coordinator import WITH_HOST, Coordinator
from miyabi_healing.state.run_clock import boot_id
from miyabi_healing.support.config_loader import interpret

Start = Callable[..., psutil.Popen]
HOST = os.uname().nodename


def settings(**more: Any) -> Coordinator:
    return Coordinator(**{"pid_file": "/run/x.pid", "start": ("x",), "tasks": "/x", **more})


def fate(owner: str, form: str, started: float | None = None) -> Fate:
    return owners.judge(owner, started, settings(owned_by=form)).fate


@pytest.fixture
def sleeper(start: Start) -> psutil.Popen:
    return start("sleep", "100")


def test_pid_that_nobody_has_is_gone_and_a_living_one_is_not(
    start: Start, sleeper: psutil.Popen
) -> None:
    dead = gone(start).partition(":")[0]
    assert fate(dead, "pid") == Fate.GONE
    assert fate(str(sleeper.pid), "pid") == Fate.LIVES
    assert fate(str(sleeper.pid), "pid", time.time()) == Fate.LIVES


def test_pid_of_a_process_that_began_after_the_claim_is_another(sleeper: psutil.Popen) -> None:
    hour_ago = sleeper.create_time() - 3600
    assert fate(str(sleeper.pid), "pid", hour_ago) == Fate.GONE
    assert fate(str(sleeper.pid), "pid", 3600) == Fate.UNKNOWN  # 1970: the clock was wrong
    assert fate(str(sleeper.pid), "pid", time.time() + 900) == Fate.UNKNOWN


def test_zombie_owns_nothing(start: Start) -> None:
    process = start("sleep", "100")
    process.kill()
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert fate(str(process.pid), "pid") == Fate.GONE


def test_number_of_a_thread_is_no_process_but_somebody_may_be_called_by_it() -> None:
    import threading

    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert fate(str(thread.native_id), "pid") == Fate.UNKNOWN
        assert fate(f"{thread.native_id}:1", "pid start") == Fate.GONE
        assert fate(str(thread.native_id), "pid", time.time() - 3600) == Fate.GONE
        assert fate(str(os.getpid()), "pid") == Fate.LIVES
    finally:
        over.set()
        thread.join()


def test_recycled_pid_is_told_by_its_start_time(sleeper: psutil.Popen) -> None:
    pid, _, start = with_start(sleeper).partition(":")
    assert fate(f"{pid}:{start}", "pid start") == Fate.LIVES
    assert fate(f"{pid} {start}", "pid start") == Fate.LIVES
    assert fate(f"{pid}:{int(start) - 1}", "pid start") == Fate.GONE


@pytest.mark.parametrize(
    ("host", "boot", "older", "expected"),
    [
        (HOST, "", 0, Fate.LIVES),
        (HOST, "", 1, Fate.GONE),
        (HOST, "another-boot", 0, Fate.GONE),
        ("another-host", "", 1, Fate.UNKNOWN),
        ("another-host", "another-boot", 0, Fate.UNKNOWN),
    ],
)
def test_owner_of_another_host_is_never_judged_from_here(
    host: str, boot: str, older: int, expected: Fate, sleeper: psutil.Popen
) -> None:
    pid, _, start = with_start(sleeper).partition(":")
    owner = f"{host}:{boot or boot_id()}:{pid}:{int(start) - older}"
    assert fate(owner, WITH_HOST) == expected


@pytest.mark.parametrize("form", ["pid", "pid start", WITH_HOST, "pid file"])
@pytest.mark.parametrize("owner", ["", "worker-3", "-7", "7:", "a:b:c:d", "7 7 7", "0", "99999999"])
def test_what_is_no_owner_is_not_taken_for_one_that_is_gone(form: str, owner: str) -> None:
    assert fate(owner, form) == Fate.UNKNOWN


def test_pid_file_says_who_the_owner_is(tmp_path: Path, sleeper: psutil.Popen) -> None:
    file = tmp_path / "worker.pid"
    assert fate(str(file), "pid file") == Fate.GONE
    assert fate(str(tmp_path / "none" / "worker.pid"), "pid file") == Fate.UNKNOWN
    file.write_text(f"{sleeper.pid}\n")
    assert fate(str(file), "pid file") == Fate.LIVES
    os.utime(file, (sleeper.create_time() - 100,) * 2)
    assert fate(str(file), "pid file") == Fate.GONE


def test_owner_that_could_be_out_of_sight_is_kept(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container the number means another process than outside."""
    (tmp_path / "tasks").write_text("[]")
    mine, claim = settings(tasks=str(tmp_path / "tasks"), owned_by="pid start"), gone(start)
    lost = Claim("t", "in_progress", claim)
    plain = Config()
    monkeypatch.setattr("miyabi_healing.host.users.container", lambda: None)
    assert health.judge(lost, mine, plain).fate == Fate.GONE
    monkeypatch.setattr("miyabi_healing.host.users.container", lambda: "this is a container")
    monkeypatch.setattr("miyabi_healing.host.users.Witness.is_our_own_root", lambda *_: False)
    assert health.judge(lost, mine, plain).fate == Fate.UNKNOWN
    # the containers of a pod have one name, and each its own numbers
    named, older = (
        replace(lost, owner=f"{HOST}:{boot}:{claim}") for boot in (boot_id(), "another")
    )
    for given in (
        replace(mine, owned_by=WITH_HOST),
        Coordinator(**{**POSTGRES, "postgres": "host=x"}),
    ):
        assert health.judge(named, given, plain).fate == Fate.UNKNOWN
        assert health.judge(older, given, plain).fate == Fate.GONE


def test_number_of_a_process_in_a_container_of_this_host_is_not_gone(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own number there is what it writes."""
    pid, _, began = gone(start).partition(":")
    (there,) = (each for each in lives.living() if each.pid == os.getpid())
    monkeypatch.setattr(owners, "out_of_sight", lambda *_: "")
    monkeypatch.setattr(health, "where", lambda _: None)
    assert health.judge(Claim("t", "", pid), settings(), Config()).fate == Fate.GONE
    rows = {"NSpid": f"{there.pid}\t{pid}", "Tgid": str(there.pid)}
    monkeypatch.setattr(lives, "living", lambda: iter([there]))
    monkeypatch.setattr(lives, "read_rows", lambda _: rows)
    assert health.judge(Claim("t", "", pid), settings(), Config()).fate == Fate.UNKNOWN
    exact = settings(owned_by="pid start")
    found = [
        health.judge(Claim("t", "", f"{pid}:{each}"), exact, Config()).fate
        for each in (there.start, began)
    ]
    assert found == [Fate.UNKNOWN, Fate.GONE]


def test_clock_that_was_set_forward_makes_no_owner_another(
    sleeper: psutil.Popen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NTP does so after a virtual machine has been paused."""
    started = time.time()
    os.stat(f"/proc/{sleeper.pid}")
    monkeypatch.setattr(time, "time", lambda: started + 600)
    assert fate(str(sleeper.pid), "pid", started) == Fate.LIVES


def test_boot_that_cannot_be_told_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "boot_id", lambda: "")
    assert fate(f"{HOST}:some-boot:7:7", WITH_HOST) == Fate.UNKNOWN


def test_claim_without_an_owner_is_kept() -> None:
    for owner in (None, "", " "):
        found = health.judge(Claim("t", "in_progress", owner), settings(), Config())
        assert found.fate == Fate.UNKNOWN


def test_times_of_claims_are_read_in_both_ways() -> None:
    assert owners.moment(1_700_000_000) == owners.moment("2023-11-14T22:13:20Z")
    assert owners.moment("2023-11-14T22:13:20+00:00") == 1_700_000_000
    assert [owners.moment(each) for each in (None, True, "soon", float("nan"))] == [None] * 4


def test_time_without_an_offset_is_local_or_utc_whichever_is_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SQLite's CURRENT_TIMESTAMP is UTC and does not say so."""
    try:
        for zone in ("XXX-5", "XXX5"):  # east of Greenwich, and west of it
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            hour_ago = time.time() // 1 - 3600
            for shown in (time.gmtime, time.localtime):
                text = time.strftime("%Y-%m-%d %H:%M:%S", shown(hour_ago))
                found = owners.moment(text)
                assert found is not None
                assert hour_ago <= found <= time.time()
    finally:
        monkeypatch.undo()
        time.tzset()


def test_claim_that_was_made_by_renaming_is_as_old_as_that(
    tmp_path: Path, sleeper: psutil.Popen
) -> None:
    (tmp_path / "task").touch()
    os.utime(tmp_path / "task", (1_700_000_000,) * 2)
    (tmp_path / "task").rename(tmp_path / f"task.{sleeper.pid}")
    given = settings(tasks="", claims=f"{tmp_path}/*", owner_in_name=r"\.(\d+)$")
    (claim,) = claims.read(given)
    assert health.judge(claim, given, Config()).fate == Fate.LIVES


def test_age_of_a_process_goes_by_the_clock_of_the_boot() -> None:
    process = lives.living_process(os.getpid())
    assert process is not None
    assert abs(lives.began(process) - psutil.Process().create_time()) < lives.MARGIN


# Claims that cannot be read are no claims that are gone


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1, 2]", '{"tasks": 7}', '{"other": []}', '{"tasks": [{"status": "in_progress"}]}'],
)
def test_file_of_tasks_that_is_none_is_unknown(tmp_path: Path, text: str) -> None:
    (tmp_path / "tasks").write_text(text)
    given = settings(tasks=str(tmp_path / "tasks"), list="/tasks")
    with pytest.raises(CannotRead):
        claims.read(given)


@pytest.mark.parametrize("kind", ["claims", "locks", "tasks", "sqlite"])
def test_place_of_claims_that_is_gone_is_unknown(tmp_path: Path, kind: str) -> None:
    more: dict[str, Any] = {kind: str(tmp_path / "none" / "*"), "tasks": ""}
    more |= {"owner_file": "pid"} if kind == "locks" else {}
    more |= {"query": "select 1, 2, 3", "give_back_command": ("x",)} if kind == "sqlite" else {}
    if kind == "tasks":
        more = {"tasks": str(tmp_path / "none" / "tasks")}
    with pytest.raises(OSError, match="No such file"):
        claims.read(settings(**more))


def test_mapping_of_tasks_is_read_by_its_keys(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_text('{"a/b": {"status": "in_progress", "assigned_to": 7}, "c": {}}')
    given = settings(tasks=str(tmp_path / "tasks"), id="")
    assert claims.read(given) == (Claim("a/b", "in_progress", 7),)


# What a configuration may say

GOOD = {"pid_file": "/run/x.pid", "start": ["x"], "tasks": "/var/tasks.json"}
TABLE = {"pid_file": "/run/x.pid", "start": ["x"], "sqlite": "/x.db", "query": "select 1"}
POSTGRES = {
    "pid_file": "/run/x.pid",
    "start": ["x"],
    "query": "select 1",
    "owned_by": WITH_HOST,
    "give_back_command": ["x"],
}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({**GOOD, "sqlite": "/x.db"}, "where its claims are by exactly one of tasks, sqlite"),
        ({"pid_file": "/x", "start": ["x"]}, "where its claims are by exactly one"),
        ({"tasks": "/x"}, "where it is by exactly one of pid_file, unit, user_unit, pane"),
        ({**GOOD, "pane": "%1"}, "where it is by exactly one"),
        ({**GOOD, "start": []}, "start must say how it is started"),
        ({**GOOD, "tasks": "tasks.json"}, "tasks must be an absolute path"),
        ({**GOOD, "list": "tasks"}, "list must be a JSON pointer, like /tasks, not 'tasks'"),
        ({**GOOD, "id": "/a~2"}, "id must be a JSON pointer"),
        ({**GOOD, "pending": "in_progress"}, "claimed must name a status, and not that of"),
        ({**GOOD, "owner": ""}, "owner must be a pointer into a task"),
        ({**GOOD, "query": "select 1"}, "query goes with sqlite or postgres"),
        ({**GOOD, "owned_by": "name"}, "invalid enum value 'name'"),
        ({**GOOD, "heartbeat_limit": 0}, "heartbeat_limit must be more than 0"),
        ({**GOOD, "beat": "/x"}, "beat: unknown key"),
        (TABLE, "a table needs give_back or give_back_command"),
        ({**TABLE, "give_back": "update t where id = :id"}, "must compare owner: :owner is not in"),
        ({**POSTGRES, "postgres": "host=x password=y"}, "must not hold a password"),
        ({**POSTGRES, "postgres": "postgres://me:secret@y@x/z"}, "must not hold a password"),
        ({**POSTGRES, "postgres": "host=x", "owned_by": "pid"}, "its owners can be on other hosts"),
        ({**GOOD, "tasks": "", "locks": "/x/*"}, "locks need owner_file or owner_in_name"),
        ({**GOOD, "tasks": "", "claims": "/x/*", "owner_in_name": "("}, "no regular expression"),
        ({**GOOD, "tasks": "", "claims": "/x/*", "owner_in_name": "x"}, "must have one group"),
    ],
)
def test_configuration_that_cannot_be_is_refused_with_the_way_out(
    wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        interpret({"coordinators": {"builder": wrong}}, "config.toml")
    assert words in str(refused.value)
    assert "coordinators.builder" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_configuration_that_can_be_is_taken() -> None:
    made = interpret({"coordinators": {"builder": GOOD}}, "config.toml").coordinators["builder"]
    assert (made.kind, made.claimed, made.owned_by) == ("tasks", ("in_progress",), "pid")
