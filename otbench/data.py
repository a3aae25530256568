"""Checked access to input files: the user's own copy first, a verified download else; arrays without pickle.

A download is checked against the SHA-256 known for the file; where its host publishes only an MD5, against that. A file
whose content nobody publishes is trusted at its first download: its SHA-256 is written down beside it, and every later
use and download is checked against that note.
"""

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

from otbench.atomic import write_atomically
from otbench.errors import DataError

MAX_BYTES = 2**30
"""Arrays of one file may take this many bytes once unpacked, unless a task says otherwise."""
RETRIES = 2
TIMEOUT = 30.0
"""Seconds without an answer from a host before a download counts as failed."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded.

    Attributes:
        url: where to download it.
        sha256: checksum of the content, 64 hexadecimal digits; None where it is not known.
        names: where it may lie in a data folder, relative, tried in this order; the last is its plain name.
        mirrors: further addresses, tried in this order when `url` fails.
        md5: checksum of the content, 32 hexadecimal digits, for hosts that publish no other; used where `sha256` is
            None.
        size: bytes to download, for lists; None where it is not known.
    """

    url: str
    sha256: str | None
    names: tuple[str, ...]
    mirrors: tuple[str, ...] = ()
    md5: str | None = None
    size: int | None = None

    @property
    def checksum(self) -> str | None:
        """The known checksum as `sha256:...` or `md5:...`; None where the first download is trusted."""
        if self.sha256 is not None:
            return f"sha256:{self.sha256}"
        return None if self.md5 is None else f"md5:{self.md5}"

    @property
    def checked_by(self) -> str:
        """How the content is checked, in words."""
        if self.sha256 is not None:
            return "SHA-256"
        return (
            "MD5 (its host publishes no other)" if self.md5 else "SHA-256 noted at the first download (none published)"
        )


def locate(file: RemoteFile, data_dir: Path | None) -> Path:
    """Return a verified local copy of `file`: from `data_dir`, from the cache, or downloaded into the cache.

    Args:
        file: what is needed.
        data_dir: the user's folder with own copies, if any.

    Raises:
        DataError: the folder does not exist, the copy in it has another content, or the download failed.
    """
    own = users_copy(file, data_dir)
    if own is not None:
        verify(own, file)
        return own
    return _download(file)


def users_copy(file: RemoteFile, data_dir: Path | None) -> Path | None:
    """Return the copy of `file` in `data_dir`, not yet verified; None where there is none.

    Raises:
        DataError: the folder does not exist.
    """
    if data_dir is None:
        return None
    if not data_dir.is_dir():
        raise DataError(f"data folder {data_dir}: no such folder; correct --data-dir or OTBENCH_DATA_DIR")
    return next((data_dir / name for name in file.names if (data_dir / name).exists()), None)


def cached_copy(file: RemoteFile) -> Path | None:
    """Return the downloaded copy of `file` in the cache, not yet verified; None where there is none."""
    path = cache_folder() / _cache_name(file)
    return path if path.is_file() else None


def present(file: RemoteFile, data_dir: Path | None) -> bool:
    """Say whether `locate` would find `file` without a download; its content is not looked at."""
    return users_copy(file, data_dir) is not None or cached_copy(file) is not None


def cache_folder() -> Path:
    """Return the folder for downloads and prepared data; it may not exist yet."""
    import pooch  # here: slow to import

    return Path(pooch.os_cache("otbench"))


def verify(path: Path, file: RemoteFile) -> str:
    """Compare the content of `path` with what is known of `file`; return how, in words.

    Raises:
        DataError: it is no readable file, or has another content.
    """
    require_file(path)
    known = file.checksum or _noted(path)
    if known is None:
        return "no checksum is known"
    algorithm, expected = known.split(":")
    found = file_digest(path, algorithm)
    if found != expected:
        name = {"sha256": "SHA-256", "md5": "MD5"}[algorithm]
        raise DataError(
            f"{path}: wrong checksum: expected {name} {expected}, found {found}. The file is damaged or another "
            f"version; replace it by {file.url}, or move it away to have it downloaded"
        )
    return file.checked_by


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the checksum of the content of `path`, in hexadecimal digits.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, algorithm).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _cache_name(file: RemoteFile) -> str:
    """Return the name in the cache: two tasks may use the same plain name, so a part of what is known is in it."""
    known = file.sha256 or file.md5 or hashlib.sha256(file.url.encode()).hexdigest()
    return f"{known[:12]}-{Path(file.names[-1]).name}"


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _noted(path: Path) -> str | None:
    """Return the checksum noted when `path` was first downloaded, as `sha256:...`."""
    try:
        text = _note(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return f"sha256:{text}" if len(text) == 64 else None


def _download(file: RemoteFile) -> Path:
    import pooch  # here: slow to import, and not needed where the user has the file

    pooch.get_logger().setLevel("WARNING")
    name = _cache_name(file)
    folder = cache_folder()
    known = file.checksum or _noted(folder / name)
    progress = sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
    failures: dict[str, Exception] = {}
    for url in (file.url, *file.mirrors):
        cache = pooch.create(
            path=folder, base_url="", registry={name: known}, urls={name: url}, retry_if_failed=RETRIES
        )
        try:
            path = Path(cache.fetch(name, downloader=pooch.HTTPDownloader(progressbar=progress, timeout=TIMEOUT)))
            if known is None:
                write_atomically(_note(path), file_digest(path).encode())
            return path
        except (OSError, ValueError) as error:
            failures[url] = error
    tried = "; ".join(f"{url} ({_reason(error, url)})" for url, error in failures.items())
    raise DataError(
        f"could not download {tried}. Put {file.names[-1]} into a folder and pass "
        "--data-dir FOLDER (or set OTBENCH_DATA_DIR), or try again with a network connection"
    ) from next(iter(failures.values()))


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
    arrays = load_arrays(path, names, optional=optional, max_bytes=max_bytes)
    return {name: array.astype(np.float64, order="C") for name, array in arrays.items()}


def load_arrays(
    path: Path, names: Sequence[str], *, optional: Sequence[str] = (), max_bytes: int = MAX_BYTES
) -> dict[str, NDArray[np.generic]]:
    """Read numeric arrays as `load_npz` does, but in the types that they have in the file; read-only.

    Raises:
        DataError: as `load_npz`.
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


def load_npy(path: Path, *, max_bytes: int = MAX_BYTES) -> NDArray[np.float64]:
    """Read a numeric array from an .npy file that may be hostile: no pickle, no unbounded allocation.

    Args:
        path: the file.
        max_bytes: the largest file that is read.

    Returns:
        The array, converted to float64.

    Raises:
        DataError: the file is missing, unreadable, not an npy, damaged, too large, or not numeric.
    """
    require_file(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise DataError(f"{path}: has {size:,} bytes, more than the {max_bytes:,} that are read from it")
        return _parse(path.read_bytes(), str(path)).astype(np.float64, order="C")
    except DataError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error
    except Exception as error:  # a damaged or hostile header can raise anything from its parser
        raise DataError(
            f"{path}: not a readable .npy file ({_first_line(error)}); it may be truncated or of another kind. Save "
            "it again with np.save"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _parse(content: bytes, what: str) -> NDArray[np.generic]:
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
    flat: NDArray[np.generic] = np.frombuffer(content, dtype=dtype, offset=start)
    return flat.reshape(shape, order="F" if fortran_order else "C")


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read ({error.strerror or error}); check its permissions")
