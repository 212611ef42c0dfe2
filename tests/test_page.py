"""What the page says, and that it is true: values, gaps, deeds, what was kept, hostile names."""

from __future__ import annotations

import html.parser
import os
import re
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pagework
import pytest
from pagework import NOW, RUN, page_of
from program import run, settings

from miyabi_healing.model.config import Config, ReportSettings
from miyabi_healing.report.page import charts, kept, making, state_now, treemap, words
from miyabi_healing.report.page.parts import KeptGroup, Page, Quarantine
from miyabi_healing.state.courses import Bucket, Course, Courses, read_courses
from miyabi_healing.state.history import LEFT_OUT
from miyabi_healing.state.store import open_read_only
from miyabi_healing.support.formatting import DAY, day_text

HOUR = 3600.0
DISK = ("disk_space_critical", "/")


def disk(value: float | None, outcome: str = "healthy", after: float | None = None) -> Any:
    return (*DISK, value, after, 90, "%", outcome)


def courses(state: Path, now: float = NOW, buckets: int = 24) -> Courses:
    with open_read_only(state) as book:
        assert book
        return read_courses(book, now - 90 * DAY, now, buckets)


def history(state: Path, rows: list[tuple[float, Any]]) -> Path:
    book = pagework.journal(state)
    with book.at_once():
        for moment, row in rows:
            pagework.run_at(book, moment, [row])
    book.close()
    return state


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pagework.world(tmp_path_factory.mktemp("world") / "state", runs=60)


@pytest.fixture(scope="module")
def page(world: Path) -> Page:
    return page_of(world)


def test_one_high_value_among_many_stays(tmp_path: Path) -> None:
    rows = [(NOW - number * 300, disk(20)) for number in range(1000, -1, -1)]
    rows[500] = (rows[500][0], disk(89))
    (value,) = courses(history(tmp_path, rows)).values
    assert len(value.buckets) <= 25
    assert max(each.high or 0 for each in value.buckets) == 89
    drawn = charts.plot(value, courses(tmp_path), NOW, str)
    lowest = round(charts.HEIGHT * (1 - 89 / (90 * 1.12)))
    assert lowest in heights(drawn.line)


def heights(path: str) -> list[int]:
    """Where the points of a path of ours are, downwards."""
    found, y = [], 0
    for piece in path.split("M")[1:]:
        start, _, steps = piece.partition("l")
        y = int(start.split()[1])
        numbers = [int(each) for each in re.findall(r"-?\d+", steps)]
        found.append(y)
        for step in numbers[1::2]:
            y += step
            found.append(y)
    return found


def test_hours_without_a_run_are_a_hole_and_no_line(tmp_path: Path) -> None:
    rows = [(NOW - number * 300, disk(20)) for number in range(1000, -1, -1)]
    found = courses(history(tmp_path, rows[:400] + rows[700:]))
    drawn = charts.plot(found.values[0], found, NOW, str)
    assert drawn.line.count("M") == 2
    ((begin, width),) = drawn.holes
    assert begin == pytest.approx(40, abs=5)
    assert width == pytest.approx(30, abs=5)


def test_host_that_is_checked_once_a_day_has_no_holes(tmp_path: Path) -> None:
    rows = [(NOW - number * DAY, disk(20)) for number in range(20, -1, -1)]
    rows[9] = (rows[9][0] + 12 * HOUR, disk(20))  # it was off for a while
    found = courses(history(tmp_path, rows), now=NOW + HOUR, buckets=240)
    drawn = charts.plot(found.values[0], found, NOW + HOUR, str)
    assert (drawn.holes, drawn.line.count("M"), found.interval) == ((), 1, DAY)


@pytest.mark.parametrize(
    ("pace", "said"),
    [(3.97, "4 s"), (60.2, "1 min"), (299.3, "5 min"), (3601.0, "hour"), (DAY - 4, "day")],
)
def test_pace_is_said_without_what_runs_are_late(tmp_path: Path, pace: float, said: str) -> None:
    state = history(tmp_path, [(NOW - number * pace, disk(20)) for number in range(5, -1, -1)])
    assert page_of(state).checked.endswith(f" A run every {said}.")


