"""A ping at the start and at the end of a run, whatever the monitor does; its URL appears
nowhere.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from endpoint import Endpoint, closed_port, serving, took_less_than
from program import SCHEMA, environment, run, settings

from conftest import PROJECT, wait_for
from miyabi_healing.model import config
from miyabi_healing.report.outputs import dispatch, output, ping
from miyabi_healing.runner.watch import run_process
from miyabi_healing.support import config_loader, secrets

SECRET = "0a1b2c3d-secret"
HEALTHY = "No issues detected. System is healthy."
CHECK = """
import os, pathlib, pytest, signal, time

@pytest.mark.limit(5, unit="things")
def test_things(measure, limit):
    ACT
    assert measure(VALUE, "Found some things") <= limit
"""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def monitor() -> Iterator[Endpoint]:
    with serving() as server:
        yield server


def check(home: Path, act: str = "pass", value: int = 1) -> Path:
    folder = home / "mine"
    folder.mkdir(exist_ok=True)
    (folder / "new").write_text(CHECK.replace("ACT", act).replace("VALUE", str(value)))
    (folder / "new").rename(folder / "test_things.py")
    return folder


WITHOUT = "1 issue(s) detected, nothing was changed. 1 without a healer."


def world(home: Path, url: str, more: str = "time_limit = 20", **changes: Any) -> tuple[str, ...]:
    """The program's arguments; the URL is in a file, as it should be."""
    folder = check(home, **changes)
    (home / "url").write_text(f"{url}\n")
    return (
        "--config",
        settings(home, f'[ping]\nurl_file = "{home}/url"\n{more}\n'),
        "--checks",
        str(folder),
    )


def told(
    url: str, monkeypatch: pytest.MonkeyPatch, limit: float = 20, body: str = "all is well"
) -> str:
    """What is said about a ping; empty where it went well."""
    said: list[str] = []
    monkeypatch.setattr(dispatch.console, "complain", said.append)
    monkeypatch.setitem(secrets.withdrawn, secrets.PING, secrets.Secret(url.strip()))
    chosen = config.Config(ping=config.PingSettings(time_limit=limit))
    dispatch.send_outputs({"summary": body}, 0, chosen, dry_run=False, seconds=1)
    assert len(said) <= 1
    return "".join(said)


def test_start_and_result_are_pinged_with_the_summary(home: Path, monitor: Endpoint) -> None:
    arguments = world(home, f"{monitor.url}/ok/{SECRET}")
    done = run("--quiet", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert monitor.got == [(f"/ok/{SECRET}/start", ""), (f"/ok/{SECRET}/0", HEALTHY)]
    check(home, value=7)
    assert run(*arguments).returncode == 1
    assert monitor.got[3] == (f"/ok/{SECRET}/1", WITHOUT)


def test_environment_goes_over_the_file_and_a_query_stays_last(
    home: Path, monitor: Endpoint
) -> None:
    arguments = world(home, f"{monitor.url}/ok/file")
    run(*arguments, MIYABI_HEALING_PING_URL=f"{monitor.url}/ok/variable/?create=1")
    assert monitor.paths() == ["/ok/variable/start?create=1", "/ok/variable/0?create=1"]


@pytest.mark.parametrize(
    ("act", "said"),
    [
        ("status500", "the server answered with status 500"),
        ("status404", "the server answered with status 404"),
        ("hang", "no answer within 1 s"),
        ("trickle", "no answer within 1 s"),
        ("die", "no proper answer (BadStatusLine)"),
        ("nonsense", "no proper answer (BadStatusLine)"),
        ("away", "the server redirects to another one, which was not followed"),
        ("file", "the server answered with status 302"),
        ("near", ""),
    ],
)
def test_bad_monitor_is_one_line_in_bounded_time(
    monitor: Endpoint, monkeypatch: pytest.MonkeyPatch, act: str, said: str
) -> None:
    limit = 1 if act in ("hang", "trickle") else 20
    with took_less_than(10):
        assert told(f"{monitor.url}/{act}/{SECRET}", monkeypatch, limit) == (
            f"ping: {said}" if said else ""
        )
    assert "/ok/elsewhere" not in monitor.paths()
    assert monitor.paths() == [f"/{act}/{SECRET}/0"] + ["/ok/near"] * (act == "near")


def test_nobody_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        told(f"http://127.0.0.1:{closed_port()}/{SECRET}", monkeypatch)
        == "ping: Connection refused"
    )
    assert told(f"http://{SECRET}.invalid/", monkeypatch, limit=20).startswith("ping: ")
    # a resolver that hangs
    monkeypatch.setattr(ping.urllib.request, "build_opener", lambda *_: time.sleep(60))
    with took_less_than(10):
        assert told("http://127.0.0.1/", monkeypatch, limit=1) == "ping: no answer within 1 s"


