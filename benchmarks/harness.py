"""Measuring: ours and the peer in turn, whole processes, so that both meet the same machine; then
medians, ratios, a table.

A topic is a generator of cases: it builds its world, yields what is to be measured in it, and
cleans up after the last. What a program prints as a JSON object on its last line of standard output
counts as figures of its own (``{"stall": 0.013}``).
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
LAUNCHER = str(PROJECT / "benchmarks" / "launch.py")
SECONDS = ("wall", "cpu")
MEMORY = Path("/dev/shm")
MARKS = ("<!-- the table begins -->", "<!-- the table ends -->")
Figures = dict[str, float]


class Skipped(Exception):
    """A topic or a case that cannot be measured here; the message says why."""


class Broken(Exception):
    """A program that was to be measured failed; the message says how."""


@dataclass(frozen=True)
class Command:
    """A program to run. `environment` is laid over ours, None takes a variable away; `codes` are
    the right exit statuses.
    """

    argv: tuple[str, ...]
    cwd: Path = PROJECT
    environment: Mapping[str, str | None] = field(default_factory=dict)
    codes: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Side:
    """One of the two that are compared. `command` is called before each run and may prepare its
    world; that is not measured.

    `after` is called after each run, not measured either: what it returns counts as figures of that
    run.
    """

    name: str
    command: Callable[[], Command]
    after: Callable[[], Mapping[str, float]] = dict


@dataclass(frozen=True)
class Aim:
    """What is to be reached: `figure` of ours at most `reach` times the peer's or, where it is
    `absolute`, at most `reach`.

    `against` is the peer's figure where that is another one. With `worst`, every round has to reach
    it, and not the median alone. A figure is ``wall``, ``cpu``
    (seconds), ``rss`` (bytes), or what the program prints. Without `reach` it is only shown. `name`
    says what it is where the job's name does not; `unit` is of a printed figure: ``s``, ``MB``, or
    any word.
    """

    figure: str = "wall"
    reach: float | None = None
    absolute: bool = False
    name: str = ""
    against: str = ""
    unit: str = ""
    worst: bool = False


@dataclass(frozen=True)
class Case:
    """One comparison. Without a peer, every aim is absolute."""

    job: str
    ours: Side
    peer: Side | None
    aims: tuple[Aim, ...]
    rounds: int = 5

    @property
    def against(self) -> str:
        return self.peer.name if self.peer else "–"


@dataclass(frozen=True)
class Row:
    """One line of the table. Of `ours` and `theirs`, the medians; `low`, `middle` and `high` are of
    what the aim speaks of.
    """

    topic: str
    job: str
    against: str
    ours: float
    theirs: float | None
    low: float
    middle: float
    high: float
    reach: float | None
    unit: str
    rounds: int
    absolute: bool
    worst: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the median, or the worst, is what was to be reached; None where nothing was."""
        judged = self.high if self.worst else self.middle
        return None if self.reach is None else judged <= self.reach


@dataclass(frozen=True)
class Settings:
    """How a topic is measured: where it may build, how the large worlds are scaled, and how often
    (0: as each case says).
    """

    folder: Path
    size: float = 1
    rounds: int = 0

    def scaled(self, count: float) -> int:
        return max(1, int(count * self.size))


Topic = Callable[[Settings], Generator[Case, None, None]]


def needs(*names: str) -> str:
    """The first of some programs that is installed. Raises Skipped where none is."""
    for name in names:
        if path := shutil.which(name):
            return path
    raise Skipped(f"{names[0]} is not installed")


def needs_root() -> None:
    if os.geteuid() != 0:
        raise Skipped("it needs root")


def python(module: str, function: str, *arguments: object, **options: object) -> Command:
    """A function of this project in an interpreter of its own; arguments reach it as text."""
    code = (
        f"import sys; sys.path.insert(0, sys.argv.pop(1)); from {module} import {function}; "
        f"{function}(*sys.argv[1:])"
    )
    argv = (sys.executable, "-I", "-c", code, str(PROJECT), *(str(each) for each in arguments))
    return Command(argv, **options)  # type: ignore[arg-type]


