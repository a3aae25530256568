from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pooch
import pytest

from otbench.data.arrays import load_npy, load_npz
from otbench.data.remote import RemoteFile, cached_copy, locate, verify
from otbench.errors import DataError
from otbench.files import file_digest

CONTENT = b"the content"
SHA = hashlib.sha256(CONTENT).hexdigest()
REMOTE = RemoteFile("http://127.0.0.1:9/folder/thing.bin", SHA, ("sub/thing.bin", "thing.bin"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("pooch.os_cache", lambda project: cache / project)
    monkeypatch.setattr("otbench.data.remote.RETRIES", 0)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes, fails: Sequence[str] = ()) -> list[str]:
    """Let pooch's downloader write `content`; returns the list of addresses asked for."""
    asked: list[str] = []

    def download(self: object, url: str, output_file: str, pooch: object) -> None:
        asked.append(url)
        if url in fails:
            raise OSError("no such address")
        Path(output_file).write_bytes(content)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", download)
    return asked


@pytest.mark.parametrize("name", REMOTE.names)
def test_users_copy_is_taken(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(CONTENT)
    assert locate(REMOTE, tmp_path) == path


def test_users_copy_with_other_content_is_named(tmp_path: Path) -> None:
    path = tmp_path / "thing.bin"
    path.write_bytes(b"something else")
    with pytest.raises(DataError, match="wrong checksum") as error:
        locate(REMOTE, tmp_path)
    for part in (str(path), SHA, hashlib.sha256(b"something else").hexdigest()):
        assert part in str(error.value)


def test_data_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        locate(REMOTE, tmp_path / "nowhere")


def test_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "thing.bin").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        locate(REMOTE, tmp_path)


def test_download_is_verified_and_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = serve(monkeypatch, CONTENT)
    first = locate(REMOTE, tmp_path)
    assert first.read_bytes() == CONTENT
    assert locate(REMOTE, None) == first
    assert asked == [REMOTE.url]


def test_download_of_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, b"an error page")
    with pytest.raises(DataError, match=r"could not download .*hash"):
        locate(REMOTE, None)


def test_offline_message_says_what_to_do() -> None:
    with pytest.raises(DataError) as error:
        locate(REMOTE, None)
    message = str(error.value)
    assert message.startswith(f"could not download {REMOTE.url} (no connection to 127.0.0.1)")
    assert "Put thing.bin into a folder and pass --data-dir" in message
    assert "\n" not in message


MIRRORED = RemoteFile("http://127.0.0.1:9/thing.bin", SHA, ("thing.bin",), mirrors=("http://127.0.0.1:10/other.bin",))


def test_mirrors_are_tried_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, CONTENT, fails=(MIRRORED.url,))
    assert locate(MIRRORED, None).read_bytes() == CONTENT
    assert asked == [MIRRORED.url, *MIRRORED.mirrors]


def test_message_says_what_became_of_each_mirror() -> None:
    with pytest.raises(DataError) as error:
        locate(MIRRORED, None)
    for url in (MIRRORED.url, *MIRRORED.mirrors):
        assert f"{url} (no connection to 127.0.0.1)" in str(error.value)


MD5 = RemoteFile("http://127.0.0.1:9/thing.bin", None, ("thing.bin",), md5=hashlib.md5(CONTENT).hexdigest())


def test_md5_is_checked_where_no_other_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    serve(monkeypatch, CONTENT)
    assert locate(MD5, None).read_bytes() == CONTENT
    assert MD5.checked_by.startswith("MD5")
    (tmp_path / "thing.bin").write_bytes(b"something else")
    with pytest.raises(DataError, match="wrong checksum: expected MD5"):
        locate(MD5, tmp_path)


def test_download_with_another_md5_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, CONTENT[:-1])
    with pytest.raises(DataError, match=r"could not download .*hash"):
        locate(MD5, None)
    assert cached_copy(MD5) is None


BLOB = RemoteFile(
    "http://127.0.0.1:9/thing.bin",
    None,
    ("thing.bin",),
    git_blob=hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest(),
)


def test_gits_name_of_the_content_is_checked_where_no_other_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = serve(monkeypatch, CONTENT)
    assert locate(BLOB, None) == locate(BLOB, None)
    assert asked == [BLOB.url]
    (tmp_path / "thing.bin").write_bytes(b"something else")
    with pytest.raises(DataError, match="wrong checksum: expected git blob id"):
        locate(BLOB, tmp_path)
    (tmp_path / "empty").touch()
    assert file_digest(tmp_path / "empty", "git-blob") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # as git has it


def test_download_with_another_git_blob_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, CONTENT[:-1])
    with pytest.raises(DataError, match=r"could not download .*another git blob id.*Put thing.bin into a folder"):
        locate(BLOB, None)
    assert cached_copy(BLOB) is None
    serve(monkeypatch, CONTENT)
    assert locate(BLOB, None).read_bytes() == CONTENT


UNKNOWN = RemoteFile("http://127.0.0.1:9/thing.bin", None, ("thing.bin",))


