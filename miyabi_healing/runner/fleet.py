"""The host's part of a fleet: a run that was asked for twice is made once, and one of a coordinator
that was replaced is not made at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.state import fleet_runs

if TYPE_CHECKING:
    from miyabi_healing.model.fleet import FleetOrder
    from miyabi_healing.report.document_types import Document
    from miyabi_healing.runner.resources import Resources
    from miyabi_healing.runner.selection import Launch


def admit(launch: Launch, order: FleetOrder, resources: Resources) -> None:
    """Go on only where this run is to be made; its token counts from here on. Of one that was
    finished before, `launch` is given the report. The run lock is held, so nobody else decides at
    the same time. Raises what ends pytest, sqlite3.Error.
    """
    if resources.looks_only or resources.no_journal:
        return  # such a run changes nothing, and is no answer to the order
    journal = resources.keeper.journal
    if (highest := fleet_runs.superseding(journal, order)) is not None:
        launch.superseded_by = highest
        pytest.exit(
            f"superseded: this host was asked with token {highest} before, and {order.token} is "
            f"lower; it takes {highest} or more",
            returncode=ExitCode.BUSY,
        )
    fleet_runs.raise_token(journal, order)
    if found := fleet_runs.finished(journal, order.label):
        launch.again = cast("Document", {**found, "again": True})
        pytest.exit("this run was finished before", returncode=ExitCode.BUSY)
    resources.fleet = order
