"""The first configuration of a host: what was found there, set; everything else with its default,
commented out.
"""

from __future__ import annotations

import ast
import glob
import inspect
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miyabi_healing.cli.setup import worktree_lines
from miyabi_healing.cli.setup.discovery import Findings, FoundCache, Repo
from miyabi_healing.cli.setup.log_search import LogFolder
from miyabi_healing.cli.setup.repository_patterns import Group, groups
from miyabi_healing.model.config import Config, HealerSettings
from miyabi_healing.runner import registry
from miyabi_healing.support.formatting import display, size_text

if TYPE_CHECKING:
    from miyabi_healing.support.mount_table import MountPoint

_MOST = 100  # lines of a kind
_MOST_BY_NAME = 10  # repositories of a pattern
_NO_DATA = frozenset(
    (
        "proc sysfs cgroup cgroup2 devpts devtmpfs mqueue tmpfs ramfs securityfs "
        "debugfs tracefs bpf nsfs"
    ).split()
)


def render_config(found: Findings, host: str, when: str) -> str:
    """The whole file. Names that TOML cannot hold are left out, each with a comment."""
    lines = [
        f"# Miyabi Healing on {display(host)}, written by miyabi-healing init, {when}.",
        "# What was found here is set. Everything else is commented out and shows its default.",
        (
            f"# {found.folders} folders below "
            f"{', '.join(map(display, found.homes))} were looked through in {found.seconds:.1f} s"
        )
        + (
            "."
            if found.complete
            else "; then the time was over, and what lies deeper may be missing."
        ),
    ]
    special = {
        "disk": disk,
        "git": repositories,
        "logs": logs,
        "caches": _known_caches,
        "budgets": worktree_lines.budgets,
        "quarantine": worktree_lines.quarantine,
        "safety": safety,
    }
    defaults = Config()
    for each in fields(Config):
        section = getattr(defaults, each.name)
        if is_dataclass(section) and not isinstance(section, type):
            lines += [
                "",
                *_section_lines(
                    each.name,
                    section,
                    dict(special[each.name](found)) if each.name in special else {},
                ),
            ]
    lines += [*coordinators(), *checks(found), *healers()]
    return "\n".join(lines) + "\n"


