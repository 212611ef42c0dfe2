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
from gitworld import git, merged_worktree, repository
from program import report, settings

from conftest import PROJECT
from miyabi_healing.host import (
    cache_deletion,
    cache_rows,
    caches,
    catalogue,
    databases,
    filesystems,
    logs,
    process_status,
    processes,
    users,
)
from miyabi_healing.host.context import HealerContext
from miyabi_healing.host.git import agent_locks
from miyabi_healing.host.git.repositories import open_repository
from miyabi_healing.host.git.worktrees import Reason, WorktreeInspector
from miyabi_healing.host.open_files import OpenFiles
from miyabi_healing.host.readings import Host
from miyabi_healing.model.catalogue import (
    AgentLock,
    CacheKind,
    DatabaseKind,
    KnownFolder,
    ProgramGroup,
)
from miyabi_healing.model.config import CacheSettings, Config, ConfigError, LogSettings
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.limit_settings import is_target
from miyabi_healing.model.steps import Delete, Quarantine
from miyabi_healing.runner import registry
from miyabi_healing.support import config_loader, paths

FORMS = {
    "caches": CacheKind,
    "known_folders": KnownFolder,
    "databases": DatabaseKind,
    "agent_locks": AgentLock,
    "protected_programs": ProgramGroup,
}
WORDS = {
    "deliberate_daemons": "programs",
    "package_runners": "programs",
    "supervisors": "programs",
    "background_sockets": "sockets",
    "regenerable_folders": "folders",
    "personal_folders": "folders",
    "litter": "files",
}


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


def test_program_is_in_one_group_alone() -> None:
    rows = catalogue.table("protected_programs").values()
    found = [program for row in rows for program in row["programs"]]
    assert len(found) == len(set(found))


def test_form_of_every_data_file_has_a_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    for form in FORMS.values():
        # as the loader of configurations does, which nothing has called yet where this runs alone
        module = sys.modules[form.__module__]
        monkeypatch.setattr(module, "Meta", msgspec.Meta, raising=False)
        assert msgspec.json.schema(form)


# Caches


DEEP = """
[caches.define.models]
category = "B"
folders = [".llm/models"]
users = ["llm"]
"""


