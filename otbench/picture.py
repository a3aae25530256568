"""What a run leaves for a report to draw: small arrays of a known kind, made by the task, drawn by the report.

The report knows kinds, not tasks. Arrays are kept beside the record (`otbench.store`), so no report needs a solver.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

PictureKind: TypeAlias = Literal["points", "images", "matrix", "arrows"]
POINTS = 2000
"""Points kept of a cloud: enough for a picture."""


@dataclass(frozen=True)
class Picture:
    """One thing to draw.

    Kinds, and the arrays each has (float32 unless said otherwise):

    * `points`: clouds in the same space: `data` (n, d) is drawn beside every other array, `mapped` (m, d) and, where
      there is one, `source` (k, d). The report draws coordinate pairs and marginal histograms of `data` and `mapped`.
    * `arrows`: `source` (n, 2), `mapped` (n, 2), `target` (m, 2), `label` (n,) int64: transport lines in the plane.
    * `images`: rows of a grid, each array (n, height, width) uint8, drawn in the order of the mapping.
    * `matrix`: `counts` (k, k) int64: rows = true class, columns = class found.

    Attributes:
        name: of the file and in links: lower case, digits, hyphens.
        kind: how it is drawn.
        title: what it shows, in words.
        arrays: by name.
        names: names of coordinates, of classes or of grid rows, where there are any.
    """

    name: str
    kind: PictureKind
    title: str
    arrays: Mapping[str, NDArray[np.float32] | NDArray[np.uint8] | NDArray[np.int64]]
    names: tuple[str, ...] = ()
