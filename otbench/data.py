"""Checked access to input files: the user's own copy first, a verified download else; arrays without pickle."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import math
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from otbench.errors import DataError

MAX_BYTES = 2**30
"""Arrays of one file may take this many bytes once unpacked, unless a task says otherwise."""
RETRIES = 2
TIMEOUT = 30.0
"""Seconds without an answer from a host before a download counts as failed."""


@dataclass(frozen=True)
class RemoteFile:
    """A file with a known content.

    Attributes:
        url: where to download it.
        sha256: checksum of the content, 64 hexadecimal digits.
        names: where it may lie in a data folder, relative, tried in this order; the last is its plain name.
    """

    url: str
    sha256: str
    names: tuple[str, ...]


def locate(file: RemoteFile, data_dir: Path | None) -> Path:
    """Return a verified local copy of `file`: from `data_dir`, from the cache, or downloaded into the cache.

    Args:
        file: what is needed.
        data_dir: the user's folder with own copies, if any.

    Raises:
        DataError: the folder does not exist, the copy in it has another content, or the download failed.
    """
    if data_dir is not None:
        if not data_dir.is_dir():
            raise DataError(f"data folder {data_dir}: no such folder; correct --data-dir or OTBENCH_DATA_DIR")
        for name in file.names:
            path = data_dir / name
            if path.exists():
                _verify(path, file)
                return path
    return _download(file)


def present(file: RemoteFile, data_dir: Path | None) -> bool:
    """Say whether `locate` would find `file` without a download; its content is not looked at."""
    if data_dir is not None and any((data_dir / name).exists() for name in file.names):
        return True
    return (cache_folder() / _cached_name(file)).exists()


def cache_folder() -> Path:
    """Return where downloads and what is made of them are kept: the user's cache folder (XDG_CACHE_HOME on Linux)."""
    import pooch  # here: slow to import

    return Path(pooch.os_cache("otbench"))


def _cached_name(file: RemoteFile) -> str:
    return f"{file.sha256[:12]}-{Path(file.names[-1]).name}"  # two tasks may use the same plain name


def _verify(path: Path, file: RemoteFile) -> None:
    require_file(path)
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error
    if found != file.sha256:
        raise DataError(
            f"{path}: wrong checksum: expected SHA-256 {file.sha256}, found {found}. The file is damaged or another "
            f"version; replace it by {file.url}, or move it away to have it downloaded"
        )


def _download(file: RemoteFile) -> Path:
    import pooch  # here: slow to import, and not needed where the user has the file

    pooch.get_logger().setLevel("WARNING")
    name = _cached_name(file)
    cache = pooch.create(
        path=cache_folder(),
        base_url="",
        registry={name: f"sha256:{file.sha256}"},
        urls={name: file.url},
        retry_if_failed=RETRIES,
    )
    progress = sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
    try:
        return Path(cache.fetch(name, downloader=pooch.HTTPDownloader(progressbar=progress, timeout=TIMEOUT)))
    except (OSError, ValueError) as error:
        raise DataError(
            f"could not download {file.url} ({_reason(error, file.url)}). Put {file.names[-1]} into a folder and pass "
            "--data-dir FOLDER (or set OTBENCH_DATA_DIR), or try again with a network connection"
        ) from error


def _reason(error: Exception, url: str) -> str:
    """Return why a download failed, in a few words: the texts of the network libraries fill half a screen."""
    kinds = {
        "ConnectionError": f"no connection to {urlsplit(url).hostname}",
        "ProxyError": "the proxy refused the connection",
        "SSLError": f"no secure connection to {urlsplit(url).hostname}",
        "ConnectTimeout": f"{urlsplit(url).hostname} does not answer",
        "ReadTimeout": f"{urlsplit(url).hostname} does not answer",
    }
    return kinds.get(type(error).__name__) or str(error) or type(error).__name__


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
        raise _unreadable(path, error) from error


def load_npz(
    path: Path, names: Sequence[str], *, optional: Sequence[str] = (), max_bytes: int = MAX_BYTES
) -> dict[str, NDArray[np.float64]]:
    """Read numeric arrays from an .npz file that may be hostile: no pickle, no unbounded allocation.

    Args:
        path: the file.
        names: arrays that must be there.
        optional: arrays that may be there.
        max_bytes: what the arrays may take once unpacked, in bytes; checked in the zip directory before reading.

    Returns:
        The arrays by name, converted to float64; optional ones only if present.

    Raises:
        DataError: the file is missing, unreadable, not an npz, damaged, too large, lacks an array, or holds one that
            is not numeric.
    """
    require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            missing = [name for name in names if name not in members]
            if missing:
                held = ", ".join(sorted(members)[:20]) or "nothing"
                raise DataError(
                    f"{path}: lacks {', '.join(missing)}; it holds {held}. Save with np.savez(path, name=array)"
                )
            wanted = [name for name in (*names, *optional) if name in members]
            size = sum(members[name].file_size for name in wanted)
            if size > max_bytes:
                raise DataError(f"{path}: unpacks to {size:,} bytes, more than the {max_bytes:,} that are read from it")
            arrays = {}
            for name in wanted:
                with archive.open(members[name]) as stream:
                    content = stream.read(members[name].file_size)
                    stream.read(1)  # at the end of the stream the checksum of the member is compared
                arrays[name] = _parse(content, f"{path}: {name}")
            return arrays
    except DataError:
        raise
    except PermissionError as error:
        raise _unreadable(path, error) from error
    except Exception as error:  # a damaged or hostile file can raise anything from the zip and header parsers
        raise DataError(
            f"{path}: not a readable .npz file ({str(error) or type(error).__name__}); it may be truncated or of "
            "another kind. Save it again with np.savez"
        ) from error


def _parse(content: bytes, what: str) -> NDArray[np.float64]:
    """Return the array of one .npy member; its header is checked before anything is allocated."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(stream)
    if dtype.hasobject:
        raise DataError(f"{what} holds Python objects; only numeric arrays are read (pickle could run any code)")
    if dtype.kind not in "fiu":
        raise DataError(f"{what} has dtype {dtype}, which is not numeric; save it as float64")
    start = stream.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content) - start:
        raise DataError(f"{what} is damaged: shape {shape} of {dtype} does not fit its {len(content) - start} bytes")
    flat = np.frombuffer(content, dtype=dtype, offset=start)
    return flat.reshape(shape, order="F" if fortran_order else "C").astype(np.float64, order="C")


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read ({error.strerror or error}); check its permissions")
