"""``--watch``: a run at each interval, until somebody asks to stop."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from miyabi_healing.model import config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.report.outputs import dispatch
from miyabi_healing.runner import registry
from miyabi_healing.support import config_loader
from miyabi_healing.support.console import stop

if TYPE_CHECKING:
    from miyabi_healing.runner.choosing import Choice


def keep_watching(
    config_file: str | None,
    interval: float,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    slack: bool,
    checks: tuple[str, ...],
    verbose: bool = False,
    choice: Choice | None = None,
) -> int:
    from miyabi_healing.report import live
    from miyabi_healing.runner.watch import loop

    try:
        settings = config_loader.load_config(config_file)
        where = registry.checks_folders(settings, checks)
        registry.validate_settings(settings, where)
        if choice:
            from miyabi_healing.runner import choosing

            choosing.choose(choice, where, settings)
        dispatch.usable_channels(settings, slack)
    except config.ConfigError as error:
        stop(str(error), ExitCode.USAGE)
    except ImportError as error:  # of a healer with options
        stop(str(error), ExitCode.UNKNOWN)
    with live.showing(as_json, quiet, lines=verbose) as view:
        return loop.WatchLoop(
            settings,
            partial(config_loader.load_config, config_file),
            interval,
            dry_run,
            slack,
            checks,
            loop.same_program(),
            view,
            time_limit=settings.watch.time_limit,
            choice=choice,
        ).run()
