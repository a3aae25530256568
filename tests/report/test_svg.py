"""Small SVG files show what the large ones did: images to the last bit, every name in its place."""

from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from otbench.report.figures.svg import compact

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"


@pytest.fixture(scope="module")
def svg() -> bytes:
    figure = Figure(figsize=(4, 3))
    axis = figure.add_subplot()
    axis.imshow(np.arange(200).reshape(10, 20) % 7, cmap="viridis", interpolation="none", aspect="auto")
    axis.fill_between([0, 5, 19], [1, 2, 3], [4, 5, 6], alpha=0.3)
    axis.plot([0, 3, 19], [1, 9, 4], marker="o")
    axis.set_title("0123")
    out = io.BytesIO()
    figure.savefig(out, format="svg")
    return out.getvalue()


def images(svg: bytes) -> list[np.ndarray]:
    found = re.findall(rb"data:image/png;base64,([^\"]*)\"", svg)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGBA")) for one in found]


def test_images_are_the_same_to_the_last_bit(svg: bytes) -> None:
    small = compact(svg)
    assert len(small) < 0.8 * len(svg)
    assert compact(svg) == small
    (before,), (after,) = images(svg), images(small)
    np.testing.assert_array_equal(before, after)


def test_all_that_was_drawn_is_there_and_every_name_is_known(svg: bytes) -> None:
    before, after = ElementTree.fromstring(svg), ElementTree.fromstring(compact(svg))
    for tag in ("path", "use", "image", "clipPath"):
        assert len(list(before.iter(SVG + tag))) == len(list(after.iter(SVG + tag))) > 0
    names = [element.get("id") for element in after.iter() if element.get("id")]
    used = {element.get(LINK, "#")[1:] for element in after.iter(SVG + "use")}
    used |= set(re.findall(r"url\(#([^)]*)\)", compact(svg).decode()))
    assert set(names) == used
    assert len(names) == len(used)


def test_a_clip_path_stays_with_its_group() -> None:
    shape = '<g clip-path="url(#c)"><use xlink:href="#p" x="0" y="7"/></g>'  # on the shape itself it would move with it
    defs = '<defs><path id="p" d="M 0 0 L 1 1"/><clipPath id="c"><rect width="9" height="9"/></clipPath></defs>'
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    letter = '<g style="fill: #112233" transform="translate(1.239 0) scale(0.1 -0.1)"><use xlink:href="#p"/></g>'
    shifted = (
        '<g><use xlink:href="#p" transform="translate(1.239 0)"/><use xlink:href="#p" transform="translate(2 3)"/></g>'
    )
    text = compact(f'{head}{defs}<g>{shape}</g><g id="t">{letter}</g>{shifted}</svg>'.encode()).decode()
    assert '<g clip-path="url(#a)"><use xlink:href="#b" x="0" y="7"/></g>' in text
    assert '<path d="m0 0l1 1" id="b"/>' in text
    assert '<use xlink:href="#b" style="fill:#123" transform="translate(1.23) scale(.1 -.1)"/>' in text
    assert '<use xlink:href="#b" x="1.23"/><use xlink:href="#b" x="2" y="3"/>' in text


@given(
    st.lists(
        st.tuples(st.sampled_from("MLQCz"), st.lists(st.floats(-9999, 9999), min_size=6, max_size=6)),
        min_size=1,
        max_size=12,
    )
)
def test_steps_lead_to_the_same_points(parts: list[tuple[str, list[float]]]) -> None:
    count = {"M": 2, "L": 2, "Q": 4, "C": 6, "z": 0}
    parts = [("M", [0.0] * 6), *parts]
    path = " ".join(" ".join([command, *map(str, numbers[: count[command]])]) for command, numbers in parts)
    text = compact(f'<svg xmlns="http://www.w3.org/2000/svg"><path d="{path}"/></svg>'.encode()).decode()
    steps = re.findall(r"([a-z])?([^a-z]*)", re.search(r' d="([^"]*)"', text)[1])  # type: ignore[index]
    here, start, command, found = np.zeros(2), np.zeros(2), "", []
    for letter, numbers in steps:
        command = letter or command
        step = np.array([float(number) for number in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", numbers)]).reshape(-1, 2)
        size = max(count[command if command == "z" else command.upper()] // 2, 1)
        for k in range(0, len(step), size):
            points = here + step[k : k + size]
            found += [*points]
            here = points[-1]
            start = here if command == "m" else start
        here = start if command == "z" else here
    wanted = [numbers[k : k + 2] for command, numbers in parts for k in range(0, count[command], 2)]
    np.testing.assert_allclose(np.array(found), np.array(wanted), atol=0.0051)
