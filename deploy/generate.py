"""Write everything in this folder anew: ``python3 noxfile.py --session deploy``.

What ``miyabi-healing install`` would write for a program in /opt/miyabi-healing, to read or to
copy; rules and a dashboard for the metrics; and what the wheel brings to ``share/``: completion for
shells, and the manual page, whose options and commands are the program's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from deploy import monitoring
from miyabi_healing import __version__
from miyabi_healing.cli.completion import completion_script
from miyabi_healing.cli.main import command
from miyabi_healing.cli.setup import service_units

HERE = Path(__file__).resolve().parent
PROGRAM = ("/opt/miyabi-healing/run_healing.sh",)


def services() -> dict[str, bytes]:
    """The units, property lists and lines of cron, by their names below this folder."""
    found: dict[str, bytes] = {}
    for scope in ("system", "user"):
        job = service_units.Job(
            PROGRAM, service_units.INTERVAL, scope == "system", Path("/Users/you")
        )
        watch = service_units.Job(PROGRAM, service_units.INTERVALS["systemd-watch"], job.system)
        for name in ("miyabi-healing.service", "miyabi-healing.timer"):
            found[f"systemd/{scope}/{name}"] = service_units.render_unit(name, job).encode()
        name = "miyabi-healing-watch.service"
        found[f"systemd/{scope}/{name}"] = service_units.render_unit(name, watch).encode()
        found[f"launchd/{scope}/miyabi-healing.plist"] = service_units.property_list(job)
        cron = service_units.cron_file if job.system else service_units.cron_block
        found[f"cron/{'cron.d' if job.system else 'crontab'}"] = cron(job, "localhost").encode()
    return found


def share() -> dict[str, bytes]:
    """What an installed program brings to ``share/``."""
    places = {
        "bash": "bash-completion/completions/miyabi-healing",
        "zsh": "zsh/site-functions/_miyabi-healing",
        "fish": "fish/vendor_completions.d/miyabi-healing.fish",
    }
    found = {
        f"share/{place}": completion_script(shell, command).encode()
        for shell, place in places.items()
    }
    return {**found, "share/man/man1/miyabi-healing.1": manual().encode()}


def manual() -> str:
    """The manual page: what is written by hand, and the options and commands as the program knows
    them.
    """
    context = click.Context(command, info_name="miyabi-healing", **command.context_settings)
    frame = (HERE / "miyabi-healing.1.in").read_text(encoding="utf-8")
    commands = "\n".join(
        line for each in subcommands(command, context) for line in described(each, context)
    )
    return service_units.fill(
        frame, VERSION=__version__, OPTIONS="\n".join(options(context)), COMMANDS=commands
    )


def described(each: click.Command, parent: click.Context) -> Iterator[str]:
    """One command with its options, and those below it."""
    context = click.Context(each, info_name=each.name, parent=parent)
    usage = " ".join((context.command_path, *each.collect_usage_pieces(context)))
    yield f".SS {roff(usage.removeprefix('miyabi-healing '))}"
    for number, paragraph in enumerate((each.help or "").split("\n\n")):
        yield from (".PP",) if number else ()
        yield roff(" ".join(paragraph.split()))
    yield from options(context)
    if isinstance(each, click.Group):
        for below in subcommands(each, context):
            yield from described(below, context)


def subcommands(group: click.Group, context: click.Context) -> Iterator[click.Command]:
    """The commands of a group, by name; they are loaded late."""
    yield from filter(
        None, (group.get_command(context, name) for name in group.list_commands(context))
    )


def options(context: click.Context) -> Iterator[str]:
    """The options of one command; --help, which all have, only of the program's own."""
    for option in context.command.get_params(context):
        record = option.get_help_record(context)
        if (
            record
            and isinstance(option, click.Option)
            and not (context.parent and "--help" in option.opts)
        ):
            yield ".TP"
            yield re.sub(r"(?<![^ ])(\\-[^ ,]*)", r"\\fB\1\\fR", roff(record[0]))
            yield roff(" ".join(record[1].split()))


def roff(text: str) -> str:
    """A line of text for groff_man(7): hyphens that can be copied, no accidental requests."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def contents() -> dict[str, bytes]:
    """Everything that is generated."""
    return {**services(), **share(), **monitoring.contents()}


if __name__ == "__main__":
    for name, data in contents().items():
        (HERE / name).parent.mkdir(parents=True, exist_ok=True)
        (HERE / name).write_bytes(data)
