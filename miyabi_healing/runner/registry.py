"""Where checks and healers are, by name alone: ``cleanup_disk`` is the function of that name in
``healers/cleanup_disk.py``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miyabi_healing.model.config import Config, ConfigError
from miyabi_healing.support import mount_answers, ownership
from miyabi_healing.support.config_loader import healer_options, nearest
from miyabi_healing.support.formatting import display
from miyabi_healing.support.paths import PACKAGE

if TYPE_CHECKING:
    from miyabi_healing.host.context import HealerContext
    from miyabi_healing.model.issue import Issue
    from miyabi_healing.model.plan import Plan

_Healer = Callable[["HealerContext", "Issue", Any], "Plan"]


def builtin(name: str) -> Path:
    """Our own ``checks`` or ``healers``: inside the package where it is installed, beside it in a
    checkout.
    """
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


@dataclass(frozen=True)
class Folders:
    """The folders with checks, and the folders with healers; ours come first.

    `unknown` are those that lie on a mount that does not answer, each with these words.
    """

    checks: tuple[Path, ...]
    healers: tuple[Path, ...]
    unknown: tuple[tuple[str, str], ...] = ()

    def check_names(self) -> set[str]:
        """The names of all checks, read off the files without importing them."""
        files = [file for folder in self.checks for file in sorted(folder.glob("test_*.py"))]
        texts = (file.read_text(encoding="utf-8", errors="replace") for file in files)
        return {
            name for text in texts for name in re.findall(r"^def test_(\w+)", text, re.MULTILINE)
        }

    def healer_files(self) -> dict[str, Path]:
        """Every healer's file by its name. Raises ConfigError where two have the same."""
        found: dict[str, Path] = {}
        for file in (file for folder in self.healers for file in sorted(folder.glob("[!_]*.py"))):
            if file.stem in found:
                raise ConfigError(
                    f"healer {file.stem!r} exists twice: "
                    f"{display(found[file.stem])} and {display(file)}"
                )
            found[file.stem] = file
        return found


def checks_folders(config: Config, more: tuple[str, ...] = ()) -> Folders:
    """Ours, those of the configuration and `more` (from the command line). Raises ConfigError for
    one that is unusable.
    """
    added = []
    unknown = []
    for name in (*config.extend.folders, *more):
        try:
            _check_answers(Path(name).expanduser())
        except mount_answers.NoAnswer as error:
            unknown.append((name, str(error)))
            continue
        path = Path(name).expanduser().resolve()
        if not path.is_dir():
            raise ConfigError(f"checks folder {display(name)}: no such folder")
        refuse_untrusted(path)
        added.append(path)
    healers = [path / "healers" for path in added if (path / "healers").is_dir()]
    return Folders((builtin("checks"), *added), (builtin("healers"), *healers), tuple(unknown))


def healer_names(config: Config) -> list[str]:
    """The names of all healers but those of folders on the command line. Raises ConfigError."""
    return list(checks_folders(config).healer_files())


def _check_answers(folder: Path) -> None:
    """Refuse a folder of checks of which anything lies on a mount that does not answer. Raises
    NoAnswer.
    """
    if not mount_answers.may_block():
        return
    mount_answers.check_tree(folder)
    for path in folder.rglob("*"):
        mount_answers.check(path)


def refuse_untrusted(folder: Path) -> None:
    """Refuse to run code that somebody else could have put there, also compiled, in any folder
    below. Raises ConfigError.
    """
    try:
        reason = ownership.tree_objection(folder, ownership.trusted())
    except OSError as error:
        reason = f"it cannot be looked through: {error}"
    if reason:
        raise ConfigError(
            f"checks folder {display(folder)}: {reason}; "
            "code of others is not run: chmod go-w or chown it"
        )


def load_healer(name: str, file: Path) -> tuple[_Healer, type[Any] | None]:
    """Import a healer and the dataclass of its options (None where it has none). Raises whatever
    its import raises.
    """
    import importlib.util

    module_name = f"miyabi_healing_healers.{name}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{display(file)} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    healer = getattr(module, name, None)
    if not callable(healer):
        raise ImportError(f"{display(file)} has no function {name}")
    return healer, getattr(module, "Options", None)


def validate_settings(config: Config, where: Folders) -> None:
    """Refuse settings for checks and healers that do not exist, and options that healers do not
    have. Raises ConfigError; ImportError for a healer with options that cannot be loaded.
    """
    if config.checks or config.waivers:
        names = where.check_names()
        for section, table in (("checks", config.checks), ("waivers", config.waivers)):
            for name in table:
                if name not in names:
                    raise ConfigError(
                        f"{config.source}: {section}.{name}: no such check; {nearest(name, names)}"
                    )
    if config.healers:
        files = where.healer_files()
        for name in config.healers:
            if name not in files:
                raise ConfigError(
                    f"{config.source}: healers.{name}: no such healer; {nearest(name, files)}"
                )
            try:
                kind = load_healer(name, files[name])[1]
            except Exception as error:  # before anything has run: nobody else would say where
                said = f"healer {display(files[name])} cannot be loaded"
                raise ImportError(f"{said}: {type(error).__name__}: {error}") from error
            options(config, name, kind)


def options(config: Config, name: str, kind: type[Any] | None) -> Any:
    """A healer's options as configured; None for a healer without any. Raises ConfigError."""
    return (
        healer_options(config, name, kind or NoOptions)
        if config.healers.get(name)
        else kind and kind()
    )


@dataclass(frozen=True)
class NoOptions:
    """What a healer without options of its own accepts."""
