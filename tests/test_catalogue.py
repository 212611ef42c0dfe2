"""The data files, and rows of the same form in a configuration: a person adds one row, and it
counts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from program import report, settings

from conftest import PROJECT
from miyabi_healing.host import caches, catalogue, databases, logs, process_status, processes
from miyabi_healing.host.git import agent_locks
from miyabi_healing.model.catalogue import AgentLock, CacheKind, DatabaseKind
from miyabi_healing.model.config import CacheSettings, Config, ConfigError, LogSettings
from miyabi_healing.support import config_loader

FORMS = {"caches": CacheKind, "databases": DatabaseKind, "agent_locks": AgentLock}
WORDS = {"protected_programs": "programs", "regenerable_folders": "folders"}


def interpret(text: str) -> Config:
    return config_loader.interpret(tomllib.loads(text), "here")


def test_every_data_file_is_of_one_of_the_known_forms() -> None:
    files = (PROJECT / "miyabi_healing" / "host" / "data").iterdir()
    assert {file.name for file in files} == {f"{name}.toml" for name in (*FORMS, *WORDS)}


@pytest.mark.parametrize("name", FORMS)
def test_row_of_every_data_file_is_one_that_a_configuration_could_have(name: str) -> None:
    for row, values in catalogue.table(name).items():
        config_loader.convert(values, FORMS[name], row)


@pytest.mark.parametrize("name", WORDS)
def test_words_of_a_data_file_are_there_once(name: str) -> None:
    rows = catalogue.table(name).values()
    found = [word for row in rows for word in row[WORDS[name]]]
    assert all(set(row) == {WORDS[name]} for row in rows)
    assert len(found) == len(set(found)) == len(catalogue.words(name, WORDS[name]))
    assert all(isinstance(word, str) and word.strip() == word != "" for word in found)


def test_form_of_every_data_file_has_a_schema() -> None:
    for form in FORMS.values():
        assert msgspec.json.schema(form)


# Caches


DEEP = """
[caches.define.ollama]
category = "B"
folders = [".ollama/models"]
users = ["ollama"]
"""


def test_cache_of_a_configuration_is_found_like_one_of_ours(home: Path) -> None:
    (home / ".ollama/models").mkdir(parents=True)
    settings = interpret(f'[caches]\nhomes = ["{home}"]\n{DEEP}').caches
    (found,) = caches.in_homes(settings)
    assert (found.name, found.allowed, found.path) == ("ollama", False, home / ".ollama/models")
    settings = interpret(f'[caches]\nhomes = ["{home}"]\nalso = ["ollama"]\n{DEEP}').caches
    caches.validate_caches(settings)
    assert [cache.allowed for cache in caches.in_homes(settings)] == [True]


def test_cache_of_a_configuration_takes_the_place_of_ours(home: Path) -> None:
    (home / ".npm/_cacache").mkdir(parents=True)
    (home / "elsewhere").mkdir()
    own = CacheKind(folders=("elsewhere",))
    found = caches.in_homes(CacheSettings(homes=(str(home),), define={"npm": own}))
    assert [cache.path for cache in found] == [home / "elsewhere"]


def test_cache_that_is_never_to_be_cleaned_is_not_there(home: Path) -> None:
    (home / ".npm/_cacache").mkdir(parents=True)
    settings = CacheSettings(homes=(str(home),), never=("npm",))
    caches.validate_caches(settings)
    assert list(caches.in_homes(settings)) == []
    with pytest.raises(ConfigError, match=r"never: 'nmp': no such cache; did you mean 'npm'"):
        caches.validate_caches(CacheSettings(never=("nmp",)))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('folders = ["../x"]', "folders and locks must name one below a home"),
        ('users = ["x"]', "folders must name one at least"),
        ('folders = ["."]', "folders and locks must name one below a home"),
        ('folders = ["/var/lib/x"]', "only cleaned by a command"),
        ('folders = ["/var/lib/x", "y"]\ngentle = ["x"]', "all be relative to a home, or all"),
        (
            'categorie = "A"',
            "here: caches.define.x.categorie: unknown key; did you mean 'category'",
        ),
        ('category = "D"', "here: caches.define.x.category: invalid enum value 'D'"),
        ("depth = 0", "here: caches.define.x: depth must be 1 or more, not 0"),
        ("folders = 3", "here: caches.define.x.folders: expected `array`, got `int`"),
    ],
)
def test_row_that_cannot_be_used_is_refused_by_its_name(row: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        interpret(f"[caches.define.x]\n{row}")
    assert said in str(caught.value)
    assert "caches.define.x" in str(caught.value)


def test_file_of_a_person_is_never_a_cache_that_may_be_deleted(home: Path) -> None:
    kinds = caches.kinds(CacheSettings())
    assert {name for name, kind in kinds.items() if kind.category == "C"} == {"downloads"}


# Logs


def test_database_of_a_configuration_is_known_by_its_neighbours() -> None:
    settings = interpret('[logs.define.OurStore]\nbeside = ["*.store"]\nfiles = ["seg-*"]').logs
    known = databases.database_judge("/srv/x", ["a.log", "a.store"], settings)
    assert known("a.log") == "part of a database (OurStore): beside a.store"
    assert databases.database_judge("/srv/x", ["a.log", "a.store"])("a.log") is None
    called = databases.database_judge("/srv/x", ["seg-1"], settings)
    assert called("seg-1") == "part of a database (OurStore): called seg-1"


@pytest.mark.parametrize("name", ["a*b*", "*", "[ab]", "x?", "{stem}.x"])
def test_name_that_the_tables_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"here: logs\.define\.x"):
        interpret(f'[logs.define.x]\nfiles = ["{name}"]')


def test_group_of_logs_without_a_pattern_is_refused_by_its_number() -> None:
    with pytest.raises(ConfigError, match=r"logs\.group, number 2.*pattern must name files"):
        interpret('[[logs.group]]\npattern = "/a/*.log"\n[[logs.group]]\nthreshold = 3')
    with pytest.raises(ConfigError, match=r"number 1\.treshold: unknown key; did you mean 'thresh"):
        interpret('[[logs.group]]\npattern = "/a/*.log"\ntreshold = 3')


# Processes and worktrees


def test_programs_of_the_data_file_and_of_the_configuration_are_protected(
    start: Callable[..., Any],
) -> None:
    process = start("sleep", "60")
    found = process_status.read_process(process.pid)
    assert found
    said = processes.Processes(("sleep",)).protection(found)
    assert said in ("sleep is protected", "it belongs to this program's own session")
    assert {"sshd", "postgres", "tmux"} <= catalogue.words("protected_programs", "programs")


GONE = 999_999_99  # more than pid_max can be (proc_sys_kernel(5))


def ourselves() -> process_status.Process:
    found = process_status.read_process(os.getpid())
    assert found
    return found


@pytest.mark.parametrize(
    "reason",
    ["claude agent agent-a1 (pid {} start {})", "claude session x (pid {})", "openclaw pid={}"],
)
def test_lock_of_an_agent_holds_as_long_as_its_process(reason: str) -> None:
    began = time.ctime(process_status.started(ourselves()))
    alive, gone = reason.format(os.getpid(), began), reason.format(GONE, began)
    assert agent_locks.holder(alive, {}) == f"{alive}: that process lives"
    assert agent_locks.holder(gone, {}) is None


@pytest.mark.parametrize(
    "reason",
    [
        "on a usb stick",
        f"pid {GONE}",
        f"my claude agent x (pid {GONE})",
        f"claude agent x (pid {GONE}) do not touch",
        "claude agent x (pid 0)",
        "claude agent x (pid )",
        "",
    ],
)
def test_lock_with_any_other_reason_holds(reason: str) -> None:
    assert agent_locks.holder(reason, {}) == reason


@pytest.mark.parametrize(
    ("start", "holds"),
    [("Fri Jun 19 21:37:40 2020", False), ("some day", True), ("Fri Jun 99 21:37:40 2020", True)],
)
def test_number_given_to_another_process_holds_nothing(start: str, holds: bool) -> None:
    """It began at another time than the reason says; what says no time proves nothing."""
    reason = f"claude session x (pid {os.getpid()} start {start})"
    assert bool(agent_locks.holder(reason, {})) is holds


def test_agent_of_another_time_zone_holds() -> None:
    there = time.ctime(process_status.started(ourselves()) + 13 * 3600)
    assert agent_locks.holder(f"claude session x (pid {os.getpid()} start {there})", {})


def test_zombie_holds_nothing() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert agent_locks.holder(f"claude session x (pid {child.pid})", {}) is None
    child.wait()


def test_agent_of_a_configuration_is_one_row() -> None:
    agents = interpret('[git.agents.ours]\nreasons = ["ours on {host}: {pid}"]').git.agents
    here, there = f"ours on {os.uname().nodename}: {GONE}", f"ours on elsewhere: {GONE}"
    assert agent_locks.holder(here, agents) is None
    assert agent_locks.holder(there, agents) == f"{there}: that is another host"
    assert agent_locks.holder(here, {}) == here


@pytest.mark.parametrize("reason", ["agent", "{pid}", "* {pid}", "a {pid} {pid}"])
def test_reason_that_would_fit_anything_is_refused(reason: str) -> None:
    with pytest.raises(ConfigError, match=r"git\.agents\.x"):
        interpret(f'[git.agents.x]\nreasons = ["{reason}"]')


@pytest.mark.root
def test_agent_in_a_container_that_has_this_number_holds(tmp_path: Path) -> None:
    """On the host its number is another."""
    number = int(Path("/proc/sys/kernel/pid_max").read_text()) // 2
    while os.path.exists(f"/proc/{number}"):
        number -= 1
    set_next = f"echo {number - 1} > /proc/sys/kernel/ns_last_pid"  # pid_namespaces(7)
    script = f"{set_next}; sleep 60 & echo $!; wait"
    inside = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script],
        stdout=subprocess.PIPE,
    )
    try:
        assert inside.stdout
        assert int(inside.stdout.readline()) == number
        said = agent_locks.holder(f"openclaw pid={number}", {})
        assert said
        assert "in a container" in said
    finally:
        inside.kill()
        inside.wait()
        if inside.stdout:
            inside.stdout.close()


# Limits


def test_group_of_logs_has_a_limit_of_its_own(tmp_path: Path) -> None:
    settings = interpret('[[logs.group]]\npattern = "/srv/*.log"\nthreshold = 5').logs
    assert settings.all_patterns == (*LogSettings().patterns, "/srv/*.log")
    own = settings.group_of("/srv/*.log")
    assert own
    assert own.threshold == 5
    assert logs.LogGroup("/srv/*.log", (), ()).settings == LogSettings()


def metrics(document: dict[str, Any], check: str) -> dict[str, float]:
    return {row["target"]: row["threshold"] for row in document["metrics"] if row["name"] == check}


def test_targets_have_limits_of_their_own(home: Path) -> None:
    """A mount by its path, a repository by a pattern, logs by their group."""
    for name in ("one", "two"):
        subprocess.run(["git", "init", "-q", str(home / name)], check=True)
    (home / "logs").mkdir()
    text = f"""
