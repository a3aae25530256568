"""The summary as a part of the page: safe HTML without scripts and styles."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

from otbench.report.summary.summary import RULE, Summary
from otbench.report.summary.text import (
    EXPLAINED,
    alone,
    beside,
    cells,
    heads,
    instances,
    runs,
    scope_cells,
    scope_heads,
    scope_remarks,
    sources,
)

if TYPE_CHECKING:
    from otbench.report.figures.canvas import Drawing


def fragment(summary: Summary, drawings: Sequence[Drawing] = ()) -> str:
    """Return a section with the guide, the contests and the statistics over instances; all texts are escaped.

    Args:
        summary: what to write.
        drawings: figures of its scopes, with SVG data, as `otbench.report.figures.overall` makes them.
    """
    from jinja2 import Environment, StrictUndefined

    from otbench.report.page import image

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = resources.files("otbench.report").joinpath("summary.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        summary=summary,
        sources=sources(summary),
        rule=RULE,
        explained=EXPLAINED,
        alone=alone(summary),
        runs=runs,
        heads=heads,
        cells=cells,
        beside=beside,
        instances=instances,
        scope_heads=scope_heads,
        scope_cells=scope_cells,
        scope_remarks=scope_remarks,
        images=lambda number: [image(one) for one in drawings if one.name.startswith(f"summary--{number}-")],
    )
