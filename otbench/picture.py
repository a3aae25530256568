"""What a run leaves for a report to draw: small arrays of a known kind, made by the task, drawn by the report.

The report knows kinds, not tasks. Arrays are kept beside the record (`otbench.records.store`), so no
report needs a solver.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from otbench.errors import DataError

PictureKind: TypeAlias = Literal["points", "images", "photographs", "matrix", "arrows", "way"]
POINTS = 2000
"""Points kept of a cloud: enough for a picture."""
MAX_BYTES = 2**25
"""What the arrays of one run may take, unpacked: a report of many runs must stay small."""
MAX_ARRAYS = 40
"""Arrays of one run at most."""
_NEEDED = {
    "points": ("data", "mapped"),
    "arrows": ("source", "mapped", "target"),
    "images": (),
    "photographs": ("source", "target", "forward"),
    "matrix": ("counts",),
    "way": ("place-0", "exact-0"),
}
_AXES = {"points": 2, "arrows": 2, "images": 3, "photographs": 3, "matrix": 2, "way": 2}


@dataclass(frozen=True)
class Picture:
    """One thing to draw.

    Kinds, and the arrays each has (float32 unless said otherwise):

    * `points`: clouds in the same space: `data` (n, d) is drawn beside every other array, `mapped` (m, d) and, where
      there is one, `source` (k, d). The report draws coordinate pairs and marginal histograms of `data` and `mapped`.
    * `arrows`: `source` (n, 2), `mapped` (n, 2), `target` (m, 2), `label` (n,) int64: transport lines in the plane.
    * `way`: `place-0`, `place-1` ..., each (n, 2): where points are at rising times from 0 to 1, at even distances;
      `exact-0`, `exact-1` ...: where they should be. The report draws a panel for each time.
    * `images`: rows of a grid, each array (n, height, width) uint8, drawn in the order of the mapping.
    * `photographs`: `source`, `target`, `forward` (what the source became) and, where there is one, `backward` (what
      the target became), each (height, width, 3) uint8, sRGB.
    * `matrix`: `counts` (k, k) int64: rows = class wanted, columns = class found.

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

    def __post_init__(self) -> None:
        """Check that the arrays are those of the kind.

        Raises:
            DataError: what does not fit; a task's mistake, or a file that was changed.
        """
        if self.kind not in get_args(PictureKind):
            raise self._error(f"unknown kind; kinds: {', '.join(get_args(PictureKind))}")
        if not all(re.fullmatch(r"[a-z0-9_-]{1,60}", name) for name in (self.name, *self.arrays)):
            raise self._error("its name and those of its arrays may have lower-case letters, digits, _ and - only")
        missing = [name for name in _NEEDED[self.kind] if name not in self.arrays]
        if missing or not self.arrays:
            raise self._error(f"lacks the array {missing[0] if missing else ''}".rstrip())
        for name, array in self.arrays.items():
            axes = 1 if name == "label" else _AXES[self.kind]
            if array.ndim != axes or 0 in array.shape:
                raise self._error(f"{name} has shape {array.shape}; wanted are {axes} axes, none of them empty")
            if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
                raise self._error(f"{name} holds something else than finite numbers")
            if self.kind in ("images", "photographs") and array.dtype != np.uint8:
                raise self._error(f"{name} has dtype {array.dtype}; wanted is uint8")
            if self.kind == "photographs" and array.shape[2] != 3:
                raise self._error(f"{name} has {array.shape[2]} channels; wanted are 3")
        if self.kind in ("points", "arrows", "way"):
            self._check_clouds()
        if self.kind == "matrix" and (len(set(self.arrays["counts"].shape)) > 1 or self.arrays["counts"].min() < 0):
            raise self._error("counts must be square and not negative")

    def _check_clouds(self) -> None:
        clouds = [array for name, array in self.arrays.items() if name != "label"]
        plane = self.kind in ("arrows", "way")
        if len({cloud.shape[1] for cloud in clouds}) > 1 or (plane and clouds[0].shape[1] != 2):
            wanted = "2 coordinates" if plane else "the same coordinates in all arrays"
            raise self._error(
                f"has arrays of shapes {', '.join(str(cloud.shape) for cloud in clouds)}; wanted: {wanted}"
            )
        if self.kind == "arrows":
            parts = [self.arrays[name] for name in ("source", "mapped", "label") if name in self.arrays]
            if len({len(part) for part in parts}) > 1:
                raise self._error("needs as many mapped points and labels as source points")
        if self.kind == "way" and len({tuple(self._numbered(name)) for name in ("place", "exact")}) > 1:
            raise self._error("needs places and exact places at the same times")

    def _numbered(self, name: str) -> list[str]:
        return sorted(key.removeprefix(name) for key in self.arrays if key.startswith(f"{name}-"))

    def _error(self, what: str) -> DataError:
        return DataError(f"picture {self.name!r} of kind {self.kind!r}: {what}")
