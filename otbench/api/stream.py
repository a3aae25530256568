"""Maps applied from file to file, a chunk at a time: to points in files larger than the memory, and to pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from otbench.data.arrays import map_npy
from otbench.data.pictures import ENDINGS, picture_bytes, read_picture
from otbench.errors import DataError, OtbenchError, UsageError
from otbench.files import require_file, shown, write_whole, writing, written
from otbench.names import plain
from otbench.ops.colours import ColourSpace, distinct, levels_of, to_rgb
from otbench.transport import Transport, rows_at_a_time

_CONVERTED = {
    ".csv": "np.save('X.npy', pandas.read_csv('FILE').to_numpy()), with header=None if the first line holds no names",
    ".tsv": "np.save('X.npy', np.loadtxt('FILE')), with skiprows=1 if the first line holds names",
    ".txt": "np.save('X.npy', np.loadtxt('FILE')), with skiprows=1 if the first line holds names",
    ".npz": "np.save('X.npy', np.load('FILE')['NAME'])",
    ".parquet": "np.save('X.npy', pandas.read_parquet('FILE').to_numpy())",
    ".pt": "np.save('X.npy', torch.load('FILE').numpy())",
    ".h5ad": "np.save('X.npy', anndata.read_h5ad('FILE').obsm['NAME'])",
}
"""How an .npy file is made of other files, by their endings."""


def apply_file(
    transport: Transport,
    source: Path,
    result: Path,
    *,
    backward: bool = False,
    label: Path | None = None,
    seed: int = 0,
    also_read: Sequence[Path] = (),
    listen: Callable[[int, int], None] = lambda done, count: None,
) -> int:
    """Write the images of the points in one .npy file to another; return how many there are.

    They are, bit for bit, what `transport.forward` makes of all points at once with a generator of this seed.

    Args:
        transport: the maps.
        source: the points, shape (n, *shape).
        result: the .npy file where their images go: the same shape, and the same floating type (that of the map for
            whole numbers).
        backward: whether they go back.
        label: their classes, shape (n,), for maps that go class by class, and for no others.
        seed: of maps that draw noise.
        also_read: other files that must not be written over.
        listen: told how many of how many points are done.

    Raises:
        UsageError: the map does not take these points, or the result would overwrite what it is made of.
        DataError: a file cannot be read as an array of numbers.
        StoreError: the result cannot be written.
        OtbenchError: the map fails.
    """
    method = _method(transport, backward)
    points = _mapped("--input", source)
    if points.ndim == 0:
        raise DataError(f"{shown(source)}: holds a single number; points have the shape (n, *shape)")
    if transport.reads_label and label is None:
        raise UsageError("this map goes class by class: give the class of each point, --labels FILE.npy")
    if label is not None and not transport.reads_label:
        raise UsageError(f"--labels {shown(label)}: this map goes by no classes; leave the labels out")
    classes = None if label is None else _classes(label, len(points))
    _check_result(result, source, label, *also_read)
    if result.suffix.lower() != ".npy":
        raise UsageError(f"--output {shown(result)}: images of points are written as .npy; name a file that ends so")
    generator = torch.Generator(transport.device).manual_seed(seed)
    size = rows_at_a_time(points.shape[1:])
    form: tuple[object, ...] = ()
    with writing(result):
        result.parent.mkdir(parents=True, exist_ok=True)
        with written(result) as file:
            for begin in range(0, max(1, len(points)), size):  # once where there is no point: that has its type, too
                rows = slice(begin, begin + size)
                image = _image(transport, method, points[rows], None if classes is None else classes[rows], generator)
                if begin == 0:
                    form = image.dtype, image.shape[1:]
                    head = {"descr": np.lib.format.dtype_to_descr(image.dtype), "fortran_order": False}
                    np.lib.format.write_array_header_1_0(file, head | {"shape": (len(points), *image.shape[1:])})
                if form != (image.dtype, image.shape[1:]) or len(image) != len(points[rows]):
                    raise OtbenchError(f"{method} failed: its images have the shape {image.shape} at point {begin}")
                file.write(image.tobytes())
                listen(min(begin + size, len(points)), len(points))
    return len(points)


def apply_to_picture(
    transport: Transport,
    source: Path,
    result: Path,
    *,
    backward: bool = False,
    seed: int = 0,
    also_read: Sequence[Path] = (),
    listen: Callable[[int, int], None] = lambda done, count: None,
) -> int:
    """Write the picture in which each colour became its image, in full size; return how many colours there are.

    Args:
        transport: maps between colours.
        source: the picture.
        result: where the new one goes; its ending says the format.
        backward: whether colours go back.
        seed: of maps that draw noise: a colour has one image, wherever it lies.
        also_read: other files that must not be written over.
        listen: told how many of how many colours are done.

    Raises:
        UsageError: the maps are not between colours, or the result is none that can be written.
        DataError: the file is no picture that can be read.
        StoreError: the result cannot be written.
        OtbenchError: the map fails.
    """
    method = _method(transport, backward)
    space = "" if transport.origin is None else transport.origin.colours
    if space not in get_args(ColourSpace):
        raise UsageError(f"--input {shown(source)}: this map is none between colours; it takes points, as .npy")
    if result.suffix.lower() not in ENDINGS:
        raise UsageError(f"--output {shown(result)}: name a picture: {', '.join(ENDINGS)}")
    _check_result(result, source, *also_read)
    picture, _ = read_picture(source)
    colours, which = distinct(picture, cast("ColourSpace", space))
    generator = torch.Generator(transport.device).manual_seed(seed)
    images = np.empty(colours.shape)
    size = rows_at_a_time(colours.shape[1:])
    for begin in range(0, len(colours), size):
        rows = slice(begin, begin + size)
        images[rows] = _image(transport, method, colours[rows].numpy(), None, generator)
        listen(min(begin + size, len(colours)), len(colours))
    moved = levels_of(to_rgb(torch.from_numpy(images), cast("ColourSpace", space)).numpy())
    write_whole(result, picture_bytes(moved[which].reshape(picture.shape), ENDINGS[result.suffix.lower()]))
    return len(colours)


def _method(transport: Transport, backward: bool) -> str:
    """Return the name of the method that maps; UsageError where there is none."""
    if backward and not transport.two_way:
        who = "this map" if transport.origin is None else f"the map of {transport.origin.solver}"
        raise UsageError(f"--backward: {who} goes forward only")
    return "backward" if backward else "forward"


def _mapped(option: str, path: Path) -> NDArray[Any]:
    """Return the array in an .npy file; of files that end otherwise, say how one is made of them.

    Raises:
        UsageError: the file ends otherwise.
        DataError: it cannot be read as an array of numbers.
    """
    require_file(path)
    ending = path.suffix.lower()
    if ending in ("", ".npy"):
        return map_npy(path)
    how = _CONVERTED.get(ending, "np.save('X.npy', array)").replace("FILE", shown(path))
    raise UsageError(
        f"{option} {shown(path)}: points and labels are read from .npy, and for maps between colours pictures "
        f"({', '.join(ENDINGS)}); in Python: {how}"
    )


def _check_result(result: Path, *read: Path | None) -> None:
    """Refuse to write over what is read, or what is no file.

    Raises:
        UsageError: that was asked for.
    """
    try:
        if result.exists() and not result.is_file():
            raise UsageError(f"--output {shown(result)}: is not a regular file; name a new one")
        if result.exists() and any(path is not None and path.samefile(result) for path in read):
            raise UsageError(f"--output {shown(result)}: is a file that is read; choose another name")
    except OSError:  # no permission to look: writing says so
        return


def _image(
    transport: Transport, method: str, points: NDArray[Any], label: NDArray[Any] | None, generator: torch.Generator
) -> NDArray[Any]:
    try:
        found = getattr(transport, method)(points.copy(), label, generator)  # a copy: the file can only be read
    except OtbenchError:
        raise
    except Exception as error:  # what the code of a solver raises where a file does not quite fit it
        raise OtbenchError(f"{method} failed: {type(error).__name__}: {plain(str(error))}") from error
    return cast("NDArray[Any]", found)


def _classes(path: Path, count: int) -> NDArray[Any]:
    found = _mapped("--labels", path)
    if found.dtype.kind not in "iu" or found.shape != (count,):
        raise UsageError(
            f"--labels {shown(path)}: must hold one whole number for each of {count} points, shape ({count},), not "
            f"{found.dtype} of shape {found.shape}"
        )
    return np.asarray(found, dtype=np.int64)