def _section_lines(name: str, section: Any, found: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """One section: the lines found for a key, or its default, commented out. Found lines under ""
    go to the top.
    """
    doc = inspect.cleandoc(type(section).__doc__ or "")
    if doc and not doc.startswith(f"{type(section).__name__}("):  # what dataclass makes up itself
        yield from (f"# {line}".rstrip() for line in doc.replace("``", "`").splitlines())
    values = [key for key in found if key and not found[key][0].startswith("#")]
    yield f"[{name}]" if values else f"# [{name}]"
    yield from found.get("", ())
    for each in fields(section):
        if each.name in found:
            yield from found[each.name]
        elif each.default_factory is dict:
            yield f"# [{name}.{each.name}.NAME]: rows of your own, none"
        else:
            yield _default_line(
                each.name,
                each.default if each.default is not MISSING else getattr(section, each.name),
            )


def _default_line(key: str, value: object) -> str:
    text = toml(value)
    return f"# {key} = {text}" if text is not None else f"# {key}: not set"


def toml(value: object) -> str | None:
    """A value as TOML writes it; None for what has no short form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (str, Path)):
        return _quoted(str(value))
    if isinstance(value, (tuple, list)):
        items = [toml(each) for each in value]
        return (
            f"[{', '.join(each for each in items if each is not None)}]"
            if None not in items
            else None
        )
    return None


def _quoted(text: str) -> str:
    """A basic string. Raises UnicodeEncodeError for names that are no UTF-8."""
    text.encode("utf-8")
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _short(path: Path) -> str:
    """A path as people write it, from their home where it lies in there."""
    home = Path.home()
    return (
        f"~/{path.relative_to(home)}" if path.is_relative_to(home) and path != home else str(path)
    )


def pattern(folder: Path, names: str = "*.log") -> str:
    """A pattern for `names` in a folder, whatever that is called."""
    written = _short(folder)
    if written.startswith("~/") and not glob.has_magic(str(Path.home())):
        return f"~/{glob.escape(written[2:])}/{names}"
    return f"{glob.escape(str(folder))}/{names}"


def _entries(key: str, rows: Sequence[tuple[str, str]], nothing: str) -> list[str]:
    """An array with a line and a comment for each value; what TOML cannot hold is a comment."""
    lines, good = [], 0
    for text, comment in rows[:_MOST]:
        try:
            lines.append(f"    {_quoted(text)},  # {comment}")
            good += 1
        except UnicodeEncodeError:
            lines.append(f"    # left out, for its name is no UTF-8: {display(text)}")
    if len(rows) > _MOST:
        lines.append(f"    # and {len(rows) - _MOST} more")
    if good:
        return [f"{key} = [", *lines, "]"]
    return (
        [f"# {key} = []", *(line.strip() for line in lines)]
        if lines
        else [f"# {key} = []", f"# {nothing}"]
    )


def disk(_found: Findings) -> Iterator[tuple[str, list[str]]]:
    from miyabi_healing.host import filesystems as disks

    lines = []
    for path in disks.mounts(()):
        try:
            mount = disks.read_mount(path)
        except OSError:
            continue
        lines.append(f"# {mount}: {mount.percent:.0f} % full, {size_text(mount.free)} free")
    yield "mounts", [*lines, "# mounts = []", "# none named: every real filesystem"]


def repositories(found: Findings) -> Iterator[tuple[str, list[str]]]:
    together, alone = groups(found.repos, found.homes, pattern)
    rows = [(each.pattern, _group_comment(each)) for each in together]
    rows += [(_short(repo.path), worktrees(repo)) for repo in alone]
    lines = _entries(
        "repos", rows, "none found: the repository of the folder that it is started in"
    )
    many = [repo for group in together for repo in group.repos if repo.worktrees > 1]
    lines += [
        f"# {display(_short(repo.path))}: {worktrees(repo)}"
        for repo in sorted(many, key=lambda repo: -repo.worktrees)[:_MOST_BY_NAME]
    ]
    yield "repos", lines


def _group_comment(group: Group) -> str:
    inside = f", and {group.inside} inside them" if group.inside else ""
    linked = sum(repo.worktrees - 1 for repo in group.repos)
    return f"{len(group.repos)} repositories{inside}; {linked} linked worktrees"


def worktrees(repo: Repo) -> str:
    if repo.worktrees == 1:
        return "1 worktree"
    where = ", ".join(f"{count} in {display(_short(folder))}" for folder, count in repo.folders)
    return f"{repo.worktrees} worktrees: {where}"


def logs(found: Findings) -> Iterator[tuple[str, list[str]]]:
    usual = [(each, "default") for each in Config().logs.patterns]
    rows = [
        (pattern(each.path, each.names) if each.names else str(each.path), _logs_comment(each))
        for each in found.logs
    ]
    if rows:
        yield "patterns", _entries("patterns", [*usual, *rows], "")
    else:
        yield "", ["# no folder with a megabyte of logs found"]


def _logs_comment(folder: LogFolder) -> str:
    return f"{size_text(folder.bytes)} in {folder.files} file(s)"


def _known_caches(found: Findings) -> Iterator[tuple[str, list[str]]]:
    cheap = [cache for cache in found.caches if not cache.costly]
    costly = [cache for cache in found.caches if cache.costly]
    lines = []
    if cheap:
        lines += [
            (
                f"# {size_text(sum(each.bytes for each in cheap))} that may be "
                "cleaned when the disk is full:"
            ),
            *map(_cache_line, cheap),
        ]
    if costly:
        lines += [
            "# Costly to make again, cleaned only if `also` names them:",
            *map(_cache_line, costly),
        ]
    yield "", lines or ["# no known cache found"]
    if found.homes != (Path.home(),):
        yield (
            "homes",
            _entries("homes", [(glob.escape(str(home)), "asked for") for home in found.homes], ""),
        )


def safety(found: Findings) -> Iterator[tuple[str, list[str]]]:
    """In a container, what nobody else may be using: only a person knows, so it is offered and not
    set.
    """
    from miyabi_healing.host.process_status import container
    from miyabi_healing.support import mount_table

    if (why := container()) is None:
        return
    folders = _from_outside(mount_table.mount_table(), found.homes)
    yield (
        "ours_alone",
        [
            (
                f"# {why[0].upper()}{why[1:]}: who uses a folder that is mounted "
                "from outside cannot be seen from"
            ),
            (
                "# here, so locks, logs, worktrees and caches in it are left "
                "alone. If no other container and nothing on the"
            ),
            "# host uses one of these, name it, and what nobody here uses is healed there as well:",
            f"# ours_alone = {toml(folders)}",
        ],
    )


def _from_outside(table: Sequence[MountPoint], homes: Sequence[Path]) -> list[str]:
    """The folders of a container that are not on the overlay it was given for itself; names that
    are no UTF-8 are left out.
    """
    root = next((each for each in reversed(table) if each.path == "/"), None)
    found = [] if root and root.kind == "overlay" else [str(home) for home in homes]
    for each in table:
        data = each.kind not in _NO_DATA and not each.path.startswith(
            ("/proc", "/sys", "/dev", "/etc/")
        )
        if data and each.path != "/" and (each.is_shared or os.path.isdir(each.path)):
            found.append(each.path)
    return [each for each in dict.fromkeys(found) if each.isprintable()][:_MOST]


def _cache_line(cache: FoundCache) -> str:
    return (
        f"#   {cache.name}: "
        f"{'' if cache.weighed else 'at least '}{size_text(cache.bytes)} "
        f"in {display(_short(cache.path))}"
    )


def coordinators() -> Iterator[str]:
    """What only a person can say: where a coordinator of tasks is, and where its claims are."""
    yield from ("", "# A coordinator of tasks, which is started again with its claims given back:")
    yield "# [coordinators.NAME]: see docs/coordinators.md, none"


def checks(found: Findings) -> Iterator[str]:
    """Every check of ours with its limit, read off its marker without importing it."""
    for file in sorted(registry.builtin("checks").glob("test_*.py")):
        name = file.stem.removeprefix("test_")
        markers = {
            call.func.attr: call
            for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr in ("limit", "heal")
        }
        limit = markers["limit"]
        options = {
            word.arg: ast.literal_eval(word.value)
            for call in markers.values()
            for word in call.keywords
        }
        if name == "worktree_space" and (lines := worktree_lines.space(found)):
            yield from ("", f"[checks.{name}]", "# enabled = true", *lines)
            continue
        unit = f"  # {options['unit']}" if "unit" in options else ""
        yield from ("", f"# [checks.{name}]", "# enabled = true")
        if options.get("opt_in"):
            yield "# off until it has a threshold; this one is an example"
        yield f"# threshold = {ast.literal_eval(limit.args[0])}{unit}"
        yield from (
            f"# {key} = {toml(options[key])}"
            for key in ("medium", "high", "critical", "gate")
            if key in options
        )


def healers() -> Iterator[str]:
    """Every healer of ours with what all have, and with its own options."""
    for file in sorted(registry.builtin("healers").glob("[!_]*.py")):
        options = registry.load_healer(file.stem, file)[1]
        yield from ("", f"# [healers.{file.stem}]")
        for kind in (HealerSettings, options):
            for each in fields(kind) if kind else ():
                yield _default_line(each.name, each.default)


def findings_summary(found: Findings) -> str:
    """What was found, in one line."""
    weight = size_text(sum(cache.bytes for cache in found.caches))
    trees = sum(repo.worktrees for repo in found.repos)
    return (
        f"repositories: {len(found.repos)} (worktrees: {trees}), "
        f"folders with logs: {len({each.path for each in found.logs})}, "
        f"known caches: {len(found.caches)} ({weight})"
    )
