"""How Ansible has a host run the program, and what it makes of the report."""

from __future__ import annotations

import json
import os
import pty
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
from ansiblework import ISSUE, STEP, Play, Stand, document, needs_ansible, plugin, recap
from fleetwork import Hosts, needs_sshd, ssh_hosts

from conftest import wait_for
from miyabi_healing.model.rollout import HostState

SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
MARK = "a-mark"
NOTHING: Mapping[str, Any] = {
    "executable": "miyabi-healing", "config": None, "fleet_run": None, "fleet_token": None,
    "only": [], "skip": [],
}  # fmt: skip


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return plugin("plugin_utils/host_report", monkeypatch)


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return plugin("plugin_utils/asking", monkeypatch)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with ssh_hosts(tmp_path_factory.mktemp("hosts"), 1) as started:
        yield started


@pytest.fixture
def play(hosts: Hosts, tmp_path: Path) -> Play:
    return Play(tmp_path / "play", hosts)


@pytest.fixture
def ask(asking: ModuleType, tmp_path: Path) -> Callable[..., Any]:
    """Run the words for a host in a shell of this one, with a HOME of its own; the program is a
    script that is given. Returns what is read of the answer.
    """
    home = tmp_path / "the home"
    (home / ".local/bin").mkdir(parents=True)

    def run(code: str, shell: str = "sh", check_mode: bool = False, **parameters: Any) -> Any:
        program = home / ".local/bin/miyabi-healing"
        program.write_text(f"#!/bin/sh\n{code}\n")
        program.chmod(0o755)
        words = asking.command({**NOTHING, **parameters}, check_mode, MARK)
        words = words.replace("/bin/sh -c", f"{shell} -c", 1)
        done = subprocess.run(
            ["/bin/sh", "-c", words], input="typed", capture_output=True, text=True, cwd=home,
            env={**os.environ, "HOME": str(home)}, check=False, timeout=60,
        )  # fmt: skip
        return asking.read_answer(done.stdout, MARK, done.returncode, done.stderr)

    return run


@pytest.mark.parametrize(
    ("code", "changes", "state"),
    [
        (0, {"overall_success": True}, HostState.WELL),
        (0, {}, HostState.FAILED),
        (1, {}, HostState.ISSUES),
        (3, {}, HostState.UNKNOWN),
        (75, {}, HostState.BUSY),
        (75, {"superseded_by": 8}, "superseded"),
        (2, {}, HostState.FAILED),
        (137, {}, HostState.FAILED),
    ],
)
def test_state_of_a_host_is_what_the_program_shows(
    report: ModuleType, code: int, changes: Mapping[str, object], state: str
) -> None:
    assert report.state_of(code, document(**changes)) == state
    assert report.state_of(code, {}) == "failed", "no report"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "{", '{"summary": "a"}', "Traceback", "[" * 100_000]
)
def test_what_is_no_report_is_none(report: ModuleType, text: str) -> None:
    assert report.read_report(text) == {}
    assert report.read_report(json.dumps(document())) == document()


def test_changed_is_a_step_that_was_applied_now(report: ModuleType) -> None:
    planned = document(actions_taken=[{"steps": [{**STEP, "status": "planned"}]}])
    assert report.is_changed(document(), False)
    assert not report.is_changed(document(again=True), False)
    assert not report.is_changed(planned, False)
    assert report.is_changed(planned, True)
    assert not report.is_changed(document(actions_taken=[]), False)
    purged = {"purged": [{**STEP, "kind": "purge"}]}
    assert report.is_changed(document(actions_taken=[], quarantine=purged), False)


def test_task_fails_from_the_state_on_that_was_chosen(report: ModuleType) -> None:
    states = ("well", "issues", "unknown", "busy", "superseded", "failed")
    failing = {
        fail_on: [state for state in states if report.fails(state, fail_on, False, True)]
        for fail_on in ("issues", "unknown", "never")
    }
    assert failing == {
        "issues": ["issues", "unknown", "busy", "superseded", "failed"],
        "unknown": ["unknown", "busy", "superseded", "failed"],
        "never": ["failed"],
    }
    assert not report.fails("issues", "issues", True, True), "a dry run with a plan"
    assert report.fails("issues", "issues", True, False), "nothing would be done about it"


