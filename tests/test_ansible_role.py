"""The role that installs, on a host behind real sshd: from wheels that the session ``role`` of
``noxfile.py`` has built and fetched, the program's own among them. Ansible takes a second for each
of its tasks, and copies one wheel a second, so this is no part of the daily tests.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import psutil
import pytest
from ansiblework import INSTALL, Play, needs_ansible, recap
from fleetwork import Host, Hosts, needs_sshd, ssh_hosts

from conftest import PROJECT

WHEELS = os.environ.get("MIYABI_HEALING_TEST_WHEELS", "")
pytestmark = [
    pytest.mark.skipif(not WHEELS, reason="takes minutes: python3 noxfile.py -s role"),
    needs_ansible,
    pytest.mark.root,
    needs_sshd,
]


class Index(SimpleHTTPRequestHandler):
    """The folder of wheels as an index (PEP 503), for who knows the password. Who asks must not
    show that to everybody.
    """

    secret = "Basic " + base64.b64encode(b"ana:s3cret").decode()
    shown: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        for each in psutil.process_iter(["cmdline"]):
            words = " ".join(each.info["cmdline"] or ())
            if "s3cret" in words:
                self.shown.add(words)
        if self.headers["Authorization"] != self.secret:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.end_headers()
        elif self.path.startswith("/simple/"):
            name = self.path.strip("/").split("/")[1].replace("-", "_")
            links = "".join(
                f'<a href="/{each.name}">{each.name}</a>\n'
                for each in Path(WHEELS).iterdir()
                if each.name.lower().startswith(f"{name}-")
            )
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<!DOCTYPE html><html><body>{links}</body></html>".encode())
        else:
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def index() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Index, directory=WHEELS)) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://ana:s3cret@127.0.0.1:{server.server_port}/simple/"
        finally:
            server.shutdown()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[tuple[Hosts, Host]]:
    (tmp_path / "host").mkdir()
    with ssh_hosts(tmp_path / "host", 1) as started:
        yield started, started.hosts[0]


def files_of(host: Host) -> list[str]:
    """Which files a host has where programs and settings are, but for the environment's library."""
    return sorted(
        str(each.relative_to(host.home))
        for top in (".config", ".local")
        for each in (host.home / top).rglob("*")
        if not each.is_dir() and "lib" not in each.parts
    )


def keeps_the_secret(host: Host) -> bool:
    return not any(
        b"s3cret" in each.read_bytes() for each in host.home.rglob("*") if each.is_file()
    )


@pytest.mark.parametrize("way", ["offline", "index"])
def test_program_is_installed_once_and_removed(
    host: tuple[Hosts, Host], tmp_path: Path, way: str
) -> None:
    hosts, target = host
    config, program = tmp_path / "healing.toml", target.home / ".local/bin/miyabi-healing"
    config.write_text("[checks.large_log_files]\nthreshold = 1\n")
    version = next(Path(WHEELS).glob("miyabi_healing-*.whl")).name.split("-")[1]
    with index() as address, TemporaryDirectory(prefix="role-") as sockets:
        wanted = {
            "miyabi_system": False,
            "miyabi_version": version,
            "miyabi_python": sys.executable,
            "miyabi_requirements": str(PROJECT / "requirements/runner.txt"),
            "miyabi_config_file": str(config),
            "miyabi_timer": shutil.which("systemctl") is not None,
            "miyabi_kind": "systemd-timer",
        }
        source = f"miyabi_wheels={WHEELS}" if way == "offline" else f"miyabi_index={address}"
        inventory = hosts.inventory()
        inventory.write_text(inventory.read_text().replace("host1", f"host1 {source}", 1))
        play = Play(tmp_path / "play", hosts, wanted)
        play.environment["ANSIBLE_SSH_EXTRA_ARGS"] = (
            f"-o ControlMaster=auto -o ControlPersist=3 -o ControlPath={sockets}/%C"
        )
        site = play.folder / "site.yml"
        site.write_text(INSTALL)

        def run(*options: str, **changes: object) -> dict[str, int]:
            done = play.run(str(site), *options, inventory=inventory, **changes)
            assert "s3cret" not in done.stdout + done.stderr
            counts = recap(done.stdout)["host1"]
            assert (done.returncode == 0) is (counts["failed"] == 0), done.stdout + done.stderr
            return counts

        assert run("--check", "--diff")["changed"]
        assert files_of(target) == []
        half = target.home / ".local/share/miyabi-healing"  # what a run that was killed has left
        (half / "role").mkdir(parents=True)
        for each in (half / "role/installed", half / "rest"):
            each.write_text("not complete yet\n")
        assert run("--diff")["changed"]
        assert not (half / "rest").exists()
        answer = subprocess.run(
            hosts.ssh(target, str(program), "--version"), capture_output=True, text=True, check=True
        )
        assert answer.stdout.split()[-1] == version
        installed = files_of(target)
        kept = ".config/miyabi-healing/config.toml"
        assert kept in installed
        assert keeps_the_secret(target)
        assert Index.shown == set()
        assert (".config/systemd/user/miyabi-healing.timer" in installed) is wanted["miyabi_timer"]
        assert run()["changed"] == 0
        assert files_of(target) == installed
        config.write_text("[chekcs]\n")
        assert run()["failed"] == 1
        assert "large_log_files" in (target.home / kept).read_text()
        assert run(miyabi_state="absent")["changed"]
        assert files_of(target) == [kept]