@contextlib.contextmanager
def ext4(folder: Path, size: str) -> Iterator[Path]:
    """A filesystem of its own, on a loop device, in memory where that is possible: a disk has
    moods, and others use it.

    Raises Skipped where it cannot be had.
    """
    needs_root()
    descriptor, name = tempfile.mkstemp(
        prefix="miyabi-bench-", dir=MEMORY if MEMORY.is_dir() else folder
    )
    os.close(descriptor)
    image, point = Path(name), folder / "disk"
    point.mkdir()
    try:
        subprocess.run([needs("truncate"), "-s", size, str(image)], check=True)
        subprocess.run(
            [needs("mkfs.ext4"), "-q", "-F", str(image)], check=True, capture_output=True
        )
        mounted = subprocess.run(
            ["mount", "-o", "loop", str(image), str(point)], capture_output=True, text=True
        )
        if mounted.returncode:
            raise Skipped(f"cannot mount here: {mounted.stderr.strip()}")
        try:
            yield point
        finally:
            subprocess.run(["umount", "-l", str(point)], check=True)
    finally:
        image.unlink()
        point.rmdir()


def measure(command: Command, note: Path) -> Figures:
    """Run a program to its end; what it cost, and what it says of itself. Raises Broken."""
    environment = {
        name: value
        for name, value in {**os.environ, **command.environment}.items()
        if value is not None
    }
    read, write = os.pipe()
    try:
        with note.open("wb") as output, note.with_suffix(".err").open("wb") as errors:
            done = subprocess.run(
                [sys.executable, "-I", "-S", LAUNCHER, str(write), *command.argv],
                cwd=command.cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                pass_fds=(write,),
            )
    finally:
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            answer = pipe.read()
    figures: Figures = json.loads(answer or b"{}")
    if done.returncode or figures.pop("code", -1) not in command.codes:
        said = note.with_suffix(".err").read_text(errors="replace").strip().splitlines()
        raise Broken(f"{' '.join(command.argv)[:200]}: {said[-1] if said else answer.decode()}")
    last = note.read_bytes().rstrip().rpartition(b"\n")[2]
    if last.startswith(b"{"):
        with contextlib.suppress(ValueError):
            figures.update({name: float(value) for name, value in json.loads(last).items()})
    return figures


def run_case(
    topic: str, case: Case, settings: Settings
) -> tuple[list[Row], list[dict[str, Figures]]]:
    """Measure one case; a first round of each, which only warms things up, is not counted. Raises
    Broken.
    """
    sides = [case.ours, *([case.peer] if case.peer else [])]
    samples: list[dict[str, Figures]] = []
    rounds = settings.rounds or case.rounds
    for number in range(rounds + 1):
        progress(f"{topic}: {case.job}, against {case.against}: {number} of {rounds}")
        figures: dict[str, Figures] = {}
        for key, side in zip(("ours", "theirs"), sides, strict=False):
            figures[key] = measure(side.command(), settings.folder / "said")
            figures[key].update(side.after())
        if number or rounds == 1:
            samples.append(figures)
    return [row(topic, case, aim, samples[-rounds:]) for aim in case.aims], samples[-rounds:]


def row(topic: str, case: Case, aim: Aim, samples: list[dict[str, Figures]]) -> Row:
    ours = [each["ours"][aim.figure] for each in samples if aim.figure in each["ours"]]
    if not ours:
        raise Broken(f"no round has the figure {aim.figure}")
    figure = aim.against or aim.figure
    theirs = [each["theirs"][figure] for each in samples if figure in each.get("theirs", {})]
    absolute = aim.absolute or not theirs
    values = (
        ours
        if absolute
        else [
            mine / peer if peer else float(mine > 0)
            for mine, peer in zip(ours, theirs, strict=True)
        ]
    )
    return Row(
        topic,
        f"{case.job}: {aim.name}" if aim.name else case.job,
        "–" if absolute else case.against,
        statistics.median(ours),
        statistics.median(theirs) if theirs else None,
        min(values),
        statistics.median(values),
        max(values),
        aim.reach,
        aim.unit or {"rss": "MB"}.get(aim.figure, "s" if figure in SECONDS else ""),
        len(samples),
        absolute,
        aim.worst,
    )


