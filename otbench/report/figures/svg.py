"""Makes SVG files of matplotlib small without changing what they show: half of their size, or less.

Coordinates are rounded to a hundredth of a point, names that nothing refers to and groups that say nothing are left
out, and embedded images have a palette in place of four numbers for each pixel.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from xml.etree import ElementTree

from otbench.report.files import letter

_NAMESPACES = {
    "": "http://www.w3.org/2000/svg",
    "xlink": "http://www.w3.org/1999/xlink",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "cc": "http://creativecommons.org/ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
}
_GROUP = "{http://www.w3.org/2000/svg}g"
_USE = "{http://www.w3.org/2000/svg}use"
_LINK = "{http://www.w3.org/1999/xlink}href"
_POINTS = {"M": 1, "L": 1, "Q": 2, "C": 3, "z": 0}
"""Points that a command of a path has."""
_PNG = "data:image/png;base64,"
_COLOURS = 256
"""Colours of a palette; only images of points, with their soft edges, have more and are rounded to these."""


def compact(svg: bytes) -> bytes:
    """Return a file of matplotlib that shows the same and is smaller; equal files give equal bytes."""
    for prefix, address in _NAMESPACES.items():
        ElementTree.register_namespace(prefix, address)
    root = ElementTree.fromstring(svg)  # comments are left out
    names: dict[str, str] = {}
    for element in root.iter():
        for target in _targets(element):
            names.setdefault(target, letter(len(names)))
    for element in root.iter():
        _shorten(element, names)
    _unwrap(root)
    for use in root.iter(_USE):
        _place(use)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text.replace(b" />", b"/>") + b"\n"


def _targets(element: ElementTree.Element) -> Iterator[str]:
    """Yield the names that attributes of `element` refer to."""
    for key, value in element.attrib.items():
        if key == _LINK and value.startswith("#"):
            yield value[1:]
        yield from re.findall(r"url\(#([^)]*)\)", value)


def _shorten(element: ElementTree.Element, names: dict[str, str]) -> None:
    """Shorten the attributes of `element`, and drop the white space in it and behind it."""
    element.text, element.tail = ((text or "").strip() for text in (element.text, element.tail))
    for key, value in list(element.attrib.items()):
        if key == "id":
            del element.attrib[key]
            if value in names:
                element.set(key, names[value])
        elif key == _LINK:
            element.set(key, f"#{names[value[1:]]}" if value.startswith("#") else _with_palette(value))
        elif key == "d":
            element.set(key, _steps(value))
        elif key in ("x", "y", "transform"):
            element.set(key, _numbers(value, rounded=key != "transform" or value.startswith("translate")))
        else:
            value = re.sub(r"url\(#([^)]*)\)", lambda found: f"url(#{names[found[1]]})", value)
            element.set(key, _style(value) if key == "style" else value)


def _style(text: str) -> str:
    """Return a style without white space between its parts, and colours like #333333 as #333."""
    return re.sub(r"#(.)\1(.)\2(.)\3(?![0-9a-f])", r"#\1\2\3", re.sub(r"([:;]) +", r"\1", text))


def _steps(path: str) -> str:
    """Return a path with steps from point to point in the place of positions, which are longer; to a hundredth.

    Steps are between rounded positions, so that nothing adds up.
    """
    parts = [(part[0], part[1:].split()) for part in re.findall(r"[A-Za-z][^A-DF-Za-df-z]*", path)]
    if any(len(numbers) != 2 * _POINTS.get(command, -1) for command, numbers in parts):
        return _numbers(path, rounded=True)  # commands that matplotlib does not write
    out, before, here, start = "", "", (0, 0), (0, 0)
    for command, numbers in parts:
        places = [round(100 * float(number)) for number in numbers]
        points = list(zip(places[::2], places[1::2], strict=True))
        steps = [_hundredths(to - since) for point in points for to, since in zip(point, here, strict=True)]
        again = command == before and command != "M"  # another M would be taken for an L
        out += (" " if again else command.lower()) + " ".join(steps)
        here = points[-1] if points else start
        start = here if command == "M" else start
        before = command
    return out.replace(" -", "-")


def _hundredths(number: int) -> str:
    """Return a number of hundredths as a decimal, in as few letters as it takes."""
    sign, digits = "-" * (number < 0), f"{abs(number) / 100:.2f}".rstrip("0").rstrip(".")
    return sign + (digits.removeprefix("0") or "0")


def _numbers(text: str, *, rounded: bool) -> str:
    """Return numbers and commands without the white space that only people need; coordinates to a hundredth."""
    text = " ".join(text.split())
    if not rounded:
        return text
    shift, bracket, rest = text.partition(")")  # what follows a translation is a scale: not rounded
    shift = re.sub(r"(\.\d\d)\d+", r"\1", shift)
    if not bracket:
        return re.sub(r" ?([A-Za-z]) ?", r"\1", shift)
    return re.sub(r"(?<![0-9])0\.", ".", f"{shift.removesuffix(' 0')}{bracket}{rest}")


def _place(use: ElementTree.Element) -> None:
    """Say where a letter or mark stands by its coordinates, where a translation is all that is said of it."""
    moved = re.fullmatch(r"translate\((\S+)(?: (\S+))?\)", use.get("transform", ""))
    if moved is None or use.attrib.keys() & {"x", "y", "clip-path"}:  # these would mean another place
        return
    del use.attrib["transform"]
    for key, value in zip("xy", moved.groups(), strict=True):
        if value is not None:
            use.set(key, value)


def _unwrap(parent: ElementTree.Element) -> None:
    """Put the children of groups without attributes in their group's place; a single letter takes over its group's."""
    children: list[ElementTree.Element] = []
    for child in parent:
        _unwrap(child)
        inner = list(child)
        # only style and transform: a clip path would go along with the place of what it clips
        if [set(one.attrib) for one in inner] == [{_LINK}] and child.attrib.keys() <= {"style", "transform"}:
            inner[0].attrib.update(child.attrib)
            child.attrib.clear()
        children += inner if child.tag == _GROUP and not child.attrib else [child]
    parent[:] = children


def _with_palette(address: str) -> str:
    """Return an embedded PNG image with a palette: the same colours where they are 256 at most, else the nearest."""
    import numpy as np
    from PIL import Image

    if not address.startswith(_PNG):
        return address
    image = Image.open(io.BytesIO(base64.b64decode(address.removeprefix(_PNG)))).convert("RGBA")
    pixels = np.asarray(image)
    colours, index = np.unique(pixels.reshape(-1, 4), axis=0, return_inverse=True)
    out = io.BytesIO()
    if len(colours) <= _COLOURS:
        small = Image.fromarray(index.reshape(pixels.shape[:2]).astype(np.uint8)).convert("L")
        small.putpalette(colours[:, :3].tobytes())
        small.save(out, "PNG", optimize=True, transparency=colours[:, 3].tobytes())
    else:
        image.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE).save(out, "PNG", optimize=True)
    return _PNG + base64.b64encode(out.getvalue()).decode()
