"""Secrets, such as the address of a webhook: from the environment or a file, and in no output,
journal or child's environment.
"""

from __future__ import annotations

import os
import stat
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_healing.model.config import ConfigError
from miyabi_healing.support.config_loader import answered
from miyabi_healing.support.formatting import display

SLACK, APPRISE, PING = "SLACK_WEBHOOK_URL", "MIYABI_HEALING_APPRISE_URLS", "MIYABI_HEALING_PING_URL"
_LARGEST_FILE = 8192  # bytes


@dataclass(frozen=True)
class Secret:
    """Something that prints as stars, wherever it gets to."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "***"


withdrawn: dict[str, Secret] = {}  # by the name of the variable it was in


def withdraw(environment: MutableMapping[str, str] = os.environ) -> None:
    """Take the secrets out of the environment, so that no program we start, perhaps as another
    user, inherits them.
    """
    for name in (SLACK, APPRISE, PING):
        if value := environment.pop(name, "").strip():
            withdrawn[name] = Secret(value)


def restored() -> dict[str, str]:
    """The environment of another process of this same program."""
    return {**os.environ, **{name: each.value for name, each in withdrawn.items()}}


def find_secret(variable: str, file: str) -> Secret | None:
    """The secret that was in an environment variable, else the first in `file` (empty: none).
    Raises ConfigError.
    """
    return next(iter(find_all(variable, file)), None)


def find_all(variable: str, file: str) -> tuple[Secret, ...]:
    if variable in withdrawn:
        return (withdrawn[variable],)
    return secret_lines(Path(file).expanduser()) if file else ()


def secret_lines(path: Path) -> tuple[Secret, ...]:
    """The lines of a file, one at least, without empty ones and comments. Raises ConfigError, which
    tells none of them.
    """
    try:
        answered(path)
        with open(path, "rb", opener=_without_waiting) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_FILE:
                raise ConfigError(f"{display(path)}: secrets are short lines in a regular file")
            text = stream.read().decode()
    except OSError as error:
        raise ConfigError(f"{display(path)}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{display(path)}: not UTF-8") from None
    found = tuple(
        Secret(line.strip())
        for line in text.splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    )
    if not found:
        raise ConfigError(f"{display(path)}: it is empty; a secret is a line of it")
    return found


def _without_waiting(name: str, flags: int) -> int:
    """Open a file even where it is a FIFO that nobody writes to."""
    return os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC)
