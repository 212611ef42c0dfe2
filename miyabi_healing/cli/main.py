"""The command line: one program, whether started as ``run_healing.sh``, ``self_healer.py`` or
``miyabi-healing``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from click.core import ParameterSource

from miyabi_healing import __version__
from miyabi_healing.cli.command_table import (
    AnyPath,
    LazyCommands,
    complete_check_names,
    interval_seconds,
)
from miyabi_healing.model import config
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.report import style
from miyabi_healing.report.outputs import dispatch
from miyabi_healing.runner import registry, session
from miyabi_healing.support import (
    config_loader,
    console,
    interrupts,
    mount_answers,
    paths,
    secrets,
    startup,
)
from miyabi_healing.support.console import stop
from miyabi_healing.support.invocation import (
    COMPLETE_VARIABLE,
    own_command,
    own_program,
    use_configuration,
)

_YES = ("1", "true", "t", "yes", "y", "on")
FORKS = sys.platform == "linux"  # on macOS, system libraries may break in a fork

if TYPE_CHECKING:
    from miyabi_healing.report.alerts.message import Channel
    from miyabi_healing.report.document_types import Document
    from miyabi_healing.runner.choosing import Choice

_EPILOG = (
    "Exit status: 0 healthy or healed, 1 some issues remain, 2 usage or configuration, "
    "3 something could not be checked, "
    "4 a rollout of a fleet was stopped, "
    "75 another run is at work, or a fleet's request was superseded, "
    "129, 130 or 143 asked to stop by SIGHUP, SIGINT or SIGTERM."
)


@click.group(
    cls=LazyCommands,
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("-d", "--dry-run", is_flag=True, help="Show what would be done; change nothing.")
@click.option(
    "-j", "--json", "as_json", is_flag=True, help="Print the report as one JSON document."
)
@click.option("-w", "--watch", is_flag=True, help="Keep running, one run every interval.")
@click.option(
    "-i", "--interval", default="5m", show_default=True, metavar="DURATION",
    callback=interval_seconds,
    help="Between two runs with --watch: 30s, 5m, 1h; 90 is seconds.",
)  # fmt: skip
@click.option(
    "--only", multiple=True, metavar="NAME[,NAME]", shell_complete=complete_check_names,
    help="Run these checks alone: by a check's name, or a healer's for all that call it.",
)  # fmt: skip
@click.option(
    "--skip", multiple=True, metavar="NAME[,NAME]", shell_complete=complete_check_names,
    help="Run all checks but these.",
)  # fmt: skip
@click.option(
    "--if-predicted", type=AnyPath(), metavar="FILE",
    help="Make no run if the failure predictor's document in FILE (- is standard input) says "
    "healthy. Heal as usual if it cannot be read.",
)  # fmt: skip
@click.option(
    "--fleet-run", metavar="LABEL", envvar="MIYABI_HEALING_FLEET_RUN",
    help="Make the run of that name once: asked again, its report is printed again.",
)  # fmt: skip
@click.option(
    "--fleet-token", type=int, metavar="N", envvar="MIYABI_HEALING_FLEET_TOKEN",
    help="Make no run (75) if this host was asked with a higher number before.",
)  # fmt: skip
@click.option(
    "-s",
    "--slack",
    is_flag=True,
    help="Tell Slack what has changed; the webhook is in SLACK_WEBHOOK_URL.",
)
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Print nothing while all is well, and what stays as it is in a line, whole once a day.",
)
@click.option(
    "-v",
    "--verbose",
    count=True,
    help="Show every step in the report. Twice (-vv, or MIYABI_HEALING_DEBUG=1): tell on standard "
    "error, too, what is asked, how long it takes, and where checks and healers fail.",
)
@click.option("--no-emoji", is_flag=True, help="Print plain marks, as with TERM=dumb.")
@click.option(
    "--nagios",
    is_flag=True,
    help="Print one line and end with 0, 1, 2 or 3, as monitoring plugins do.",
)
@click.option(
    "--github",
    is_flag=True,
    help="Annotate for GitHub Actions, as is done where GITHUB_ACTIONS is true.",
)
@click.option(
    "--junitxml",
    type=AnyPath(),
    metavar="FILE",
    help="Write the results to FILE as JUnit XML as well.",
)
@click.option(
    "--config", "config_file", type=AnyPath(), metavar="FILE", help="Read this configuration file."
)
@click.option(
    "--checks",
    type=AnyPath(),
    metavar="DIR",
    multiple=True,
    help="A further folder with checks, and with healers in healers/.",
)
@click.version_option(__version__, prog_name="miyabi-healing")
@click.pass_context
def command(
    context: click.Context, dry_run: bool, as_json: bool, watch: bool, interval: float,
    only: tuple[str, ...], skip: tuple[str, ...], if_predicted: str | None,
    fleet_run: str | None, fleet_token: int | None, slack: bool,
    quiet: bool, verbose: int, no_emoji: bool, nagios: bool, github: bool, junitxml: str | None,
    config_file: str | None, checks: tuple[str, ...],
) -> None:  # fmt: skip
    """Check this host, repair what can be repaired without losing anything, and prove it.

    With --dry-run: show the plan and change nothing.
    """
    use_configuration(config_file)
    style.wish(emoji=not no_emoji, every_step=verbose > 0)
    debug = verbose > 1 or os.environ.get("MIYABI_HEALING_DEBUG", "").lower() in _YES
    if debug:
        from miyabi_healing.support import verbose as telling

        telling.enable()
    if nagios and (as_json or watch or context.invoked_subcommand):
        raise click.UsageError(
            "--nagios prints one line about one run: leave out --json, --watch and commands"
        )
    if watch and (github or junitxml):
        raise click.UsageError("--github and --junitxml are about one run: leave out --watch")
    if not watch and context.get_parameter_source("interval") == ParameterSource.COMMANDLINE:
        raise click.UsageError(
            "--interval is about --watch: add --watch; "
            f"'{own_command()} install --interval DURATION' has runs made for good"
        )
    if (only or skip) and context.invoked_subcommand:
        raise click.UsageError(
            "--only and --skip choose the checks of a run: leave out the command"
        )
    if if_predicted is not None and (watch or nagios or context.invoked_subcommand):
        raise click.UsageError(
            "--if-predicted decides about one run: leave out --watch, --nagios and commands"
        )
    fleet = None
    if fleet_run or fleet_token is not None:
        from miyabi_healing.cli.fleet_order import read_order

        fleet = read_order(fleet_run, fleet_token)
    if fleet and (watch or nagios):
        raise click.UsageError("--fleet-run is about one run: leave out --watch and --nagios")
    if context.invoked_subcommand:
        from miyabi_healing.cli.common import CommandContext

        if context.invoked_subcommand != "completion" and mount_answers.is_silent(
            paths.state_folder()
        ):
            stop("the state folder lies on a mount that does not answer", ExitCode.UNKNOWN)
        context.obj = CommandContext(config_file, dry_run, as_json, checks)
        return
    choice: Choice | None = None
    if only or skip:
        from miyabi_healing.cli.choice import read_choice, validate_choice

        choice = read_choice(only, skip)
    if watch:
        from miyabi_healing.cli.watch import keep_watching

        sys.exit(
            keep_watching(
                config_file, interval, dry_run, as_json, quiet, slack, checks, debug, choice
            )
        )
    if if_predicted is not None:
        from miyabi_healing.cli.if_predicted import is_needless

        if is_needless(if_predicted, quiet=quiet, as_json=as_json):
            sys.exit(ExitCode.HEALTHY)
    github = github or os.environ.get("GITHUB_ACTIONS") == "true"
    began, settings, reason = time.monotonic(), config.Config(), ""
    superseded_by: int | None = None
    to: tuple[Channel, ...] = ()
    unseen = quiet or as_json or nagios or debug
    try:
        settings = config_loader.load_config(config_file)
        if choice:
            validate_choice(choice, settings, checks)
        if not settings.report.emoji:
            style.wish(emoji=False)
        to = dispatch.usable_channels(settings, slack)
        if FORKS and (checks or settings.extend.folders or mount_answers.may_block()):
            from miyabi_healing.runner import supervised

            supervised.enter()
        with interrupts.in_order(), console.progress_line(unseen) as progress:
            dispatch.begin_run(settings, dry_run, part=bool(choice or fleet))
            xml = Path(os.path.expanduser(junitxml)).absolute() if junitxml else None
            document, code = session.run_checks(
                settings, dry_run=dry_run, more_checks=checks, junitxml=xml, choice=choice,
                fleet=fleet, progress=progress,
            )  # fmt: skip
    except click.UsageError:
        raise
    except config.ConfigError as error:
        reason, code = str(error), ExitCode.USAGE
    except session.Stopped as stopped:
        reason, code, superseded_by = str(stopped), stopped.code, stopped.superseded_by
    except interrupts.StopRequested as asked:
        reason, code = f"stopped by {asked}", 128 + interrupts.received
    except Exception as error:  # a bug of ours must not pass for an issue of the host
        reason, code = f"{type(error).__name__}: {error}", ExitCode.UNKNOWN
        if debug:
            telling.end(error)
    if reason:
        document = _no_report(reason, silent=nagios)
        if superseded_by is not None:
            document["superseded_by"] = superseded_by
    if document.get("again"):  # it was sent then
        from miyabi_healing.cli.fleet_order import show_again

        try:
            show_again(document, as_json=as_json, quiet=quiet)
        finally:
            if interrupts.guardian:
                supervised.reported()
        sys.exit(code)
    ended, mail = code, dispatch.queue_outputs(document, code, settings, to, dry_run)
    try:
        if nagios:
            ended = _show_line(document, code)
        elif (as_json or not reason) and (
            not quiet
            or code != ExitCode.HEALTHY
            or document["issues_detected"]
            or (
                (document.get("foreseen") or document["actions_taken"]) and _tells_quietly(document)
            )
        ):
            _show(document, as_json, github, brief=quiet)
    finally:  # also where nobody reads what is shown
        if interrupts.guardian:
            supervised.reported()
        annotate = (console.STDERR if as_json or nagios else console.STDOUT) if github else 0
        seconds = time.monotonic() - began
        dispatch.send_outputs(
            document,
            code,
            settings,
            dry_run=dry_run,
            seconds=seconds,
            annotate=annotate,
            mail=mail,
            healers=partial(registry.healer_names, settings),
            part=bool(choice),
        )
    sys.exit(ended)


def _no_report(reason: str, silent: bool) -> Document:
    """Say why there is no report; who asked for JSON, or for one line, gets a document that says so
    as well.
    """
    from miyabi_healing.report import documents

    if not silent:
        console.complain(reason, console.ERROR)
    return documents.failed_report(reason)


def _show_line(document: Document, code: int) -> int:
    """Print what a monitoring plugin prints; returns the status it ends with."""
    from miyabi_healing.report.outputs import nagios
    from miyabi_healing.report.outputs.output import OutputRequest

    nagios.send(OutputRequest(document, code, config.Config(), document["dry_run"], 0))
    return nagios.exit_status(document, code)


def _tells_quietly(document: Document) -> bool:
    from miyabi_healing.report import unchanged

    return unchanged.is_told_quietly(document)


def _show(document: Document, as_json: bool, github: bool = False, brief: bool = False) -> None:
    """Print the report; of one that only says what the last one has said, no more than a line where
    it is to be `brief` or goes to systemd's journal.
    """
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    if "unchanged" in document and (brief or console.is_journal(console.STDOUT)):
        from miyabi_healing.report import unchanged

        if not unchanged.is_news(document):
            words = unchanged.line(document)
            level = console.INFO if document["overall_success"] else console.WARNING
            in_journal = console.is_journal(console.STDOUT)
            click.echo(console.marked(words, level) if in_journal else words)
            return
    from miyabi_healing.report import text

    look = style.current()
    words = text.render_report(document, look.colour, console.is_journal(console.STDOUT), look)
    if github:
        from miyabi_healing.report.outputs.github import fenced

        words = fenced(words)
    click.echo(words.encode(sys.stdout.encoding or "utf-8", "backslashreplace"), nl=False)


def _show_error(error: click.ClickException) -> None:
    """As click does; and of an option that the program has, but the command that it follows has
    not, where it goes.
    """
    error.show()
    if not isinstance(error, click.NoSuchOption) or not error.ctx or not error.ctx.parent:
        return
    if any(error.option_name in each.opts for each in command.params):
        click.echo(
            (
                f"It goes before the command: {own_program()} {error.option_name} "
                f"... {error.ctx.info_name}"
            ),
            err=True,
        )


def main() -> None:
    """Run the program."""
    startup.collect_seldom()
    try:
        run()
    except SystemExit as end:
        startup.leave(end)


def run() -> NoReturn:
    startup.open_what_is_closed()
    try:
        here = os.getcwd()
    except FileNotFoundError:  # the folder it was started in is gone; pytest could not start there
        here = ""
    if not here.startswith("/"):  # it was unmounted
        os.chdir("/")
    elif mount_answers.is_silent(here):  # pytest goes back there at its end
        os.chdir("/")
        mount_answers.left_behind = here
    secrets.withdraw()
    # whatever happens, a plugin's exit status must not be taken for another
    plugin = "--nagios" in sys.argv
    try:
        sys.exit(
            command.main(
                prog_name=own_command(), complete_var=COMPLETE_VARIABLE, standalone_mode=False
            )
        )
    except click.Abort:
        # Ctrl-C where no run is at work: click would end with 1, which means that issues remain
        reason, code = "stopped by SIGINT", 128 + signal.SIGINT
    except click.ClickException as error:
        if not plugin:
            _show_error(error)
            sys.exit(error.exit_code)
        reason, code = error.format_message(), error.exit_code
    except Exception as error:
        if not plugin:
            raise
        reason, code = f"{type(error).__name__}: {error}", ExitCode.UNKNOWN
    if plugin:
        sys.exit(_show_line(_no_report(reason, silent=True), code))
    stop(reason, code)
