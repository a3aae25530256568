"""The page in a browser: what it says on its console, how it sorts, filters, explains and prints, and what it costs.

One Chromium serves all checks; where there is none, these tests say so.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from otbench.records.record import Record
from otbench.report.build import build

from ..helpers.browser import MISSING, PROGRAM, Browser, png_size
from ..helpers.report_records import hostile, record, small, spec, write

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)

WAIT = (
    "const until = async (f) => { for (let k = 0; k < 400 && !f(); k++) await new Promise((r) => setTimeout(r, 25)); };"
)
"""Scripts wait for what happens later, at most ten seconds."""
SORT = """
const table = document.querySelector("#results table"), head = table.tHead.rows[0].cells[1], found = {};
const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].innerText.trim().split(/[\\s[]/)[0]);
found.before = names();
for (const order of ["ascending", "descending", "none"]) {
  head.querySelector("button").click();
  const values = [...table.tBodies[0].rows].map((row) => row.cells[1].dataset.v ?? null);
  found[order] = {sort: head.getAttribute("aria-sort"), names: names(), values};
}
table.tHead.rows[0].cells[0].querySelector("button").click();
found.names = names();
return found;
"""
WIDE = """
byId("open").click();
for (const details of all(".summary details")) details.open = true;
const over = document.documentElement.scrollWidth - innerWidth;
return [over, all("#results table").length, all(".table:not([hidden])").length];
"""
CUT = """
const edge = document.documentElement.clientWidth + 1;
return all("table").filter((table) => table.checkVisibility())
  .map((table) => [table.caption?.textContent ?? table.ariaLabel, table.getBoundingClientRect().right - edge])
  .filter(([, over]) => over > 0);
"""


def pairs() -> list[dict[str, object]]:
    """Return two solvers on two sizes of two generated pairs, one solver alone on another task, and another preset."""
    made = []
    for solver, value in (("identity", 9.0), ("fixedpoint", 0.1), ("ncf", 0.3)):
        for dim in (2, 8):
            for pair in (0, 1):
                for seed in (0, 1):
                    one = record(solver, dim, seed, value * (1 + pair) + 0.01 * seed)
                    one |= {"id": f"{solver}-{dim}-{pair}-{seed}", "instance": f"d = {dim}, generated pair {pair}"}
                    one["spec"] = spec(solver, dim, seed, task_config={"dim": dim, "pair": str(pair)})
                    made.append(one | {"published": None})
    for task, preset in (("lonely", "full"), ("lonely", "quick")):
        for solver in ("identity", "ncf"):
            one = record(solver, 4, 0, 0.5, published=None, instance="somewhere")
            one |= {"id": f"{task}-{preset}-{solver}", "spec": spec(solver, 4, 0, task=task, preset=preset)}
            made.append(one)
    return made


STORES = {"small": small, "hostile": hostile, "pairs": pairs}


class Pages:
    """The page of each store, made when it is first asked for; of strangers' records with a few figures only."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._made: dict[str, Path] = {}

    def __getitem__(self, name: str) -> Path:
        if name not in self._made:
            from otbench.cli import main

            folder = self._folders.mktemp(name)
            write(folder / "store", STORES[name]())
            words = ["report", str(folder / "store"), "--format", "html", "--out", str(folder / "out")]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("otbench.report.build._DRAWN", 3)
                assert main(words) == 0
            self._made[name] = folder / "out" / "index.html"
        return self._made[name]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    return Pages(tmp_path_factory)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/octet-stream" id="data">([A-Za-z0-9+/=]*)</script>', page.read_text())
    assert found is not None
    data: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(found[1])))
    return data


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("width", [1400, 420])
def test_nothing_is_on_the_console_nothing_overflows_and_pictures_are_seen(
    browser: Browser, pages: Pages, name: str, width: int
) -> None:
    browser.open(pages[name], width)
    over, tables, shown = browser.run(WIDE)
    assert over <= 0
    assert tables == shown > 0
    images = browser.run("return all('img').map((image) => image.complete && image.naturalWidth > 0)")
    assert images
    assert all(images)
    shot = browser.shot()
    assert png_size(shot) == (width, 900)
    assert len(shot) > 20_000
    assert browser.run("return document.title").startswith("otbench: ")
    assert browser.console == []


