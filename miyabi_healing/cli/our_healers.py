"""What a healer of ours would do, and with which options, for commands that explain it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from miyabi_healing.cli.common import Refusal
from miyabi_healing.cli.common import reading as read_journal
from miyabi_healing.model.config import Config, ConfigError
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.runner import registry
from miyabi_healing.support import paths

if TYPE_CHECKING:
    from miyabi_healing.model.plan import Plan


def options_of(config: Config, name: str) -> Any:
    """The options of one of our healers, as configured. Raises Refusal."""
    kind = registry.load_healer(name, registry.builtin("healers") / f"{name}.py")[1]
    try:
        return registry.options(config, name, kind)
    except ConfigError as error:
        raise Refusal(str(error), ExitCode.USAGE) from None


def planned(config: Config, name: str, reading: object) -> Plan:
    """What one of our healers would do about one reading; nothing is done. Raises Refusal."""
    from miyabi_healing.host.context import HealerContext
    from miyabi_healing.host.readings import Host
    from miyabi_healing.model.issue import Issue, Limit

    healer, _kind = registry.load_healer(name, registry.builtin("healers") / f"{name}.py")
    context = HealerContext(Host(config), {"reading": reading}, seen_for=lambda: _seen_for(name))
    return healer(context, Issue(name, "", "", 0, Limit(0)), options_of(config, name))


def _seen_for(name: str) -> dict[str, float]:
    """For how long there has been what a healer waits for, as runs have seen."""
    from miyabi_healing.state import sightings

    with read_journal(paths.state_folder()) as journal:
        return sightings.seen_for(journal, name) if journal else {}
