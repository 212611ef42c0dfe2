"""What a healer of ours would do, and with which options, for commands that explain it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from miyabi_healing.cli.common import Refusal
from miyabi_healing.model.config import Config, ConfigError
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.runner import registry

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
    context = HealerContext(Host(config), {"reading": reading})
    return healer(context, Issue(name, "", "", 0, Limit(0)), options_of(config, name))
