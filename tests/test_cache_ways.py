"""How caches are cleaned: one way after the other until something comes back, and not while their
owner is at work.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from test_caches import stubs
from test_delete import carry_out, context, fill, plan

from conftest import wait_for
from miyabi_healing.gate.handlers.table import apply
from miyabi_healing.host import cache_deletion, cache_owners, cache_tag, caches
from miyabi_healing.host.cache_owners import CacheOwners
from miyabi_healing.host.explain import caches as explain_cache
from miyabi_healing.host.explain.question import Question
from miyabi_healing.host.open_files import scan_open_files
from miyabi_healing.host.processes import Processes
from miyabi_healing.host.users import Witness
from miyabi_healing.model.actions import ActionResult, Outcome, StepStatus
from miyabi_healing.model.catalogue import CacheKind
from miyabi_healing.model.config import CacheSettings, Config
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.steps import Delete, Quarantine, Run
from miyabi_healing.report import documents
from miyabi_healing.report.step_text import one_by_one
from miyabi_healing.report.style import Style
from miyabi_healing.runner import registry
from miyabi_healing.state import run_clock
from miyabi_healing.support import commands
from miyabi_healing.support.formatting import DAY

Detached = Callable[..., int]
SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n"
BY_CARGO = f"{SIGNATURE}# This file is a cache directory tag created by cargo.\n"


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No owner of a cache runs on this host, whatever else it is busy with."""
    monkeypatch.setattr(CacheOwners, "of", lambda self, cache: None)


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[Detached]:
    """Start a program of some name that is not our child: those never count."""
    pids: list[int] = []
    stop = tmp_path / "stop"

    def start(
        name: str, *arguments: str, holds: Path | None = None, within: str = "", **variables: str
    ) -> int:
        folder = tmp_path / f"programs-{len(pids)}"
        folder.mkdir()
        note = folder / "pid"
        opens = f"file = open({str(holds)!r})" if holds else ""
        (folder / name).write_text(
            f"#!{sys.executable}\nimport os, time\n{opens}\n"
            f"open({str(note)!r} + '.new', 'w').write(str(os.getpid()))\n"
            f"os.rename({str(note)!r} + '.new', {str(note)!r})\n"
            f"end = time.monotonic() + 100\n"
            f"while time.monotonic() < end and not os.path.exists({str(stop)!r}):\n"
            "    time.sleep(0.02)\n"
        )
        (folder / name).chmod(0o755)
        subprocess.run(
            ["setsid", "--fork", *shlex.split(within), str(folder / name), *arguments],
            env={"PATH": os.environ["PATH"], **variables},
            check=True,
            stdin=subprocess.DEVNULL,
        )
        wait_for(note.exists)
        pids.append(int(note.read_text()))
        return pids[-1]

    yield start
    stop.touch()
    wait_for(lambda: not any(runs(pid) for pid in pids))


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def reasons(home: Path, path: Path, **options: float) -> dict[str, str]:
    return {
        kept.reason: kept.detail
        for kept in plan(home, idle_minutes=0, **options).kept
        if kept.target == str(path)
    }


def tool(folder: Path, name: str, script: str) -> str:
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def action(outcomes: list[Outcome]) -> ActionResult:
    return ActionResult("x", Issue("x", "", "", 1, Limit(0)), outcomes=outcomes)


# The next way