def worded(value: float | None, unit: str) -> str:
    """A figure for people: ``12.3 ms``."""
    if value is None:
        return "–"
    if unit == "MB":
        return f"{value / 1e6:.1f} MB"
    if unit != "s":
        return f"{value:.4g} {unit}".rstrip()
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    head = ("job", "against", "ours", "theirs", "min", "median", "max", "reach", "")
    lines = [head, ("---",) * len(head)]
    for each in rows:
        unit = each.unit if each.absolute else ""
        reach = "" if each.reach is None else f"≤ {worded(each.reach, unit)}"
        mark = {None: "", True: "reached", False: "**not reached**"}[each.reached]
        spread = [
            worded(value, unit) if each.absolute else f"{value:.3g}"
            for value in (each.low, each.middle, each.high)
        ]
        lines.append(
            (
                each.job,
                each.against,
                worded(each.ours, each.unit),
                worded(each.theirs, each.unit),
                *spread,
                reach,
                mark,
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    padded = (
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def machine(folder: Path) -> dict[str, object]:
    """What was measured on; nothing that names it."""
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True
    ).stdout.strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memory": f"{memory / 1e9:.0f} GB",
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "filesystem": kind,
        "load": round(os.getloadavg()[0], 2),
    }


def run(
    topics: Mapping[str, Topic], settings: Settings, report: Path | None, page: Path | None
) -> int:
    """Measure some topics, print the table, write the report; returns the number of aims that were
    not reached.

    In `page`, the table replaces the one between two marks.
    """
    where = machine(settings.folder)
    rows: list[Row] = []
    samples: dict[str, object] = {}
    skipped: list[str] = []
    for name, topic in topics.items():
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=settings.folder))
        inside = Settings(folder, settings.size, settings.rounds)
        try:
            with contextlib.closing(topic(inside)) as cases:
                for case in cases:
                    try:
                        found, raw = run_case(name, case, inside)
                    except (Skipped, Broken) as reason:
                        skipped.append(f"{name}, {case.job} against {case.against}: {reason}")
                        continue
                    rows += found
                    samples[f"{name}: {case.job} against {case.against}"] = raw
        except (Skipped, Broken) as reason:
            skipped.append(f"{name}: {reason}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    progress("")
    told = [
        ", ".join(f"{key} {value}" for key, value in where.items()),
        table(rows),
        *(f"Not measured: {each}" for each in skipped),
    ]
    print("\n\n".join(told))
    if page:
        before, rest = page.read_text().split(MARKS[0])
        page.write_text(
            f"{before}{MARKS[0]}\n\n"
            + "\n\n".join(told)
            + f"\n\n{MARKS[1]}{rest.split(MARKS[1])[1]}"
        )
    if report:
        lines = [{**each.__dict__, "reached": each.reached} for each in rows]
        document = {"machine": where, "rows": lines, "skipped": skipped, "samples": samples}
        report.write_text(json.dumps(document, indent=1) + "\n")
    return sum(each.reached is False for each in rows)


def progress(text: str) -> None:
    """One line on a terminal's standard error, overwritten by the next."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:120]}", end="", file=sys.stderr, flush=True)


def _end(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def main(topics: Mapping[str, Topic]) -> None:
    """The command line of the whole suite, and of each topic."""
    import argparse

    parser = argparse.ArgumentParser(
        description="What the program costs, against the tools that people use instead."
    )
    parser.add_argument(
        "topics",
        nargs="*",
        choices=[*topics, []],
        metavar="TOPIC",
        help=f"{', '.join(topics)}; default: all",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write everything that was measured there"
    )
    parser.add_argument(
        "--into",
        type=Path,
        metavar="PAGE",
        help="put the table into a page, as docs/performance.md",
    )
    parser.add_argument(
        "--rounds", type=int, default=0, help="how often to measure; default: as each case has it"
    )
    parser.add_argument(
        "--size",
        type=float,
        default=1,
        help="scale the worlds: 0.1 for a quick look, whose ratios mean little",
    )
    parser.add_argument(
        "--folder", type=Path, help="where the worlds are built; default: the temporary folder"
    )
    chosen = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)  # then what was built is taken away again
    with tempfile.TemporaryDirectory(
        prefix="miyabi-bench-", dir=chosen.folder, ignore_cleanup_errors=True
    ) as top:
        settings = Settings(Path(top).resolve(), chosen.size, chosen.rounds)
        missed = run(
            {name: topics[name] for name in chosen.topics or topics},
            settings,
            chosen.json,
            chosen.into,
        )
    sys.exit(1 if missed else 0)
