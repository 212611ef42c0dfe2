"""``hooks``: have a run made when an agent's session has ended, or after a merge."""

from __future__ import annotations

import difflib
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from miyabi_healing.cli.common import CommandContext, Refusal, as_json, dry_run
from miyabi_healing.cli.setup import hook_files
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.support import config_loader
from miyabi_healing.support.files import is_within
from miyabi_healing.support.formatting import display

_Hook = click.argument("kind", metavar="claude|codex|git", type=click.Choice(hook_files.KINDS))
_Repo = click.option(
    "--repo", type=click.Path(), metavar="DIR", default=".", show_default="the current folder",
    help="The repository that git's hook is for.",
)  # fmt: skip
_Yes = click.option("-y", "--yes", is_flag=True, help="Do not ask; needed without a terminal.")


@dataclass(frozen=True)
class HookFile:
    """The file that a hook is in, without links, and what it holds; None where it is not there."""

    path: Path
    data: bytes | None
    mode: int

    @property
    def has_ours(self) -> bool:
        return self.data is not None and hook_files.MARKER.encode() in self.data


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
    file = find_file(kind, repo)
    after = _edited(file, lambda: hook_files.with_hook(kind, file.data, words, look_only))
    if after == file.data:
        click.echo(f"It is installed already: {display(file.path)}")
        return
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
    file = find_file(kind, repo)
    if not file.has_ours:
        click.echo(f"It is not installed in {display(file.path)}")
        return
    _change(file, file_without_hook(kind, file), yes, dry_run or given.dry_run)


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
        except Refusal as refusal:
            where, there, why = "", False, refusal.message
        rows.append({"kind": kind, "file": where, "installed": there, "why": why})
    if as_json or given.as_json:
        click.echo(json.dumps({"hooks": rows}, indent=2))
        return
    for row in rows:
        state = "installed" if row["installed"] else "not installed"
        click.echo(f"{row['kind']:<8}{state:<15}{display(row['file'] or row['why'])}")


def find_file(kind: str, repo: str) -> HookFile:
    """The file of a kind of hook as it is now. Raises Refusal where it cannot, or must not, be
    written.
    """
    path = _git_hook(Path(repo)) if kind == "git" else _agent_file(kind)
    try:
        where = path.resolve()
        status = where.stat() if where.exists() else None
        if status and not stat.S_ISREG(status.st_mode):
            raise Refusal(f"{display(path)} is no regular file", ExitCode.USAGE)
        owner = (status or _above(where).stat()).st_uid
        if owner != os.geteuid():
            raise Refusal(f"{display(where)} is not yours: run this as its owner", ExitCode.USAGE)
        data = where.read_bytes() if status else None
    except (OSError, RuntimeError) as error:  # a circle of links
        raise Refusal(f"{display(path)}: {error}", ExitCode.USAGE) from None
    if kind == "git" and status and not status.st_mode & stat.S_IXUSR:
        raise Refusal(
            f"{display(where)} is not executable, so git never runs it: chmod +x, or move it away",
            ExitCode.USAGE,
        )
    new = 0o755 if kind == "git" else 0o600
    return HookFile(where, data, stat.S_IMODE(status.st_mode) if status else new)


def file_without_hook(kind: str, file: HookFile) -> bytes | None:
    """What a file is without our hook; None where it goes. Raises Refusal."""
    data = file.data or b""
    return _edited(file, lambda: hook_files.without_hook(kind, data))


def _edited(file: HookFile, edit: Callable[[], bytes | None]) -> bytes | None:
    try:
        return edit()
    except hook_files.Unwritable as error:
        raise Refusal(f"{display(file.path)}{error}", ExitCode.USAGE) from None


def _agent_file(kind: str) -> Path:
    """An agent's own settings, where it reads them from. Raises Refusal where it was never used."""
    variable, usual, name = {
        "claude": ("CLAUDE_CONFIG_DIR", ".claude", "settings.json"),
        "codex": ("CODEX_HOME", ".codex", "config.toml"),
    }[kind]
    folder = Path(os.environ.get(variable) or Path.home() / usual)
    if not folder.is_dir():
        raise Refusal(f"there is no {display(folder)}: start {kind} once", ExitCode.USAGE)
    return folder / name


def _git_hook(repo: Path) -> Path:
    """Where git looks for the hook (core.hooksPath; that of the main worktree in linked ones).
    Raises Refusal.
    """
    from miyabi_healing.support import command_errors, commands

    asked = ("--path-format=absolute", "--git-common-dir", "--git-path", "hooks", "--show-cdup")
    try:
        result = commands.run_program(
            ("git", "rev-parse", *asked), time_limit=20, cwd=repo.absolute()
        )
    except (command_errors.ToolError, OSError) as error:
        raise Refusal(f"{display(repo)}: {error}", ExitCode.USAGE) from None
    if result.code:
        raise Refusal(f"{display(repo)}: {result.complaint}", ExitCode.USAGE)
    common, folder, up = map(os.fsdecode, result.stdout.split(b"\n")[:3])
    top = os.path.realpath(repo / up)
    if is_within(os.path.realpath(folder), top) and not is_within(folder, common):
        raise Refusal(
            f"{display(folder)} (core.hooksPath) is part of the project: whoever clones it would "
            "have the hook",
            ExitCode.USAGE,
        )
    return Path(folder) / hook_files.GIT_HOOK


def _above(path: Path) -> Path:
    return next(each for each in path.parents if each.is_dir())


def difference(file: HookFile, after: bytes | None) -> Iterator[str]:
    """What changes in a file, as ``diff -u`` has it."""
    before, then = (
        (data or b"").decode("utf-8", "replace").splitlines() for data in (file.data, after)
    )
    name = display(file.path)
    names = (
        "/dev/null" if file.data is None else name, "/dev/null" if after is None else name
    )  # fmt: skip
    yield from map(display, difflib.unified_diff(before, then, *names, lineterm=""))


def _change(file: HookFile, after: bytes | None, yes: bool, dry_run: bool) -> None:
    """Show it, ask, and do it. Raises Refusal."""
    for line in difference(file, after):
        click.echo(line)
    if dry_run:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise Refusal("nothing was changed: without a terminal it needs --yes", ExitCode.USAGE)
        if not click.confirm("Write this?"):
            raise Refusal("nothing was changed", ExitCode.ISSUES)
    write_file(file, after)
    click.echo(f"{'Removed' if after is None else 'Wrote'} {display(file.path)}")


def write_file(file: HookFile, after: bytes | None) -> None:
    """Put it in place, or remove it, if it is still what was shown. Raises Refusal."""
    from miyabi_healing.support import atomic_write

    try:
        now = file.path.read_bytes() if file.path.exists() else None
        if now != file.data:
            raise Refusal(f"{display(file.path)} has changed meanwhile; try again", ExitCode.ISSUES)
        if after is None:
            atomic_write.remove_file(file.path)
        else:
            atomic_write.replace(file.path, after, mode=file.mode)
    except OSError as error:
        raise Refusal(f"{display(file.path)}: {error.strerror}", ExitCode.ISSUES) from None