def test_columns_sort_up_and_down_and_back_and_cells_without_a_value_stay_last(browser: Browser, pages: Pages) -> None:
    for name in ("small", "hostile"):
        browser.open(pages[name], 1400)
        orders = browser.run(SORT)
        up, down, none = (orders[order] for order in ("ascending", "descending", "none"))
        assert [up["sort"], down["sort"], none["sort"]] == ["ascending", "descending", "none"]
        numbers = [[float(value) for value in order["values"] if value is not None] for order in (up, down)]
        assert len(numbers[0]) > 0
        assert numbers[0] == sorted(numbers[0])
        assert numbers[1] == sorted(numbers[1], reverse=True)
        for order in (up, down):
            missing = [value is None for value in order["values"]]
            assert missing == sorted(missing)
        assert none["names"] == orders["before"]
        assert sorted(orders["names"]) == sorted(orders["before"])
        if name == "small":
            assert up["names"][:3] == ["linear", "NCF", "NCF-Adaptive"]
            assert orders["names"][:3] == ["a_plugin", "fixedpoint", "HJ-PINN"]


def test_a_number_opens_its_runs_and_escape_closes_them(browser: Browser, pages: Pages) -> None:
    browser.open(pages["small"], 1400)
    text = browser.run(f"""{WAIT}
        document.querySelector("tr.solver td a, tr.solver td").click();
        await until(() => byId("runs").open);
        return byId("runs").innerText;""")
    for words in ("seed 0: ok", "again: python bench.py", "specification", "record 00"):
        assert words in text.replace("gaussian-a_plugin-2-0", "00")
    browser.key("Escape", 27)
    assert browser.run(f"{WAIT} await until(() => !byId('runs').open); return [byId('runs').open, location.hash]") == [
        False,
        "",
    ]
    browser.open(f"{pages['small'].as_uri()}#r3", 420)  # a link from elsewhere
    assert "run" in browser.run(f"{WAIT} await until(() => byId('runs').open); return byId('runs').innerText")
    assert browser.console == []


def test_a_cell_and_a_point_of_a_figure_tell_their_values(browser: Browser, pages: Pages) -> None:
    browser.open(pages["pairs"], 1400)
    x, y, value = browser.run(f"""{WAIT}
        const cell = document.querySelector("tr.solver td"); cell.scrollIntoView({{block: "center"}});
        const box = cell.getBoundingClientRect();
        return [box.left + 9, box.top + 9, cell.dataset.v]""")
    browser.point(x, y)
    told = f"{WAIT} await until(() => !byId('tip').hidden); return byId('tip').textContent"
    assert browser.run(told).splitlines() == [
        f"fixedpoint: {float(value):g}",
        *("seed 0: 0.1", "seed 1: 0.11", "seed 0: 0.2", "seed 1: 0.21"),
    ]
    browser.point(1, 1)
    assert browser.run(f"{WAIT} await until(() => byId('tip').hidden); return byId('tip').hidden") is True
    x, y, name = browser.run("""
        const image = document.querySelector("img[data-f]"); image.scrollIntoView({block: "center"});
        const box = image.getBoundingClientRect(), panel = (await data()).figures[image.dataset.f][0];
        const [label, points] = panel.lines[0], last = points.at(-1);
        return [box.left + last[0] * box.width, box.top + last[1] * box.height, label]""")
    browser.point(x + 3, y - 2)
    lines = browser.run(told).splitlines()
    assert lines[0] == name
    assert [line.partition(": ")[0] for line in lines[1:]] == ["UVP fwd (%)", "training, wall clock (s)"]
    assert browser.console == []


def test_points_of_figures_lie_on_what_is_drawn(browser: Browser, pages: Pages) -> None:
    """Each point of a panel is inside the picture, and the pixel there is not white."""
    browser.open(pages["pairs"], 1400)
    seen = browser.run("""
        const image = document.querySelector("img[data-f]"), canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        const marks = [];
        for (const panel of (await data()).figures[image.dataset.f]) for (const [, points] of panel.lines) {
          const [across, down] = points.at(-1);
          const {data: [r, g, b]} = context.getImageData(across * canvas.width, down * canvas.height, 1, 1);
          marks.push([across, down, Math.min(r, g, b)]);
        }
        return marks;""")
    assert len(seen) >= 2
    assert all(0 < across < 1 and 0 < down < 1 and darkest < 240 for across, down, darkest in seen)


