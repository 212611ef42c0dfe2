"""``fleet``: the commands about many hosts, each loaded when somebody asks for it."""

from __future__ import annotations

from typing import ClassVar

import click

from miyabi_healing.cli.command_table import LazyCommands


class _FleetCommands(LazyCommands):
    modules: ClassVar = {
        "heal": "fleet.heal",
        "resume": "fleet.resume",
        "status": "fleet.status",
        "stop": "fleet.stop",
    }


@click.group(cls=_FleetCommands)
def fleet() -> None:
    """Heal many hosts, in waves."""
