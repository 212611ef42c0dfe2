"""What a rollout comes to."""

from __future__ import annotations

from collections.abc import Mapping

from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.rollout import HostState

# Nobody can say that these hosts are well, nor what is wrong with them.
_NOT_KNOWN = frozenset(HostState) - {HostState.WELL, HostState.ISSUES}


def exit_status_of(counts: Mapping[HostState, int], stopped: bool) -> ExitCode:
    """The exit status of a rollout by how many hosts are in each state; the first that holds of:
    stopped by a rule or by somebody, some hosts not known, issues remain, well. A rollout of no
    hosts has shown nothing.
    """
    if stopped:
        return ExitCode.STOPPED
    found = {state for state, number in counts.items() if number}
    if not found or found & _NOT_KNOWN:
        return ExitCode.UNKNOWN
    return ExitCode.ISSUES if HostState.ISSUES in found else ExitCode.HEALTHY
