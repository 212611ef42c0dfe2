"""``--only`` and ``--skip``, and the names that a shell completes for them."""

from __future__ import annotations

import contextlib

import click
from click.shell_completion import CompletionItem

from miyabi_healing.model.config import Config
from miyabi_healing.runner import choosing, registry
from miyabi_healing.runner.choosing import Choice
from miyabi_healing.support import config_loader


def read_choice(only: tuple[str, ...], skip: tuple[str, ...]) -> Choice:
    """The checks that were asked for. Raises UsageError where no name was given."""
    found = Choice(choosing.split_names(only), choosing.split_names(skip))
    for option, given, names in (("--only", only, found.only), ("--skip", skip, found.skip)):
        if given and not names:
            raise click.UsageError(f"{option} wants the name of a check or healer; 'list' has them")
    return found


def validate_choice(choice: Choice, settings: Config, checks: tuple[str, ...]) -> None:
    """Refuse names that are none before anything is run, queued or sent: a slip of the pen is
    nobody's alarm. Raises UsageError, ConfigError.
    """
    try:
        choosing.choose(choice, registry.checks_folders(settings, checks), settings)
    except choosing.UnknownName as error:
        raise click.UsageError(str(error)) from None


def complete_names(
    context: click.Context, _parameter: click.Parameter, text: str
) -> list[CompletionItem]:
    """The names of checks and healers that go on with what was typed, also after a comma."""
    from miyabi_healing.runner.check_sources import check_sources, healer_sources

    root = context.find_root().params
    before, comma, word = text.rpartition(",")
    found: dict[str, str] = {}
    with contextlib.suppress(Exception):  # a shell is told nothing by a traceback
        settings = config_loader.load_config(root.get("config_file"))
        where = registry.checks_folders(settings, tuple(root.get("checks") or ()))
        found |= {each.name: each.doc.splitlines()[0] for each in check_sources(where) if each.doc}
        found |= {each.name: "healer" for each in healer_sources(where)}
    return [
        CompletionItem(f"{before}{comma}{name}", help=words)
        for name, words in sorted(found.items())
        if name.startswith(word)
    ]