[disk]
mounts = ["{home}"]
[git]
repos = ["{home}/one", "{home}/two"]
[checks.disk_space_critical]
threshold = 100
[checks.disk_space_critical.targets."{home}"]
threshold = 99.5
[checks.excessive_worktrees.targets."*/two"]
threshold = 40
[logs]
patterns = ["{home}/logs/*.log"]
[[logs.group]]
pattern = "{home}/*.log"
threshold = 7
"""
    code, document = report("--config", settings(home, text))
    assert code == 0
    assert metrics(document, "disk_space_critical") == {str(home): 99.5}
    assert metrics(document, "excessive_worktrees") == {f"{home}/one": 15, f"{home}/two": 40}
    assert metrics(document, "large_log_files") == {f"{home}/logs/*.log": 500, f"{home}/*.log": 7}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[checks.x.targets."/"]\ntreshold = 3', "did you mean 'threshold'?"),
        ('[checks.x.targets."/"]\nthreshold = -1', "threshold must be zero or more, not -1"),
        ("[checks.x.targets]\nthreshold = 3", "checks.x.targets.threshold: expected a table"),
    ],
)
def test_limit_of_a_target_that_cannot_be_used_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        interpret(text)
    assert said in str(caught.value)


def test_host_without_rows_of_its_own_does_not_load_their_forms() -> None:
    script = (
        "import sys; from miyabi_healing.host import databases; databases.name_tables()\n"
        "from miyabi_healing.support.config_loader import interpret\n"
        "interpret({'logs': {'patterns': ['/x']}, 'caches': {'homes': ['/y']}}, 'here')\n"
        "print('miyabi_healing.model.catalogue' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
