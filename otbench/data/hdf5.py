"""Arrays from HDF5 files that may be hostile: no links out of the file, no content that lies elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from otbench.errors import DataError
from otbench.files import require_file, unreadable


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Any]:
    """Open an HDF5 file, and say by `DataError` what is wrong with it, whatever is read inside.

    Yields:
        The open `h5py.File`.

    Raises:
        DataError: it is missing, unreadable, or damaged.
    """
    import h5py  # here: slow to import

    require_file(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DataError:
        raise
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, AttributeError) as error:  # damage
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(f"{path}: not a readable HDF5 file ({reason}); it may be truncated. Get it again") from error


def own(group: Any, key: str, path: Path, *, dataset: bool = True) -> Any:
    """Return what `group` holds by the name `key`: a dataset, or a group, with its own content.

    Args:
        group: an open group.
        key: a name in it, without slashes.
        path: of the file, for the message.
        dataset: whether it must be a dataset; else it may be a group.

    Raises:
        DataError: there is none, it is a link to elsewhere, or its content lies elsewhere.
    """
    import h5py

    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
        raise DataError(f"{path}: '{key}' is missing or a link to elsewhere, which is not followed")
    held = group[key]
    if isinstance(held, h5py.Dataset):
        if held.external or held.is_virtual:
            raise DataError(f"{path}: '{key}' is not a dataset with its own content")
    elif dataset:
        raise DataError(f"{path}: '{key}' is not a dataset with its own content")
    return held
