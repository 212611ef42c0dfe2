"""The house: which folder of the package may import which, and that nothing goes round in a
circle.
"""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from conftest import PROJECT

PACKAGE = PROJECT / "miyabi_healing"
# Each room, and the rooms that it may import from; imports for types alone count too.
ROOMS: dict[str, set[str]] = {
    "model": set(),
    "foresight": {"model"},
    "support": {"model"},
    "state": {"model", "support"},
    "host": {"model", "support", "state"},
    "gate": {"model", "support", "state", "host"},
    "report": {"model", "support", "state", "foresight"},
    "fleet": {"model", "support", "report"},
    "runner": {"model", "support", "state", "host", "gate", "report", "foresight"},
    "cli": {"model", "support", "state", "host", "gate", "report", "runner", "foresight", "fleet"},
}
MOST_FLOORS = 8
# Rooms that name what others may call: all else in them is nobody's business.
SPEAKS = {"foresight": {"Forecast", "forecast"}}


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name without the package's own."""
    files = (file for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE)
    found = {".".join(file.relative_to(PACKAGE).with_suffix("").parts): file for file in files}
    return {name.removesuffix(".__init__"): file for name, file in found.items()}


@cache
def imports(name: str) -> frozenset[str]:
    """The modules of the package that a module imports, anywhere in it."""
    inside = {each.removeprefix("miyabi_healing.") for each in imported_by(modules()[name])}
    return frozenset(
        each
        for each in inside - {name}
        if each in modules() and modules()[each].name != "__init__.py"
    )


def imported_by(file: Path) -> set[str]:
    """All that a file imports, with the names that it takes from there."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            found |= {node.module or "", *(f"{node.module}.{each.name}" for each in node.names)}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
    return found


def modules_of(name: str) -> set[str]:
    return {f"miyabi_healing.{each}" for each in modules() if each.startswith(f"{name}.")}


def room(name: str) -> str:
    return name.partition(".")[0]


def test_every_module_is_in_a_room() -> None:
    assert {room(name) for name in modules()} - {"checks", "healers"} == set(ROOMS)
    top = {file.name for file in PACKAGE.glob("*.py")}
    assert top == {"__init__.py", "__main__.py", "api.py"}


def test_nothing_in_the_package_imports_what_authors_import() -> None:
    """It stands above all rooms: whoever is in one imports from the other rooms directly."""
    for file in PACKAGE.rglob("*.py"):
        if file.parent.name != "healers":
            assert "miyabi_healing.api" not in imported_by(file), file


@pytest.mark.parametrize("name", sorted(modules()))
def test_no_arrow_points_up(name: str) -> None:
    up = {each for each in imports(name) if room(each) not in ROOMS[room(name)] | {room(name)}}
    assert not up, f"{name} may not import {', '.join(sorted(up))}"


def test_nothing_goes_round_in_a_circle() -> None:
    try:
        TopologicalSorter({name: imports(name) for name in modules()}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_there_are_at_most_eight_floors() -> None:
    floors: dict[str, int] = {}
    for each in TopologicalSorter(ROOMS).static_order():
        floors[each] = 1 + max((floors[below] for below in ROOMS[each]), default=0)
    assert max(floors.values()) <= MOST_FLOORS


@pytest.mark.parametrize(
    "name", sorted(name for name, file in modules().items() if file.name == "__init__.py")
)
def test_room_says_what_lives_there_and_how_to_add_one_more(name: str) -> None:
    tree = ast.parse(modules()[name].read_text())
    lines = [line for line in (ast.get_docstring(tree) or "").splitlines() if line]
    assert len(lines) == 3, "what lives here, what it may touch, how to add one more"
    taken = imported_by(modules()[name]) - modules_of(name)
    assert {each.rpartition(".")[2] for each in taken} == SPEAKS.get(name, set())
    assert len(tree.body) == (3 if name in SPEAKS else 1), "it stays empty but for that"