def test_first_download_of_a_file_without_checksum_is_noted_and_later_ones_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = serve(monkeypatch, CONTENT)
    path = locate(UNKNOWN, None)
    assert path.with_name(path.name + ".sha256").read_text() == SHA
    assert "first download" in UNKNOWN.checked_by
    assert verify(path, UNKNOWN) == UNKNOWN.checked_by
    assert locate(UNKNOWN, None) == path
    assert len(asked) == 1
    path.write_bytes(b"changed on the disk")
    with pytest.raises(DataError, match="wrong checksum"):
        verify(path, UNKNOWN)
    assert locate(UNKNOWN, None).read_bytes() == CONTENT  # got again, and compared with the note
    path.unlink()
    serve(monkeypatch, b"changed at the host")
    with pytest.raises(DataError, match=r"could not download .*hash"):
        locate(UNKNOWN, None)


def test_users_copy_of_a_file_without_checksum_is_taken(tmp_path: Path) -> None:
    (tmp_path / "thing.bin").write_bytes(b"anything")
    assert locate(UNKNOWN, tmp_path) == tmp_path / "thing.bin"


@pytest.mark.parametrize("order", ["C", "F"])
def test_single_arrays(tmp_path: Path, order: Literal["C", "F"]) -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3).copy(order=order)
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(load_npy(tmp_path / "a.npy"), array)
    with pytest.raises(DataError, match="more than the 100 that are read"):
        load_npy(tmp_path / "a.npy", max_bytes=100)


def test_arrays_come_back_as_float64(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    fortran = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.savez_compressed(path, a=fortran, b=np.array([1, 2], dtype=">i4"), c=np.float32(3), unread=np.array(["x"]))
    arrays = load_npz(path, ["a", "b"], optional=["c", "d"])
    assert set(arrays) == {"a", "b", "c"}
    np.testing.assert_array_equal(arrays["a"], fortran)
    np.testing.assert_array_equal(arrays["b"], [1, 2])
    assert arrays["c"].shape == ()
    assert all(array.dtype == np.float64 for array in arrays.values())


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


class Trap:
    """Leaves a mark when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


def hostile(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.npz"
    good = io.BytesIO()
    np.savez(good, a=np.zeros((100, 100)))
    if kind == "pickle":
        np.savez(path, a=np.array([Trap(), 1], dtype=object))
    elif kind == "text":
        np.savez(path, a=np.array(["one", "two"]))
    elif kind == "complex":
        np.savez(path, a=np.zeros(3, dtype=complex))
    elif kind == "structured":
        np.savez(path, a=np.zeros(3, dtype=[("x", "f8")]))
    elif kind == "lacking":
        np.savez(path, b=np.zeros(3))
    elif kind == "truncated":
        path.write_bytes(good.getvalue()[:-3000])
    elif kind == "cut_short":
        path.write_bytes(good.getvalue()[:200])
    elif kind == "flipped":
        content = bytearray(good.getvalue())
        content[5000] ^= 0xFF
        path.write_bytes(content)
    elif kind == "not_zip":
        path.write_bytes(b"these are not the bytes of a zip file" * 10)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "bare_npy":
        path.write_bytes(npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", bytes(8)))
    elif kind == "bomb":
        zipped(path, a=npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2500000,)}", bytes(20_000_000)))
    elif kind == "huge_shape":
        zipped(path, a=npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,)}"))
    elif kind == "negative_shape":
        zipped(path, a=npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}", bytes(8)))
    elif kind == "bad_header":
        zipped(path, a=npy("__import__('os')"))
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    return path  # "missing": nothing there


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pickle", "Python objects"),
        ("text", "not numeric"),
        ("complex", "not numeric"),
        ("structured", "not numeric"),
        ("lacking", "lacks a; it holds b"),
        ("truncated", "not a readable .npz"),
        ("cut_short", "not a readable .npz"),
        ("flipped", "not a readable .npz"),
        ("not_zip", "not a readable .npz"),
        ("empty", "not a readable .npz"),
        ("bare_npy", "not a readable .npz"),
        ("bomb", "unpacks to 20,000,128 bytes, more than the 1,000,000"),
        ("huge_shape", "does not fit"),
        ("negative_shape", "damaged"),
        ("bad_header", "not a readable .npz"),
        ("folder", "is a folder"),
        ("fifo", "not a regular file"),
        ("missing", "no such file"),
    ],
)
def test_bad_file_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = hostile(kind, tmp_path)
    with pytest.raises(DataError) as error:
        load_npz(path, ["a"], max_bytes=1_000_000)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert not (tmp_path / "unpickled").exists()


def test_a_member_that_lies_about_its_size(tmp_path: Path) -> None:
    path = zipped(tmp_path / "lie.npz", a=npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", bytes(10**6)))
    content = bytearray(path.read_bytes())
    size = (10**6 + 128).to_bytes(4, "little")
    content = bytearray(bytes(content).replace(size, (144).to_bytes(4, "little")))
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"not a readable \.npz"):
        load_npz(path, ["a"], max_bytes=1000)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.zeros(2))
    path.chmod(0)
    with pytest.raises(DataError, match="check its permissions"):
        load_npz(path, ["a"])


def test_permission_error_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.npz"
    np.savez(path, a=np.zeros(2))
    monkeypatch.setattr("zipfile.ZipFile.__init__", refuse)
    monkeypatch.setattr("zipfile.ZipFile.__del__", lambda self: None)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\); check its permissions"):
        load_npz(path, ["a"])