def test_runs_that_could_not_measure_are_a_hole_and_are_counted(tmp_path: Path) -> None:
    rows = [(NOW - number * 300, disk(20)) for number in range(100, -1, -1)]
    rows[40:60] = [(moment, disk(None, "unknown")) for moment, _ in rows[40:60]]
    found = courses(history(tmp_path, rows), buckets=50)
    assert len(charts.plot(found.values[0], found, NOW, str).holes) == 1
    assert "not known 20 times" in page_of(tmp_path).charts[0].caption


def test_no_run_is_counted_twice_where_the_clock_was_set_back(tmp_path: Path) -> None:
    moments = [NOW - HOUR * number for number in (9, 8, 7, 6, 8.5, 7.5, 5, 4)]
    found = courses(history(tmp_path, [(moment, disk(20)) for moment in moments]), buckets=6)
    assert sum(each.known for each in found.values[0].buckets) == len(moments)


def test_value_that_is_not_measured_any_more_is_named_without_a_picture(tmp_path: Path) -> None:
    old = (*("disk_space_critical", "/mnt"), 50, None, 90, "%", "healthy")
    rows = [(NOW - 30 * DAY, old), *((NOW - n * 300, disk(20)) for n in range(20, -1, -1))]
    found = page_of(history(tmp_path, rows))
    assert [each.where for each in found.charts] == ["/"]
    assert found.unshown == (f"disk /mnt (last {day_text(NOW - 30 * DAY, NOW)})",)


def test_check_that_is_skipped_has_no_picture(tmp_path: Path) -> None:
    book = pagework.journal(tmp_path)
    skipped = ("swap_usage", "", None, None, 90, "%", "healthy")
    pagework.run_at(book, NOW, [disk(20), skipped])
    book.close()
    assert [each.title for each in page_of(tmp_path).charts] == ["disk"]