def test_messages_name_what_is_wrong_and_the_way_out(report: ModuleType) -> None:
    errors = [{"check": "", "message": "another run is at work (pid 7)"}]
    assert report.message("issues", 1, document(), "") == (
        "1 issue(s) remain: large_log_files (/a.log), medium. "
        "On the host, 'miyabi-healing show a' says why."
    )
    busy = report.message("busy", 75, document(errors=errors), "")
    assert busy == "another run is at work (pid 7). Ask again later, or raise 'wait'."
    assert "(status 137): Killed." in report.message("failed", 137, {}, "noise\nKilled\n")


def test_words_of_a_host_give_a_terminal_no_orders(report: ModuleType) -> None:
    words = "a\x1b[2J\r\n\x9b\u202e\ud800é"
    shown = "a\\x1b[2J\\r\\n\\x9b\\u202e\\ud800é"
    issues = [{**ISSUE, "target": words}]
    steps = [{"steps": [{**STEP, "reason": words}]}]
    sent = document(summary=words, issues_detected=issues, actions_taken=steps)
    found = report.read_report(json.dumps({**sent, words: 1}))
    assert found.pop(shown) == 1
    assert (found["summary"], report.issues_of(found)[0]["target"]) == (shown, shown)
    diff = report.diff_of(found, False)
    assert shown in diff["before"]
    assert f": {shown} (applied)\n" in diff["after"]
    assert report.message("failed", 1, {}, "a\x1b[2J").startswith(
        "The program gave no report (status 1): a\\x1b[2J."
    )


def test_busy_host_is_asked_again_at_random_intervals_that_grow(asking: ModuleType) -> None:
    now = [0.0]
    asked: list[float] = []

    def chance(least: float, most: float) -> float:
        asked.append(most)
        return most

    for pause in asking.pauses(30, lambda: now[0], chance):
        now[0] += pause
    assert asked == [1, 2, 4, 8, 10, 10]
    assert now == [30], "no longer than it may"
    assert not list(asking.pauses(0, lambda: 0, chance))


@pytest.mark.parametrize("shell", SHELLS)
def test_status_and_both_outputs_come_apart(ask: Callable[..., Any], shell: str) -> None:
    code = "echo 'on the way' >&2; printf '{\n}'; echo \"it's over\" >&2; exit 75"
    assert ask(code, shell) == (75, "{\n}", "on the way\nit's over")
    assert ask("exit 255", shell) == (255, "", ""), "no lost connection"
    assert ask("kill -9 $$", shell)[0] == 128 + signal.SIGKILL
    assert ask("exec 1>&- 2>&-", shell) == (0, "", "")
    assert ask("cat", shell) == (0, "", ""), "there is nothing to read"
    assert 1900 < len(ask("yes | head -c 200000 >&2", shell).said) <= 2000


@pytest.mark.parametrize("shell", SHELLS)
def test_who_is_left_behind_with_the_outputs_is_not_waited_for(
    ask: Callable[..., Any], tmp_path: Path, shell: str
) -> None:
    begun = time.monotonic()
    assert ask(f"sleep 30 & echo $! >{tmp_path}/pid; echo {{}}", shell) == (0, "{}\n", "")
    assert time.monotonic() - begun < 15
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("shell", SHELLS)
def test_program_is_given_each_argument_as_it_is(
    ask: Callable[..., Any], tmp_path: Path, shell: str
) -> None:
    label = "a \"b\" 'c' $HOME `d` $(e)\n{f}\\"
    code = "for each; do printf '%s\\0' \"$each\"; done"
    given = {"fleet_run": label, "fleet_token": 0, "config": "~/c d.toml", "only": ["x", "y;z"]}
    said = ask(code, shell, check_mode=True, **given).printed.split("\0")
    home = str(tmp_path / "the home")
    assert said == [
        "--json", "--dry-run", "--config", f"{home}/c d.toml", f"--fleet-run={label}",
        "--fleet-token=0", "--only=x", "--only=y;z", "",
    ]  # fmt: skip
    assert ask(code, shell, skip=["a"]).printed.split("\0") == ["--json", "--skip=a", ""]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("miyabi-healing", True),
        ("~/.local/bin/miyabi-healing", True),
        ("$HOME/.local/bin/miyabi-healing", True),
        ("${HOME}/.local/bin/miyabi-healing", True),
        (".local/bin/miyabi-healing", True),
        ("no-such-program", False),
        ("~/no-such-program", False),
        ("", False),
        ("~/.local/bin", False),
        ("true; touch made", False),
        ("$(touch made)", False),
        ("-v", False),
    ],
)
def test_program_is_sought_as_a_path_of_the_host(
    ask: Callable[..., Any], tmp_path: Path, shell: str, path: str, found: bool
) -> None:
    assert ask("echo here", shell, executable=path).code == (0 if found else None)
    assert not (tmp_path / "the home/made").exists()