def test_filters_show_only_what_is_ticked_and_reset(browser: Browser, pages: Pages) -> None:
    browser.open(pages["pairs"], 1400)
    tick = 'document.querySelector(`.menu[data-filter="${KEY}"] input[value="${VALUE}"]`).click();'

    def ticked(key: str, value: str) -> list[str]:
        browser.run(tick.replace("${KEY}", key).replace("${VALUE}", value))
        shown: list[str] = browser.run("return all('.family:not([hidden]) h3').map((title) => title.textContent)")
        return shown

    assert browser.run("return all('.family h3').map((title) => title.textContent)") == [
        "gaussian: generated pairs 0 and 1",
        "lonely: somewhere",
        "lonely: somewhere",
    ]
    assert browser.run("return all('.group h2').map((title) => title.textContent)") == [
        "Comparisons",
        "One solver alone",
    ]
    assert ticked("preset", "quick") == ["lonely: somewhere"]
    assert browser.run("return byId('status').textContent") == "1 of 3 sections shown"
    assert ticked("task", "gaussian") == []
    assert browser.run("return byId('nothing').hidden") is False
    browser.run("byId('reset').click()")
    assert browser.run("return all('.family:not([hidden])').length") == 3
    assert ticked("solver", "fixedpoint") == ["gaussian: generated pairs 0 and 1"]
    rows = """return all(".family[open] tbody tr").filter((row) => row.checkVisibility())
        .map((row) => row.cells[0].innerText)"""
    assert set(browser.run(rows)) == {"identity", "fixedpoint"}
    browser.run("byId('reset').click()")
    assert ticked("metric", "uvp_bwd") == [
        "gaussian: generated pairs 0 and 1",
        "lonely: somewhere",
        "lonely: somewhere",
    ]
    heads = """return all(".table:not([data-metric='']) caption").filter((one) => one.checkVisibility())
        .map((one) => one.firstChild.data)"""
    assert browser.run(heads) == ["UVP bwd (%) by dimension"]
    browser.run("byId('reset').click(); byId('open').click()")
    columns = """return all(".table[data-metric=''] th[data-k]").filter((one) => one.checkVisibility())
        .map((one) => one.dataset.k)"""
    before = set(browser.run(columns))
    assert {"uvp_fwd", "train_s", "memory"} <= before
    assert not {"steps", "parameters", "start"} & before
    ticked("column", "steps")
    ticked("column", "memory")
    assert set(browser.run(columns)) == before - {"memory"} | {"steps"}
    assert browser.console == []


def test_the_keyboard_reaches_filters_and_tables(browser: Browser, pages: Pages) -> None:
    browser.open(pages["pairs"], 1400)
    browser.key("Tab", 9)
    assert browser.run("return document.activeElement.className") == "skip"
    browser.run("document.querySelector('.menu summary').focus()")
    browser.key("Enter", 13, "\r")
    assert browser.run("return document.querySelector('.menu').open") is True
    browser.key("Tab", 9)
    browser.key(" ", 32, " ")
    assert browser.run("return [document.activeElement.type, document.activeElement.checked]") == ["checkbox", True]
    browser.key("Escape", 27)
    assert browser.run("return [document.querySelector('.menu').open, document.activeElement.tagName]") == [
        False,
        "SUMMARY",
    ]
    browser.run("byId('reset').click(); document.querySelector('tr.solver td a').focus({focusVisible: true})")
    told = browser.run(f"""{WAIT} await until(() => !byId("tip").hidden);
        return document.activeElement.getAttribute("aria-describedby")""")
    assert told == "tip"


