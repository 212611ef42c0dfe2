"""The page as a browser lays it out: on a telephone and on a screen, light and dark."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import fleetstories
import pagework
import pytest
from browser import Browser, browser, find_chromium

from miyabi_healing.fleet import page as fleet_page
from miyabi_healing.report.page import contents, making

pytestmark = pytest.mark.skipif(
    find_chromium() is None or sys.platform != "linux", reason="needs Chromium, as Debian has it"
)
LONG = "abranchnamethatsomebodymadewithoutasingleblankinitandwithoutanyend" * 2
SCREENS = [
    *((width, scheme) for width in (390, 1280) for scheme in ("light", "dark")),
    (768, "light"),
]
# Every text with its colour and what is behind it, as WCAG 2.2, 1.4.3 and "contrast ratio", say.
CONTRAST = """
(() => {
  const rgba = text => {
    const n = text.match(/[\\d.]+/g).map(Number);
    return [n[0], n[1], n[2], n.length > 3 ? n[3] : 1];
  };
  const light = c => c.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (let e = node; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      if (c[3] === 1) return c;
    }
    return [255, 255, 255, 1];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const bad = [];
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || !e.getClientRects().length || e.closest('svg')) continue;
    const a = light(rgba(getComputedStyle(e).color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(text.slice(0, 30) + ' ' + ratio.toFixed(2));
  }
  return bad;
})()
"""
# Labels of one picture that touch each other, and those of a cell that are cut off.
TOUCHING = """
(() => {
  const bad = [];
  for (const plot of document.querySelectorAll('.plot')) {
    const labels = [...plot.querySelectorAll('.x, .y')].map(e => [e, e.getBoundingClientRect()]);
    for (const [a, one] of labels) for (const [b, other] of labels)
      if (a !== b && one.left < other.right && other.left < one.right
          && one.top + 2 < other.bottom && other.top + 2 < one.bottom)
        bad.push(a.textContent + ' / ' + b.textContent);
  }
  for (const cell of document.querySelectorAll('.map li>div')) {
    const named = [...cell.children].some(e => e.getClientRects().length);
    if (named && (cell.scrollWidth > cell.clientWidth || cell.scrollHeight > cell.clientHeight))
      bad.push(cell.textContent);
  }
  return bad;
})()
"""
OUTSIDE = """
[...document.querySelectorAll('body *')].filter(e => {
  const box = e.getBoundingClientRect();
  return box.width && !e.closest('svg') && (box.right > innerWidth + 1 || box.left < -1);
}).map(e => e.className + ' ' + e.textContent.slice(0, 40))
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_chromium()
    assert program
    with browser(program, tmp_path_factory.mktemp("chromium")) as made:
        yield made


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a world in which everything is there, some of it with endless names."""
    folder = tmp_path_factory.mktemp("page")
    kept: list[dict[str, Any]] = [
        *pagework.KEPT,
        {"target": f"/srv/{LONG}", "reason": LONG, "detail": LONG, "count": 1, "decide": True,
         "command": f"git log {LONG}"},
    ]  # fmt: skip
    issues = pagework.report()["issues_detected"]
    long = {**pagework.BECAUSE[1], "text": f"/srv/{LONG} {LONG}", "command": f"cat {LONG}"}
    issues[1] = {**issues[1], "because": [*pagework.BECAUSE, {**long, "share": 0}]}
    issues[0] = {**issues[0], "because": [{**pagework.BECAUSE[4], "text": LONG}]}
    foreseen = [
        pagework.ahead("disk_space_critical", "/", 13),
        pagework.ahead("large_log_files", "/var/log/app/*.log", 2, earliest=None, causes=[LONG]),
    ]
    pagework.world(folder / "state", runs=120, kept=kept, issues_detected=issues, foreseen=foreseen)
    file = folder / "page.html"
    program = "/opt/tools/a/folder/of/its/own/miyabi-healing/run_healing.sh"
    with mock.patch.object(contents, "own_command", return_value=program):
        made = pagework.page_of(folder / "state")
    file.write_text(making.render(made))
    return file


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_page_fits_can_be_read_and_loads_nothing(
    chromium: Browser, page: Path, width: int, scheme: str
) -> None:
    chromium.open(page, width, scheme)
    assert chromium.run("document.querySelectorAll('.plot').length") == len(pagework.VALUES) + 2
    assert chromium.run("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    assert chromium.run("document.scrollingElement.scrollWidth") == width
    assert chromium.run(OUTSIDE) == []
    assert chromium.run(CONTRAST) == []
    assert chromium.run(TOUCHING) == []
    assert chromium.run("performance.getEntriesByType('resource').map(e => e.name)") == []


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_page_of_a_fleet_fits_can_be_read_and_loads_nothing(
    chromium: Browser, tmp_path: Path, width: int, scheme: str
) -> None:
    file = tmp_path / "fleet.html"
    file.write_text(fleet_page.render(fleet_page.page_of(fleetstories.large())))
    chromium.open(file, width, scheme)
    assert chromium.run("document.querySelectorAll('section').length") == 5
    assert chromium.run("document.scrollingElement.scrollWidth") == width
    assert chromium.run(OUTSIDE) == []
    assert chromium.run(CONTRAST) == []
    assert chromium.run("performance.getEntriesByType('resource').map(e => e.name)") == []
    if width == 1280:
        assert chromium.printed().startswith(b"%PDF")


def test_named_cells_of_the_map_are_fewer_on_a_telephone(chromium: Browser, page: Path) -> None:
    named = "[...document.querySelectorAll('.map b')].filter(e => e.getClientRects().length).length"
    chromium.open(page, 1280)
    wide = chromium.run(named)
    chromium.open(page, 390)
    assert 0 < chromium.run(named) < wide


def test_page_prints(chromium: Browser, page: Path) -> None:
    chromium.open(page, 1280, "dark")
    printed = chromium.printed()
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") > 1
