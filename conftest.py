"""Wires checks, healers and the engine together for ``pytest checks/``."""

pytest_plugins = ["miyabi_healing.runner.plugin"]
