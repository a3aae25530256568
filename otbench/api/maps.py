"""Maps in a user's hands: their type, `otbench.load` and `otbench.score`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from otbench.api import given
from otbench.api.given import PathLike, Points
from otbench.data.mapfile import ENDING
from otbench.errors import DataError, UsageError
from otbench.files import results_folder, shown
from otbench.metrics.two_sides import two_sample_scores
from otbench.plugins.kept import load_map
from otbench.transport import Transport as _Transport

if TYPE_CHECKING:

    class Transport(_Transport):
        """Maps as a user sees them: arrays in, arrays out; tensors in, tensors out.

        Methods that a solver's maps lack are missing: `two_way` says whether there is a map back.
        """

        @overload
        def forward(
            self, x: Tensor, label: Points | None = None, generator: torch.Generator | None = None
        ) -> Tensor: ...
        @overload
        def forward(
            self, x: ArrayLike, label: Points | None = None, generator: torch.Generator | None = None
        ) -> NDArray[Any]: ...
        def forward(self, x: Any, label: Any = None, generator: Any = None) -> Any:
            """Return T(x), shape (n, *shape)."""

        @overload
        def backward(
            self, y: Tensor, label: Points | None = None, generator: torch.Generator | None = None
        ) -> Tensor: ...
        @overload
        def backward(
            self, y: ArrayLike, label: Points | None = None, generator: torch.Generator | None = None
        ) -> NDArray[Any]: ...
        def backward(self, y: Any, label: Any = None, generator: Any = None) -> Any:
            """Return S(y), shape (n, *shape)."""

        @overload
        def log_prob(
            self, y: Tensor, label: Points | None = None, generator: torch.Generator | None = None
        ) -> Tensor: ...
        @overload
        def log_prob(
            self, y: ArrayLike, label: Points | None = None, generator: torch.Generator | None = None
        ) -> NDArray[Any]: ...
        def log_prob(self, y: Any, label: Any = None, generator: Any = None) -> Any:
            """Return log densities of T#source at `y`, shape (n,)."""

        @overload
        def velocity(self, x: Tensor, t: float) -> Tensor: ...
        @overload
        def velocity(self, x: ArrayLike, t: float) -> NDArray[Any]: ...
        def velocity(self, x: Any, t: float) -> Any:
            """Return the velocity at time `t` in [0, 1] of points at `x`, shape (n, *shape)."""

        @overload
        def interpolate(self, x: Tensor, t: float) -> Tensor: ...
        @overload
        def interpolate(self, x: ArrayLike, t: float) -> NDArray[Any]: ...
        def interpolate(self, x: Any, t: float) -> Any:
            """Return where points that start at `x` are at time `t` in [0, 1], shape (n, *shape)."""

else:
    Transport = _Transport


@given.public
def load(
    path: PathLike,
    *,
    folder: PathLike | None = None,
    plugins: PathLike | Sequence[PathLike] = (),
    device: str | torch.device = "cpu",
) -> Transport:
    """Return kept maps. Nothing in the file is executed.

    Where the code of the solver has changed since, the maps are loaded if they still fit, with a warning.

    Args:
        path: a file that `transport.save` or `--keep-maps` wrote; or a record (`.json`), beside which its map is kept;
            or the id of a run.
        folder: where the run of that id is recorded; None = results/local.
        plugins: files that register more solvers.
        device: "cpu", "cuda", "cuda:N" or "auto".

    Raises:
        UsageError: an argument is wrong.
        DataError: there is no such map, or it is damaged, or does not fit the code that is here.
        PluginError: the solver's code cannot be loaded.
    """
    where = None if folder is None else given.path_of("folder", folder, folder=True)
    file = map_file(given.path_of("path", path), where)
    made = load_map(file, plugins=given.plugin_files(plugins), device=given.device_of(device))
    return cast("Transport", made)


def map_file(path: Path, folder: Path | None = None) -> Path:
    """Return the file of a map: `path` itself, that beside a record, or that of a run by its id.

    Raises:
        DataError: beside the record lies none.
    """
    if path.suffix == ".json":
        beside = path.with_suffix(ENDING)
        if path.exists() and not beside.exists():
            raise DataError(f"{shown(path)}: no map was kept beside this record; run it again with --keep-maps --force")
        return beside if path.exists() else path
    if path.exists() or path.name != str(path) or path.suffix:
        return path
    by_id = (results_folder() if folder is None else folder) / f"{path}{ENDING}"
    return by_id if by_id.exists() or folder is not None else path


@given.public
def score(
    transport: Transport,
    x: Points,
    y: Points,
    *,
    x_label: Points | None = None,
    y_label: Points | None = None,
    training: Points | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Return what two samples say of maps that were not trained on them: distances, cost, roundtrip.

    The numbers are those of the task `uci`, by the same names: `mmd_fwd`, `energy_fwd`, `sliced_w2_fwd` and
    `p_value_fwd` compare T(x) with `y`; those in `_bwd` compare S(y) with `x`.

    Args:
        transport: the maps.
        x: source points, shape (n, *shape), n >= 2.
        y: target points, shape (m, *shape), m >= 2.
        x_label: classes of `x`, shape (n,), for maps that go class by class.
        y_label: classes of `y`, shape (m,), needed as well where such maps go back.
        training: the target points that the maps were trained on, for `novelty`: 1 = images are as far from them as
            `y`, 0 = copies.
        seed: of maps that draw noise.

    Raises:
        UsageError: an argument is wrong.
    """
    if not isinstance(transport, _Transport):
        raise UsageError(
            f"transport: must be what otbench.fit or otbench.load returns, not a {type(transport).__name__}"
        )

    def points(name: str, value: Points) -> Tensor:
        return given.points(name, value).to(transport.device, transport.dtype)

    here, there = points("x", x), points("y", y)
    known = None if training is None else points("training", training)
    shapes = {tuple(side.shape[1:]) for side in (here, there, known) if side is not None}
    if len(shapes) > 1:
        raise UsageError(
            f"x, y and training must have points of one shape, not {' and '.join(map(str, sorted(shapes)))}"
        )
    here_label, there_label = given.labels("x_label", x_label, len(here)), given.labels("y_label", y_label, len(there))
    sides = [x_label, y_label] if transport.two_way else [x_label]
    if transport.reads_label and any(side is None for side in sides):
        which = "x_label and y_label" if transport.two_way else "x_label"
        raise UsageError(f"these maps go class by class: give the class of each point, {which}")
    if not transport.reads_label and (x_label is not None or y_label is not None):
        given.warn(["these maps go by no classes: x_label and y_label made no difference"])
    generator = torch.Generator(transport.device).manual_seed(given.seed(seed))
    with torch.no_grad():
        forward = transport.forward(here, here_label, generator)
        backward = roundtrip = None
        if transport.two_way:
            backward = transport.backward(there, there_label, generator)
            roundtrip = transport.backward(forward, here_label, generator)
        return two_sample_scores(here, there, forward, backward, roundtrip, training=known)
