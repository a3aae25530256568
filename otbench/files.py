"""Files: read only if they are regular files, written so that readers see the old content or the new, never a part."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from otbench._links import checkout_root
from otbench.errors import DataError, StoreError, UsageError
from otbench.names import hint, plain

MAP_ENDING = ".otmap"
"""How the name of a kept map ends."""
SHOWN = 300
"""Characters of a path in a message; of a longer one both ends are shown."""


def typed_path(text: str, option: str, *, folder: bool = False) -> Path:
    """Return the path that a user typed, `~` expanded.

    Args:
        text: what was typed.
        option: where it was typed, for the message ("--out").
        folder: whether it must be a folder that can be read; else nothing need be there.

    Raises:
        UsageError: nothing was typed, the system cannot take it as a path, or it is no such folder.
    """
    if not text:
        raise UsageError(f"{option}: the path is empty; name a file or a folder ('.' is the current one)")
    said = f"{option} {shown(text)}"
    try:
        path = Path(text).expanduser()
        found = path.is_dir() if path.stat() else False
    except (FileNotFoundError, NotADirectoryError):
        found = False
    except (OSError, ValueError) as error:  # too long, a loop, no permission; a zero byte
        raise UsageError(f"{said}: {_reason(error)}; check the path") from None
    except RuntimeError:
        raise UsageError(f"{said}: no such user; write the folder out in full") from None
    if folder and not found:
        raise UsageError(f"{said}: no such folder")
    if folder and not os.access(path, os.R_OK | os.X_OK):
        raise UsageError(f"{said}: cannot be read; check its permissions")
    return path


def known_formats(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """Return the formats `names`, each once, if all of them are `known`.

    Raises:
        UsageError: one is unknown, or there is none.
    """
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in known:
            raise UsageError(f"--format: unknown format '{plain(name, 40)}'{hint(name, known, 'formats')}")
    if not wanted:
        raise UsageError(f"--format: no format is named; formats: {', '.join(known)}")
    return wanted


def results_folder() -> Path:
    """Return where records go unless the user says otherwise: results/local of the checkout, or of this folder."""
    return (checkout_root() or Path()) / "results" / "local"


def shown(path: Path | str) -> str:
    """Return `path` for a message: short enough, and on one line."""
    text = str(path) if str(path).isprintable() else repr(str(path))[1:-1]
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]}...{text[-SHOWN // 2 :]}"


def read_regular(path: Path, most: int) -> bytes:
    """Return the content of a regular file; a pipe or a device, which may never end, is not opened.

    Raises:
        OSError: it cannot be read, is not a regular file, or has more than `most` bytes.
    """
    if path.exists() and not path.is_file():
        raise OSError("not a regular file")
    with path.open("rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise OSError(f"more than {most:,} bytes")
    return content


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` as a whole, see `written`.

    Raises:
        OSError: no space, no permission; `path` is untouched.
    """
    with written(path) as file:
        file.write(content)


@contextlib.contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; at the end sync and rename it: readers see old or new, never a part.

    Raises:
        OSError: no space, no permission; the temporary file is removed, `path` is untouched.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
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
            raise DataError(f"{shown(path)}: is a folder, not a file; name the file itself")
        if not path.exists():
            raise DataError(f"{shown(path)}: no such file; check the path")
        if not path.is_file():
            raise DataError(f"{shown(path)}: is not a regular file")
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
    return DataError(f"{shown(path)}: cannot be read ({_reason(error)}); check its permissions")


def cannot_write(path: Path | str, error: Exception, then: str = "free space or permissions") -> StoreError:
    """Return what is said of a file or folder that cannot be written; `then` says what to do."""
    return StoreError(f"cannot write '{shown(path)}': {_reason(error)}; {then}")


@contextlib.contextmanager
def writing(path: Path, then: str = "free space or permissions") -> Iterator[None]:
    """Say by `cannot_write` what keeps the system from doing what stands inside.

    Raises:
        StoreError: `path` cannot be written.
    """
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise cannot_write(path, error, then) from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
