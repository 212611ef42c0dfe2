"""``uninstall``: remove what this program has made on this host, and nothing else."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from miyabi_healing.cli.common import (
    CommandContext,
    Refusal,
    dry_run,
    make_context,
    settings,
    writing,
)
from miyabi_healing.model import config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.state import run_lock
from miyabi_healing.support import console, mount_answers, paths
from miyabi_healing.support.formatting import display, size_text
from miyabi_healing.support.invocation import own_command

if TYPE_CHECKING:
    from miyabi_healing.cli.setup.hook_places import HookFile
    from miyabi_healing.cli.setup.removal import StateFolder
    from miyabi_healing.cli.setup.service_steps import ServiceStep
    from miyabi_healing.state.quarantine import QuarantineEntry

_WATCH_UNIT = f"{paths.NAME}-watch.service"


@dataclass(frozen=True)
class _Found:
    """All that is there to be removed. `hooks` are their files, and what is left of each
    without ours.
    """

    services: tuple[tuple[bool, Sequence[ServiceStep]], ...]
    hooks: tuple[tuple[HookFile, bytes | None], ...]
    files: tuple[Path, ...]
    quarantine: tuple[QuarantineEntry, ...]
    states: tuple[StateFolder, ...]
    environments: tuple[Path, ...]


@click.command()
@click.option(
    "--with-quarantine", is_flag=True, help="Also what is in quarantine: it is lost for good."
)
@click.option(
    "--system/--user",
    default=None,
    help="Services of the whole system, or only your own.  [default: by who asks]",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask; needed without a terminal.")
@dry_run
@click.pass_obj
def uninstall(
    given: CommandContext, with_quarantine: bool, system: bool | None, yes: bool, dry_run: bool
) -> None:
    """Remove what was made on this host: services, hooks, journal, quarantine, environment.

    It is shown first. Your configuration and the program itself stay, and are named. While
    something is in quarantine, nothing is removed without --with-quarantine.
    """
    system = os.geteuid() == 0 if system is None else system
    if system and os.geteuid() != 0:
        raise Refusal("only root can remove what the system has; --user is yours", ExitCode.USAGE)
    chosen = config.Config()
    try:
        chosen = settings(given)
    except Refusal as refusal:  # all the rest has to go, whatever it has become
        console.complain(f"{refusal.message}; what it names is not looked for")
    state = paths.state_folder()
    if run_lock.is_held(state):
        raise Refusal("another run is at work; try again when it has ended", ExitCode.BUSY)
    found = _look(chosen, system)
    lines = _told(found)
    if not lines:
        click.echo("There is nothing to remove.")
    for line in lines:
        click.echo(line)
    _require_no_loss(found, with_quarantine)
    if lines and not (dry_run or given.dry_run):
        if not yes and not sys.stdin.isatty():
            raise Refusal("nothing was removed: without a terminal it needs --yes", ExitCode.USAGE)
        if not yes and not click.confirm("Remove all this?"):
            raise Refusal("nothing was removed", ExitCode.ISSUES)
    stays = _what_stays(chosen)
    if lines and not (dry_run or given.dry_run):
        _remove(found, chosen)
    for line in stays:
        click.echo(line)


def _require_no_loss(found: _Found, with_quarantine: bool) -> None:
    """Raises Refusal where something in quarantine would be lost, or could not be deleted."""
    from miyabi_healing.state import quarantine

    state, nothing = paths.state_folder(), "nothing was removed"
    if damage := quarantine.damage(state, found.quarantine):
        raise Refusal(f"{damage[0]}; take it away first; {nothing}", ExitCode.ISSUES)
    away = [each for each in quarantine.listed(state)[0] if not each.is_dir()]
    if away and not with_quarantine:
        raise Refusal(
            f"{display(away[0])} is not there now: it may be a quarantine on a disk that is not "
            f"mounted; mount it, or give --with-quarantine, which forgets it; {nothing}",
            ExitCode.ISSUES,
        )
    if found.quarantine and not with_quarantine:
        raise Refusal(
            f"{_counted(found.quarantine)}, are in quarantine and would be lost: "
            f"'{own_command()} quarantine list' shows them, 'rollback RUN' restores them, "
            f"--with-quarantine deletes them; {nothing}",
            ExitCode.ISSUES,
        )


def _counted(held: Sequence[QuarantineEntry]) -> str:
    """How much is in quarantine, by the number that `quarantine list` has."""
    from miyabi_healing.state.quarantine_things import things

    size = size_text(sum(each.bytes for each in held))
    return f"{len(things(held))} thing(s), {size}"


def _look(chosen: config.Config, system: bool) -> _Found:
    """Find it all, without changing anything. Raises Refusal."""
    from miyabi_healing.cli.setup import removal, service, service_trust, service_units
    from miyabi_healing.state import quarantine

    services = []
    try:
        for scope in (False, True) if system else (False,):
            place = service.here(scope)
            steps = service.steps_to_remove(service.removable(place), place)
            services.append((scope, steps))
        states = tuple(removal.state_folders())
    except (service_trust.NotInstalled, service_units.Unusable, removal.NotOurs) as error:
        raise Refusal(str(error), ExitCode.USAGE) from None
    except OSError as error:
        raise Refusal(str(error), ExitCode.UNKNOWN) from None
    stops_watch = any(_WATCH_UNIT in str(step) for _, steps in services for step in steps)
    if not stops_watch:
        _require_no_watch()
    return _Found(
        tuple(each for each in services if each[1]),
        tuple(_hooks(chosen)),
        tuple(_files(chosen)),
        tuple(quarantine.find_entries(paths.state_folder())),
        states,
        tuple(removal.environments()),
    )


def _require_no_watch() -> None:
    """Raises Refusal where a watch would go on, without its state folder."""
    from miyabi_healing.state import watch_presence

    if watch := watch_presence.find_running(paths.state_folder()):
        raise Refusal(f"a watch is at work (process {watch.pid}): end it first", ExitCode.BUSY)


def _hooks(chosen: config.Config) -> list[tuple[HookFile, bytes | None]]:
    """Our hooks: of agents, and of git in the repositories that are looked after. Raises Refusal
    for one that cannot be taken out.
    """
    from miyabi_healing.cli.setup.hook_places import NoHook, file_without_hook, find_file
    from miyabi_healing.host.git import repository_paths

    found: dict[Path, tuple[str, HookFile]] = {}
    repositories = repository_paths.configured(chosen).paths
    for kind, repo in (("claude", ""), ("codex", ""), *(("git", each) for each in repositories)):
        with contextlib.suppress(NoHook):
            file = find_file(kind, repo)
            if file.has_ours:
                found[file.path] = kind, file
    try:
        return [(file, file_without_hook(kind, file)) for kind, file in found.values()]
    except NoHook as problem:
        raise Refusal(f"{problem}; nothing was removed", ExitCode.ISSUES) from None


def _files(chosen: config.Config) -> list[Path]:
    """Single files: the metrics, the page, and fish's completion as `completion` prints it."""
    from miyabi_healing.cli.completion import completion_script
    from miyabi_healing.report.page import making

    root = click.get_current_context().find_root()
    fish = Path.home() / ".config/fish/completions" / f"{paths.NAME}.fish"
    script = completion_script("fish", root.command).encode().strip()
    candidates: list[tuple[str | Path, Callable[[Path], bool]]] = [
        (fish, lambda path: path.read_bytes().strip() == script),
        (chosen.metrics.textfile, _are_metrics),
        (chosen.report.html, making.is_page),
    ]
    found = []
    for name, is_ours in candidates:
        path = Path(os.path.expanduser(name))
        with contextlib.suppress(OSError):
            mount_answers.check(path)
            status = path.lstat()
            mine = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
            found += [path] if mine and is_ours(path) else []
    return found


