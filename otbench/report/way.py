"""The way from source to target: which metrics have a table of their own, below the one of the maps.

They are known where the exact paths are, at the end of training. Whoever names metrics has named the ones to show, so
that there is no such table then.
"""

from __future__ import annotations

from otbench.report.rows import Section
from otbench.reporting import Metric

WAY = ("uvp_quarter", "uvp_half", "uvp_three_quarters", "velocity_error", "action_ratio", "continuity")
"""Names of the metrics, in the order of columns; a test holds them against those that tasks report."""
SAYS = (
    "UVP X_1/2: of where points are at t = 1/2, on straight lines where a solver has no paths of its own. velocity"
    " error: along exact paths. action: of the paths over that of the exact ones (path energy over squared W2 for a"
    " quadratic cost); it can be below 1 for paths that do not arrive. continuity: residual of the continuity equation."
)
"""What the columns are."""


def way_metrics(section: Section) -> list[Metric]:
    """Return the metrics of the way that are not shown among those of the maps, and that some row has."""
    found = {metric.name: metric for metric in section.secondary}
    return [found[name] for name in WAY if name in found]
