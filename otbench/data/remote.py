"""Checked access to input files: the user's own copy first, a verified download else.

A download is checked against the SHA-256 known for the file; where only an MD5 or git's name of the content is
published, against that. A file whose content nobody publishes is trusted at its first download: its SHA-256 is written
down beside it, and every later use and download is checked against that note.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from otbench.errors import DataError
from otbench.files import GIT_BLOB, file_digest, require_file, unreadable, write_atomically

RETRIES = 2
TIMEOUT = 30.0
"""Seconds without an answer from a host before a download counts as failed."""
_ALGORITHMS = {"sha256": "SHA-256", "md5": "MD5", GIT_BLOB: "git blob id"}
"""Checksums by the name that they have in messages."""


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
        git_blob: name that git has for the content, 40 hexadecimal digits, for files of a repository whose content we
            never saw; used where the other two are None.
        size: bytes to download, for lists; None where it is not known.
    """

    url: str
    sha256: str | None
    names: tuple[str, ...]
    mirrors: tuple[str, ...] = ()
    md5: str | None = None
    git_blob: str | None = None
    size: int | None = None

    @property
    def checksum(self) -> str | None:
        """The known checksum as `sha256:...`, `md5:...` or `git-blob:...`; None where the first download is trusted."""
        known = {"sha256": self.sha256, "md5": self.md5, GIT_BLOB: self.git_blob}
        return next((f"{algorithm}:{digest}" for algorithm, digest in known.items() if digest is not None), None)

    @property
    def checked_by(self) -> str:
        """How the content is checked, in words."""
        if self.checksum is None:
            return "SHA-256 noted at the first download (none published)"
        algorithm = _ALGORITHMS[self.checksum.split(":")[0]]
        return algorithm if self.sha256 is not None else f"{algorithm} (its host publishes no other)"


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
        DataError: the folder does not exist, or cannot be looked into.
    """
    if data_dir is None:
        return None
    if not data_dir.is_dir():
        raise DataError(f"data folder {data_dir}: no such folder; correct --data-dir or OTBENCH_DATA_DIR")
    try:
        return next((data_dir / name for name in file.names if (data_dir / name).exists()), None)
    except OSError as error:
        raise unreadable(data_dir, error) from error


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
    found, name = file_digest(path, algorithm), _ALGORITHMS[algorithm]
    if found != expected:
        raise DataError(
            f"{path}: wrong checksum: expected {name} {expected}, found {found}. The file is damaged or another "
            f"version; replace it by {file.url}, or move it away to have it downloaded"
        )
    return file.checked_by


def _cache_name(file: RemoteFile) -> str:
    """Return the name in the cache: two tasks may use the same plain name, so a part of what is known is in it."""
    known = file.sha256 or file.md5 or file.git_blob or hashlib.sha256(file.url.encode()).hexdigest()
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
    by_git = known is not None and known.startswith(GIT_BLOB)
    checked = None if by_git else known  # by pooch, which does not know git's
    progress = sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
    failures: dict[str, Exception] = {}
    for url in (file.url, *file.mirrors):
        cache = pooch.create(
            path=folder,
            base_url="",
            registry={name: checked},
            urls={name: url},
            retry_if_failed=RETRIES,
        )
        try:
            path = Path(cache.fetch(name, downloader=pooch.HTTPDownloader(progressbar=progress, timeout=TIMEOUT)))
            if by_git:
                _keep_if_good(path, file)
            if known is None:
                write_atomically(_note(path), file_digest(path).encode())
            return path
        except (OSError, ValueError, DataError) as error:
            failures[url] = error
    tried = "; ".join(f"{url} ({_reason(error, url)})" for url, error in failures.items())
    raise DataError(
        f"could not download {tried}. Put {file.names[-1]} into a folder and pass "
        "--data-dir FOLDER (or set OTBENCH_DATA_DIR), or try again with a network connection"
    ) from next(iter(failures.values()))


def _keep_if_good(path: Path, file: RemoteFile) -> None:
    """Compare a download with what is known of `file`; one of another content is removed.

    Raises:
        DataError: it has another content.
    """
    try:
        verify(path, file)
    except DataError as error:
        path.unlink(missing_ok=True)
        raise DataError("its content has another git blob id than expected") from error


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
