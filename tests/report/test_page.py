"""The page in a browser: nothing on its console, columns sort, links open the runs, nothing wider than the window.

Chromium is driven by its command line alone; where there is none, these tests say so.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ..helpers.report_records import hostile, small, write

Cli = Callable[..., tuple[int, str, str]]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: the page is not tested in a browser")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=3000"),
)
PROBE = """
const result = {title: document.title, orders: {}, open: [], wide: 0, pictures: 0, tables: 0};
const table = document.querySelector("table.sortable");
const first = () => [...table.tBodies[0].rows].map((row) => row.cells[0].innerText.trim().split(/[\\s[]/)[0]);
const shown = (column) => [...table.tBodies[0].rows].map((row) => row.cells[column].dataset.value);
result.orders.before = first();
const heads = table.tHead.rows[0].cells;
for (const name of ["ascending", "descending", "none"]) {
  heads[1].querySelector("button").click();
  result.orders[name] = {sort: heads[1].getAttribute("aria-sort"), names: first(), values: shown(1)};
}
heads[0].querySelector("button").click();
result.orders.names = first();
result.tables = document.querySelectorAll("table.sortable").length;
const number = document.querySelector("td a");
location.hash = number.getAttribute("href");
reveal();
const place = document.getElementById(location.hash.slice(1));
result.open = [place.open, place.parentElement.open, place.innerText];
result.wide = document.documentElement.scrollWidth - innerWidth;
result.pictures = [...document.images].filter((image) => image.complete && image.naturalWidth > 0).length;
result.images = document.images.length;
document.body.innerHTML = "";
document.body.append(Object.assign(document.createElement("pre"), {id: "probe", textContent: JSON.stringify(result)}));
"""


def browse(page: Path, profile: Path, *options: str) -> tuple[str, str]:
    """Return the page's document after its scripts, and what the browser said on the console."""
    words = [str(BROWSER), *OPTIONS, f"--user-data-dir={profile}", *options, page.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, "\n".join(console)


def probe(page: Path, profile: Path, width: int) -> dict[str, object]:
    """Return what a script finds in a copy of the page; its own rules would keep that script out."""
    text = page.read_text(encoding="utf-8")
    text, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    assert count == 1
    copy = page.with_name("probed.html")
    copy.write_text(text.replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8")
    dom, console = browse(copy, profile, "--dump-dom", f"--window-size={width},900")
    assert console == ""
    found = re.search(r'<pre id="probe">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None
    result = json.loads(re.sub("&lt;", "<", re.sub("&gt;", ">", found[1])).replace("&amp;", "&"))
    assert isinstance(result, dict)
    return result


@pytest.fixture(scope="module", params=["small", "hostile"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from otbench.cli import main

    folder = tmp_path_factory.mktemp(str(request.param))
    write(folder / "store", {"small": small, "hostile": hostile}[str(request.param)]())
    assert main(["report", str(folder / "store"), "--format", "html", "--out", str(folder / "out")]) == 0
    return folder / "out" / "index.html"


@pytest.mark.parametrize("width", [1400, 400])
def test_the_page_as_it_stands_says_nothing_on_the_console(page: Path, width: int, tmp_path: Path) -> None:
    shot = tmp_path / "page.png"
    _, console = browse(page, tmp_path / "profile", f"--screenshot={shot}", f"--window-size={width},2000")
    assert console == ""
    assert shot.stat().st_size > 20_000


def test_the_title_is_not_what_a_record_would_make_of_it(page: Path, tmp_path: Path) -> None:
    dom, _ = browse(page, tmp_path / "profile", "--dump-dom")
    assert "<title>otbench: " in dom


@pytest.mark.parametrize("width", [1400, 500])
def test_columns_sort_links_open_and_nothing_overflows(page: Path, width: int, tmp_path: Path) -> None:
    result = probe(page, tmp_path / "profile", width)
    orders = result["orders"]
    assert isinstance(orders, dict)
    up, down, none = (orders[name] for name in ("ascending", "descending", "none"))
    assert [up["sort"], down["sort"], none["sort"]] == ["ascending", "descending", "none"]
    numbers = [[float(v) for v in order["values"] if v is not None] for order in (up, down)]
    assert len(numbers[0]) > 0
    assert numbers[0] == sorted(numbers[0])
    assert numbers[1] == sorted(numbers[1], reverse=True)
    for order in (up, down):
        missing = [value is None for value in order["values"]]
        assert missing == sorted(missing)  # cells without a value are last, both ways
    assert none["names"] == orders["before"]
    assert sorted(orders["names"]) == sorted(orders["before"])
    if "small" in str(page):
        assert up["names"][:3] == ["linear", "NCF", "NCF-Adaptive"]
        assert orders["names"][:3] == ["a_plugin", "fixedpoint", "HJ-PINN"]
    opened = result["open"]
    assert isinstance(opened, list)
    assert opened[:2] == [True, True]
    assert "seed 0: ok" in opened[2]
    assert "again: python bench.py" in opened[2]
    assert "specification" in opened[2]
    assert result["pictures"] == result["images"] != 0
    assert int(str(result["wide"])) <= 0
