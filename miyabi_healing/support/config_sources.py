"""Where each value of the configuration came from: the default, a line of the file, a variable of
the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miyabi_healing.model.config import Config
from miyabi_healing.support import config_lines, config_loader
from miyabi_healing.support.formatting import display

DEFAULT = "default"
_SECRET = re.compile(
    r"token|secret|passw|passphrase|(api|access|private)_?key|credential|authori[sz]ation|cookie|"
    r"hook|urls?$"
)
_WITH_PASSWORD = re.compile(r"^\w[\w+.-]*://[^/\s]*:[^/\s]*@")


@dataclass(frozen=True)
class ConfigSources:
    """Asked for one value by its keys: ``("git", "base")``. `file` is empty where none is read."""

    file: str = ""
    lines: Mapping[config_lines.Path, int] = field(default_factory=dict)
    variables: Mapping[config_lines.Path, str] = field(default_factory=dict)

    def of(self, *path: str) -> str:
        """``default``, ``config.toml:12``, or the variable's name."""
        for each in (path, _older(path)):
            if each in self.variables:
                return self.variables[each]
            if each in self.lines:
                return f"{self.file}:{self.lines[each]}"
        return DEFAULT

    def near(self, *path: str) -> str:
        """The same, or where the nearest table above it is: for what is wrong with a value."""
        for end in range(len(path), 0, -1):
            if (found := self.of(*path[:end])) != DEFAULT:
                return found
        return self.file or "the environment"


def _older(path: tuple[str, ...]) -> tuple[str, ...]:
    return (config_loader.OLD_POLICY, *path[1:]) if path[0] == config_loader.POLICY else path


def config_sources(chosen: Config, environment: Mapping[str, str] = os.environ) -> ConfigSources:
    """Where the values of a configuration that was read came from. Raises nothing: of a file that
    has gone meanwhile, no line is known.
    """
    lines: Mapping[config_lines.Path, int] = {}
    if chosen.file:
        try:
            lines = config_lines.key_lines(Path(chosen.file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            lines = {}
    return ConfigSources(display(chosen.file), lines, variables(environment))


def variables(environment: Mapping[str, str]) -> dict[config_lines.Path, str]:
    """The variables that set something, by the keys of what they set."""
    prefix = config_loader.PREFIX
    return {
        tuple(name.removeprefix(prefix).lower().split("__")): name
        for name in environment
        if name.startswith(prefix)
    }


def redacted(key: str, value: Any) -> Any:
    """A value that may be shown: of what can be a secret, stars. The name of a file is none."""
    if isinstance(value, Mapping):
        return {name: redacted(name, each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(key, each) for each in value]
    hidden = not key.endswith("_file") and _SECRET.search(key.lower())
    if isinstance(value, str) and value and (hidden or _WITH_PASSWORD.match(value)):
        return "***"
    return value