def _are_metrics(path: Path) -> bool:
    return path.read_bytes().startswith(b"# HELP miyabi_healing_")


def _told(found: _Found) -> list[str]:
    """What would be done, a line each."""
    from miyabi_healing.cli.setup import removal

    lines = [
        next(step.lines()).removesuffix(":").removesuffix(", with")
        for _, steps in found.services
        for step in steps
    ]
    lines += [f"take our hook out of {display(file.path)}" for file, _ in found.hooks]
    lines += [f"remove {display(path)}" for path in found.files]
    if found.quarantine:
        lines.append(f"delete for good what is in quarantine: {_counted(found.quarantine)}")
    for each in found.states:
        kept = f"; not ours, stays: {', '.join(map(display, each.others))}" if each.others else ""
        lines.append(f"remove {display(each.path)}, with the journal{kept}")
    for folder in found.environments:
        reason = removal.environment_objection(folder)
        lines.append(
            f"leave {display(folder)}: it {reason}" if reason else f"remove {display(folder)}"
        )
    return lines


def _what_stays(chosen: config.Config) -> list[str]:
    """What is not for us to remove, and how to do it."""
    lines = []
    if chosen.file:
        lines.append(f"Your configuration stays: {display(chosen.file)}")
    root = paths.PACKAGE.parent
    if (root / "run_healing.sh").is_file():
        lines.append(f"The program stays: {display(root)} is yours to delete.")
    else:
        way = next((each for each in ("pipx", "uv") if f"/{each}/" in sys.prefix), "pip")
        tool = {"pipx": "pipx", "uv": "uv tool"}.get(way, f"{sys.executable} -m pip")
        lines.append(f"The program stays: '{tool} uninstall {paths.NAME}' removes it.")
    return lines


