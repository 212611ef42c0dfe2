"""Everything that is wrong with a configuration, and not only what a run would stop at first; and
what in it leads nowhere.

Each key is read by itself, the way a run reads it, so that one mistake hides no other.
"""

from __future__ import annotations

import copy
import datetime
import glob
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from miyabi_healing.host import filesystems, logs
from miyabi_healing.host.cache_rows import validate_caches
from miyabi_healing.host.git import repository_paths
from miyabi_healing.model.config import CacheSettings, Config, ConfigError, Waiver
from miyabi_healing.runner import effective, registry
from miyabi_healing.runner.check_sources import check_sources
from miyabi_healing.support import config_loader, globbing, mount_answers, secrets
from miyabi_healing.support.config_sources import ConfigSources
from miyabi_healing.support.formatting import display, plain_number
from miyabi_healing.support.near_matches import did_you_mean

_SOURCE = "config"
_Path = tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; `where` is ``config.toml:12`` or a variable. Not `fatal`: a run
    starts all the same.
    """

    where: str
    message: str
    fatal: bool = True


def problems(
    table: Mapping[str, Any], sources: ConfigSources, more_checks: tuple[str, ...] = ()
) -> list[Problem]:
    """All that can be said of a document (of the file, with the environment over it). Looks at the
    host, and changes nothing.
    """
    found: list[Problem] = []
    good: dict[str, Any] = copy.deepcopy(dict(table))
    for path, message in _bad_pieces(table):
        found.append(Problem(sources.near(*path), message))
        _leave_out(good, path[:3])
    try:
        settings = config_loader.interpret(good, _SOURCE)
    except ConfigError as error:
        return [*found, Problem(sources.near(), _plain(error))]
    for look in (
        _folders,
        _names,
        _caches,
        _paths,
        _repositories,
        _logs,
        _limits,
        _outputs,
        _coordinators,
    ):
        found += look(settings, sources, more_checks)
    return found


def _plain(error: Exception) -> str:
    return str(error).removeprefix(f"{_SOURCE}: ")


def _leave_out(document: dict[str, Any], path: _Path) -> None:
    """Take one key out of a document; a row of an array is left there for good."""
    for key in path[:-1]:
        if not isinstance(document.get(key), dict):
            document.pop(key, None)
            return
        document = document[key]
    document.pop(path[-1], None)


def _bad_pieces(table: Mapping[str, Any]) -> Iterator[tuple[_Path, str]]:
    """The keys that cannot be read, each with why; a whole section where only its keys together
    are wrong.
    """
    for section, value in table.items():
        try:
            config_loader.interpret({section: {} if isinstance(value, Mapping) else value}, _SOURCE)
        except ConfigError as error:
            yield (section,), _plain(error)
            continue
        wrong = False
        for path, piece in _pieces(section, value):
            try:
                config_loader.interpret(piece, _SOURCE)
            except ConfigError as error:
                wrong = True
                yield _numbered(_plain(error), path)
        if not wrong:
            try:
                config_loader.interpret({section: value}, _SOURCE)
            except ConfigError as error:
                yield (section,), _plain(error)


def _numbered(message: str, path: _Path) -> tuple[_Path, str]:
    """Of a row of an array that was read alone, its own number, and the key in it that is named."""
    if len(path) < 3 or ", number 1" not in message:
        return path, message
    key = re.search(r", number 1\.([\w-]+)", message)
    told = re.sub(", number 1", f", number {path[-1]}", message, count=1)
    return (*path, key[1]) if key else path, told


def _pieces(section: str, value: Any) -> Iterator[tuple[_Path, dict[str, Any]]]:
    """Small documents with one key each, and the path of that key."""
    if not isinstance(value, Mapping):
        return
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            # an entry, like a check, or rows, like caches.define: by their own keys where these
            # can stand alone
            alone = section in ("checks", "healers") or (section, key) == ("caches", "define")
            for name, each in inner.items() if alone else ():
                yield (section, key, name), {section: {key: {name: each}}}
            if section == "waivers":
                known = [each.name for each in fields(Waiver)]
                for name in inner:
                    if name not in known:
                        yield (section, key, name), {section: {key: {**_WHOLE, name: 0}}}
                mine = {name: each for name, each in inner.items() if name in known}
                yield (section, key), {section: {key: mine}}
            elif not alone:
                yield (section, key), {section: {key: inner}}
        elif isinstance(inner, list) and any(isinstance(each, Mapping) for each in inner):
            for number, row in enumerate(inner, 1):
                yield (section, key, str(number)), {section: {key: [row]}}
        else:
            yield (section, key), {section: {key: inner}}


_WHOLE = {"reason": "x", "until": datetime.date(2026, 1, 1)}


# What can be read, and leads nowhere

_Look = Iterator[Problem]


def _folders(settings: Config, sources: ConfigSources, more: tuple[str, ...]) -> _Look:
    for name in (*settings.extend.folders, *more):
        where = sources.near("extend", "folders") if name not in more else "--checks"
        try:
            registry.checks_folders(Config(), (name,))
        except ConfigError as error:
            yield Problem(where, str(error))


def _usable(settings: Config, more: tuple[str, ...]) -> registry.Folders:
    """The folders of checks that can be used."""
    good = []
    for name in (*settings.extend.folders, *more):
        try:
            registry.checks_folders(Config(), (name,))
            good.append(name)
        except ConfigError:
            continue
    return registry.checks_folders(Config(), tuple(good))


def _names(settings: Config, sources: ConfigSources, more: tuple[str, ...]) -> _Look:
    where = _usable(settings, more)
    names = where.check_names()
    for section, table in (("checks", settings.checks), ("waivers", settings.waivers)):
        for name in table:
            if name not in names:
                words = f"{section}.{name}: no such check; {did_you_mean(name, names)}"
                yield Problem(sources.near(section, name), words)
    try:
        files = where.healer_files()
    except ConfigError as error:
        yield Problem(sources.near("extend", "folders"), str(error))
        return
    for name, table in settings.healers.items():
        if name not in files:
            words = f"healers.{name}: no such healer; {did_you_mean(name, files)}"
            yield Problem(sources.near("healers", name), words)
            continue
        try:
            kind = registry.load_healer(name, files[name])[1]
        except Exception as error:  # whatever somebody's code does
            words = f"healers.{name}: {display(files[name])} cannot be loaded: {error}"
            yield Problem(sources.near("healers", name), words)
            continue
        for key, value in table.items():
            try:
                registry.options(replace(settings, healers={name: {key: value}}), name, kind)
            except ConfigError as error:
                yield Problem(sources.near("healers", name, key), _plain(error))


def _caches(settings: Config, sources: ConfigSources, _: tuple[str, ...]) -> _Look:
    rules = settings.caches
    whole = {"define": rules.define}
    pieces: list[tuple[str, dict[str, Any]]] = [
        (key, {key: (name,), **whole}) for key in ("also", "never") for name in getattr(rules, key)
    ]
    pieces += [("define", {"define": {name: row}}) for name, row in rules.define.items()]
    for key, piece in pieces:
        try:
            validate_caches(CacheSettings(**piece))
        except ConfigError as error:
            found = Problem(sources.near("caches", key), str(error))
            if key == "define" or not str(error).startswith("caches.define"):
                yield found


def _paths(settings: Config, sources: ConfigSources, _: tuple[str, ...]) -> _Look:
    """Folders that are named and are none, and patterns of homes that fit none."""
    for name in settings.disk.mounts:
        try:
            filesystems.read_folder(os.path.abspath(os.path.expanduser(name)))
        except (ConfigError, OSError) as error:
            words = f"disk.mounts: {display(name)}: {_reason(error)}"
            yield Problem(sources.near("disk", "mounts"), words, fatal=False)
    for path, names in (
        (("caches", "homes"), settings.caches.homes),
        (("safety", "roots"), settings.safety.roots),
        (("safety", "disposable"), settings.safety.disposable),
        (("safety", "ours_alone"), settings.safety.ours_alone),
    ):
        for name in names:
            if not globbing.expand(name):
                what = "fits no folder" if glob.has_magic(name) else "no such folder"
                words = f"{'.'.join(path)}: {display(name)}: {what}"
                yield Problem(sources.near(*path), words, fatal=False)


def _reason(error: Exception) -> str:
    return (
        "no such folder"
        if str(error).endswith("no such folder")
        else str(getattr(error, "strerror", None) or error)
    )


def _repositories(settings: Config, sources: ConfigSources, _: tuple[str, ...]) -> _Look:
    where = sources.near("git", "repos")
    for pattern in settings.git.repos:
        found = repository_paths.configured(
            replace(settings, git=replace(settings.git, repos=(pattern,)))
        )
        for path in found.paths:
            try:
                if repository_paths.locate(Path(path)) is None:
                    what = "finds no repository" if glob.has_magic(pattern) else "is no repository"
                    yield Problem(where, f"git.repos: {display(pattern)} {what}", fatal=False)
            except (OSError, ValueError) as error:
                words = f"git.repos: {display(path)}: {getattr(error, 'strerror', None) or error}"
                yield Problem(where, words, fatal=False)


def _logs(settings: Config, sources: ConfigSources, _: tuple[str, ...]) -> _Look:
    """Patterns that match nothing now; the default ones may."""
    groups = enumerate(settings.logs.group, 1)
    given: list[tuple[_Path, str]] = [
        (("logs", "group", str(number)), each.pattern) for number, each in groups
    ]
    if settings.logs.patterns != Config().logs.patterns:
        given += [(("logs", "patterns"), each) for each in settings.logs.patterns]
    for path, pattern in given:
        try:
            nothing = not logs.read_log_group(pattern, settings).files
        except OSError as error:
            yield Problem(sources.near(*path), f"logs: {display(error)}", fatal=False)
            continue
        if nothing:
            words = f"logs: {display(pattern)} matches no log file now"
            yield Problem(sources.near(*path), words, fatal=False)


def _limits(settings: Config, sources: ConfigSources, more: tuple[str, ...]) -> _Look:
    """Limits that contradict each other, and rows for targets that there are not."""
    from miyabi_healing.model.limit_settings import is_target
    from miyabi_healing.runner.fixtures import TARGETS, Targets

    targets, checks = Targets(settings), check_sources(_usable(settings, more))
    for check in checks:
        own = settings.checks.get(check.name)
        whole = effective.check_limit(check, settings, sources)
        if own is None or whole is None:
            continue
        limit, name = whole.limit, f"checks.{check.name}"
        if limit.clear > limit.threshold:
            words = (
                f"{name}: clear, {plain_number(limit.clear)}, must not be above the threshold, "
                f"{plain_number(limit.threshold)}"
            )
            yield Problem(sources.near("checks", check.name, "clear"), words)
        for severity, bound in limit.bounds.items():
            if own.threshold is not None and limit.severity < severity and bound < limit.threshold:
                words = (
                    f"{name}: {severity.label} = {plain_number(bound)} lies below the threshold, "
                    f"{plain_number(limit.threshold)}: whatever trips is {severity.label} at once"
                )
                path = ("checks", check.name, "threshold")
                yield Problem(sources.near(*path), words, fatal=False)
        fixture = next((each for each in TARGETS if each in check.fixtures), "")
        found = targets.of(fixture) if own.targets and fixture else ()
        for row in own.targets:
            if not any(is_target(row, each) for each in found):
                words = f"{name}.targets: {display(row)} fits none of its targets"
                yield Problem(
                    sources.near("checks", check.name, "targets", row), words, fatal=False
                )
    for name, waiver in settings.waivers.items():
        if waiver.end < time.time():
            words = f"waivers.{name}: it has expired ({waiver.until}); delete it, or set its end"
            yield Problem(sources.near("waivers", name), words, fatal=False)


def _outputs(settings: Config, sources: ConfigSources, _: tuple[str, ...]) -> _Look:
    """Files of secrets that cannot be used, and a folder for metrics that is none."""
    named = (
        (("alerts", "slack_url_file"), settings.alerts.slack_url_file),
        (("alerts", "apprise_urls_file"), settings.alerts.apprise_urls_file),
        (("ping", "url_file"), settings.ping.url_file),
    )
    for path, file in named:
        try:
            if file:
                secrets.secret_lines(Path(file).expanduser())
        except ConfigError as error:
            yield Problem(sources.near(*path), f"{'.'.join(path)}: {error}", fatal=False)
    if (textfile := settings.metrics.textfile) and not mount_answers.is_silent(textfile):
        folder = Path(os.path.expanduser(textfile)).parent
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            words = f"metrics.textfile: {display(folder)}: no folder that we can write to"
            yield Problem(sources.near("metrics", "textfile"), words, fatal=False)


def _coordinators(settings: Config, sources: ConfigSources, _: tuple[str, ...]) -> _Look:
    """Claims that cannot be read now, a place that cannot be looked at, a program that is not
    there.
    """
    if not settings.coordinators:
        return
    from miyabi_healing.host.coordinators import claims, place
    from miyabi_healing.support import commands
    from miyabi_healing.support.command_errors import ToolError

    for name, each in settings.coordinators.items():
        for look in (claims.read, place.find):
            try:
                look(each)
            except (OSError, ValueError, ToolError, claims.CannotRead) as error:
                words = f"coordinators.{name}: {error}"
                yield Problem(sources.near("coordinators", name), words, fatal=False)
        for key in ("start", "give_back_command"):
            program = os.path.expanduser(next(iter(getattr(each, key)), ""))
            if (
                program
                and not (key == "start" and each.pane)
                and (why := commands.missing(program))
            ):
                words = f"coordinators.{name}.{key}: {why}"
                yield Problem(sources.near("coordinators", name, key), words, fatal=False)


def line_in(message: str) -> int | None:
    """The line that tomllib names in a complaint."""
    found = re.search(r"at line (\d+)", message)
    return int(found[1]) if found else None
