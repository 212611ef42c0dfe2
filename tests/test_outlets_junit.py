"""JUnit XML of a run: healed is passed, what remains has failed, and a file that cannot be written
stops nothing half way.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from program import report, run, settings

CHECK = """
import pathlib, pytest

@pytest.mark.heal("tidy")
@pytest.mark.limit(1, unit="things")
@pytest.mark.parametrize("folder", ["things", "odd\\udcff\\n<&>"])
def test_things(folder, measure, limit):
    count = len(list((pathlib.Path.home() / "things").glob("thing*")))
    assert measure(count, "Found \\udcff things\\x00|::]]>") <= limit
"""
HEALER = """
import pathlib
from miyabi_healing.support.files import identity_at
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.steps import Quarantine

def tidy(context, issue, options):
    folder = pathlib.Path.home() / "things"
    steps = tuple(
        Quarantine(
            target=str(path), reason="too many", undo="moved back",
            path=path, identity=identity_at(path),
        )
        for path in sorted(folder.glob("thing*"))
    )
    return Plan(steps, Goal("never", lambda: False))
"""


@pytest.fixture
def world(home: Path) -> tuple[str, ...]:
    folder = home / "mine"
    (folder / "healers").mkdir(parents=True)
    (folder / "test_things.py").write_text(CHECK)
    (folder / "healers" / "tidy.py").write_text(HEALER)
    (home / "things").mkdir()
    for number in range(3):
        (home / "things" / f"thing {number}").write_text("x")
    return ("--config", settings(home), "--checks", str(folder))


def suite(file: Path) -> ElementTree.Element:
    return ElementTree.parse(file).getroot()[0]


def said_of(case: ElementTree.Element) -> dict[str, str]:
    return {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}


def test_healed_has_passed_and_a_relative_path_is_from_where_it_was_started(
    home: Path, world: tuple[str, ...]
) -> None:
    began = datetime.datetime.now(datetime.UTC)
    code, document = report(*world, "--junitxml", "out.xml")
    notes = [each for each in document["notes"] if "no repository" not in each]
    assert (code, notes, document["issues_detected"][0]["healed"]) == (0, [], True)
    found = suite(home / "out.xml")
    assert (found.attrib["failures"], found.attrib["errors"], found.attrib["hostname"]) == (
        "0",
        "0",
        platform.node(),
    )
    assert int(found.attrib["tests"]) == len(found)
    started = datetime.datetime.fromisoformat(found.attrib["timestamp"])
    assert 0 <= (started - began).total_seconds() < 60
    assert 0 < float(found.attrib["time"]) < 60
    cases = [case for case in found if case.attrib["classname"] == "test_things"]
    assert [len(case.findall("failure")) for case in cases] == [0, 0]
    first, second = map(said_of, cases)  # the second found nothing any more
    assert first.pop("measured").startswith("Found")
    assert first == {
        "value": "0",
        "limit": "1",
        "unit": "things",
        "detected": "3",
        "severity": "medium",
        "outcome": "HEALED",
        "healer": "tidy",
    }
    assert (second["value"], "outcome" in second, "healer" in second) == ("0", False, False)


def test_what_remains_has_failed_also_in_a_dry_run(home: Path, world: tuple[str, ...]) -> None:
    code, _ = report("--dry-run", *world, "--junitxml", str(home / "out.xml"))
    found = suite(home / "out.xml")
    assert (code, found.attrib["failures"]) == (1, "2")
    said = [said_of(case) for case in found if case.attrib["classname"] == "test_things"]
    assert [(each["value"], each["detected"], "outcome" in each) for each in said] == [
        ("3", "3", False)
    ] * 2
    assert len(list((home / "things").iterdir())) == 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none/out.xml", "there is no such folder"),
        ("things", "is no regular file"),
        ("pipe", "is no regular file"),
        ("config.toml/out.xml", "there is no such folder"),
    ],
)
def test_file_that_cannot_be_written_is_told_before_anything_is_touched(
    home: Path, world: tuple[str, ...], name: str, said: str
) -> None:
    os.mkfifo(home / "pipe")
    done = run(*world, "--junitxml", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"miyabi-healing: --junitxml: {home / name}: {said}\n"
    assert len(list((home / "things").iterdir())) == 3
    assert not (home / ".local").exists()


@pytest.mark.root
def test_disk_that_is_full_in_the_end_costs_the_file_and_not_the_report(
    home: Path, world: tuple[str, ...], mounted: Callable[..., Path]
) -> None:
    disk = mounted("tmpfs", "64k")
    (disk / "out.xml").touch()
    with (disk / "fill").open("wb", buffering=0) as fill, contextlib.suppress(OSError):
        while fill.write(b"x" * 4096):
            pass
    done = run("--json", *world, "--junitxml", str(disk / "out.xml"))
    document = json.loads(done.stdout)
    assert (done.returncode, document["issues_detected"][0]["healed"]) == (0, True)
    assert (
        done.stderr
        == f"miyabi-healing: {disk / 'out.xml'} could not be written: No space left on device\n"
    )


@pytest.mark.root
def test_disk_that_is_read_only_is_told_before_anything_is_touched(
    home: Path, world: tuple[str, ...], mounted: Callable[..., Path]
) -> None:
    disk = mounted("tmpfs", "64k", options=",ro")
    done = run(*world, "--junitxml", str(disk / "out.xml"))
    assert (done.returncode, "its folder cannot be written" in done.stderr) == (2, True)


@pytest.mark.parametrize("option", [("--junitxml", "x.xml"), ("--github",)])
def test_options_about_one_pass_do_not_go_with_watching(
    home: Path, option: tuple[str, ...]
) -> None:
    done = run("--watch", *option)
    assert (done.returncode, "leave out --watch" in done.stderr) == (2, True)
