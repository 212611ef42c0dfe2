"""All topics, or those named: ``python -m benchmarks [TOPIC ...]``."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from benchmarks import harness

AROUND = (
    *("early", "forecast", "harness", "launch", "learning", "ours", "__main__"),
    *("fleet_costs", "fleet_faults", "fleet_hosts", "fleet_judge", "fleet_world"),
)


def topics() -> dict[str, harness.Topic]:
    """Every module beside this one that measures something; each has a generator called
    ``cases``.
    """
    names = sorted(
        module.name
        for module in pkgutil.iter_modules([str(Path(__file__).parent)])
        if module.name not in AROUND
    )
    return {name: importlib.import_module(f"benchmarks.{name}").cases for name in names}


if __name__ == "__main__":
    harness.main(topics())
