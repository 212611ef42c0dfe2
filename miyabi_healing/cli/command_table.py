"""The commands, each loaded when somebody asks for it, and the types of a run's options."""

from __future__ import annotations

import importlib
import os
import re
from typing import TYPE_CHECKING, ClassVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_INTERVAL = 300.0  # seconds between two runs of --watch


class LazyCommands(click.Group):
    """Loads a subcommand when somebody asks for it: a run needs none."""

    # The module of each command, and what the command is called in it where that is another word.
    modules: ClassVar = {
        "completion": "completion",
        "config": "configuration:configuration",
        "doctor": "doctor",
        "explain": "explain",
        "fleet": "fleet.group:fleet",
        "history": "history",
        "hooks": "hooks",
        "init": "init",
        "install": "install",
        "learning": "learning",
        "list": "listing:list_all",
        "pause": "pause",
        "predict": "predict",
        "quarantine": "quarantine",
        "report": "report",
        "resume": "pause",
        "rollback": "rollback",
        "show": "show",
        "space": "space",
        "status": "status",
        "uninstall": "uninstall",
        "why": "why",
        "worktrees": "worktrees",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.modules)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each with the first words of its help, up to where they may end: none cut short."""
        rows = []
        for name in self.list_commands(ctx):
            found = self.get_command(ctx, name)
            words = " ".join(((found.help if found else "") or "").split())
            rows.append((name, re.split(r"[.:;](?: |$)", words)[0]))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in self.modules or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        from miyabi_healing.support.near_matches import did_you_mean

        raise click.UsageError(f"No such command {name!r}; {did_you_mean(name, self.modules)}", ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.modules:
            return None
        module, _, name = self.modules[cmd_name].partition(":")
        found: click.Command = getattr(
            importlib.import_module(f"miyabi_healing.cli.{module}"), name or cmd_name
        )
        return found


def interval_seconds(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """An interval as it was given. Raises UsageError where there is nothing to repeat."""
    if context.get_parameter_source("interval") == ParameterSource.DEFAULT:
        return _INTERVAL
    from miyabi_healing.cli.common import Duration

    return Duration(plain_seconds=True).convert(value, parameter, context)


def complete_check_names(
    context: click.Context, parameter: click.Parameter, text: str
) -> list[CompletionItem]:
    """What a shell completes ``--only`` and ``--skip`` with."""
    from miyabi_healing.cli.choice import complete_names

    return complete_names(context, parameter, text)


class AnyPath(click.Path):
    """A path that is not looked at, as click would: it may lie on a mount that does not answer."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        return os.fspath(value)
