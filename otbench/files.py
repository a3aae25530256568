"""Files: read only if they are regular files, written so that readers see the old content or the new, never a part."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from otbench.errors import DataError


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a temporary file beside `path`, sync it, and rename: readers see old or new, never a part.

    Raises:
        OSError: no space, no permission; the temporary file is removed, `path` is untouched.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def require_file(path: Path) -> None:
    """Check that `path` is a regular file.

    Raises:
        DataError: it does not exist, is a folder, or something else that cannot be read as a file.
    """
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a folder, not a file; name the file itself")
        if not path.exists():
            raise DataError(f"{path}: no such file; check the path")
        if not path.is_file():
            raise DataError(f"{path}: is not a regular file")
    except OSError as error:
        raise unreadable(path, error) from error


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the checksum of the content of `path`, in hexadecimal digits.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, algorithm).hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> DataError:
    """Return what is said of a file that cannot be read."""
    return DataError(f"{path}: cannot be read ({error.strerror or error}); check its permissions")