@pytest.mark.parametrize(("count", "down"), [(12, charts.HEIGHT), (13, charts.HEIGHT // 12)])
def test_lines_of_many_heals_do_not_hide_the_course(count: int, down: int) -> None:
    buckets = tuple(Bucket(NOW - n * HOUR, 1, 9, 1, 0, 1, 1) for n in range(count, 0, -1))
    course = Course("x", "", "%", 9, 1, "healthy", "", NOW, buckets)
    drawn = charts.plot(course, Courses(NOW - 20 * HOUR, NOW, HOUR), NOW, str)
    assert drawn.heals.count(f"V{down}") == drawn.heals.count("M") == count


def test_last_heal_is_in_the_caption_with_what_it_came_to(page: Page) -> None:
    chart = next(each for each in page.charts if each.where == "/")
    assert "91\N{NO-BREAK SPACE}→\N{NO-BREAK SPACE}77\N{NO-BREAK SPACE}%" in chart.caption
    assert chart.now == "77\N{NO-BREAK SPACE}%"
    assert chart.plot.heals.rpartition("M")[2].startswith("480 ")


def test_issues_come_first_and_say_that_they_are_over_the_limit(page: Page) -> None:
    first = page.charts[0]
    assert (first.where, first.state, first.tone) == ("/data", "over its limit", "bad")
    assert page.tiles[0].label == "disk /data"


@pytest.mark.parametrize("unit", ["%", "s", "MB", ""])
@pytest.mark.parametrize("limit", [1, 5, 15, 90, 500, 600, 86_400])
@pytest.mark.parametrize("times", [0.01, 0.9, 1.3, 40])
def test_labels_of_values_keep_their_distance(unit: str, limit: float, times: float) -> None:
    bucket = Bucket(NOW, 0, limit * times, 1, 0, 0, 0)
    course = Course("x", "", unit, limit, 0, "healthy", "", NOW, (bucket,))
    drawn = charts.plot(course, Courses(NOW - 10, NOW), NOW, lambda value: f"{value:g}")
    places = sorted([drawn.limit.at, *(each.at for each in drawn.ticks)])
    assert all(above >= below + 14 for below, above in pairwise(places))
    assert len({each.text for each in drawn.ticks}) == len(drawn.ticks)


@pytest.mark.parametrize(
    "span", [600, HOUR, 5 * HOUR, DAY, 3 * DAY, 10 * DAY, 45 * DAY, 90 * DAY, 800 * DAY]
)
def test_labels_of_time_do_not_touch_on_a_telephone(span: float) -> None:
    marks = charts.time_marks(NOW - span, NOW)
    boxes = [(3 * each.at - 22, 3 * each.at + 22) for each in marks[:-1]] + [(300 - 44, 300)]
    assert all(one[1] <= other[0] for one, other in pairwise(boxes))
    assert len(marks) > 1


@pytest.mark.parametrize("sizes", [[1], [6, 6, 4, 3, 2, 2, 1], [1000, 1, 1], [5] * 16])
def test_areas_are_as_large_as_what_they_stand_for_and_fill_the_whole(sizes: list[float]) -> None:
    areas = treemap.squarify(sizes, 600, 400)
    assert [each.width * each.height for each in areas] == pytest.approx(
        [size / sum(sizes) * 240_000 for size in sizes]
    )
    for number, one in enumerate(areas):
        assert -0.01 <= one.x <= 600.01 - one.width
        assert -0.01 <= one.y <= 400.01 - one.height
        for other in areas[:number]:
            across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert across < 0.01 or down < 0.01


def test_areas_are_nearly_squares_as_in_the_paper() -> None:
    first = treemap.squarify([6, 6, 4, 3, 2, 2, 1], 6, 4)[0]
    assert (first.width, first.height) == (3, 2)


def test_deed_has_the_command_that_undoes_it_while_that_can_be_done(page: Page) -> None:
    shown = {each.where.split()[0]: each for each in page.deeds}
    assert shown["worktrees"].undo.endswith(" rollback --step 1-16")
    assert shown["worktrees"].what.startswith("16 worktrees retired")
    assert shown["worktrees"].change == "29\N{NO-BREAK SPACE}→\N{NO-BREAK SPACE}13"
    assert (shown["disk"].undo, shown["disk"].undone) == ("", "cannot be undone")


def test_action_of_a_run_that_did_more_has_a_command_of_its_own(tmp_path: Path) -> None:
    """To take a lock back, nobody has to take worktrees back, too."""
    state = pagework.world(tmp_path / "state", runs=2)
    book = pagework.journal(state)
    what = (RUN, "fix_git_locks", "stale_git_lock", "/srv/src/app", "quarantine", "x")
    values = "(?, ?, ?, ?, ?, ?, '', '', ?, ?, 'applied', 0, ?)"
    cursor = book.write(f"{pagework.STEP} {values}", (*what, NOW, NOW, '{"entries": ["1"]}'))
    book.close()
    number = cursor.lastrowid
    assert number
    pagework.set_aside(state, number, NOW)
    shown = {each.where.split()[0]: each for each in page_of(state).deeds}
    assert shown["git"].undo.endswith(f" rollback --step {number}")
    assert shown["worktrees"].undo.endswith(" rollback --step 1-16")
    for step in range(2, 16, 2):  # what is left has too many numbers for one line
        entries = [
            each
            for each in (state / "quarantine" / RUN).iterdir()
            if each.name.startswith(f"{step:04}-")
        ]
        assert entries
        for each in entries:
            (each / "manifest.json").unlink()
    (trees,) = [each for each in page_of(state).deeds if each.where.startswith("worktrees")]
    assert trees.undo.endswith(f" rollback {RUN}")
    assert trees.undone == "9 of 16 steps, undoes all of that run"


def test_early_deed_has_its_change_though_nothing_was_wrong(tmp_path: Path) -> None:
    state = pagework.world(tmp_path / "state", runs=2)
    book = pagework.journal(state)
    book.write(
        "update measurement set outcome = 'healthy' where name = ?", ("excessive_worktrees",)
    )
    book.close()
    (trees,) = [each for each in page_of(state).deeds if each.where.startswith("worktrees")]
    assert trees.change == "29\N{NO-BREAK SPACE}→\N{NO-BREAK SPACE}13"


def test_deed_that_was_rolled_back_is_marked_and_offers_nothing(page: Page) -> None:
    (taken_back,) = [each for each in page.deeds if each.taken_back]
    assert taken_back.undo == ""
    assert taken_back.undone.startswith("rolled back ")


def test_deed_whose_quarantine_has_expired_offers_no_rollback(tmp_path: Path) -> None:
    state = pagework.world(tmp_path / "state", runs=2)
    for entry in (state / "quarantine" / RUN).iterdir():
        (entry / "manifest.json").unlink()
    found = [each for each in page_of(state).deeds if each.where.startswith("worktrees")]
    assert [(each.undo, each.undone) for each in found] == [("", "its time in quarantine is over")]


def test_what_a_person_decides_comes_first_with_its_command_and_why(page: Page) -> None:
    first = page.kept[0]
    assert (first.reason, first.count, first.decide) == ("not merged", 2, True)
    assert first.things[0].command == "git -C /srv/src/app log main..squashplus26"
    assert first.things[0].why.endswith(" why /srv/src/worktrees/squashplus26")
    assert not any(each.decide for each in page.kept[1:])
    assert page.tiles[-1].number == "2"


def test_why_is_offered_for_what_it_can_be_asked_about_alone() -> None:
    def why(target: str, count: int = 1) -> str:
        action = {"action": "x", "target": "", "issue": "x"}
        rows = [{"target": target, "reason": "r", "detail": "", "count": count}]
        (group,) = kept.kept_groups([{"actions_taken": [{**action, "kept": rows}]}], "mh")
        return group.things[0].why

    assert why("/a b/it's") == """mh why '/a b/it'"'"'s'"""
    assert why("pid 4711") == "mh why 4711"
    assert why("node (pid 12)") == "mh why 12"
    assert why("/var/log: 17 files", 17) == ""
    assert why("the kernel's caches") == ""


def test_what_was_kept_is_as_the_last_action_on_it_left_it(tmp_path: Path) -> None:
    """A run since then that found nothing wrong has looked at nothing that could be kept."""
    state = pagework.world(tmp_path / "state", runs=2)
    book = pagework.journal(state)
    pagework.run_at(book, NOW + 300, [disk(50)])
    book.close()
    found = page_of(state, now=NOW + 400)
    assert found.verdict.tone == "good"
    assert found.kept[0].count == 2
    assert found.kept_when == words.moment(NOW)


def test_quarantine_is_listed_by_run_with_its_end(page: Page) -> None:
    (row,) = page.quarantine.rows
    assert (row.what, row.size) == ("16 worktrees", "5.8 MB")
    assert row.until == page.quarantine.first == day_text(NOW + 30 * DAY, NOW)
    assert row.command.endswith(f" rollback {RUN}")


def test_space_is_as_in_the_last_report_that_has_it(page: Page) -> None:
    assert page.space
    assert page.space.where == "/data"
    assert [each.verdict for each in page.space.folders[:3]] == ["a person's", "can go", "costly"]
    assert page.space.folders[2].size == "≥ 74.0 GB"
    assert len(page.space.cells) == len(page.space.folders)


def test_verdict_is_the_summary_with_what_was_freed(page: Page) -> None:
    assert page.verdict.text == (
        "Healed 3/4 issues. 1 left as it is, as nothing safe can be done"
        " · 177 MB freed now, 3.3 MB later"
    )
    assert page.verdict.tone == "bad"
    assert page.lines[0].text.startswith("disk_space_critical is at 92.4 %")


def test_verdict_is_not_known_once_steps_were_rolled_back(tmp_path: Path) -> None:
    state = pagework.world(tmp_path / "state", runs=2)
    book = pagework.journal(state)
    book.write("update step set status='rolled back', finished=? where run=?", (NOW + 30, RUN))
    book.close()
    verdict = page_of(state).verdict
    assert verdict.text.startswith("Not known: 17 steps of a run rolled back since")
    assert verdict.tone == "warn"


def test_verdict_is_not_known_where_runs_have_stopped(world: Path) -> None:
    assert page_of(world, now=NOW + 20 * HOUR).verdict.tone == "bad"
    verdict = page_of(world, now=NOW + 30 * HOUR).verdict
    assert verdict.text == "Not known: the last run was 30 h ago."


def test_run_that_could_not_begin_is_what_its_page_says(world: Path) -> None:
    from miyabi_healing.report.documents import failed_report

    verdict = page_of(world, dict(failed_report("no space left"))).verdict
    assert (verdict.text, verdict.tone) == ("The checks could not run: no space left", "bad")


def test_run_of_a_part_is_no_good_verdict_and_hides_no_issue_of_the_others(tmp_path: Path) -> None:
    book = pagework.journal(tmp_path)
    memory = ("high_memory_usage", "", 3, None, 90, "%", "healthy")
    zombies = ("zombie_processes", "", 9, None, 5, "", "issue")
    left_out = ("zombie_processes", "", None, None, 0, "", LEFT_OUT)
    pagework.run_at(book, NOW - 60, [memory, zombies])
    pagework.run_at(book, NOW, [memory, left_out])
    book.close()
    document = pagework.report(
        issues_detected=[], actions_taken=[], left_out=["zombie_processes"],
        summary="No issues detected. Only high_memory_usage was checked.", overall_success=True,
    )  # fmt: skip
    found = page_of(tmp_path, document)
    assert found.verdict.tone == "warn"
    worst = found.charts[0]
    assert (worst.title, worst.now, worst.limit) == ("zombies", "9", "5")
    assert [each.tone for each in found.lines] == ["bad"]
    assert "as an earlier run left it" in found.lines[0].more


def test_check_that_could_not_run_is_no_good_verdict(tmp_path: Path) -> None:
    state = history(tmp_path, [(NOW, disk(None, "unknown"))])
    document = pagework.report(
        issues_detected=[], actions_taken=[], summary="No issues detected, but 1 could not run.",
        errors=[{"check": "disk_space_critical", "target": "/", "message": "no answer"}],
    )  # fmt: skip
    found = page_of(state, document)
    assert found.verdict.tone == "warn"
    assert [each.text for each in found.lines] == ["disk / could not be checked: no answer"]


def test_host_without_a_run_has_a_page_that_says_so(tmp_path: Path) -> None:
    text = making.make_page(tmp_path, Config())
    assert "Nothing was checked yet." in text


class Elements(html.parser.HTMLParser):
    """The elements of a page, with their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = (
    "</title><script>alert(1)</script>\"' onload=x <!-- \u202eevil\u202c \x1b[31m\nline & {{ 7*6 }}"
)


def test_nothing_from_the_host_becomes_markup(tmp_path: Path) -> None:
    state = tmp_path / "state"
    kept = [
        {"target": f"/x/{HOSTILE}", "reason": HOSTILE, "detail": HOSTILE, "count": 1,
         "decide": decide, "command": HOSTILE}
        for decide in (True, False)
    ]  # fmt: skip
    pagework.world(state, runs=3, kept=kept, host=HOSTILE, summary=HOSTILE)
    book = pagework.journal(state)
    document = pagework.report(kept=kept, host=HOSTILE, summary=HOSTILE)
    for each in (*document["issues_detected"], *document["actions_taken"]):
        each.update(description=HOSTILE, message=HOSTILE, target=HOSTILE)
    for each in document["actions_taken"]:
        each["details"]["largest_folders"] = [
            {**row, "path": HOSTILE, "what": HOSTILE, "verdict": HOSTILE}
            for row in pagework.FOLDERS
        ]
    document["errors"] = [{"check": HOSTILE, "target": HOSTILE, "message": HOSTILE}]
    values = [(HOSTILE, HOSTILE, 1.0, None, 2, HOSTILE, "healthy"), disk(95, "issue")]
    pagework.run_at(book, NOW + 5, values, document, "20261125T160000-1")
    book.pause(time.time() + 1000, HOSTILE, HOSTILE)
    row = ("20261125T160000-1", HOSTILE, "disk_space_critical", HOSTILE, "run", "x", NOW, NOW)
    book.write(f"{pagework.STEP} (?, ?, ?, ?, ?, ?, '', '', ?, ?, 'applied', 0, '{{}}')", row)
    book.close()
    text = making.render(page_of(state))
    page = Elements()
    page.feed(text)
    names = {name for name, _ in page.found}
    assert names <= USED
    assert {key for _, attributes in page.found for key in attributes} <= KNOWN
    assert page.text.count("alert(1)") > 20
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f]", text)
    assert "{{ 7*6 }}" in page.text


USED = set(
    "html head meta link title style body main header h1 h2 h3 bdi span p code ul li b i small "
    "section svg path line rect desc div figure figcaption table thead tbody tr th td wbr "
    "details summary footer".split()
)
KNOWN = set(
    "lang charset name content http-equiv rel href class aria-hidden aria-label aria-labelledby id "
    "d width height viewbox preserveaspectratio role x x1 x2 y1 y2 style".split()
)


def test_page_loads_nothing_and_forbids_scripts(page: Page) -> None:
    text = making.render(page)
    parsed = Elements()
    parsed.feed(text)
    links = [attributes for _, attributes in parsed.found if {"src", "href"} & set(attributes)]
    assert links == [{"rel": "icon", "href": "data:,"}]
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'" in text


def test_pictures_have_their_numbers_in_words(page: Page) -> None:
    text = making.render(page)
    assert text.count('role="img"') == len(page.charts) == len(pagework.VALUES)
    for number in range(1, len(page.charts) + 1):
        assert f'aria-labelledby="t{number} d{number}"' in text
        assert f'<title id="t{number}">' in text
        assert f'<desc id="d{number}">' in text


@pytest.mark.parametrize("number", [12, 60])
def test_page_stays_small_however_restless_the_values_are(page: Page, number: int) -> None:
    buckets = max(240 * 12 // number, 48)
    restless = tuple(
        Bucket(NOW - (buckets - n) * HOUR, 0.1 + n % 7, 80 + n * n % 11, 300, 0, 0, n % 3)
        for n in range(buckets)
    )
    course = Course("disk_space_critical", "/", "%", 90, 50, "healthy", "", NOW, restless)
    span = Courses(NOW - buckets * HOUR, NOW, HOUR, HOUR, buckets)
    drawn = charts.plot(course, span, NOW, str)
    chart = replace(page.charts[0], plot=drawn)
    size = len(making.render(replace(page, charts=(chart,) * number)).encode())
    assert size < 150_000 if number == 12 else size < 250_000


def test_page_takes_the_place_of_a_file_alone(tmp_path: Path) -> None:
    link, folder, file = tmp_path / "link", tmp_path / "folder", tmp_path / "file"
    pipe = tmp_path / "pipe"
    folder.mkdir()
    link.symlink_to(file)
    os.mkfifo(pipe)
    for taken in (link, folder, pipe):
        with pytest.raises(making.CannotWrite, match="is no regular file"):
            making.write_page(taken, "x")
    assert not file.exists()
    making.write_page(file, "x")
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("x", 0o644)
    making.write_page(tmp_path / "new" / "page", "x", private=True)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "new" / "page").stat().st_mode & 0o777 == 0o600


def test_page_takes_the_place_of_no_file_but_an_older_page(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.touch()
    for _ in range(2):  # an empty file, and a page
        making.write_page(file, making.render(page))
    assert making.is_page(file)
    mine = "<!doctype html>\n<p>dear to somebody"
    file.write_text(mine)
    with pytest.raises(making.CannotWrite, match="is no page of ours"):
        making.write_page(file, making.render(page))
    assert file.read_text() == mine


def test_page_is_made_after_a_run_and_found_again(home: Path) -> None:
    none = run("report")
    assert (none.returncode, none.stdout) == (2, "")
    assert "report --html makes one" in none.stderr
    file = home / "www" / "index.html"
    limits = settings(home, f'[report]\nhtml = "{file}"\n[disk]\nmounts = ["/"]\n')
    made = run("--json", "--config", limits)
    text = file.read_text()
    assert re.search(r'<p class="verdict \w+">', text)
    assert made.returncode == 3 or "could not be checked" not in text
    assert run("--config", limits, "report").stdout == f"{file}\n"
    page = run("report", "--html", "-")
    assert page.stdout.startswith("<!doctype html>")
    own = run("report", "--html")
    assert os.stat(own.stdout.strip()).st_mode & 0o777 == 0o600
    assert run("report").stdout == own.stdout


def test_page_file_is_named_by_an_absolute_path() -> None:
    with pytest.raises(ValueError, match="html must be an absolute path"):
        ReportSettings(html="x.html")


def test_tile_of_what_is_to_be_decided_counts_what_it_has_no_room_for() -> None:
    groups = [
        KeptGroup(reason, "worktrees", count, decide, (), 0)
        for reason, count, decide in (
            ("not merged", 2, True), ("dirty", 3, True), ("not idle", 9, False),
            ("locked", 1, True), ("untracked", 4, True), ("detached", 1, True),
        )
    ]  # fmt: skip
    *_, tile = state_now.tiles((), Courses(0, 1), Quarantine((), "", "", "", False, 0), groups)
    assert (tile.number, tile.note) == ("11", "2 not merged, 3 dirty, 1 locked, 5 more")
    *_, tile = state_now.tiles((), Courses(0, 1), Quarantine((), "", "", "", False, 0), groups[2:3])
    assert (tile.number, tile.note) == ("0", "nothing waits for a person")


# What is foreseen, and why


def foreseen_page(folder: Path, *rows: Any, age: float = 60) -> Page:
    pagework.world(folder / "state", runs=300, step=900, foreseen=list(rows))
    return page_of(folder / "state", now=NOW + age)


def test_foreseen_goes_on_from_the_last_value_to_the_limit_and_its_band_is_shaded(
    tmp_path: Path,
) -> None:
    row = pagework.ahead("disk_space_critical", "/", 10)
    (found,) = foreseen_page(tmp_path, row).ahead
    (x, y), (to_x, to_y) = (
        tuple(map(int, each.split())) for each in found.dashes.removeprefix("M").split("L")
    )
    end, limit = found.chart.plot.end, found.chart.plot.limit
    assert end
    assert (x, y) == (
        pytest.approx(end[0] * charts.WIDTH / 100, abs=1),
        pytest.approx(end[1] * charts.HEIGHT / 100, abs=1),
    )
    assert to_y == pytest.approx(limit.at * charts.HEIGHT / 100, abs=1)
    assert found.band
    first, width = (each * charts.WIDTH / 100 for each in found.band)
    assert first < to_x < first + width < charts.WIDTH
    assert (to_x - first) / (to_x - x) == pytest.approx(0.2, abs=0.02)
    assert width == pytest.approx(2 * (to_x - first), abs=2)
    assert re.match(r"/ reaches 90 % (on \d+ Nov between|between \d+ Nov) \d\d:", found.text)
    assert "today" not in found.text  # a page is read on another day
    assert found.text.endswith("; 3 of 4 earlier forecasts of it came true.")


def test_foreseen_without_a_band_has_none_and_the_next_is_first(tmp_path: Path) -> None:
    late = pagework.ahead("disk_space_critical", "/", 10)
    soon = pagework.ahead("high_memory_usage", "", 2, earliest=None, latest=None)
    gone = {**soon, "target": "/gone"}
    made = foreseen_page(tmp_path, late, soon, gone)
    assert [(each.chart.title, bool(each.band)) for each in made.ahead] == [
        ("memory", False), ("disk", True),
    ]  # fmt: skip
    words = making.render(made)
    assert "What is foreseen" in words
    assert "Why it came to that" not in words


def test_foreseen_that_is_too_old_is_not_on_the_page(tmp_path: Path) -> None:
    row = pagework.ahead("disk_space_critical", "/", 100)
    assert foreseen_page(tmp_path, row, age=3 * DAY).ahead == ()


def test_shares_are_bars_with_what_nothing_explains(tmp_path: Path) -> None:
    issues = pagework.report()["issues_detected"]
    issues[1] = {**issues[1], "because": pagework.BECAUSE}
    pagework.world(tmp_path / "state", runs=20, issues_detected=issues)
    made = page_of(tmp_path / "state")
    (why,) = made.whys
    assert [(each.part, each.number, each.rest) for each in why.shares] == [
        (48, "48 %", False), (31, "31 %", False), (21, "21 %", True),
    ]  # fmt: skip
    assert why.shares[1].command == "systemctl restart app.service"
    assert [each.split(":")[0] for each in why.hints] == [
        "Just before", "At the same time, perhaps by chance",
    ]  # fmt: skip
    assert making.render(made).count("width:48") == 1