def test_certificate_nobody_vouches_for_is_refused_without_naming_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ssl

    made = subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=secret.example -keyout key "
        "-out certificate".split(),
        cwd=tmp_path,
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("openssl cannot make a certificate here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    with serving() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        said = told(f"https://127.0.0.1:{server.server_port}/ok/{SECRET}", monkeypatch)
        assert (said, server.got) == ("ping: no secure connection: CERTIFICATE_VERIFY_FAILED", [])


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "file:///etc/passwd",
        "host/x",
        "http://",
        "http://user:word@host/",
        "http://host:port/",
        "http://ho st/",
        "http://host/\nhttp://other",
        "http://host/\x00",
        "http://[::1/",
        "http://hö.st/",
        "x" * 5000,
        "http://h/" + "x" * 5000,
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(output.OutputError) as caught:
        ping.post_ping(url, "start", "", 1)
    assert (
        str(caught.value)
        == "the URL must be one line: http:// or https://, a host without a user, a path"
    )


def test_file_that_cannot_be_read_is_named(home: Path, monitor: Endpoint) -> None:
    arguments = world(home, "")
    (home / "url").unlink()
    done = run(*arguments)
    assert (done.returncode, done.stderr.splitlines()) == (
        0, [f"miyabi-healing: ping: {home}/url: No such file or directory"] * 2
    )  # fmt: skip
    os.mkfifo(home / "url")
    assert "secrets are short lines in a regular file" in run(*arguments).stderr


def test_body_is_cut_at_what_monitors_keep(
    monitor: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(f"{monitor.url}/ok/", monkeypatch, body="€" * 500_000 + "\udcff") == ""
    assert told(f"{monitor.url}/ok/", monkeypatch, body="x\udcff\n|::") == ""
    (_, long), (_, strange) = monitor.got
    assert 9_990 < len(long.encode()) <= 10_000
    assert set(long) == {"€"}
    assert strange == "x?\n|::"


def test_failed_ping_changes_nothing_and_says_one_line_without_the_url(
    home: Path, monitor: Endpoint
) -> None:
    arguments = world(home, f"{monitor.url}/status500/{SECRET}")
    done = run("--json", *arguments)
    document = json.loads(done.stdout)
    notes = [each for each in document["notes"] if "no repository" not in each]
    assert (done.returncode, document["overall_success"], notes) == (0, True, [])
    assert (
        done.stderr.splitlines()
        == ["miyabi-healing: ping: the server answered with status 500"] * 2
    )


def test_secret_is_nowhere(home: Path, monitor: Endpoint) -> None:
    arguments = world(
        home, f"{monitor.url}/hang/{SECRET}", "time_limit = 2", act="time.sleep(1)", value=7
    )
    program = subprocess.Popen(
        [sys.executable, str(PROJECT / "self_healer.py"), "--json", *arguments],
        cwd=home, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: monitor.got)
    process = psutil.Process(program.pid)
    lines = [" ".join(each.cmdline()) for each in (process, *process.children(recursive=True))]
    output, errors = program.communicate(timeout=60)
    assert program.returncode == 1
    assert not [text for text in (*lines, output, errors) if SECRET in text]
    state = home / ".local" / "state"
    assert [file for file in state.rglob("*") if file.is_file()]
    assert not [
        file for file in state.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()
    ]
    assert SECRET not in repr(config_loader.load_config(arguments[1]))


def test_dry_run_pings_nobody(home: Path, monitor: Endpoint) -> None:
    assert run("--dry-run", *world(home, f"{monitor.url}/ok/{SECRET}")).returncode == 0
    assert monitor.got == []


def test_pass_that_finds_another_at_work_pings_nobody(home: Path, monitor: Endpoint) -> None:
    from miyabi_healing.state import run_lock

    arguments = world(home, f"{monitor.url}/ok/{SECRET}")
    held = run_lock.acquire(home / ".local" / "state" / "miyabi-healing")
    try:
        assert run(*arguments).returncode == 75
    finally:
        run_lock.release(held)
    assert monitor.got == []


def test_pass_that_could_not_run_is_told(home: Path, monitor: Endpoint) -> None:
    arguments = world(home, f"{monitor.url}/ok/x", act="raise TypeError('odd')")
    assert run(*arguments).returncode == 3
    assert run(*arguments, "--checks", "/nowhere").returncode == 2
    assert (
        run("--config", "/nowhere", MIYABI_HEALING_PING_URL=f"{monitor.url}/ok/y").returncode == 2
    )
    assert monitor.paths() == ["/ok/x/start", "/ok/x/3", "/ok/x/start", "/ok/x/2", "/ok/y/2"]
    assert monitor.got[-1][1] == "The checks could not run: --config: /nowhere: no such file"


def test_pass_that_was_asked_to_stop_is_told_and_ctrl_c_cuts_that_short(
    home: Path, monitor: Endpoint
) -> None:
    arguments = world(
        home,
        f"{monitor.url}/ok/x",
        "time_limit = 30",
        act="(pathlib.Path.home() / 'began').touch(); time.sleep(60)",
    )
    began = home / "began"

    def begin() -> subprocess.Popen[str]:
        began.unlink(missing_ok=True)
        command = [sys.executable, str(PROJECT / "self_healer.py"), *arguments]
        return subprocess.Popen(
            command,
            cwd=home,
            env=environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    program = begin()
    wait_for(began.exists)
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=20)
    assert (program.returncode, monitor.paths()) == (143, ["/ok/x/start", "/ok/x/143"])
    program = begin()
    wait_for(began.exists)
    (home / "url").write_text(f"{monitor.url}/hang/x")
    program.send_signal(signal.SIGTERM)
    wait_for(lambda: monitor.paths()[-1] == "/hang/x/143")
    program.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert program.poll() is None
    program.send_signal(signal.SIGINT)
    with took_less_than(10):
        _, errors = program.communicate(timeout=20)
    assert program.returncode in (143, -signal.SIGTERM)
    assert errors.splitlines()[-1] == "miyabi-healing: SIGINT came before everybody had been told"


def test_report_nobody_reads_is_told_all_the_same(home: Path, monitor: Endpoint) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    command = [sys.executable, str(PROJECT / "self_healer.py"), *world(home, f"{monitor.url}/ok/x")]
    subprocess.run(
        command, cwd=home, env=environment(), stdout=theirs, stderr=subprocess.DEVNULL, timeout=60
    )
    os.close(theirs)
    assert monitor.paths() == ["/ok/x/start", "/ok/x/0"]


def test_proxy_of_the_environment_is_used(
    monitor: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", monitor.url)
    assert told(f"http://somewhere.invalid/{SECRET}", monkeypatch) == ""
    assert monitor.paths() == [f"http://somewhere.invalid/{SECRET}/0"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[ping]\nurl = 'http://host'\n", "ping.url: unknown key; did you mean 'url_file'?"),
        ("[ping]\nurl_file = 5\n", "ping.url_file: expected `str`, got `int`"),
        ("[ping]\ntime_limit = 0\n", "time_limit must be more than 0 and at most 60, not 0"),
        ("[ping]\ntime_limit = inf\n", "time_limit must be more than 0 and at most 60, not inf"),
    ],
)
def test_bad_setting_is_one_clear_line(home: Path, text: str, said: str) -> None:
    done = run("--config", settings(home, text))
    assert (done.returncode, said in done.stderr, len(done.stderr.splitlines())) == (2, True, 1)


# Watch mode


class Watching:
    def __init__(self, home: Path, *arguments: str, code: str = "") -> None:
        options = (*arguments, "--watch", "--interval", "0.2", "--json")
        start = (str(PROJECT / "self_healer.py"),) if not code else ("-c", code)
        self.errors = home / "errors"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *start, *options],
                cwd=home,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.errors.read_text()
        document: dict[str, Any] = json.loads(line)
        import jsonschema

        jsonschema.validate(document, SCHEMA)
        return document


@pytest.fixture
def watching(home: Path) -> Iterator[Any]:
    started: list[Watching] = []

    def watch(*arguments: str, **options: str) -> Watching:
        started.append(Watching(home, *arguments, **options))
        return started[-1]

    yield watch
    for each in started:
        each.process.terminate()
        each.process.communicate(timeout=60)


NO_FORKS = f"""
import sys
sys.argv[0] = {str(PROJECT / "self_healer.py")!r}
sys.path.insert(0, {str(PROJECT)!r})
from miyabi_healing.cli.main import main
from miyabi_healing.runner.watch import run_process
run_process.FORKS = False
main()
"""


@pytest.mark.parametrize("code", ["", NO_FORKS], ids=["forks", "programs"])
def test_every_pass_of_a_watch_is_told_by_its_child(
    home: Path, monitor: Endpoint, watching: Any, code: str
) -> None:
    watch = watching(*world(home, f"{monitor.url}/ok/x"), code=code)
    watch.next()
    watch.next()
    assert monitor.got[:4] == [("/ok/x/start", ""), ("/ok/x/0", HEALTHY)] * 2
    assert {"http.client", "urllib.request"} & set(run_process.WARM) == set()


@pytest.mark.parametrize("code", ["", NO_FORKS], ids=["forks", "programs"])
@pytest.mark.parametrize(
    "act",
    [
        "os.kill(os.getpid(), signal.SIGSEGV)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.execv('/bin/true', ['true'])",
    ],
)
def test_pass_that_crashed_is_told_by_another_child(
    home: Path, monitor: Endpoint, watching: Any, code: str, act: str
) -> None:
    watch = watching(*world(home, f"{monitor.url}/ok/x", act=act), code=code)
    said = watch.next()["summary"]
    assert "before it had reported" in said
    wait_for(lambda: len(monitor.got) >= 2)
    assert monitor.got[:2] == [("/ok/x/start", ""), ("/ok/x/3", said)]


def test_report_is_safe_before_anybody_else_is_told(
    home: Path, monitor: Endpoint, watching: Any
) -> None:
    act = f"(pathlib.Path.home() / 'url').write_text('{monitor.url}/hang/x')"
    watch = watching(*world(home, f"{monitor.url}/ok/x", "time_limit = 60", act=act))
    wait_for(lambda: "/hang/x/0" in monitor.paths())
    (keeper,) = psutil.Process(watch.process.pid).children()
    (telling,) = keeper.children()
    telling.kill()
    assert watch.next()["summary"] == HEALTHY


@pytest.mark.slow
def test_pass_that_hung_is_told(home: Path, monitor: Endpoint, watching: Any) -> None:
    act = (
        "signal.pthread_sigmask(signal.SIG_BLOCK, [15, 2]); signal.signal(signal.SIGTERM, "
        "signal.SIG_IGN); time.sleep(100)"
    )
    arguments = world(
        home,
        f"{monitor.url}/ok/x",
        "time_limit = 20\n[watch]\ntime_limit = 2\n",
        act="time.sleep(100)",
    )
    watch = watching(*arguments)
    assert watch.next()["errors"]
    wait_for(lambda: monitor.paths()[:2] == ["/ok/x/start", "/ok/x/143"])
    check(home, act=act)
    wait_for(lambda: "/ok/x/3" in monitor.paths(), 60)
    assert "was ended by SIGKILL" in monitor.got[monitor.paths().index("/ok/x/3")][1]


def test_dry_watch_tells_nobody_even_of_a_crash(
    home: Path, monitor: Endpoint, watching: Any
) -> None:
    watch = watching(
        "--dry-run", *world(home, f"{monitor.url}/ok/x", act="os.kill(os.getpid(), signal.SIGKILL)")
    )
    watch.next()
    watch.next()
    assert monitor.got == []


def test_watch_ends_in_order_while_a_monitor_hangs(
    home: Path, monitor: Endpoint, watching: Any
) -> None:
    watch = watching(*world(home, f"{monitor.url}/hang/x", "time_limit = 2"))
    wait_for(lambda: monitor.got)
    with took_less_than(14):
        watch.process.terminate()
        watch.process.wait(20)
    assert watch.process.returncode == 143
    assert monitor.paths()[-1] == "/hang/x/143"


# What it costs where nothing is set up


def test_where_nothing_is_set_up_no_outlet_is_loaded(home: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "importtime",
            str(PROJECT / "self_healer.py"),
            "--quiet",
            "--config",
            settings(home),
        ],
        cwd=home,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines()}
    assert "miyabi_healing.report.outputs.dispatch" in loaded
    outlets_loaded = {
        name for name in loaded if name.startswith("miyabi_healing.report.outputs.")
    } - {"miyabi_healing.report.outputs.dispatch"}
    assert {"http.client", "urllib.request", "prometheus_client"} & loaded | outlets_loaded == set()
