"""``completion``: what makes a shell complete options and commands."""

from __future__ import annotations

import click

from miyabi_healing.cli.setup import service_units
from miyabi_healing.support.invocation import COMPLETE_VARIABLE

_SHELLS = ("bash", "zsh", "fish")


def completion_script(shell: str, command: click.Command) -> str:
    """What makes a shell complete our options and commands: click's own, for the program's
    installed name.
    """
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(f"click knows no shell {shell!r}")
    # The class's own source() would start bash to see how old it is.
    return ShellComplete.source(kind(command, {}, service_units.UNIT_NAME, COMPLETE_VARIABLE))


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete options and commands: eval "$(miyabi-healing completion
    bash)".
    """
    click.echo(completion_script(shell, context.find_root().command), nl=False)
