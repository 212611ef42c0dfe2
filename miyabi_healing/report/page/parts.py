"""What is on the page, in words and in per cent of a picture's width and height: data alone, which
the template only has to place.
"""

from __future__ import annotations

from dataclasses import dataclass

# what colours a number or an area; it is said in words as well
GOOD, WARN, BAD, QUIET, OWN = "good", "warn", "bad", "quiet", "own"


@dataclass(frozen=True)
class Tile:
    """One number of the state now; `tone` colours it."""

    label: str
    number: str
    rest: str
    note: str
    tone: str = QUIET


@dataclass(frozen=True)
class Mark:
    """A label or a line at a place of a picture, in per cent of its width or height."""

    at: float
    text: str


@dataclass(frozen=True)
class Plot:
    """One value's course: `line`, `area` and `heals` are paths in a picture of `charts.WIDTH` by
    `charts.HEIGHT`.

    `limit` is where its limit is, `holes` are where nothing is known (from, width), `end` is where
    the course ends, all in per cent.
    """

    line: str
    area: str
    limit: Mark
    ticks: tuple[Mark, ...]
    heals: str
    holes: tuple[tuple[float, float], ...]
    end: tuple[float, float] | None


@dataclass(frozen=True)
class Chart:
    """A value with its course. `title` and `where` name it, `now` and `limit` are its numbers,
    `caption` says the picture in words.
    """

    title: str
    where: str
    now: str
    limit: str
    state: str
    tone: str
    caption: str
    plot: Plot


@dataclass(frozen=True)
class Ahead:
    """What is foreseen of a value, beside its course of late: `dashes` is a path from now to the
    limit, `band` where that is reached in eight of ten cases (from, width, in per cent), None where
    that is not known. `text` says it in words.
    """

    chart: Chart
    dashes: str
    band: tuple[float, float] | None
    times: tuple[Mark, ...]
    text: str


@dataclass(frozen=True)
class Share:
    """A part of what grew, in per cent; `rest` is whether nothing explains it."""

    part: float
    number: str
    text: str
    command: str = ""
    rest: bool = False


@dataclass(frozen=True)
class Why:
    """Why an issue was as it was: shares that make one whole, and other reasons in words."""

    text: str
    healed: bool
    shares: tuple[Share, ...]
    hints: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """A part of the treemap: x, y, width, height in per cent; `named` is on a wide and on a narrow
    screen.
    """

    x: float
    y: float
    width: float
    height: float
    name: str
    size: str
    tone: str
    wide: bool
    narrow: bool


@dataclass(frozen=True)
class Folder:
    """What takes space, as a row: the picture's text alternative."""

    size: str
    path: str
    verdict: str
    what: str
    tone: str


@dataclass(frozen=True)
class Space:
    """What took the space of a filesystem, and when that was looked at."""

    where: str
    when: str
    cells: tuple[Cell, ...]
    folders: tuple[Folder, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Deed:
    """What one healer did in one run. `undo` is a command, or empty where `undone` says why."""

    when: str
    what: str
    where: str
    change: str
    undo: str
    undone: str
    taken_back: bool


@dataclass(frozen=True)
class Thing:
    """One thing that was kept: `why` and `command` are commands, empty where there is none."""

    name: str
    folder: str
    detail: str
    count: int
    why: str
    command: str


@dataclass(frozen=True)
class KeptGroup:
    """What was kept for one reason; `more` is how many further things are not listed."""

    reason: str
    check: str
    count: int
    decide: bool
    things: tuple[Thing, ...]
    more: int


@dataclass(frozen=True)
class Held:
    """What one run has in quarantine."""

    when: str
    what: str
    size: str
    until: str
    command: str


@dataclass(frozen=True)
class Quarantine:
    """What is set aside; `first` is when the first of it leaves, `more` how many further runs have
    something there.
    """

    rows: tuple[Held, ...]
    size: str
    limit: str
    first: str
    is_full: bool
    more: int


@dataclass(frozen=True)
class Line:
    """A sentence of the state now, and in `more` what there is to say of it besides."""

    text: str
    tone: str
    command: str = ""
    more: str = ""


@dataclass(frozen=True)
class Page:
    """All of it. `program` is how the program is called in the commands that are shown."""

    host: str
    made: str
    checked: str
    verdict: Line
    lines: tuple[Line, ...]
    tiles: tuple[Tile, ...]
    ahead: tuple[Ahead, ...]
    whys: tuple[Why, ...]
    charts: tuple[Chart, ...]
    times: tuple[Mark, ...]
    span: str
    unshown: tuple[str, ...]
    space: Space | None
    deeds: tuple[Deed, ...]
    kept: tuple[KeptGroup, ...]
    kept_when: str
    quarantine: Quarantine
    program: str
    version: str
