"""The commands that show what there is: ``list``, ``explain``, ``config``, ``doctor``; and that
help, manual page, completion and docs name the same commands and options.
"""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from program import run
from slackserver import slack

from conftest import PROJECT
from miyabi_healing.cli import choice, listing
from miyabi_healing.cli.configuration import toml_text
from miyabi_healing.cli.main import command
from miyabi_healing.cli.setup import diagnosis
from miyabi_healing.model.config import Config
from miyabi_healing.runner import effective, registry
from miyabi_healing.runner.check_sources import CheckSource, check_sources
from miyabi_healing.support import config_lines, config_sources, secrets
from miyabi_healing.support.config_loader import interpret, load_config

DOCS = (PROJECT / "docs" / "commands.md").read_text(encoding="utf-8")
WIDTHS = [40, 60, 100]


def invoke(*arguments: str) -> tuple[int, str]:
    """The exit status and the output, from inside this process."""
    done = CliRunner().invoke(command, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def document(*arguments: str) -> tuple[int, Any]:
    code, output = invoke(*arguments, "--json")
    return code, json.loads(output)


@pytest.fixture
def file(home: Path) -> Path:
    """A configuration that looks at nothing of this machine's repositories and logs."""
    path = home / "config.toml"
    path.write_text(
        f'''[logs]
patterns = ["{home}/logs/*.log"]

[checks.disk_space_critical]
threshold = 80

[checks.disk_space_critical.targets."/"]
threshold = 97

[checks.swap_usage]
enabled = false

[healers.clear_cache]
enabled = false

[healers.prune_logs]
keep_lines = 5
'''
    )
    return path


# What there is


def test_list_says_on_off_why_and_where_each_limit_came_from(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIYABI_HEALING__CHECKS__TMPFS_USAGE__THRESHOLD", "33")
    code, found = document("--config", str(file), "list")
    checks = {row["name"]: row for row in found["checks"]}
    healers = {row["name"]: row for row in found["healers"]}
    disk = checks["disk_space_critical"]
    assert code == 0
    assert disk["sources"] == {
        "threshold": f"{file}:5",
        "clear": effective.FOLLOWS,
        "critical": "built-in",
    }
    assert (disk["limit"]["threshold"], disk["limit"]["clear"]) == (80, 75)
    (root,) = (each for each in disk["targets"] if each["name"] == "/")
    assert (root["limit"]["threshold"], root["sources"]["threshold"]) == (97, f"{file}:8")
    assert checks["tmpfs_usage"]["sources"]["threshold"].endswith("TMPFS_USAGE__THRESHOLD")
    assert checks["swap_usage"]["why_off"].startswith("switched off: [checks.swap_usage]")
    assert checks["worktree_space"]["why_off"].startswith("off until")
    assert checks["zombie_processes"]["healers"] == ["kill_zombies"]
    assert (healers["clear_cache"]["on"], healers["cleanup_disk"]["on"]) == (False, True)
    assert healers["cleanup_worktrees"]["checks"] == ["excessive_worktrees", "worktree_space"]


def test_list_reads_checks_of_others_without_running_them(home: Path, file: Path) -> None:
    mine = home / "mine"
    (mine / "healers").mkdir(parents=True)
    (mine / "test_mine.py").write_text(
        "import pytest\nraise SystemExit('it ran')\n@pytest.mark.heal('mend')\n"
        "@pytest.mark.limit(3, unit='things')\ndef test_mine(measure): pass\n"
        "@pytest.mark.limit(LIMIT)\ndef test_odd(measure): pass\n"
    )
    (mine / "healers" / "mend.py").write_text('"""Mend it."""\nraise SystemExit("it ran")\n')
    code, found = document("--config", str(file), "--checks", str(mine), "list")
    rows = {row["name"]: row for row in found["checks"]}
    assert code == 3, "the limit of one cannot be told"
    assert rows["mine"]["words"] == "medium above 3 things"
    assert rows["mine"]["from"] == f"{mine / 'test_mine.py'}:5"
    assert "can only be told by running it" in rows["odd"]["problem"]
    assert invoke("--config", str(file), "--checks", str(mine), "explain", "mend")[0] == 0


def test_severity_is_what_it_comes_to() -> None:
    """A bound below the threshold raises everything that trips."""
    (check,) = (each for each in check_sources(OURS) if each.name == "high_memory_usage")
    settings = interpret({"checks": {"high_memory_usage": {"threshold": 99}}}, "here")
    limit = effective.check_limit(check, settings, config_sources.ConfigSources())
    assert limit is not None
    assert limit.words == "critical above 99 %"


OURS = registry.Folders((registry.builtin("checks"),), (registry.builtin("healers"),))


def test_source_of_every_check_of_ours_is_read() -> None:
    """What is read off the source is what pytest would see."""
    found = check_sources(OURS)
    assert {each.name for each in found} == OURS.check_names()
    for each in found:
        assert each.limit is not None, each.name
        assert (each.problem, bool(each.doc), bool(each.fixtures)) == ("", True, True)
    assert [each.gate for each in found if each.name == "zombie_processes"] == [(2, 3)]


@pytest.mark.parametrize("width", WIDTHS)
def test_commands_fit_the_screen(width: int, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for arguments in (("list",), ("explain", "cleanup_disk"), ("explain", "swap_usage")):
        _, output = invoke("--config", str(file), *arguments)
        long = [line for line in output.splitlines() if len(line) > width]
        assert not [line for line in long if " " in line.strip()], "but for one long word"


def test_explain_says_what_is_never_touched_of_every_healer(file: Path) -> None:
    for name in OURS.healer_files():
        code, found = document("--config", str(file), "explain", name)
        assert code == 0
        assert found["found"][0]["never"], name
    options = {row["key"]: row for row in found["found"][0]["options"]}
    assert (options["keep_lines"]["value"], options["keep_lines"]["source"]) == (5, f"{file}:17")
    assert options["archive"]["source"] == "default"


def test_explain_says_when_a_check_trips_and_who_heals_it(file: Path) -> None:
    code, output = invoke("--config", str(file), "explain", "test_zombie_processes")
    assert code == 0
    for words in ("medium above 5", "2 of 3 runs", "Healed by kill_zombies", "--only"):
        assert words in output
    code, output = invoke("explain", "zombie")
    assert (code, "did you mean zombie_processes or kill_zombies?" in output) == (2, True)


# The configuration


def test_show_is_toml_with_the_source_of_each_value_and_no_secret(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("MIYABI_HEALING__GIT__BASE", "develop")
    monkeypatch.setitem(secrets.withdrawn, secrets.SLACK, secrets.Secret("https://hidden"))
    code, output = invoke("--config", str(file), "config", "show")
    table = tomllib.loads(output)
    assert code == 0
    assert table["git"]["base"] == "develop"
    assert table["checks"]["disk_space_critical"]["threshold"] == 80
    assert table["healers"]["prune_logs"] | {"keep_lines": 5} == table["healers"]["prune_logs"]
    assert 'base = "develop"  # MIYABI_HEALING__GIT__BASE' in output
    assert f"threshold = 80  # {file}:5" in output
    assert "days = 30  # default" in output
    assert "SLACK_WEBHOOK_URL is set" in output
    assert "hidden" not in output
    changed = invoke("--config", str(file), "config", "show", "--changed")[1]
    assert "# default" not in changed
    assert f"keep_lines = 5  # {file}:17" in changed


def test_secrets_are_stars_and_names_of_their_files_are_not() -> None:
    for key in ("api_token", "Authorization", "private_key", "slack_hook", "passphrase"):
        assert config_sources.redacted(key, "abc") == "***"
    assert config_sources.redacted("place", "https://me:word@host/x") == "***"
    assert config_sources.redacted("token_file", "/etc/secret") == "/etc/secret"
    assert config_sources.redacted("row", {"password": "x", "pattern": "y"}) == {
        "password": "***", "pattern": "y",
    }  # fmt: skip


WRONG = """[git]
bse = "main"
repos = ["{home}/none/*"]

[[logs.group]]
pattern = "{home}/*.log"
[[logs.group]]
pattern = "{home}/*.txt"
thresold = 3

[quarantine]
days = -3

[checks.disk_space]
threshold = 90

[checks.swap_usage]
clear = 95

[healers.cleanup_disk]
idle_minute = 3

[polcy]
attempts = 1

[caches]
also = ["hugingface"]
homes = ["{home}/nobody*"]
"""
SAID = [
    (2, "error", "git.bse: unknown key; did you mean 'base'?"),
    (3, "warning", "git.repos: {home}/none/* finds no repository"),
    (9, "error", "logs.group, number 2.thresold: unknown key; did you mean 'threshold'?"),
    (12, "error", "quarantine: days must be zero or more, not -3"),
    (14, "error", "checks.disk_space: no such check; did you mean disk_space_critical"),
    (18, "error", "checks.swap_usage: clear, 95, must not be above the threshold, 90"),
    (21, "error", "healers.cleanup_disk.idle_minute: unknown key; did you mean 'idle_minutes'?"),
    (23, "error", "polcy: unknown section; did you mean 'policy'?"),
    (27, "error", "caches.also: 'hugingface': no such cache; did you mean 'huggingface'?"),
    (28, "warning", "caches.homes: {home}/nobody*: fits no folder"),
]


def test_check_says_all_that_is_wrong_with_its_line(home: Path) -> None:
    file = home / "config.toml"
    file.write_text(WRONG.replace("{home}", str(home)))
    code, found = document("--config", str(file), "config", "check")
    told = [(each["where"], each["severity"], each["message"]) for each in found["problems"]]
    assert (code, found["ok"]) == (2, False)
    assert len(told) == len(SAID), told
    for (where, severity, message), (line, kind, words) in zip(told, SAID, strict=True):
        assert (where, severity) == (f"{file}:{line}", kind)
        assert message.startswith(words.replace("{home}", str(home)))


def test_check_is_content_with_what_a_run_takes(file: Path) -> None:
    """Also with what ``init`` would write; and it says that a log pattern matches nothing now."""
    code, found = document("--config", str(file), "config", "check")
    assert (code, found["ok"]) == (0, True)
    assert [each["where"] for each in found["problems"]] == [f"{file}:2"]
    load_config(str(file))


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [("[git\nx = 1\n", ":1", "not valid TOML"), ("a = 1\nb =\n", ":2", "not valid TOML")],
)
def test_broken_toml_is_named_with_its_line(home: Path, text: str, where: str, said: str) -> None:
    (home / "c.toml").write_text(text)
    code, found = document("--config", str(home / "c.toml"), "config", "check")
    (problem,) = found["problems"]
    assert (code, problem["where"]) == (2, f"{home}/c.toml{where}")
    assert said in problem["message"]


def test_variable_that_is_wrong_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIYABI_HEALING__GIT__BSE", "x")
    code, found = document("config", "check")
    assert code == 2
    assert found["problems"][0]["where"] == "MIYABI_HEALING__GIT__BSE"


def test_lines_are_found_in_whatever_way_toml_is_written() -> None:
    text = '# c\n[a]\nb = [\n  1,\n]\nc.d = 1\n[x."y z"]\nk = """\n[no]\n"""\n[[r]]\n[[r]]\nn = 1\n'
    found = config_lines.key_lines(text)
    assert found["a", "b"] == 3
    assert found["a", "c", "d"] == 6
    assert found["x", "y z", "k"] == 8
    assert ("no",) not in found
    assert found["r", "2", "n"] == 13
    assert config_lines.line_of(found, ("x", "y z", "unknown")) == 7


@pytest.mark.parametrize("value", [True, 3, 0.5, 'a "b"', [1, "x"], {"k": [1]}, [], {}])
def test_values_are_written_as_toml_reads_them(value: Any) -> None:
    assert tomllib.loads(f"value = {toml_text(value)}")["value"] == value


# The doctor


def found_of(**changes: Any) -> dict[str, list[diagnosis.Finding]]:
    topics: dict[str, list[diagnosis.Finding]] = {}
    for each in diagnosis.diagnose(Config(**changes), ""):
        topics.setdefault(each.topic, []).append(each)
    return topics


def test_doctor_looks_at_everything_and_changes_nothing(home: Path) -> None:
    before = sorted(home.rglob("*"))
    topics = found_of()
    assert set(topics) >= set(
        "program Python configuration git tools rights state journal lock services alerts".split()
        + ["last run"]
    )
    assert not [each for rows in topics.values() for each in rows if each.state == "problem"]
    assert topics["journal"][0].message == "there is none yet"
    assert sorted(home.rglob("*")) == before


def test_doctor_names_what_is_missing_and_the_way_out(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(home))
    state = home / ".local" / "state" / "miyabi-healing"
    state.mkdir(parents=True, mode=0o700)
    (state / "journal.sqlite3").write_bytes(b"no database")
    topics = found_of()
    (git,) = topics["git"]
    assert (git.state, git.way_out) == ("problem", "install git")
    assert topics["journal"][0].state == "problem"
    state.chmod(0o777)
    assert "can be written by everybody" in found_of()["state"][0].message


def test_look_that_fails_is_a_line_and_the_others_are_there(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> Any:
        raise RuntimeError("odd")

    monkeypatch.setattr(diagnosis.commands, "missing", fail)
    topics = found_of()
    assert topics["git"][0].message == "cannot be told: RuntimeError: odd"
    assert "services" in topics


def test_doctor_sends_a_test_only_when_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = home / "config.toml"
    with slack() as server:
        (home / "url").write_text(f"{server.url}\n")
        file.write_text(f'[alerts]\nslack = true\nslack_url_file = "{home}/url"\n')
        settings = load_config(str(file))
        list(diagnosis.diagnose(settings, ""))
        assert server.got == []
        (sent,) = diagnosis.send_test(settings)
        assert (sent.state, sent.message) == ("ok", "slack took it")
        assert "This is a test" in json.dumps(server.got[0])
    (gone,) = diagnosis.send_test(settings)
    assert (gone.state, server.url in gone.message) == ("problem", False)
    (nobody,) = diagnosis.send_test(Config())
    assert nobody.state == "problem"


def test_doctor_of_a_broken_configuration_still_looks(home: Path) -> None:
    (home / "c.toml").write_text("[git\n")
    done = run("--config", str(home / "c.toml"), "doctor")
    assert done.returncode == 1
    assert "config check says all that is wrong" in done.stdout
    assert "ok       git: git version" in done.stdout


# Help, manual page, completion and docs agree


def every_command(
    group: click.Group, context: click.Context
) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield name, found
        if isinstance(found, click.Group):
            below = click.Context(found, info_name=name, parent=context)
            yield from ((f"{name} {more}", each) for more, each in every_command(found, below))


def commands() -> dict[str, click.Command]:
    return dict(every_command(command, click.Context(command, info_name="miyabi-healing")))


def options(each: click.Command) -> list[str]:
    return [
        next(name for name in (*option.opts, *option.secondary_opts) if name.startswith("--"))
        for option in each.params
        if isinstance(option, click.Option) and "--help" not in option.opts
    ]


def manual() -> str:
    place = PROJECT / "deploy" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text: str = module.manual()
    return text.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "")


def test_manual_page_has_every_command_and_option() -> None:
    text = manual()
    for name, each in commands().items():
        assert f".SS {name}" in text, name
        assert not [option for option in options(each) if option not in text], name
    assert not [option for option in options(command) if option not in text]


def test_docs_have_every_command_and_no_other() -> None:
    told = set(re.findall(r"^\| `([a-z]+(?: [a-z]+)?)[` \[]", DOCS, re.MULTILINE))
    known = {name for name, each in commands().items() if not isinstance(each, click.Group)}
    assert told == known


def test_docs_have_every_option_of_a_run() -> None:
    assert not [option for option in options(command) if f"`{option}" not in DOCS]


def test_docs_name_only_options_that_there_are() -> None:
    known = {"--help"} | set(options(command))
    for each in commands().values():
        known |= {name for option in each.params for name in (*option.opts, *option.secondary_opts)}
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", DOCS))
    assert told <= known | {"--user"}, told - known


def test_names_complete_also_after_a_comma(file: Path) -> None:
    context = click.Context(command, info_name="miyabi-healing")
    context.params = {"config_file": str(file), "checks": ()}
    parameter = next(each for each in command.params if each.name == "only")

    def completed(text: str) -> list[str]:
        return [each.value for each in choice.complete_names(context, parameter, text)]

    assert completed("swap") == ["swap_usage"]
    assert completed("swap_usage,clean") == [
        "swap_usage,cleanup_disk", "swap_usage,cleanup_worktrees",
    ]  # fmt: skip
    context.params = {"config_file": "/nowhere"}
    assert completed("swap") == [], "a broken configuration completes nothing, and says nothing"


def test_check_rows_are_worded_from_the_document_alone() -> None:
    row = {
        "name": "mine", "on": True, "words": "", "healers": [], "healers_off": [], "why_off": "",
        "problem": "broken", "file": "/x", "sources": {}, "per_target": False, "targets": [],
    }  # fmt: skip
    assert list(listing.check_lines(row, 200)) == [
        "on   mine: no limit known; nothing heals it",
        "     /x: broken",
    ]
    assert CheckSource("x", Path("/x"), 1).why_off(Config()) == ""


# What it suggests


def test_suggested_commands_read_the_same_configuration(home: Path) -> None:
    """Copied without it, they would act on whatever a host has by default."""
    file = home / "a b.toml"
    file.write_text("[history]\ndays = 1\n")
    done = run("--config", str(file), "status")
    assert f"--config '{file}' install" in " ".join(done.stdout.split())
    assert "--config" not in run("status").stdout