def _remove(found: _Found, chosen: config.Config) -> None:
    """Do it, the program's own environment last. Raises Refusal."""
    from miyabi_healing.cli.setup import removal, service_steps
    from miyabi_healing.cli.setup.hook_places import NoHook, write_file
    from miyabi_healing.state import quarantine
    from miyabi_healing.support import atomic_write

    bases = quarantine.locations(paths.state_folder())
    stayed: list[str] = []
    try:
        for system, steps in found.services:
            for step in service_steps.carry_out_service_steps(steps, system, lambda line: None):
                stayed.append(f"to be run where services are at work: {step}")
        _require_no_watch()
        for file, after in found.hooks:
            write_file(file, after)
        for path in found.files:
            atomic_write.remove_file(path)
        if found.states:
            stayed += _remove_state(found, bases, chosen)
        for folder in found.environments:
            if not removal.environment_objection(folder):
                removal.remove_environment(folder)
    except (service_steps.Failed, NoHook, removal.NotOurs, OSError) as error:
        raise Refusal(f"{error}; what was removed before it is gone", ExitCode.ISSUES) from None
    for line in stayed:
        console.complain(line)
    click.echo("Removed." if not stayed else "Removed, but for what is named above.")


def _remove_state(found: _Found, bases: list[Path], chosen: config.Config) -> list[str]:
    """Empty the quarantine and remove the state folders, while nobody else can begin. Raises
    Refusal, OSError.
    """
    from miyabi_healing.cli.setup import removal
    from miyabi_healing.state import quarantine

    if found.quarantine:
        _purge(chosen)
    state = paths.state_folder()
    try:
        held = run_lock.acquire(state)
    except run_lock.Busy as busy:
        raise Refusal(str(busy), ExitCode.BUSY) from None
    try:
        if left := quarantine.find_entries(state):
            raise Refusal(
                f"{display(left[0].folder)} in quarantine would not go, so the journal stays, too",
                ExitCode.ISSUES,
            )
        return [
            f"not ours, so it stays: {line}"
            for folder in reversed(removal.state_folders())
            for line in removal.remove_state(folder, bases)
        ]
    except removal.NotOurs as error:
        raise Refusal(str(error), ExitCode.ISSUES) from None
    finally:
        run_lock.release(held)


def _purge(chosen: config.Config) -> None:
    """Delete all that is in quarantine, as ``quarantine purge --all`` does. Raises Refusal."""
    from miyabi_healing.gate import batch
    from miyabi_healing.gate.policy import Policy, Spent
    from miyabi_healing.model.actions import StepStatus
    from miyabi_healing.state import quarantine, retention

    context = make_context(chosen)
    with writing(context) as journal:
        policy = Policy(chosen, journal, Spent(chosen.budgets), state=context.state)
        work = batch.Work("by hand", None, config.HealerSettings(), context, journal, policy)
        for entry in quarantine.find_entries(context.state):
            if entry.manifest:
                outcome = batch.one(retention.purge(entry, "uninstall"), work)
                if outcome.status != StepStatus.APPLIED:
                    console.complain(f"{entry.name}: {outcome.message}", console.ERROR)
