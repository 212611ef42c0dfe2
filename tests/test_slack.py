"""Slack as it is: it accepts, refuses, is slow, limits rates, hangs, dies half way. The run's
result is always the same.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from program import environment, report, run, settings
from slackserver import PATH, Slack, check_limits, slack
from test_alerts import FINE, HEALED, WRONG, action, issue
from test_alerts import report as document_of

from conftest import PROJECT, wait_for
from miyabi_healing.model import config
from miyabi_healing.report.alerts import apprise, decide, queue
from miyabi_healing.report.alerts.message import Channel, Message
from miyabi_healing.report.outputs import dispatch
from miyabi_healing.state import run_lock
from miyabi_healing.support import secrets
from miyabi_healing.support.paths import JOURNAL

CHECK = """
from pathlib import Path
import pytest

@pytest.mark.limit(5, severity="high", unit="things")
def test_things(measure, limit):
    value = float(Path(__file__).with_name("value").read_text())
    assert measure(value, "Found some <things> & others") <= limit
"""


@pytest.fixture
def server() -> Iterator[Slack]:
    with slack() as found:
        yield found


class World:
    """A host with one check, whose value the test sets."""

    def __init__(self, home: Path, server: Slack) -> None:
        self.home, self.server, self.folder = home, server, home / "mine"
        self.folder.mkdir()
        (self.folder / "test_things.py").write_text(CHECK)
        self.options = ("--config", settings(home), "--checks", str(self.folder), "--slack")

    def passes(self, value: float, *more: str) -> dict[str, Any]:
        (self.folder / "value").write_text(str(value))
        code, document = report(*self.options, *more, SLACK_WEBHOOK_URL=self.server.url)
        assert code == (0 if value <= 5 else 1), "what becomes of an alert changes no result"
        return document


@pytest.fixture
def world(home: Path, server: Slack) -> World:
    return World(home, server)


def test_changes_are_told_once_and_well(world: World) -> None:
    assert world.passes(1)["alerts"] == []
    told = world.passes(9)["alerts"]
    assert [(each["kind"], each["status"]) for each in told] == [("unhealed", "queued")]
    assert world.passes(9)["alerts"] == []
    assert [each["kind"] for each in world.passes(2)["alerts"]] == ["recovered"]
    assert len(world.server.got) == 2
    for payload in world.server.got:
        check_limits(payload)
    shown = json.dumps(world.server.got[0], ensure_ascii=False)
    for part in (
        os.uname().nodename,
        "things",
        "not healed",
        "9 things of 5 things",
        "high",
        "--dry-run",
    ):
        assert part in shown
    assert "Found some &lt;things&gt; &amp; others" in world.server.got[0]["text"]


def test_dry_run_says_what_it_would_send_and_sends_nothing(world: World) -> None:
    told = world.passes(9, "--dry-run")["alerts"]
    assert [(each["kind"], each["status"]) for each in told] == [("unhealed", "planned")]
    done = run(*world.options, "--dry-run", SLACK_WEBHOOK_URL=world.server.url)
    assert (
        "not healed: things (9 things of 5 things; Found some <things> & others) [would be sent]"
        in " ".join(done.stdout.split())
    )
    assert world.server.asked == 0
    assert not (world.home / ".local").exists()


@pytest.mark.parametrize(
    ("act", "said"),
    [
        ("500 rollup_error", "HTTP status 500, rollup_error"),
        ("404 no_service", "HTTP status 404, no_service"),
        ("404", "HTTP status 404"),
        ("html", "HTTP status 200"),
        ("elsewhere", "HTTP status 200"),
        ("429 3600", "HTTP status 429, rate_limited"),
        ("429 soon", "HTTP status 429, rate_limited"),
        ("hang", "no answer in time"),
        ("trickle", "no answer in time"),
        ("die", "IncompleteRead"),
    ],
)
def test_alert_that_cannot_be_sent_is_kept_and_sent_by_a_later_pass(
    home: Path, server: Slack, act: str, said: str
) -> None:
    server.acts = [act]
    begun = time.monotonic()
    assert told(home, server, WRONG) == [
        f"1 message(s) to slack could not be sent and wait: {said}"
    ]
    assert time.monotonic() - begun < 4
    assert told(home, server, FINE) == ["2 message(s) to slack wait to be sent again"], (
        "not before its time"
    )
    server.acts = ["ok"]
    make_due(home)
    assert told(home, server, FINE) == []
    assert ["not healed" in payload["text"] for payload in server.got] == [True, False]
    assert "recovered" in server.got[1]["text"]


def test_endpoint_that_is_gone_or_unknown_is_said_without_its_address(home: Path) -> None:
    for url, said in (
        ("http://127.0.0.1:9/SECRET", "Connection refused"),
        ("http://nowhere.invalid/SECRET", ""),
        ("http://127.0.0.1:99999/SECRET", ""),
        ("http://127.0.0.1/SEC RET", "InvalidURL"),
    ):
        (problem,) = tell(home, to(url), document_of(issue(name=url)))
        assert said in problem
        assert "could not be sent" in problem
        assert "SEC" not in problem
        make_due(home)


def test_slack_that_asks_for_a_moment_is_given_it(home: Path, server: Slack) -> None:
    server.acts = ["429 0", "ok"]
    assert told(home, server, WRONG, time_limit=8) == []
    assert server.asked == 2


def test_what_slack_cannot_understand_goes_as_plain_text_and_is_given_up_if_not_even_that_does(
    home: Path, server: Slack
) -> None:
    server.acts = ["400 invalid_blocks", "ok"]
    assert told(home, server, WRONG) == []
    assert set(server.got[0]) == {"text"}
    server.acts = ["400 invalid_payload"]
    assert "refused and dropped" in told(home, server, FINE)[0]
    server.acts = ["ok"]
    assert told(home, server, WRONG) == []
    assert len(server.got) == 2


def test_flapping_issue_sends_a_handful_of_messages_in_a_hundred_passes(
    home: Path, server: Slack
) -> None:
    for number in range(100):
        told(home, server, WRONG if number % 2 else FINE)
    assert 1 <= len(server.got) <= 9
    print(f"a hundred runs, {len(server.got)} messages")


def test_long_and_hostile_messages_keep_to_the_limits(server: Slack) -> None:
    words = ("<!channel> & *bold* `code` :smile: \n" * 200, "\udcff\x00", "é" * 9000)
    for number in (1, 3, 8, 60):
        found = [
            issue(99, "critical", name=f"{words[each % 3]}{each}", target=words[each % 3])
            for each in range(number)
        ]
        for each in found:
            each["description"] = words[0]
        deeds = [
            {**action(words[0]), "issue": each["name"], "target": each["target"]} for each in found
        ]
        decided, _ = decide.decide(
            document_of(*found, actions=deeds, healthy=()),
            {},
            config.PolicySettings(),
            config.AlertSettings(),
            1e9,
        )
        assert len(decided) == number
        to(server.url)[0].send(
            Message.load(Message("h" * 300, "run", "2026-01-02T03:04:05", tuple(decided)).dump()), 5
        )
        check_limits(server.got[-1])
    assert "… and 52 more" in json.dumps(server.got[-1], ensure_ascii=False)


def test_queue_is_bounded_in_number_and_in_time(home: Path, server: Slack) -> None:
    server.acts = ["500"]
    threads = {*threading.enumerate()}
    for number in range(queue.MOST_QUEUED + 5):
        tell(home, to(server.url), document_of(issue(name=f"check{number}")), 0.01)
    assert rows(home, "select count(*) from outbox") == [(queue.MOST_QUEUED,)]
    # by the wall clock alone: it may be wrong
    rows(home, "update outbox set made = made - 73 * 3600")
    assert "too long" not in told(home, server, WRONG)[0]
    rows(home, "update outbox set clock = clock - 73 * 3600")
    server.settle(threads)
    server.acts = ["ok"]
    assert "too long and were dropped" in told(home, server, WRONG)[0]
    assert len(server.got) == 1


def test_state_folder_that_cannot_be_written_does_not_silence_alerts(
    home: Path, server: Slack
) -> None:
    (home / "state").write_text("a file where the folder should be")
    assert told(home, server, WRONG) == []
    assert "comes again with every run" in json.dumps(server.got[0])
    assert told(home, server, HEALED) == []
    server.acts = ["404"]
    assert told(home, server, WRONG) == ["could not be sent to slack: HTTP status 404"]
    assert len(server.got) == 1


def test_another_pass_at_work_tells_in_our_place(home: Path, server: Slack) -> None:
    descriptor = run_lock.acquire(home / "state")
    try:
        assert told(home, server, WRONG) == []
    finally:
        run_lock.release(descriptor)
    assert server.asked == 0
    assert told(home, server, WRONG) == []
    assert server.asked == 1


def test_the_webhook_appears_nowhere(world: World) -> None:
    """Neither in what is printed, nor in the state folder, nor in the command line, nor in what a
    check's programs inherit.
    """
    (world.folder / "test_more.py").write_text(
        "import os, subprocess\n"
        "def test_more(measure, limit):\n"
        '    subprocess.run(\'env > inherited; tr "\\\\0" " " < /proc/$PPID/cmdline > line\', '
        "shell=True, check=True)\n"
        "    assert measure(1, repr(dict(os.environ))) <= 5\n".replace(
            "def", "import pytest\n@pytest.mark.limit(5)\ndef"
        )
    )
    world.server.acts = ["404"]
    (world.folder / "value").write_text("9")
    done = run(*world.options, cwd=world.home, SLACK_WEBHOOK_URL=world.server.url)
    said = " ".join(done.stdout.split())
    assert "things (9 things of 5 things; Found some <things> & others) [being sent]" in said
    assert "could not be sent and wait: HTTP status 404" in done.stderr
    assert (world.home / "inherited").exists()
    word = PATH.rpartition("/")[2]
    files = [file for file in world.home.rglob("*") if file.is_file()]
    assert word not in done.stdout + done.stderr
    assert [file for file in files if word.encode() in file.read_bytes()] == []
    found = secrets.Secret(world.server.url)
    assert word not in f"{found} {found!r} {[found]} {config.Config()!r}"


def test_webhook_in_a_file(world: World) -> None:
    file = world.home / "webhook"
    file.write_text(f"# of the ops channel\n{world.server.url}\n")
    options = (
        "--config",
        settings(world.home, f'[alerts]\nslack = true\nslack_url_file = "{file}"\n'),
    )
    (world.folder / "value").write_text("9")
    _, document = report(*options, "--checks", str(world.folder))
    assert document["alerts"][0]["status"] == "queued"
    assert len(world.server.got) == 1


def test_webhook_that_can_be_none_ends_it_before_anything_is_done(home: Path) -> None:
    (home / "webhook").write_text("ftp://x/SECRET")
    file = settings(home, f'[alerts]\nslack_url_file = "{home}/webhook"\n')
    done = run("--slack", "--config", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert "https://" in done.stderr
    assert "SECRET" not in done.stderr
    assert not (home / ".local").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "No such file or directory"), ("", "it is empty"), ("\n# none\n", "it is empty")],
)
def test_file_of_a_webhook_that_is_missing_costs_the_alerts_alone(
    home: Path, text: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (home / "webhook").write_text(text)
    rules = config.AlertSettings(slack_url_file=f"{home}/webhook")
    assert dispatch.usable_channels(config.Config(alerts=rules), slack=True) == ()
    assert said in capsys.readouterr().err
    assert dispatch.usable_channels(config.Config(alerts=rules), slack=True) == ()
    assert capsys.readouterr().err == ""  # watch mode asks before every run


def test_missing_apprise_costs_its_own_channel_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apprise, "missing", lambda: "alerts: Apprise is not installed")
    monkeypatch.setattr(
        secrets,
        "withdrawn",
        {name: secrets.Secret("https://x/y") for name in (secrets.SLACK, secrets.APPRISE)},
    )
    said: list[str] = []
    found = queue.configured_channels(config.AlertSettings(), True, said.append)
    assert [each.name for each in found] == ["slack"]
    assert said == ["alerts: Apprise is not installed"]


def test_run_without_a_webhook_heals_and_says_what_to_set(world: World) -> None:
    (world.folder / "value").write_text("9")
    _, without = report(*world.options, SLACK_WEBHOOK_URL=None)
    done = run("--json", "--slack", *world.options, SLACK_WEBHOOK_URL=None)
    assert [each["action"] for each in json.loads(done.stdout)["actions_taken"]] == [
        each["action"] for each in without["actions_taken"]
    ]
    assert (
        done.stderr
        == "miyabi-healing: Slack: no webhook to send to; set SLACK_WEBHOOK_URL, or slack_url_file "
        "in [alerts]; nothing is sent there\n"
    )


def test_hidden_pipe_as_a_secret_file_does_not_hang(home: Path) -> None:
    os.mkfifo(home / "pipe")
    with pytest.raises(config.ConfigError, match="regular file"):
        secrets.secret_lines(home / "pipe")


def test_watch_tells_too_and_asked_to_stop_while_slack_hangs_it_stops(world: World) -> None:
    world.server.acts = ["hang"]
    settings(world.home, "[alerts]\ntime_limit = 3\n")
    (world.folder / "value").write_text("9")
    process = subprocess.Popen(
        [
            sys.executable,
            str(PROJECT / "self_healer.py"),
            *world.options,
            "--watch",
            "--json",
            "--interval",
            "0.2",
        ],
        cwd=world.home,
        env=environment(SLACK_WEBHOOK_URL=world.server.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        end = time.monotonic() + 20
        while not world.server.asked and time.monotonic() < end:
            time.sleep(0.05)
        begun = time.monotonic()
        process.terminate()
        out, err = process.communicate(timeout=15)
        assert process.returncode == 143, err
        assert time.monotonic() - begun < 5
        assert [issue["name"] for issue in json.loads(out.splitlines()[0])["issues_detected"]] == [
            "things"
        ]
        assert PATH.encode() not in out + err
    finally:
        process.kill()
        process.communicate()


def test_watch_tells_of_a_pass_that_crashed_once_and_that_it_is_over(world: World) -> None:
    (world.folder / "value").write_text("1")
    (world.folder / "test_things.py").write_text(
        "import os\n"
        + CHECK.replace("    value", "    os.execv('/bin/sh', ['sh', '-c', 'exit 7'])\n    value")
    )
    process = subprocess.Popen(
        [
            sys.executable,
            str(PROJECT / "self_healer.py"),
            *world.options,
            "--watch",
            "--quiet",
            "--interval",
            "0.2",
        ],
        cwd=world.home,
        env=environment(SLACK_WEBHOOK_URL=world.server.url),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(lambda: world.server.got)
        time.sleep(1)
        (world.folder / "test_things.py").write_text(CHECK)
        wait_for(lambda: len(world.server.got) == 2)
        texts = [each["text"] for each in world.server.got]
        assert [
            "could not be checked: the checks" in texts[0],
            "recovered: the checks" in texts[1],
        ] == [True, True]
    finally:
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (143, b"")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its own
def test_apprise_tells_any_other_place(
    home: Path, server: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("apprise")
    monkeypatch.setattr(logging.getLogger("apprise"), "disabled", False)
    place = secrets.Secret(server.url.replace("http://", "json://"))
    from miyabi_healing.report.alerts import apprise

    channel = (Channel("apprise", partial(apprise.send, [place])),)
    assert tell(home, channel, document_of(issue()), 10) == []
    assert server.got[0]["title"] == "here: disk on / not healed"
    assert "miyabi-healing --dry-run" in server.got[0]["message"]
    assert server.got[0]["type"] == "failure"
    server.acts = ["500"]
    assert "a place did not take it" in tell(home, channel, document_of(), 10)[0]


def to(url: str) -> tuple[Channel, ...]:
    return (Channel("slack", partial(queue.to_slack, secrets.Secret(url))),)


def tell(
    home: Path, channels: tuple[Channel, ...], document: Any, time_limit: float = 2
) -> list[str]:
    """Tell of a run; returns what went wrong."""
    rules = config.Config(alerts=config.AlertSettings(time_limit=time_limit))
    mail = queue.queue_alerts(
        json.loads(json.dumps(document)), rules, channels, home / "state", False
    )
    return queue.deliver(mail, rules.alerts) if mail else []


def told(home: Path, server: Slack, document: Any, time_limit: float = 2) -> list[str]:
    return tell(home, to(server.url), document, time_limit)


def rows(home: Path, query: str) -> list[Any]:
    with sqlite3.connect(home / "state" / JOURNAL, isolation_level=None) as database:
        found = database.execute(query).fetchall()
    database.close()
    return found


def make_due(home: Path) -> None:
    rows(home, "update outbox set next = 0")
