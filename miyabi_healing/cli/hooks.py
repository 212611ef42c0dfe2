"""``hooks``: have a run made when an agent's session has ended, or after a merge."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import sys
from collections.abc import Iterator

import click

from miyabi_healing.cli.common import CommandContext, Refusal, as_json, dry_run
from miyabi_healing.cli.setup import hook_files
from miyabi_healing.cli.setup.hook_places import (
    HookFile,
    NoHook,
    edited,
    file_without_hook,
    find_file,
    write_file,
)
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.support import config_loader
from miyabi_healing.support.formatting import display

_Hook = click.argument("kind", metavar="claude|codex|git", type=click.Choice(hook_files.KINDS))
_Repo = click.option(
    "--repo", type=click.Path(), metavar="DIR", default=".", show_default="the current folder",
    help="The repository that git's hook is for.",
)  # fmt: skip
_Yes = click.option("-y", "--yes", is_flag=True, help="Do not ask; needed without a terminal.")


@click.group()
def hooks() -> None:
    """Have a run made in the background when a session of Claude Code or Codex has ended, or after
    a merge in a git repository.
    """


@hooks.command("install")
@_Hook
@_Repo
@click.option("--look-only", is_flag=True, help="The runs are dry: they change nothing.")
@_Yes
@dry_run
@click.pass_obj
def _install_hook(
    given: CommandContext, kind: str, repo: str, look_only: bool, yes: bool, dry_run: bool
) -> None:
    """Add the hook to the agent's settings, or to git's post-merge hook.

    What is written is shown first. Everything else in the file stays, byte for byte.
    """
    from miyabi_healing.cli.setup import service, service_trust

    config_file = given.config_file or os.environ.get(config_loader.VARIABLE)
    words = service.program(config_file)
    for doubt in service_trust.untrusted_programs(words, system=False)[:1]:
        click.echo(f"miyabi-healing: warning: {doubt}", err=True)
    with _refusing():
        file = find_file(kind, repo)
        after = edited(file, lambda: hook_files.with_hook(kind, file.data, words, look_only))
    if after == file.data:
        click.echo(f"It is installed already: {display(file.path)}")
        return
    if file.shared:
        click.echo(
            f"{display(file.path.parent)} (core.hooksPath) is not this repository's alone: a merge "
            "in any that uses it has a run made."
        )
    _change(file, after, yes, dry_run or given.dry_run)
    if kind == "codex" and not (dry_run or given.dry_run):
        click.echo("Codex starts no new hook before you trust it: type /hooks in it once.")


@hooks.command("remove")
@_Hook
@_Repo
@_Yes
@dry_run
@click.pass_obj
def _remove_hook(given: CommandContext, kind: str, repo: str, yes: bool, dry_run: bool) -> None:
    """Take the hook out again: the file is as it was, or gone if it was made for the hook."""
    with _refusing():
        file = find_file(kind, repo)
        after = file_without_hook(kind, file)
    if not file.has_ours:
        click.echo(f"It is not installed in {display(file.path)}")
        return
    _change(file, after, yes, dry_run or given.dry_run)


@hooks.command("list")
@_Repo
@as_json
@click.pass_obj
def _list_hooks(given: CommandContext, repo: str, as_json: bool) -> None:
    """Show which hooks are installed, and where."""
    rows = []
    for kind in hook_files.KINDS:
        try:
            file = find_file(kind, repo)
            where, there, why = str(file.path), file.has_ours, ""
        except NoHook as problem:
            where, there, why = "", False, str(problem)
        rows.append({"kind": kind, "file": where, "installed": there, "why": why})
    if as_json or given.as_json:
        click.echo(json.dumps({"hooks": rows}, indent=2))
        return
    for row in rows:
        state = "installed" if row["installed"] else "not installed"
        click.echo(f"{row['kind']:<8}{state:<15}{display(row['file'] or row['why'])}")


@contextlib.contextmanager
def _refusing(code: int = ExitCode.USAGE) -> Iterator[None]:
    try:
        yield
    except NoHook as problem:
        raise Refusal(str(problem), code) from None


def _difference(file: HookFile, after: bytes | None) -> Iterator[str]:
    """What changes in a file, as ``diff -u`` has it."""
    before, then = (
        (data or b"").decode("utf-8", "replace").splitlines() for data in (file.data, after)
    )
    old, new = ("/dev/null" if data is None else display(file.path) for data in (file.data, after))
    yield from map(display, difflib.unified_diff(before, then, old, new, lineterm=""))


def _change(file: HookFile, after: bytes | None, yes: bool, dry_run: bool) -> None:
    """Show it, ask, and do it. Raises Refusal."""
    for line in _difference(file, after):
        click.echo(line)
    if dry_run:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise Refusal("nothing was changed: without a terminal it needs --yes", ExitCode.USAGE)
        if not click.confirm("Write this?"):
            raise Refusal("nothing was changed", ExitCode.ISSUES)
    with _refusing(ExitCode.ISSUES):
        write_file(file, after)
    click.echo(f"{'Removed' if after is None else 'Wrote'} {display(file.path)}")
