"""What checks say of themselves, read off their source without running a line of it: for commands
that name checks before, or instead of, running them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from miyabi_healing.model.config import Config
from miyabi_healing.model.issue import Limit, limit_of_mark
from miyabi_healing.runner.registry import Folders

_Marks = dict[str, tuple[tuple[Any, ...], dict[str, Any]]]


@dataclass(frozen=True)
class CheckSource:
    """One check as its file has it. `fixtures` are what it asks for, `healers` whom it calls, in
    order; `problem` is what of it could not be read, empty where all could.
    """

    name: str
    file: Path
    line: int
    doc: str = ""
    fixtures: tuple[str, ...] = ()
    healers: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    gate: tuple[int, int] = (1, 1)
    limit: Limit | None = None
    opt_in: bool = False
    problem: str = ""

    def why_off(self, config: Config) -> str:
        """Why the configuration has it not run, with the way out; empty where it runs."""
        if not config.check(self.name).enabled:
            return f"switched off: [checks.{self.name}] enabled = false in {config.source}"
        if self.opt_in and config.check(self.name).threshold is None:
            return f"off until [checks.{self.name}] sets a threshold"
        if "coordinator" in self.fixtures and not config.coordinators:
            return "off until [coordinators.NAME] describes one"
        return ""


def check_sources(where: Folders) -> list[CheckSource]:
    """Every check of these folders, in the order of their files. Changes nothing, raises nothing:
    a file that cannot be read, or is no Python, has its checks named with that as their problem.
    """
    return [
        found
        for folder in where.checks
        for file in sorted(folder.glob("test_*.py"))
        for found in _of_file(file)
    ]


def _of_file(file: Path) -> Iterator[CheckSource]:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        yield CheckSource(file.stem.removeprefix("test_"), file, 1, problem=str(error.strerror))
        return
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        problem = f"cannot be read: {getattr(error, 'msg', error)}" + (
            f" (line {line})" if line else ""
        )
        for found in re.finditer(r"^\s*(?:async )?def test_(\w+)", text, re.MULTILINE):
            at = text.count("\n", 0, found.start(1)) + 1
            yield CheckSource(found[1], file, at, problem=problem)
        return
    yield from _in_body(tree.body, file, _shared_marks(tree.body), ast.get_docstring(tree) or "")


def _in_body(
    body: list[ast.stmt], file: Path, above: list[ast.expr], about: str
) -> Iterator[CheckSource]:
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _in_body(node.body, file, [*node.decorator_list, *above], about)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith(
            "test_"
        ):
            yield _of_function(node, file, [*node.decorator_list, *above], about)


def _of_function(
    node: ast.FunctionDef | ast.AsyncFunctionDef, file: Path, marks: list[ast.expr], about: str
) -> CheckSource:
    problem, limit, gate = "", None, (1, 1)
    healers: list[str] = []
    after: list[str] = []
    opt_in = False
    for name, mark in ((_mark_name(each), each) for each in marks):
        if name not in ("heal", "limit"):
            continue
        try:
            arguments, named = _literal_arguments(mark)
            if name == "limit":
                limit, opt_in = (
                    limit or limit_of_mark(*arguments, **named),
                    bool(opt_in or named.get("opt_in")),
                )
            else:
                healers += map(str, arguments)
                after += map(str, named.get("after", ()))
                first, of = named.get("gate", gate)
                gate = int(first), int(of)
        except (TypeError, KeyError, ValueError) as error:
            problem = f"its mark {name} can only be told by running it: {error}"
    asked = tuple(each.arg for each in node.args.args if each.arg != "self")
    doc = ast.get_docstring(node) or about
    return CheckSource(
        node.name.removeprefix("test_"),
        file,
        node.lineno,
        doc if doc == about or not about else f"{about}\n\n{doc}",
        asked,
        tuple(healers),
        tuple(after),
        gate,
        limit,
        opt_in,
        problem,
    )


def _shared_marks(body: list[ast.stmt]) -> list[ast.expr]:
    """What ``pytestmark`` of a module holds."""
    found: list[ast.expr] = []
    for node in body:
        if isinstance(node, ast.Assign) and any(
            isinstance(each, ast.Name) and each.id == "pytestmark" for each in node.targets
        ):
            found += node.value.elts if isinstance(node.value, ast.List) else [node.value]
    return found


def _mark_name(node: ast.expr) -> str:
    """``limit`` for ``@pytest.mark.limit(…)``; empty for what is no mark."""
    called = node.func if isinstance(node, ast.Call) else node
    inner = called.value if isinstance(called, ast.Attribute) else None
    is_mark = isinstance(inner, ast.Attribute) and inner.attr == "mark"
    return called.attr if is_mark and isinstance(called, ast.Attribute) else ""


def _literal_arguments(node: ast.expr) -> tuple[list[Any], dict[str, Any]]:
    """Raises ValueError where an argument is no literal."""
    if not isinstance(node, ast.Call):
        return [], {}
    named = {each.arg: ast.literal_eval(each.value) for each in node.keywords if each.arg}
    return [ast.literal_eval(each) for each in node.args], named


@dataclass(frozen=True)
class HealerSource:
    """One healer as its file has it. `options` are its own, by name, each with its default as it
    is written; `options_doc` says what they mean.
    """

    name: str
    file: Path

    @cached_property
    def _tree(self) -> ast.Module | None:
        try:
            return ast.parse(self.file.read_text(encoding="utf-8", errors="replace"))
        except (OSError, SyntaxError, ValueError, RecursionError):
            return None

    @property
    def problem(self) -> str:
        return "" if self._tree else "its file cannot be read"

    @property
    def doc(self) -> str:
        """What its module says, then what the function itself says."""
        if not self._tree:
            return ""
        own = next((each for each in self._named(self.name)), None)
        parts = [ast.get_docstring(self._tree), ast.get_docstring(own) if own else None]
        return "\n\n".join(each for each in parts if each)

    @property
    def options(self) -> dict[str, str]:
        kind = next((each for each in self._named("Options")), None)
        return {
            node.target.id: ast.unparse(node.value) if node.value else ""
            for node in (kind.body if kind else ())
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }

    @property
    def options_doc(self) -> str:
        kind = next((each for each in self._named("Options")), None)
        return (ast.get_docstring(kind) if kind else None) or ""

    def _named(self, name: str) -> Iterator[ast.ClassDef | ast.FunctionDef]:
        for node in self._tree.body if self._tree else ():
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
                yield node


def healer_sources(where: Folders) -> list[HealerSource]:
    """Every healer of these folders. Raises ConfigError where two have the same name."""
    return [HealerSource(name, file) for name, file in where.healer_files().items()]
