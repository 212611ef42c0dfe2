"""``--if-predicted``: no run while a failure predictor says that the host is healthy."""

from __future__ import annotations

import click

from miyabi_healing.model.outlook import HEALTHY
from miyabi_healing.support import console
from miyabi_healing.support.formatting import display
from miyabi_healing.support.predicted_health import STDIN, NotKnown, read_health


def is_needless(name: str, *, quiet: bool, as_json: bool) -> bool:
    """Whether a run is: the document in the file of that name says so, which is said, unless it is
    to be `quiet`. Where nothing is known from it a run is made as ever, and standard error has why.
    """
    where = "standard input" if name == STDIN else display(name)
    try:
        health = read_health(name)
    except NotKnown as error:
        console.complain(f"--if-predicted {where}: {error}; healing as usual")
        return False
    if health != HEALTHY:
        return False
    words = f"{where} says healthy: no run was made"
    if as_json:
        console.complain(words, console.NOTICE)
    elif not quiet:
        click.echo(f"{words}.")
    return True