@pytest.mark.usefixtures("alone")
def test_tool_that_ends_well_and_frees_nothing_is_said_so_and_the_next_way_is_tried(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(home / ".cache/pip/http-v2/a", 3, 10_000)
    monkeypatch.setenv("PATH", tool(tmp_path / "bin", "pip", "echo Files removed: 0"))
    asked, deleted = carry_out(plan(home, idle_minutes=0), home)
    assert (asked.status, asked.freed) == ("applied", 0)
    assert (asked.message, asked.in_vain) == ("it ended well and freed nothing", True)
    lines = one_by_one([documents._step_row(asked)], Style(width=200), "")
    assert "\n".join(lines).count(asked.message) == 1
    assert (deleted.status, deleted.freed) == ("applied", 3 * 12_288)
    assert not root.exists()
    assert action([asked, deleted]).counts["caches_cleaned"] == 1


@pytest.mark.usefixtures("alone")
def test_tool_that_empties_its_cache_leaves_nothing_for_the_next_way(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(home / ".cache/pip/http-v2/a", 3, 10_000)
    monkeypatch.setenv("PATH", tool(tmp_path / "bin", "pip", f"rm -r '{root}'"))
    planned = plan(home, idle_minutes=0)
    assert [(type(step), step.bytes, step.estimated) for step in planned.steps] == [
        (Run, 3 * 12_288, True),
        (Delete, 3 * 12_288, False),
    ]
    asked, left = carry_out(planned, home)
    assert (asked.freed, asked.in_vain, asked.message) == (3 * 12_288, False, "")
    assert (left.status, left.message) == ("skipped", "it is gone already")


@pytest.mark.usefixtures("alone")
def test_tool_that_deletes_the_folder_of_its_cache_too_has_done_well(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``uv cache clean`` and ``go clean -modcache`` do."""
    fill(home / ".cache/pip/http-v2/a", 3, 10_000)
    monkeypatch.setenv("PATH", tool(tmp_path / "bin", "pip", f"rm -r '{home}/.cache/pip'"))
    asked, left = carry_out(plan(home, idle_minutes=0), home)
    assert (asked.status, asked.freed, asked.message) == ("applied", 3 * 12_288, "")
    assert left.status == "skipped"


@pytest.mark.usefixtures("alone")
def test_tool_that_fails_is_followed_by_the_next_way(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(home / ".cache/pip/http-v2/a")
    monkeypatch.setenv("PATH", tool(tmp_path / "bin", "pip", "exit 2"))
    assert [each.status for each in carry_out(plan(home, idle_minutes=0), home)] == [
        "failed",
        "applied",
    ]
    assert not root.exists()


@pytest.mark.usefixtures("alone")
@pytest.mark.skipif(commands.find_program("pip") is None, reason="needs pip")
def test_real_pip_of_any_version_leaves_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip before 23.3 does not see what later ones cache (http-v2), and says all went well."""
    for name in ("http", "http-v2"):
        fill(home / ".cache/pip" / name / "a/b/c/d/e", 2, 10_000)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pip").symlink_to(shutil.which("pip") or "")
    outcomes = carry_out(plan(home, idle_minutes=0), home)
    assert outcomes[0].step.kind == "run"
    assert sum(each.freed for each in outcomes) == 4 * 12_288
    assert [path for path in (home / ".cache/pip").rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("alone")
@pytest.mark.skipif(commands.find_program("uv") is None, reason="needs uv")
def test_real_uv_empties_a_real_cache(home: Path) -> None:
    shutil.copytree(Path(caches.__file__).parent, home / "src/thing")
    cache = home / ".cache/uv"
    source = fill(cache / "archive-v0/unused", 3, 100_000)
    (cache / "CACHEDIR.TAG").write_text(SIGNATURE)
    outcomes = carry_out(plan(home, idle_minutes=0), home)
    assert [each.step.kind for each in outcomes] == ["run", "run"]
    assert sum(each.freed for each in outcomes) >= 300_000
    assert not source.exists()


@pytest.mark.usefixtures("alone")
def test_command_gets_what_says_where_the_cache_is(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`go clean -modcache` empties whatever go's own settings name."""
    fill(home / "go/pkg/mod/example.com/x@v1")
    monkeypatch.setenv("GOFLAGS", "-n")
    note = tmp_path / "said"
    script = f'echo "$GOMODCACHE|$GOFLAGS|$*" > {note}'
    monkeypatch.setenv("PATH", tool(tmp_path / "bin", "go", script))
    carry_out(plan(home, idle_minutes=0), home)
    assert note.read_text() == f"{home}/go/pkg/mod||clean -modcache\n"


def test_modules_that_nobody_may_write_are_deleted_by_their_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """go closes the folders of modules, and the files in them."""
    with tempfile.TemporaryDirectory() as top:  # that an ordinary user may enter
        os.chmod(top, 0o755)
        home = Path(top, "home")
        monkeypatch.setenv("HOME", str(home))
        delete_closed_modules(home)


def delete_closed_modules(home: Path) -> None:
    module = fill(home / "go/pkg/mod/example.com/group/x@v1/deep").parent
    for folder, _folders, files in os.walk(module):
        for name in files:
            os.chmod(os.path.join(folder, name), 0o444)
        os.chmod(folder, 0o555)
    uid = os.geteuid()
    if uid == 0:
        subprocess.run(["chown", "-R", "65534:65534", str(home)], check=True)
    (cache,) = caches.in_homes(CacheSettings(homes=(str(home),)))
    found = [unit for unit, _holder in caches.units(cache, scan_open_files())]
    step = Delete(target="", reason="", root=cache.path, units=tuple(found))
    if uid == 0:  # to whom nothing is closed
        os.seteuid(65534)
    try:
        result = apply(step, context(home))
    finally:
        os.seteuid(uid)
    assert (result.message, result.details["files_deleted"]) == ("", 3)
    assert not module.exists()


# The owner at work


def owner(home: Path, uid: int | None = None) -> str | None:
    """Who is at work with the npm cache of a home, or of the same home if it were another's."""
    cache = next(
        each for each in caches.in_homes(CacheSettings(homes=(str(home),))) if each.name == "npm"
    )
    cache = cache if uid is None else replace(cache, owner=uid)
    found = CacheOwners(Processes(), Witness(Config())).of(cache)
    return found.name if found else None


def test_owner_with_the_same_home_is_at_work(home: Path, detached: Detached) -> None:
    fill(home / ".npm/_cacache/tmp")
    assert owner(home) is None
    detached("npm", HOME=str(home))
    assert owner(home) == "npm"
    assert reasons(home, home / ".npm/_cacache")["owner running"].startswith("npm (pid ")


def test_owner_with_another_home_is_none(home: Path, tmp_path: Path, detached: Detached) -> None:
    fill(home / ".npm/_cacache/tmp")
    detached("npm", HOME=str(tmp_path))
    assert owner(home) is None


@pytest.mark.parametrize("how", ["a variable", "an open file", "no home of its own"])
def test_owner_with_another_home_that_uses_this_cache_is_at_work(
    home: Path, tmp_path: Path, detached: Detached, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    file = fill(home / ".npm/_cacache/tmp") / "part 0"
    if how == "a variable":
        detached("npm", HOME=str(tmp_path), npm_config_cache=str(home / ".npm"))
    elif how == "an open file":
        detached("npm", HOME=str(tmp_path), holds=file)
    else:
        account = cache_owners.pwd.getpwuid(os.geteuid())
        fields = [*account]
        fields[5] = str(home)
        monkeypatch.setattr(
            cache_owners.pwd, "getpwuid", lambda uid: cache_owners.pwd.struct_passwd(fields)
        )
        detached("npm")
    assert owner(home) == "npm"


@pytest.mark.parametrize(("uid", "named"), [(54321, None), (0, "npm")])
def test_owner_who_is_another_user_is_none_but_for_root(
    home: Path, detached: Detached, monkeypatch: pytest.MonkeyPatch, uid: int, named: str | None
) -> None:
    """sudo may leave HOME as it was: then root writes to the user's cache."""
    fill(home / ".npm/_cacache/tmp")
    detached("npm", HOME=str(home))
    real = cache_owners.rights
    monkeypatch.setattr(cache_owners, "rights", lambda pid: replace(real(pid), uid=uid))
    assert owner(home, 12345) == named


@pytest.mark.root
@pytest.mark.parametrize(("leaves", "named"), [("", "npm"), ("umount -l {};", None)])
def test_owner_in_a_container_counts_where_it_gets_to_the_cache(
    home: Path, tmp_path: Path, mounted: Callable[..., Path], detached: Detached, leaves: str,
    named: str | None,
) -> None:  # fmt: skip
    """Whatever its HOME is called there."""
    disk = mounted("tmpfs", "8M", options=",mode=0755")
    fill(disk / ".npm/_cacache/tmp")
    detached(
        "npm", within=f"unshare --mount sh -c '{leaves.format(disk)} exec \"$@\"' sh", HOME="/x"
    )
    assert owner(disk) == named


def test_what_we_started_ourselves_is_no_owner(
    home: Path, tmp_path: Path, start: Callable[..., object]
) -> None:
    fill(home / ".npm/_cacache/tmp")
    (tmp_path / "npm").write_text(f"#!{sys.executable}\nimport time\ntime.sleep(100)\n")
    (tmp_path / "npm").chmod(0o755)
    start(str(tmp_path / "npm"), env={"HOME": str(home)})
    wait_for(lambda: Processes().running(["npm"]))
    assert owner(home) is None


@pytest.mark.usefixtures("alone")
def test_tool_is_not_asked_while_somebody_has_its_cache_open(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detached: Detached
) -> None:
    file = fill(home / ".cache/pip/http-v2/a") / "part 0"
    fill(home / ".cache/pip/http-v2/b")
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin", "pip") + ":/usr/bin:/bin")
    detached("viewer", holds=file)
    (step,) = plan(home, idle_minutes=0).steps
    assert isinstance(step, Delete)
    assert [unit.path.name for unit in step.units] == ["b"]


def test_part_that_a_server_was_started_from_stays(home: Path, detached: Detached) -> None:
    """Nothing of it is open: node reads a file when it is needed. npx puts its folder on PATH."""
    for name in ("used", "named", "left"):
        fill(home / ".npm/_npx" / name / "node_modules/.bin")
    detached("server", PATH=f"{home}/.npm/_npx/used/node_modules/.bin:/bin")
    detached("other", f"--dir={home}/.npm/_npx/named/node_modules")
    (step,) = plan(home, idle_minutes=0).steps
    assert isinstance(step, Delete)
    assert [unit.path.name for unit in step.units] == ["left"]
    assert reasons(home, home / ".npm/_npx") == {"in use": "2 part(s) are open, or run"}


# What is said


@pytest.mark.parametrize(
    ("status", "freed", "said"),
    [
        ("planned", 0, "frees 2.0 MB at most (an estimate)"),
        ("applied", 0, "freed 0 B"),
        ("applied", 1_000_000, "freed 1.0 MB"),
    ],
)
def test_tool_is_planned_with_an_estimate_and_reported_with_what_was_measured(
    status: str, freed: int, said: str
) -> None:
    step = Run(target="npm", reason="tidies", argv=("npm",), time_limit=1, bytes=2_000_000)
    row = documents._step_row(Outcome(step, StepStatus(status), "a word", freed))
    lines = "\n".join(one_by_one([row], Style(width=200), ""))
    assert said in lines
    assert lines.count("a word") == 1


# Rows of several forms


def age(path: Path, days: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's clock is ahead: no file's last change can be set."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + days * DAY)


def test_newest_version_stays_and_so_does_a_young_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = home / ".vscode-server/cli/servers"
    for name in ("Stable-a", "Stable-b", "Stable-c"):
        fill(servers / name)
        time.sleep(0.02)  # files are stamped by a clock that goes in ticks
    assert plan(home, idle_minutes=0).steps == ()
    age(home, 15, monkeypatch)
    (step,) = plan(home, idle_minutes=0).steps
    assert isinstance(step, Delete)
    assert sorted(unit.path.name for unit in step.units) == ["Stable-a", "Stable-b"]


def test_list_beside_versions_is_not_the_newest_of_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = home / ".vscode-server/cli/servers"
    for name in ("Stable-a", "Stable-b"):
        fill(servers / name)
        time.sleep(0.02)
    (servers / "lru.json").write_text('["Stable-b","Stable-a"]')
    age(home, 15, monkeypatch)
    (step,) = plan(home, idle_minutes=0).steps
    assert isinstance(step, Delete)
    assert [unit.path.name for unit in step.units] == ["Stable-a"]


def test_fewer_versions_than_are_to_stay_all_stay(home: Path) -> None:
    fill(home / "tool/a")
    fill(home / "tool/b")
    fill(home / "tool/c")
    kind = CacheKind(category="A", folders=("tool",), newest=5)
    (cache,) = (
        each
        for each in caches.find_caches(CacheSettings(homes=(str(home),), define={"versions": kind}))
        if each.name == "versions"
    )
    parts = [unit for unit, _holder in caches.units(cache, scan_open_files())]
    assert caches.newest_versions(cache, parts) == {home / "tool" / each for each in "abc"}


def test_build_folder_that_its_tool_has_marked_goes_after_weeks(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark stays: whoever made it uses the folder again. A mark alone is nothing: people keep
    their own folders out of backups with it.
    """
    for name in ("app/target", "machines", "lib/.venv", "old/target", "fake/target"):
        fill(home / "src" / name / "inner")
        (home / "src" / name / cache_tag.NAME).write_text(BY_CARGO)
    sample = f"{SIGNATURE}# This file is a cache directory tag created by (application name).\n"
    for name, tag in (("mine/build", SIGNATURE), ("mine/dist", sample)):
        fill(home / "src" / name / "inner")
        (home / "src" / name / cache_tag.NAME).write_text(tag)
    (home / "src/lib/.venv/pyvenv.cfg").touch()
    (home / "src/fake/target" / cache_tag.NAME).write_text("mine\n")
    (home / "src/old/target/inner/.git").mkdir()
    (home / "elsewhere").mkdir()
    (home / "src/link").symlink_to(home / "elsewhere")
    fill(home / "elsewhere/target")
    (home / "elsewhere/target" / cache_tag.NAME).write_text(BY_CARGO)
    assert plan(home, idle_minutes=0).steps == ()
    age(home, 22, monkeypatch)
    found = plan(home, idle_minutes=0)
    (step,) = found.steps
    assert isinstance(step, Delete)
    assert [unit.path for unit in step.units] == [home / "src/app/target/inner"]
    assert [each.status for each in carry_out(found, home)] == ["applied"]
    assert os.listdir(home / "src/app/target") == [cache_tag.NAME]


def test_folder_that_is_marked_and_not_called_so_is_deleted_from_by_no_healer(home: Path) -> None:
    rules = Config(caches=CacheSettings(homes=(str(home),)))
    for name, may in (("target", True), ("machines", False)):
        fill(home / "src" / name / "inner")
        (home / "src" / name / cache_tag.NAME).write_text(BY_CARGO)
        step = Delete(target="", reason="", root=home / "src" / name, units=())
        assert (cache_deletion.delete_objection(step, rules) is None) is may, name


def thrown_away(home: Path, name: str, date: str | None) -> Path:
    can = home / ".local/share/Trash"
    thing = fill(can / "files" / name)
    (can / "info").mkdir(exist_ok=True)
    if date:
        (can / "info" / f"{name}.trashinfo").write_text(
            f"[Trash Info]\nPath=/x/{name}\nDeletionDate={date}\n"
        )
    return thing


def test_what_was_thrown_away_long_ago_is_listed_and_moved_only_if_asked(home: Path) -> None:
    """By its info file: renaming a thing into the can does not make it new."""
    old = thrown_away(home, "old", "2020-05-06T07:08:09")
    kept = [
        thrown_away(home, "new", time.strftime("%Y-%m-%dT%H:%M:%S")),
        thrown_away(home, "undated", None),
        thrown_away(home, "wrong", "yesterday"),
    ]
    found = plan(home)
    assert found.steps == ()
    said = {each.reason: each.detail for each in found.kept}
    assert said["a person's"].startswith("1 thrown away 30 days, ")
    assert "old (" in said["a person's"]
    assert said["recent"].startswith("3 ")
    planned = plan(home, move_downloads=True)
    assert [type(step) for step in planned.steps] == [Quarantine, Quarantine]
    assert [each.status for each in carry_out(planned, home)] == ["applied", "applied"]
    assert not old.exists()
    assert not (home / ".local/share/Trash/info/old.trashinfo").exists()
    assert all(each.exists() for each in kept)


def test_info_of_what_stays_in_the_trash_stays(home: Path) -> None:
    thrown_away(home, "old", "2020-05-06T07:08:09")
    _thing, note = plan(home, move_downloads=True).steps
    assert note.guard() == "what it speaks of is still there"


def test_old_downloads_are_named_in_one_line_and_stay(home: Path) -> None:
    fill(home / "Downloads", 12, 5000)
    found = plan(home, downloads_days=0)
    assert found.steps == ()
    (kept,) = found.kept
    assert kept.target == str(home / "Downloads")
    assert kept.detail.startswith("12 untouched for 0 days, 98.3 kB: part 0 (0 days, 8.2 kB), ")
    assert ", …; look through them" in kept.detail
    assert kept.detail.count("part") == 10


def test_costly_cache_is_named_with_its_size(home: Path) -> None:
    fill(home / ".ollama/models/blobs", 2, 100_000)
    assert reasons(home, home / ".ollama/models") == {
        "costly": "205 kB; name 'ollama' in caches.also to clean it too"
    }


def test_part_that_is_left_out_is_said(home: Path) -> None:
    fill(home / ".cache/thumbnails/mine/.git")
    fill(home / ".cache/thumbnails/large")
    assert reasons(home, home / ".cache/thumbnails") == {
        "not a tool's own": "1 part(s) hold a git repository, or cannot be read"
    }


def test_server_that_was_started_meanwhile_keeps_its_part(home: Path, detached: Detached) -> None:
    fill(home / ".npm/_npx/used/node_modules")
    (step,) = plan(home, idle_minutes=0).steps
    assert step.guard() is None
    detached("server", f"{home}/.npm/_npx/used/node_modules/x.js")
    assert "runs from it" in str(step.guard())


def test_parts_of_no_use_to_one_another_go_in_one_step(home: Path) -> None:
    """Of others, as few as make room enough."""
    for root in (".npm/_npx", ".cache/thumbnails"):
        for name in "abc":
            fill(home / root / name, 1, 2_000_000)
    steps = plan(home, clear=99.99, idle_minutes=0).steps
    assert [len(step.units) for step in steps if isinstance(step, Delete)] == [3, 1, 1, 1]


def test_why_says_what_a_row_says(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detached: Detached
) -> None:
    servers = home / ".vscode-server/cli/servers"
    for name in ("Stable-a", "Stable-b"):
        fill(servers / name)
        time.sleep(0.02)
    fill(home / "Downloads")
    assert why(servers / "Stable-a").endswith("touched in the last 14 d")
    assert why(servers / "Stable-b") == "stays: it is among the newest versions"
    assert why(home / "Downloads/part 0") == "stays: it is a person's, and only listed"
    detached("server", str(servers / "Stable-a/node"))
    assert why(servers / "Stable-a").endswith("runs from it")


def why(path: Path) -> str:
    _healer, options = registry.load_healer(
        "cleanup_disk", registry.builtin("healers") / "cleanup_disk.py"
    )
    assert options is not None
    config = Config(caches=CacheSettings(homes=(str(Path.home()),)))
    question = Question(
        str(path), path, None, config, path, run_clock.unknown_moment(), "x",
        lambda name: options(), lambda name, reading: pytest.fail("no plan is asked for"),
    )  # fmt: skip
    found = explain_cache.explain(question)
    assert found
    return found.verdict