def test_cache_of_a_configuration_is_found_like_one_of_ours(home: Path) -> None:
    (home / ".llm/models").mkdir(parents=True)
    settings = interpret(f'[caches]\nhomes = ["{home}"]\n{DEEP}').caches
    (found,) = caches.in_homes(settings)
    assert (found.name, found.allowed, found.path) == ("models", False, home / ".llm/models")
    settings = interpret(f'[caches]\nhomes = ["{home}"]\nalso = ["models"]\n{DEEP}').caches
    cache_rows.validate_caches(settings)
    assert [cache.allowed for cache in caches.in_homes(settings)] == [True]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('[caches.define.npm]\ncategory = "A"\nfolders = ["x"]', "is the name of one of ours"),
        ('[caches.define.x]\ncategory = "A"\nfolders = [".cache"]', "which is pip's"),
        ('[caches.define.x]\ncategory = "C"\nfolders = [".cache/uv/archive-v0"]', "which is uv's"),
        ('[caches.define.x]\ncategory = "A"\nfolders = ["downloads/"]', "which is downloads's"),
        ('[caches.define.x]\ncategory = "A"\nfolders = ["Documents"]', "a person's (Documents)"),
        ('[caches.define.x]\ncategory = "B"\nfolders = [".local"]', "lie in one another"),
        ('[caches.define.x]\ncategory = "B"\nfolders = [".mozilla"]', "a person's (.mozilla)"),
        ('[caches.define.x]\ncategory = "A"\nfolders = [".ssh/old"]', "holds secrets (.ssh)"),
        (
            '[caches.define.x]\ncategory = "A"\nfolders = ["a/b"]\n'
            '[caches.define.y]\ncategory = "C"\nfolders = ["A/b/c"]',
            "lie in one another",
        ),
    ],
)
def test_row_never_takes_what_is_another_rows_or_a_persons(row: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cache_rows.validate_caches(interpret(row).caches)
    assert said in str(caught.value)


def test_no_folder_of_the_catalogue_lies_in_another_rows() -> None:
    rows = [
        (name, Path(folder))
        for name, kind in cache_rows.kinds(CacheSettings()).items()
        for folder in (*kind.folders, *kind.macos)
        if not (kind.of_system or kind.tagged)
    ]
    assert len(rows) > 20
    for name, folder in rows:
        inside = [other for other, each in rows if other != name and each.is_relative_to(folder)]
        assert inside == [], folder


def test_costly_cache_that_nobody_asked_for_is_not_deleted_by_any_healer(home: Path) -> None:
    kept = home / ".cache/huggingface/hub"
    kept.mkdir(parents=True)
    for also, may in (((), False), (("huggingface",), True)):
        rules = Config(caches=CacheSettings(homes=(str(home),), also=also))
        step = Delete(target="", reason="", root=kept, units=())
        assert (cache_deletion.delete_objection(step, rules) is None) is may


def test_cache_that_is_never_to_be_cleaned_is_not_there(home: Path) -> None:
    (home / ".npm/_cacache").mkdir(parents=True)
    settings = CacheSettings(homes=(str(home),), never=("npm",))
    cache_rows.validate_caches(settings)
    assert list(caches.in_homes(settings)) == []
    with pytest.raises(ConfigError, match=r"never: 'ppi': no such cache; did you mean 'pip'"):
        cache_rows.validate_caches(CacheSettings(never=("ppi",)))


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
        ('locks = ["/etc/passwd"]\nfolders = ["x"]', "macos and locks must be relative"),
        ('macos = ["/Library/x"]', "macos and locks must be relative"),
        ('needs = "x"\nfolders = ["x"]', "needs must be an absolute path"),
        ('folders = ["~/x"]', "folders and locks must name one below a home"),
        ('folders = ["*"]', "folders and locks must name one below a home"),
        ('folders = ["/x"]\ngentle = ["x"]\nspare = ["y"]', "mean nothing for an absolute folder"),
        ("depth = 0", "here: caches.define.x: depth must be 1 or more and at most 10, not 0"),
        ("folders = 3", "here: caches.define.x.folders: expected `array`, got `int`"),
    ],
)
def test_row_that_cannot_be_used_is_refused_by_its_name(row: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        interpret(f'[caches.define.x]\ncategory = "A"\n{row}')
    assert said in str(caught.value)
    assert "caches.define.x" in str(caught.value)


def test_file_of_a_person_is_never_a_cache_that_may_be_deleted(home: Path) -> None:
    kinds = cache_rows.kinds(CacheSettings())
    assert {name for name, kind in kinds.items() if kind.category == "C"} == {"downloads", "trash"}


def test_cache_that_needs_what_is_not_there_is_none(home: Path) -> None:
    (home / "x").mkdir()
    for needs, there in ((f"{home}/socket", 0), (str(home), 1)):
        kind = CacheKind(category="A", folders=("x",), needs=needs)
        rules = CacheSettings(homes=(str(home),), define={"x": kind})
        assert len(list(caches.in_homes(rules))) == there


def test_files_of_a_person_are_set_aside_but_for_what_is_spared(home: Path) -> None:
    for name in ("old", "spared"):
        (home / "Scans").mkdir(exist_ok=True)
        (home / "Scans" / name).write_text("x")
    kind = CacheKind(category="C", folders=("Scans",), spare=("spared",))
    rules = Config(caches=CacheSettings(homes=(str(home),), define={"scans": kind}))
    healer, options = registry.load_healer(
        "cleanup_disk", registry.builtin("healers") / "cleanup_disk.py"
    )
    assert options is not None
    view = HealerContext(Host(rules), {"mount": filesystems.read_mount(str(home))})
    issue = Issue("disk_space_critical", str(home), "", 95, Limit(90, unit="%"))
    steps = healer(view, issue, options(downloads_days=0, move_downloads=True)).steps
    assert [(type(step), step.path) for step in steps] == [(Quarantine, home / "Scans/old")]


@pytest.mark.root
def test_folder_that_is_mounted_there_is_no_cache_of_the_home(home: Path) -> None:
    """Of the same filesystem, so that its device says nothing."""
    (home / "precious").mkdir()
    (home / ".npm/_cacache").mkdir(parents=True)
    subprocess.run(["mount", "--bind", home / "precious", home / ".npm/_cacache"], check=True)
    try:
        (cache,) = caches.in_homes(CacheSettings(homes=(str(home),)))
        assert "mounted there" in cache.trouble
    finally:
        subprocess.run(["umount", home / ".npm/_cacache"], check=True)


def test_part_of_a_cache_with_a_repository_in_it_stays(home: Path) -> None:
    for name in ("one/deep/.git", "two"):
        (home / "x" / name).mkdir(parents=True)
    kind = CacheKind(category="A", folders=("x",))
    (cache,) = caches.in_homes(CacheSettings(homes=(str(home),), define={"x": kind}))
    found = caches.units(cache, OpenFiles((), ()))
    assert [unit.path.name for unit, _holder in found] == ["two"]


@pytest.mark.root
def test_command_of_the_system_gets_no_folder_that_somebody_else_could_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder in (theirs, ours):
        (folder / "registry").mkdir(parents=True)
    os.chown(theirs, 65534, 65534)
    assert "65534" in str(caches.system_trouble(theirs / "registry"))
    assert caches.system_trouble(ours / "registry") is None
    monkeypatch.setenv("XDG_STATE_HOME", str(ours))
    paths.state_folder().mkdir(parents=True)
    assert caches.system_trouble(ours) is not None


def test_folder_of_a_cache_is_expanded_once() -> None:
    kind = CacheKind(category="A", folders=("x",))
    cache = caches.Cache("x", kind, Path("/h"), Path("/h/{parent}/{}"), 0, 0, True)
    assert cache.command(("{}", "-{parent}-")) == ("/h/{parent}/{}", "-/h/{parent}-")


def test_spared_name_stays_however_deep_it_lies(home: Path) -> None:
    for name in ("x/a/part", "x/a/fuzz", "x/fuzz/part"):
        (home / name).mkdir(parents=True)
    kind = CacheKind(category="A", folders=("x",), depth=2, spare=("fuzz",))
    (cache,) = caches.in_homes(CacheSettings(homes=(str(home),), define={"x": kind}))
    units = caches.units(cache, OpenFiles((), ()))
    assert [unit.path for unit, _holder in units] == [home / "x/a/part"]


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


@pytest.mark.parametrize("more", ['[[logs.group]]\npattern = "/a"', '[logs]\npatterns = ["/a"]'])
def test_pattern_of_a_group_is_there_once(more: str) -> None:
    tables = ['[[logs.group]]\npattern = "/a"', more]
    with pytest.raises(
        ConfigError, match=r"logs: logs\.group: '/a' has a group, or is in patterns"
    ):
        interpret("\n".join(sorted(tables, key=lambda each: each.startswith("[["))))


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


@pytest.mark.parametrize(
    "reason",
    ["claude agent agent-a1 (pid {} start {})", "claude session x (pid {})", "openclaw pid={}"],
)
def test_lock_of_an_agent_holds_as_long_as_its_process(reason: str) -> None:
    alive, gone = (reason.format(pid, time.ctime()) for pid in (os.getpid(), GONE))
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


def test_living_process_holds_whatever_times_are_said() -> None:
    """Both times are a wall clock's, which may have been set meanwhile."""
    reason = f"claude session x (pid {os.getpid()} start Fri Jun 19 21:37:40 2020)"
    assert agent_locks.holder(reason, {})


def test_zombie_holds_nothing() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert agent_locks.holder(f"claude session x (pid {child.pid})", {}) is None
    child.wait()


def test_lock_is_judged_by_its_whole_reason(
    repo_with_locked: Callable[[str], Reason | None],
) -> None:
    """Cut where it is shown, the number would be another one's, who is gone."""
    long = "ours " + "x" * 400 + f" pid {os.getpid()}"
    reason = repo_with_locked(long)
    assert reason
    assert (reason.category, len(reason.detail)) == ("locked", 300)


def test_agent_of_a_configuration_takes_the_place_of_ours() -> None:
    gone = f"claude session x (pid {GONE})"
    none = interpret('[git.agents."Claude Code"]\nreasons = []').git.agents
    assert agent_locks.holder(gone, {}) is None
    assert agent_locks.holder(gone, none) == gone


def test_host_that_exports_folders_keeps_locks_that_name_no_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = tmp_path / "fs/nfsd/exports"
    exports.parent.mkdir(parents=True)
    monkeypatch.setattr(agent_locks, "PROC", tmp_path)
    monkeypatch.setattr(agent_locks, "living", lambda: ())
    exports.write_text("# Version 1.1\n")
    assert agent_locks.holder(f"openclaw pid={GONE}", {}) is None
    exports.write_text("# Version 1.1\n/srv *(rw)\n")
    assert "exports folders" in str(agent_locks.holder(f"openclaw pid={GONE}", {}))
    agents = {"x": AgentLock(("x {host} {pid}",))}
    assert agent_locks.holder(f"x {os.uname().nodename} {GONE}", agents) is None


@pytest.fixture
def repo_with_locked(tmp_path: Path) -> Callable[[str], Reason | None]:
    """Locks a merged, clean, idle worktree with a reason, and says why it stays."""
    repo = repository(tmp_path / "repo")
    tree = merged_worktree(repo, "done")

    def ask(reason: str, agents: str = "") -> Reason | None:
        git(repo, "worktree", "lock", "--reason", reason, str(tree))
        settings = interpret(f'[git]\nrepos = ["{repo}"]\n{agents}')
        place = open_repository(str(repo), settings)
        return WorktreeInspector(place).verdict(place.worktrees()[0]).reason

    return ask


def test_agents_of_the_configuration_count_for_its_worktrees(
    repo_with_locked: Callable[..., Reason | None],
) -> None:
    agents = '[git.agents.ours]\nreasons = ["ours {pid}"]'
    assert repo_with_locked(f"ours {GONE}", agents) is None


def test_lock_holds_where_somebody_unseen_could_be_using_the_worktree(
    repo_with_locked: Callable[..., Reason | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "container", lambda: "this is a container")
    monkeypatch.setenv("MIYABI_HEALING__SAFETY__OURS_ALONE", "[]")
    reason = repo_with_locked(f"openclaw pid={GONE}")
    assert reason
    assert reason.category == "locked"
    assert "this is a container" in reason.detail


def test_agent_of_a_configuration_is_one_row() -> None:
    agents = interpret('[git.agents.ours]\nreasons = ["ours on {host}: {pid}"]').git.agents
    here, there = f"ours on {os.uname().nodename}: {GONE}", f"ours on elsewhere: {GONE}"
    assert agent_locks.holder(here, agents) is None
    assert agent_locks.holder(there, agents) == f"{there}: that is another host"
    assert agent_locks.holder(here, {}) == here


@pytest.mark.parametrize(
    "reason",
    [
        "agent",
        "{pid}",
        "* {pid}",
        "a {pid} {pid}",
        "a*{pid}",
        "a 1{pid}",
        "a {start}{pid}",
        "-#{pid}",
        "a* * * * {pid}",
        "a\\t{pid}",
    ],
)
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


def test_row_of_a_target_is_found_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for row, target, fits in (
        ("/data/", "/data", True),
        ("/", "/", True),
        ("/", "/data", False),
        ("~/src/*", "/home/me/src/app", True),
        ("~/.x/*", "~/.x/logs/*.log", True),
        ("/srv/[a]/*.log", "/srv/[a]/*.log", True),
        ("/dtaa", "/data", False),
    ):
        assert is_target(row, target) is fits, (row, target)


def test_row_that_fits_no_target_is_said_and_other_parameters_are_none(home: Path) -> None:
    (home / "mine").mkdir()
    (home / "mine/test_num.py").write_text(
        "import pytest\n@pytest.mark.limit(3)\n@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_num(n, measure, limit):\n    assert measure(n, 'a number') <= limit\n"
    )
    text = f"""
[disk]
mounts = ["{home}"]
[checks.disk_space_critical]
threshold = 100
[checks.disk_space_critical.targets."/dtaa"]
threshold = 99
[checks.num.targets."x*"]
threshold = 99
"""
    code, document = report("--config", settings(home, text), "--checks", str(home / "mine"))
    assert code == 0
    assert [each for each in document["notes"] if "no repository" not in each] == [
        "checks.disk_space_critical.targets: /dtaa fits none of its targets"
    ]
    assert [row["threshold"] for row in document["metrics"] if row["name"] == "num"] == [3, 3]


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