def test_headings_tables_and_figures_say_what_they_are(browser: Browser, pages: Pages) -> None:
    browser.open(pages["pairs"], 1400)
    levels = browser.run(
        "return all('h1, h2, h3, h4').filter((one) => !one.closest('dialog')).map((one) => +one.tagName[1])"
    )
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    assert browser.run("""return all("table").every((table) => (table.caption?.textContent || table.ariaLabel)
        && all("thead th", table).every((head) => head.scope === "col")
        && all("tbody th", table).every((head) => head.scope === "row"))""")
    alts = browser.run("return all('#results img').map((image) => image.alt)")
    assert "accuracy against time" in alts[0]
    assert re.search(r"from low to high: fixedpoint 0\.\d+ at 12\.8, ncf 0\.\d+ at 12\.8", alts[0])
    ids = browser.run("return all('[id]').map((one) => one.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("dark", [False, True])
def test_texts_stand_out_in_the_light_and_in_the_dark(browser: Browser, pages: Pages, *, dark: bool) -> None:
    """At least 4.5 to 1, as the web's guidelines ask for; figures keep the white that they were drawn on."""
    browser.open(pages["pairs"], 1400, dark=dark)
    contrasts = browser.run("""
        const light = (text) => { const [r, g, b] = text.match(/[\\d.]+/g).map((v) => v / 255)
            .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
            return .2126 * r + .7152 * g + .0722 * b; };
        const behind = (node) => { for (; node; node = node.parentElement) {
            const colour = getComputedStyle(node).backgroundColor;
            if (!/, 0\\)$/.test(colour)) return colour; } return "rgb(255, 255, 255)"; };
        return all("h1, p, a, th, td, small, sup, figcaption, summary, legend, .unit, .bar button").map((node) => {
            const pair = [light(getComputedStyle(node).color), light(behind(node))].sort();
            return [(pair[1] + .05) / (pair[0] + .05), node.tagName]; });""")
    assert min(contrasts)[0] >= 4.5, min(contrasts)
    assert browser.run("return getComputedStyle(document.querySelector('img')).backgroundColor") == "rgb(255, 255, 255)"
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is not dark


def test_no_table_is_cut_on_paper(browser: Browser, pages: Pages) -> None:
    for name in ("small", "pairs"):
        browser.open(pages[name], 1032, 700)  # A4 across, less its margins, in CSS pixels
        browser.run(
            f"{WIDE.partition('const over')[0]} for (const box of boxes('column')) if (!box.checked) box.click();"
        )
        browser.media("print")
        assert browser.run(CUT) == []
        assert browser.run("return getComputedStyle(document.querySelector('.bar')).display") == "none"
        assert len(re.findall(rb"/Type\s*/Page\b", browser.paper())) > 1
        browser.media("")


def test_the_page_keeps_out_all_scripts_and_styles_but_its_own(browser: Browser, pages: Pages) -> None:
    browser.open(pages["pairs"], 1400)
    browser.run("""
        document.head.append(Object.assign(document.createElement("script"), {textContent: "window.bad = 1"}));
        document.body.insertAdjacentHTML("beforeend", "<p id=styled style='color: red'>x</p>");
        document.body.append(Object.assign(new Image(), {src: "https://example.org/x.png"}));""")
    assert browser.run("return [window.bad ?? 0, getComputedStyle(byId('styled')).color === 'rgb(255, 0, 0)']") == [
        0,
        False,
    ]
    assert any("Content Security Policy" in line for line in browser.console)


@pytest.mark.slow
def test_ten_thousand_records_make_a_page_below_three_megabytes_that_answers(browser: Browser, tmp_path: Path) -> None:
    def one(kind: str, solver: str, task_config: dict[str, object], seed: int, value: float) -> Record:
        told = spec(solver, task_config["dim"], seed, kind=kind, task_config=task_config)
        name = f"{solver}-{'-'.join(map(str, task_config.values()))}-{seed}"
        instance = ", ".join(f"{key} = {value}" for key, value in task_config.items())
        return Record.model_validate(
            record(solver, task_config["dim"], seed, value, id=name, spec=told, instance=instance, published=None)
        )

    records = [
        one("solver" if k else "baseline", f"solver{k}" if k else "identity", {"dim": 2**power}, seed, (k + 5) / 100)
        for k in range(20)
        for power in range(1, 11)
        for seed in range(50)
    ]
    assert len(records) == 10_000
    build(records, tmp_path, ["html"], command="x")
    page = tmp_path / "index.html"
    assert page.stat().st_size < 3_000_000
    assert len(data_of(page)["records"]) == 10_000
    for width in (1400, 420):
        browser.open(page, width)
        assert browser.run(WIDE)[0] <= 0
        browser.run("boxes('solver')[3].click()")
        assert browser.run("return all('.family[open] tr.solver').filter((row) => row.checkVisibility()).length") > 0
        text = browser.run(f"""{WAIT} document.querySelector("tr.solver:not([hidden]) td a").click();
            await until(() => byId("runs").open); return byId("runs").innerText;""")
        assert text.count("seed ") >= 50
        assert browser.console == []
    assert len(browser.paper()) > 100_000
