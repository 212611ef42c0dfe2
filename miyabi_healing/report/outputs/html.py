"""The page of every run in a file, for a browser: its last state, and the time before it."""

from __future__ import annotations

import os
from pathlib import Path

from miyabi_healing.report.outputs.output import OutputError, OutputRequest
from miyabi_healing.report.page import making
from miyabi_healing.support import mount_answers, paths


def send(given: OutputRequest) -> None:
    """Write the page anew. Raises OutputError, NoAnswer."""
    state = paths.state_folder()
    mount_answers.check(state)
    path = Path(os.path.expanduser(given.settings.report.html))
    try:
        making.write_page(path, making.make_page(state, given.settings, given.document))
    except making.CannotWrite as error:
        raise OutputError(str(error)) from None
