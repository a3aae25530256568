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
_LINK = "{http://www.w3.org/1999/xlink}href"
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
        elif key in ("d", "x", "y", "transform"):
            element.set(key, _numbers(value, rounded=key != "transform" or value.startswith("translate")))
        else:
            value = re.sub(r"url\(#([^)]*)\)", lambda found: f"url(#{names[found[1]]})", value)
            element.set(key, _style(value) if key == "style" else value)


def _style(text: str) -> str:
    """Return a style without white space between its parts, and colours like #333333 as #333."""
    return re.sub(r"#(.)\1(.)\2(.)\3(?![0-9a-f])", r"#\1\2\3", re.sub(r"([:;]) +", r"\1", text))


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
