"""``predict``: which limits will be crossed, and when, if nothing is done."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from typing import TYPE_CHECKING

import click

from miyabi_healing.cli.command_table import AnyPath
from miyabi_healing.cli.common import CommandContext, Refusal, as_json, reading, settings
from miyabi_healing.cli.listing import folders
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.support import console, mount_answers, paths
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.model.outlook import Outlook
    from miyabi_healing.support.series_file import SeriesFile

_STDIN = "-"


@click.command()
@as_json
@click.option(
    "--series",
    "series_file",
    type=AnyPath(),
    metavar="FILE",
    help="Forecast this file instead, a time and a number a line; - is standard input.",
)
@click.option(
    "--threshold", type=float, metavar="N", help="The limit that the values of --series may cross."
)
@click.pass_obj
def predict(
    given: CommandContext, as_json: bool, series_file: str | None, threshold: float | None
) -> None:
    """Which limits will be crossed, and when, if nothing is done: by the history of this host's
    runs and its values now, or by a file.

    Changes nothing and heals nothing. With --json: the document of the failure predictor. Exit
    status: 0 nothing is foreseen, or not within two hours; 1 a limit is crossed, or will be within
    two hours; 2 within half an hour; 3 where nothing could be told.
    """
    from miyabi_healing.report import layout, prediction, style

    if (series_file is None) != (threshold is None):
        raise click.UsageError("--series FILE and --threshold N go together")
    if threshold is not None and not math.isfinite(threshold):
        raise click.UsageError(f"--threshold must be a number, not {threshold}")
    if series_file is not None and threshold is not None:
        outlook = _of_file(series_file, threshold)
    else:
        outlook = _of_host(given)
    for each in outlook.unknown:
        console.complain(f"could not be read: {each}")
    if as_json or given.as_json:
        click.echo(json.dumps(prediction.build_prediction(outlook), indent=2))
    else:
        look = style.current()
        for line in prediction.prediction_lines(outlook, layout.screen_width()):
            click.echo(look.finished(line))
    sys.exit(prediction.exit_status(outlook))


def _of_host(given: CommandContext) -> Outlook:
    """Of this host. A history that cannot be read is as good as none, and is told of. Raises
    Refusal.
    """
    from dataclasses import replace

    from miyabi_healing.cli.setup.installed import find_installed
    from miyabi_healing.runner import predicting
    from miyabi_healing.support.invocation import own_command

    chosen = settings(given)
    where = folders(chosen, given.checks)
    try:
        with reading(paths.state_folder()) as journal:
            found = predicting.look_ahead(chosen, journal, where, given.checks)
    except Refusal as error:
        console.complain(error.message)
        found = predicting.look_ahead(chosen, None, where, given.checks)
    if not found.told and chosen.foresight.enabled and not find_installed():
        found = replace(found, commands=(f"{own_command()} install --dry-run",))
    return found


def _of_file(name: str, threshold: float) -> Outlook:
    """Of a file. What in it is no sample is named on standard error. Raises Refusal."""
    from miyabi_healing.foresight import forecast
    from miyabi_healing.model.foreseen import Foreseen
    from miyabi_healing.model.outlook import SERIES, Outlook, Prediction

    found, shown = _read(name), "standard input" if name == _STDIN else display(name)
    for each in found.named:
        console.complain(f"{shown}: {each}")
    if found.bad > len(found.named):
        console.complain(f"{shown}: {found.bad} bad lines in all")
    if not found.times:
        what = "no line of it is a time and a number" if found.bad else "it has no samples"
        raise Refusal(f"{shown}: {what}", ExitCode.UNKNOWN)
    last, value = found.times[-1], found.values[-1]
    seen = forecast(found.times, found.values, threshold)
    predictions: tuple[Prediction, ...] = ()
    if seen is not None:
        foreseen = Foreseen(
            issue=SERIES,
            target=shown,
            value=value,
            threshold=threshold,
            unit="",
            measured=last,
            eta_seconds=seen.eta_seconds,
            earliest=seen.earliest,
            latest=seen.latest,
            basis=seen.basis,
        )
        predictions = (
            Prediction(
                component=SERIES,
                metric=SERIES,
                foreseen=foreseen,
                seconds=seen.eta_seconds,
                crossed=value >= threshold,
            ),
        )
    return Outlook(
        now=time.time(),
        horizon=None,
        predictions=predictions,
        metrics={SERIES: value},
        series=1,
        samples=found.lines,
        span=last - found.times[0],
        told=_enough(found.times),
        notes=(f"Of {found.lines} lines one of {found.every} was looked at.",)
        if found.every > 1
        else (),
    )


def _enough(times: list[float]) -> bool:
    """Whether steady growth at these times would be foreseen."""
    from miyabi_healing.foresight import forecast

    steady = [float(number) for number in range(len(times))]
    return forecast(times, steady, steady[-1] + 1) is not None


def _read(name: str) -> SeriesFile:
    """Raises Refusal."""
    from miyabi_healing.support.series_file import read_series_file

    if name == _STDIN:
        return read_series_file(sys.stdin.buffer)
    path = os.path.expanduser(name)
    if mount_answers.is_silent(path):
        raise Refusal(f"{display(name)} lies on a mount that does not answer", ExitCode.UNKNOWN)
    try:
        with open(path, "rb") as file:
            return read_series_file(file)
    except OSError as error:
        raise Refusal(f"{display(name)}: {error.strerror}", ExitCode.UNKNOWN) from None
