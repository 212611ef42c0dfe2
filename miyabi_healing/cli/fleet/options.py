"""What the commands about rollouts share: options, Ansible's arguments, the store, hints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from miyabi_healing.cli.common import Refusal
from miyabi_healing.model import config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.support import paths
from miyabi_healing.support.invocation import own_command, shell_word

if TYPE_CHECKING:
    from miyabi_healing.fleet.ansible_worker import AnsibleWorker
    from miyabi_healing.fleet.store import FleetStore

STORE_FILE = "fleet.sqlite3"  # in the state folder
_ARGUMENTS = "miyabi_healing.ansible_arguments"
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _checked_store(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """As in a configuration: everybody sees arguments, and commands to go on repeat them."""
    from miyabi_healing.model.conninfo import store_objection

    if value and (reason := store_objection(value)):
        raise click.BadParameter(reason)
    return value


store_option = click.option(
    "--store", metavar="DSN", callback=_checked_store,
    help="Where coordinators meet, as libpq's connection string; [fleet] store.",
)  # fmt: skip

as_json_lines = click.option(
    "-j", "--json", "as_json", is_flag=True,
    help="Print the report as JSON lines, as --report writes it.",
)  # fmt: skip


def hosts_options(function: _Function) -> _Function:
    """How hosts are reached, for those commands that do."""
    for each in (
        click.option(
            "--no-wait", is_flag=True,
            help="End with 75 where all that is left is in the hands of other coordinators.",
        ),
        click.option(
            "--report", type=click.Path(path_type=Path), metavar="FILE",
            help="Write the report there: JSON lines, a head and a line for each host.",
        ),
        click.option(
            "--executable", metavar="PATH", help="The program on the hosts: a path, or its name."
        ),
        click.option(
            "--inventory", metavar="FILE",
            help="Ansible's inventory; [fleet] inventory, else what Ansible's own settings name.",
        ),
    ):  # fmt: skip
        function = each(function)
    return store_option(function)


class AnsibleCommand(click.Command):
    """A command that takes what stands behind ``--`` for ansible-playbook."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            place = args.index("--")
            ctx.meta[_ARGUMENTS] = tuple(args[place + 1 :])
            args = args[:place]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ANSIBLE...]"]


def ansible_arguments(context: click.Context) -> tuple[str, ...]:
    """What stood behind ``--``. Raises UsageError for what would make hosts say what is not so."""
    found: tuple[str, ...] = context.meta.get(_ARGUMENTS, ())
    if not {"-C", "--check"}.isdisjoint(found):
        raise click.UsageError("hosts would only plan, and count as healed: that is --dry-run")
    return found


def make_worker(
    chosen: config.Config, inventory: str | None, executable: str | None,
    arguments: tuple[str, ...], check: bool = False,
) -> AnsibleWorker:  # fmt: skip
    """What asks hosts, as it is set."""
    from miyabi_healing.fleet.ansible_worker import AnsibleWorker

    return AnsibleWorker(inventory or chosen.fleet.inventory, executable or "", check, arguments)


@contextlib.contextmanager
def opened_store(
    chosen: config.Config, store: str | None, *, lease: float = 30
) -> Iterator[FleetStore]:
    """The store that is meant; what goes wrong with it ends the command. Raises Refusal."""
    from miyabi_healing.fleet.open_store import open_store
    from miyabi_healing.fleet.store import Led, StoreError

    where, file = store or chosen.fleet.store, paths.state_folder() / STORE_FILE
    try:
        with contextlib.closing(open_store(where, file, lease=lease)) as found:
            yield found
    except Led as error:
        raise Refusal(str(error), ExitCode.BUSY) from None
    except StoreError as error:
        raise Refusal(str(error), ExitCode.UNKNOWN) from None


def reaching(
    inventory: str | None,
    executable: str | None,
    store: str | None,
    arguments: tuple[str, ...] = (),
    report: Path | None = None,
) -> str:
    """The options by which hosts and store are reached, and what goes to which file, as they were
    given.
    """
    given = {"--store": store, "--inventory": inventory, "--executable": executable}
    words = [f"{name} {shell_word(value)}" for name, value in given.items() if value]
    if report is not None:
        words.append(f"--report {shell_word(str(report))}")
    if arguments:
        words += ["--", *map(shell_word, arguments)]
    return " ".join(words)


def next_options(chosen: config.Config, store: str | None) -> tuple[str, str]:
    """The `options` and `where` of `wording.next_steps`, where no inventory was named."""
    where = reaching(None, None, store)
    inventory = "" if chosen.fleet.inventory else "--inventory FILE"
    return f"{where} {inventory}".strip(), where


def resume_command(label: str, options: str) -> str:
    """What goes on with a rollout, as it can be typed."""
    return f"{own_command()} fleet resume {shell_word(label)} {options}".rstrip()


def unknown_label(store: FleetStore, label: str) -> Refusal:
    """There is no such rollout: what else could be meant."""
    from miyabi_healing.support.near_matches import did_you_mean

    known = [each.label for each in store.standings()]
    return Refusal(f"there is no rollout {label!r}; {did_you_mean(label, known)}", ExitCode.USAGE)
