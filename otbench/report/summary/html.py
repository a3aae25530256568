"""The summary as a part of the page: safe HTML without scripts and styles."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

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


def fragment(summary: Summary, images: Mapping[str, Mapping[str, object]] = {}) -> str:
    """Return a section with the guide, the contests and the statistics over instances; all texts are escaped.

    Args:
        summary: what to write.
        images: figures of its scopes by their names, as `otbench.report.page.image` makes them.
    """
    from jinja2 import Environment, StrictUndefined

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
        images=lambda number: [one for name, one in images.items() if name.startswith(f"summary--{number}-")],
    )