def test_command_has_nothing_of_its_own_that_csh_or_fish_read_in_another_way(
    asking: ModuleType,
) -> None:
    command = asking.command(
        {**NOTHING, "fleet_run": "it's tonight", "config": "~/a b"}, True, MARK
    )
    assert not set(command) & set("\n\\!")


def test_program_that_cannot_be_started_says_so(ask: Callable[..., Any], tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.write_text("#!/no/such/interpreter\n")
    odd.chmod(0o755)
    answer = ask("", executable=str(odd))
    assert answer.code == 127
    assert "odd: not found" in answer.said


def test_terminal_between_changes_no_answer(asking: ModuleType, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho '{'; echo oh >&2; echo '}'; exit 3\n")
    program.chmod(0o755)
    words = asking.command({**NOTHING, "executable": str(program)}, False, MARK)
    child, terminal = pty.fork()
    if child == 0:
        os.execv("/bin/sh", ["sh", "-c", f"echo A lecture.; echo oh dear >&2; {words}"])
    printed = b""
    try:
        while more := os.read(terminal, 4096):
            printed += more
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    answer = asking.read_answer(printed.decode(), MARK, status, "")
    assert answer == (3, "{\n}\n", "oh")


def test_shell_that_came_to_no_end_is_no_answer(asking: ModuleType) -> None:
    whole = f"{MARK} begin\n{{}}\n{MARK} 13\nend"
    assert asking.read_answer(whole, MARK, 0, "") == (13, "{}", "end")
    for length in range(whole.index("13\n") + 3):
        with pytest.raises(asking.NoAnswer, match="status 1 and said: sudo: a password"):
            asking.read_answer(whole[:length], MARK, 1, "sudo: a password is required\n")
    with pytest.raises(asking.NoAnswer, match="said: nothing"):
        asking.read_answer("", MARK, 1, "")
    with pytest.raises(asking.NoAnswer, match=r"said: a\\x1b\[2J$"):
        asking.read_answer("", MARK, 1, "a\x1b[2J\n")


def test_report_that_names_the_mark_of_another_request_ends_nothing(
    ask: Callable[..., Any],
) -> None:
    assert ask(f"echo x{MARK} 0").printed == f"x{MARK} 0\n"


def test_options_are_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = pytest.importorskip("yaml")
    documented = yaml.safe_load(plugin("modules/heal", monkeypatch).DOCUMENTATION)["options"]
    taken = plugin("action/heal", monkeypatch).OPTIONS
    parts = ("type", "default", "choices", "elements")
    assert {
        name: {part: each[part] for part in parts if part in each} for name, each in taken.items()
    } == {
        name: {part: "str" if each[part] == "path" else each[part] for part in parts
               if part in each}
        for name, each in documented.items()
    }  # fmt: skip


PLAYBOOK = """
- hosts: all
  gather_facts: false
  environment: {{SAID_BY: "the playbook's own"}}
  tasks:
    - miyabi.healing.heal: {{{options}, from_variables: {taken}}}
"""


def line_of(
    play: Play, code: str, options: str, taken: bool = True, **variables: object
) -> dict[str, Any]:
    """What the callback keeps of a task in a playbook of one's own, on a host whose program is a
    script.
    """
    inventory = play.stands(Stand("a"))
    program = play.folder / "stand-a"
    report = shlex.quote(json.dumps(document(overall_success=True, issues_detected=[])))
    program.write_text(f"#!/bin/sh\nreport={report}\n{code}\n")
    program.chmod(0o755)
    file = play.folder / "own.yml"
    file.write_text(PLAYBOOK.format(options=options, taken=taken))
    lines = play.folder / "lines"
    lines.unlink(missing_ok=True)
    # a module would not get far with it
    no_python = {"ansible_python_interpreter": "/no/such/python", "miyabi_reports": str(lines)}
    done = play.run(str(file), inventory=inventory, **no_python, **variables)
    (line,) = lines.read_text().splitlines() if lines.exists() else (done.stdout + done.stderr,)
    found: dict[str, Any] = json.loads(line)
    assert recap(done.stdout)["a"]["failed"] == (found["state"] != "well")
    return found


@needs_ansible
@needs_sshd
@pytest.mark.root
def test_host_needs_a_shell_and_the_program_alone(play: Play) -> None:
    said = 'echo "$SAID_BY, $*" >&2; '
    line = line_of(play, said + 'echo "$report"', "only: one", miyabi_fleet_run="{{ 1 + 1 }}")
    assert (line["state"], line["code"], line["label"], line["token"]) == ("well", 0, "2", None)
    given = {"miyabi_fleet_token": 8, "miyabi_skip": "a,b", "miyabi_config": ""}
    line = line_of(play, said + "exit 9", "fleet_token: 7, fail_on: never", **given)
    assert line["message"].startswith(
        "The program gave no report (status 9): the playbook's own, --json --fleet-token=7 "
        "--skip=a --skip=b. On the host"
    )
    assert line["token"] == 7
    assert not (play.hosts.hosts[0].home / ".ansible").exists(), "nothing is copied there"


@needs_ansible
@needs_sshd
@pytest.mark.root
def test_variables_are_taken_where_that_was_asked_for(play: Play) -> None:
    code, given = 'echo "$*" >&2; exit 9', {"miyabi_fleet_run": "x", "miyabi_only": "{{ omit }}"}
    assert "): --json --fleet-run=x. " in line_of(play, code, "fail_on: never", **given)["message"]
    empty = {"miyabi_fleet_token": "{{ '' }}", "miyabi_skip": "{{ gone | default(omit) }}"}
    assert "): --json. " in line_of(play, code, "fail_on: never", **empty)["message"]
    by_task = f"fail_on: never, executable: {play.folder}/stand-a"
    line = line_of(play, code, by_task, taken=False, **given)
    assert "): --json. " in line["message"]


@needs_ansible
@needs_sshd
@pytest.mark.root
def test_host_that_is_busy_is_asked_again(play: Play) -> None:
    code = """
echo >>"$0.asked"
echo "$report"
[ $(wc -l <"$0.asked") -gt 2 ] || exit 75
"""
    assert line_of(play, code, "wait: 60")["state"] == "well"
    asked = play.folder / "stand-a.asked"
    assert asked.read_text() == "\n\n\n"
    asked.unlink()
    assert line_of(play, code, "wait: 0")["state"] == "busy"
    assert asked.read_text() == "\n"


@needs_ansible
@needs_sshd
@pytest.mark.root
@pytest.mark.parametrize(
    ("method", "pipelining", "terminal"),
    [("", "0", False), ("su", "0", True), ("su", "1", True), ("sudo", "0", True),
     ("sudo", "1", False)],
)  # fmt: skip
def test_terminal_is_had_for_become_alone_and_changes_no_report(
    play: Play, method: str, pipelining: str, terminal: bool
) -> None:
    play.environment.update(ANSIBLE_BECOME_ALLOW_SAME_USER="1", ANSIBLE_PIPELINING=pipelining)
    how = {"ansible_become": bool(method), "ansible_become_method": method or "su"}
    if method == "sudo":  # a stand-in for it, which looks at no option
        sudo = play.folder / "sudo"
        sudo.write_text('#!/bin/sh\nwhile [ "$1" != /bin/sh ]; do shift; done; exec "$@"\n')
        sudo.chmod(0o755)
        how["ansible_become_exe"] = str(sudo)
    code = '(: </dev/tty) 2>/dev/null && touch "$0.terminal"; echo oh >&2; echo "$report"'
    line = line_of(play, code, "fail_on: never", **how)
    assert (line["state"], line["code"]) == ("well", 0)
    assert (play.folder / "stand-a.terminal").exists() is terminal


@needs_ansible
@needs_sshd
@pytest.mark.root
def test_run_goes_on_when_the_connection_is_lost(play: Play) -> None:
    inventory = play.stands(Stand("a"))
    program = play.folder / "stand-a"
    program.write_text(
        '#!/bin/sh\ntouch "$0.begun"; sleep 1; echo {}; echo oh >&2; sleep 0.2; touch "$0.done"\n'
    )
    with subprocess.Popen(
        play.command("heal_slice", inventory=inventory),
        cwd=play.folder, env=play.environment, start_new_session=True, stdout=subprocess.DEVNULL,
    ) as killed:  # fmt: skip
        wait_for((play.folder / "stand-a.begun").exists, 60)
        group = psutil.Process(killed.pid).children(recursive=True)
        for each in [*group, killed]:
            each.kill()
    wait_for((play.folder / "stand-a.done").exists)
