"""What repairs came to decides between neighbours of one class of risk, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from miyabi_healing.gate.handlers.table import HANDLERS
from miyabi_healing.model.risk import BY_KIND, LOWEST, Risk, highest, risk_of
from miyabi_healing.model.steps import Run, Signal

HERE = Path("/")


def tool(**more: Any) -> Run:
    return Run(target="x", reason="", argv=("true",), time_limit=1, **more)


# Risk


def test_every_kind_of_step_has_a_class() -> None:
    assert set(BY_KIND) == set(HANDLERS)


def test_lowest_class_is_caches_and_closed_logs_alone() -> None:
    lowest = {kind for kind, risk in BY_KIND.items() if risk == LOWEST}
    assert lowest == {"delete", "archive log", "archive logs"}


@pytest.mark.parametrize(
    ("more", "risk"),
    [
        ({"frees_on": HERE}, LOWEST),
        ({"frees_on": HERE, "ends": ((1, 2),)}, Risk.PROCESS),
        ({}, Risk.UNKNOWN),
    ],
)
def test_tool_is_known_by_what_its_step_says(more: dict[str, Any], risk: Risk) -> None:
    assert risk_of(tool(**more)) == risk


def test_plan_is_as_risky_as_its_riskiest_step() -> None:
    signal = Signal(target="x", reason="", pid=1, start=1, signal=15)
    assert highest([tool(frees_on=HERE), signal]) == Risk.PROCESS
    assert highest([]) is None
