"""What an installed program brings for shells and for man: the program's own options, in a form
that shells and man accept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from program import run

from conftest import PROJECT
from miyabi_healing.cli.completion import completion_script
from miyabi_healing.cli.main import command

SHARE = PROJECT / "deploy" / "share"
PAGE = SHARE / "man" / "man1" / "miyabi-healing.1"
FILES = {
    "bash": SHARE / "bash-completion" / "completions" / "miyabi-healing",
    "zsh": SHARE / "zsh" / "site-functions" / "_miyabi-healing",
    "fish": SHARE / "fish" / "vendor_completions.d" / "miyabi-healing.fish",
}
BASH = """
source "$1"
COMP_WORDS=(miyabi-healing $2); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_miyabi_healing_completion miyabi-healing
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
typeset -A functions_given; compdef() { functions_given[$2]=$1 }
_describe() { print -l -- ${(P)3} }
compadd() { print -l -- ${(P)@[-1]} }
source $1
words=(miyabi-healing ${=2}); CURRENT=$#words
${functions_given[miyabi-healing]}
"""


@pytest.fixture
def shell(home: Path) -> dict[str, str]:
    """An environment in which the program is installed."""
    folder = home / "bin"
    folder.mkdir()
    (folder / "miyabi-healing").write_text(
        f'#!/bin/sh\nexec "{sys.executable}" "{PROJECT}/self_healer.py" "$@"\n'
    )
    (folder / "miyabi-healing").chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(home),
        "XDG_DATA_HOME": str(home),
    }


def ask(name: str, words: str, env: dict[str, str]) -> str:
    """What a shell offers after some words."""
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    argv = {
        "bash": ["bash", "--norc", "-c", BASH, "bash", str(FILES["bash"]), words],
        "zsh": ["zsh", "-f", "-c", ZSH, "zsh", str(FILES["zsh"]), words],
        "fish": [
            "fish",
            "--no-config",
            "-c",
            f"source '{FILES['fish']}'; complete --do-complete 'miyabi-healing {words}'",
        ],
    }[name]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", sorted(FILES))
def test_shells_complete_commands_options_and_kinds(name: str, shell: dict[str, str]) -> None:
    assert "install" in ask(name, "inst", shell)
    assert "rollback" not in ask(name, "inst", shell)
    assert "--dry-run" in ask(name, "--dry", shell)
    assert "systemd-watch" in ask(name, "install --kind systemd-w", shell)
    assert "purge" in ask(name, "quarantine pu", shell)


@pytest.mark.parametrize("name", sorted(FILES))
def test_completion_is_printed_as_it_is_shipped(name: str) -> None:
    assert (
        run("completion", name).stdout
        == FILES[name].read_text()
        == completion_script(name, command)
    )


def test_completion_for_an_unknown_shell_is_a_usage_error() -> None:
    assert run("completion", "csh").returncode == 2


def everything(
    each: click.Command, parent: click.Context | None = None
) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(
        each,
        info_name=each.name if parent else "miyabi-healing",
        parent=parent,
        **each.context_settings,
    )
    yield context.command_path, each
    if isinstance(each, click.Group):
        for below in each.commands.values():
            yield from everything(below, context)


def test_manual_has_every_command_and_every_option() -> None:
    text = PAGE.read_text().replace("\\-", "-")
    for path, each in everything(command):
        title = path.removeprefix("miyabi-healing").strip()
        assert not title or f".SS {title} " in text
        part = (
            text.split(f".SS {title} ")[1].split(".SS ")[0]
            if title
            else text.split(".SH COMMANDS")[0]
        )
        names = [
            name
            for option in each.params
            if isinstance(option, click.Option)
            for name in option.opts
        ]
        assert [name for name in names if f"\\fB{name}\\fR" not in part] == []


@pytest.mark.parametrize(
    "argv",
    [
        ("mandoc", "-T", "lint", "-W", "warning"),
        ("groff", "-man", "-ww", "-z", "-K", "utf8"),
        ("man", "--warnings", "-l"),
    ],
    ids=lambda argv: str(argv[0]),
)
def test_manual_is_what_man_accepts(argv: tuple[str, ...]) -> None:
    if not shutil.which(argv[0]):
        pytest.skip(f"{argv[0]} is not installed")
    done = subprocess.run(
        [*argv, str(PAGE)],
        env={**os.environ, "MANPAGER": "cat", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert argv[0] == "man" or done.stdout == ""
