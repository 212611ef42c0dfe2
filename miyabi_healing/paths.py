"""Where configuration and state live (XDG base directories; Apple's folders on macOS)."""

from __future__ import annotations

from pathlib import Path

import platformdirs

NAME = "miyabi-healing"


def config_candidates() -> tuple[Path, ...]:
    """The files a configuration is read from, the first that exists: the user's, then the system's."""
    folders = (platformdirs.user_config_path(NAME), platformdirs.site_config_path(NAME), Path("/etc") / NAME)
    return tuple(folder / "config.toml" for folder in folders)


def state_folder() -> Path:
    """Where journal, lock and quarantine live. It need not exist yet."""
    return platformdirs.user_state_path(NAME)
