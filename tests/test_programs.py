"""What a process's program is called: by its file or its script, never by its arguments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from miyabi_healing.host import programs
from miyabi_healing.host.process_status import Process, read_process

COMMANDS = (
    ("/usr/bin/tail", ["tail", "-f", "/home/a/chrome"], "tail", {"chrome"}),
    ("/opt/google/chrome/chrome", ["/opt/google/chrome/chrome", "--type=x"], "chrome", set()),
    ("/usr/bin/python3.11", ["python3", "-c", "import time", "chrome"], "python3.11", {"chrome"}),
    ("/usr/bin/python3.11", ["python3", "-W", "error", "/x/job.py", "-v"], "job", {"error", "-v"}),
    ("/usr/bin/python3.11", ["python3", "-m", "http.server", "80"], "http.server", {"80"}),
    ("/usr/bin/node", ["node", "--max-old-space-size=4096", "/x/vite.js", "dev"], "vite", {"dev"}),
    ("/usr/bin/node", ["node", "-r", "ts-node", "/x/mcp-files/dist/index.js"], "mcp-files", set()),
    ("/usr/bin/node", ["npm", "exec", "@scope/server"], "npm", {"exec"}),
    ("/usr/bin/node", ["node", "/usr/lib/node_modules/npm/bin/npm-cli.js", "ci"], "npm", {"ci"}),
    ("/usr/bin/node", ["node", "-e", "1", "chrome"], "node", {"chrome"}),
    ("/usr/bin/java", ["java", "-cp", "/x/a.jar", "org.Main"], "org.Main", {"a.jar"}),
    ("/usr/bin/java", ["java", "-Xmx1g", "-jar", "/x/tool.jar"], "tool", set()),
    ("/usr/bin/bash", ["-bash"], "bash", set()),
    ("/usr/bin/bash", ["bash", "/x/deploy.sh"], "deploy", set()),
    ("/usr/bin/bash", ["bash", "-lc", "exec tail -f ~/chrome"], "bash", {"chrome"}),
    ("/usr/bin/bash", ["bash", "-euo", "pipefail", "-c", ". /x/chrome"], "bash", {"pipefail"}),
    ("/usr/bin/bash", ["bash", "-e", "-o", "pipefail", "/x/job.sh"], "job", {"pipefail"}),
    ("/usr/bin/dash", ["sh", "-ec", "npx foo-mcp"], "dash", {"npx"}),
    ("/usr/bin/python3.11", ["python3", "-uc", "open('x') # /chrome"], "python3.11", {"chrome"}),
    ("/usr/bin/python3.11", ["python3", "-Werror", "-c", "0 #/chrome"], "python3.11", {"chrome"}),
    ("/usr/bin/perl", ["perl", "-lane", "1; # /chrome"], "perl", {"chrome"}),
    ("/usr/bin/perl", ["perl", "-Mstrict", "/x/job.pl"], "job", {"-Mstrict"}),
    ("/usr/bin/php8.2", ["php", "-r", "1; // /chrome"], "php8.2", {"chrome"}),
    ("/usr/bin/node", ["node", "-p", "1 // /chrome"], "node", {"chrome"}),
    ("/usr/bin/java", ["java", "-p", "/x/mods", "org.Main"], "org.Main", {"mods"}),
    ("/usr/bin/deno", ["deno", "run", "-A", "/x/main.ts"], "x", {"run"}),
    ("", [], "short", set()),
)


@pytest.mark.parametrize(("program", "arguments", "name", "never"), COMMANDS)
def test_a_program_is_called_by_its_file_or_script_and_never_by_an_argument(
    program: str, arguments: list[str], name: str, never: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "_command", lambda pid: (program, arguments))
    process = Process(9, 1, 1, "short", "S", 1, 0, 0, 1)
    assert programs.program_name(process) == name
    names = programs.program_names(process)
    assert name in names
    assert not names & never
    assert programs.matches(process, (name[:2] + "*",))
    assert not programs.matches(process, tuple(f"*{word}" for word in never))


def test_a_real_script_that_renames_its_main_thread_is_called_by_its_file(tmp_path: Path) -> None:
    script = tmp_path / "bundler-server"
    script.write_text(
        "import ctypes; ctypes.CDLL(None).prctl(15, b'MainThread', 0, 0, 0)\n"
        "print('up', flush=True); input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-I", script, "chrome"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        found = read_process(process.pid)
        assert found
        assert found.name == "MainThread"
        assert programs.program_name(found) == "bundler-server"
        assert not programs.matches(found, ("chrome",))
        process.communicate("\n")
