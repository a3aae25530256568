"""Picture files of all kinds, good and bad: what they show, or one sentence."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from otbench.data.pictures import read_picture, smaller
from otbench.errors import DataError

MOST = 10**6


def colours(height: int = 12, width: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def read(path: Path, most: int = MOST) -> np.ndarray:
    return read_picture(path, most=most)[0]


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "ppm", "webp"])
def test_formats_without_loss_come_as_they_were(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(colours()).save(path, **({"lossless": True} if ending == "webp" else {}))
    found, size = read_picture(path, most=MOST)
    assert np.array_equal(found, colours())
    assert size == (16, 12)


def test_grey_has_three_equal_channels(tmp_path: Path) -> None:
    grey = colours()[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png"), np.repeat(grey[..., None], 3, 2))


def test_16_bits_become_8(tmp_path: Path) -> None:
    grey = np.array([[0, 128, 129], [32896, 65406, 65535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png")[..., 0].tolist() == [[0, 0, 1], [128, 254, 255]]
    write_png(tmp_path / "b.png", np.array([[[0, 32896, 65535]]], dtype=">u2"))
    assert read(tmp_path / "b.png").tolist() == [[[0, 128, 255]]]


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write 16 bits of colour, which Pillow reads and does not write."""
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    height, width, _ = pixels.shape
    path.write_bytes(png_head(width, height) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def png_head(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(mode: str, tmp_path: Path) -> None:
    over = Image.new("RGBA", (4, 2), (100, 100, 100, 255))
    over.putpixel((1, 0), (10, 10, 10, 0))
    over.convert(mode).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png")
    assert found[0, 1].tolist() == [255, 255, 255]
    assert found[1, 3].tolist() == [100, 100, 100]


def test_a_level_of_16_bits_that_stands_for_nothing_is_white(tmp_path: Path) -> None:
    grey = np.array([[0, 300, 65535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png", transparency=300)
    assert read(tmp_path / "a.png")[0, :, 0].tolist() == [0, 255, 255]


def test_a_turn_noted_by_the_camera_is_made(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is on the right
    Image.fromarray(colours()).save(tmp_path / "a.png", exif=exif)
    found, size = read_picture(tmp_path / "a.png", most=MOST)
    assert np.array_equal(found, np.rot90(colours(), -1))
    assert size == (12, 16)


def test_other_modes_and_the_first_of_several_frames(tmp_path: Path) -> None:
    Image.fromarray(colours()).convert("CMYK").save(tmp_path / "a.jpg")
    assert read(tmp_path / "a.jpg").shape == (12, 16, 3)
    first, second = (Image.new("RGB", (5, 4), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert read(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]
    Image.fromarray(colours()[..., 0] > 127).save(tmp_path / "b.png")
    assert set(np.unique(read(tmp_path / "b.png"))) == {0, 255}


def test_a_large_picture_is_made_smaller_and_keeps_its_mean(tmp_path: Path) -> None:
    picture = colours(300, 400)
    Image.fromarray(picture).save(tmp_path / "a.png")
    found, size = read_picture(tmp_path / "a.png", most=1000)
    assert size == (400, 300)
    assert found.shape == (27, 36, 3)
    assert found.mean() == pytest.approx(picture.mean(), abs=1)
    assert smaller(picture, 120_000) is picture
    assert smaller(np.zeros((1, 5000, 3), np.uint8), 100).shape[0] == 1


@pytest.mark.parametrize("size", [(10_000, 10_000), (30_000, 30_000)])
def test_a_hundred_megapixels_are_refused_before_they_are_decoded(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_head(*size) + chunk(b"IDAT", b"no pixels"))
    with pytest.raises(DataError, match=r"more pixels than the 89 478 485 .* scale it down"):
        read(tmp_path / "a.png")


def test_what_is_truncated_damaged_or_no_picture_is_one_sentence(tmp_path: Path) -> None:
    Image.fromarray(colours(200, 200)).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    cut, text, program, number = (tmp_path / name for name in ("cut.jpg", "text.jpg", "a.eps", "float.tif"))
    cut.write_bytes(whole[: len(whole) // 2])
    text.write_text("no picture")
    program.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n")
    Image.fromarray(np.ones((20, 20), np.float32)).save(number)
    for path, message in (
        (cut, "cannot be decoded .* truncated"),
        (text, "is no picture that is read here"),
        (program, "is no picture that is read here"),
        (number, "floating-point numbers"),
        (tmp_path / "none.png", "no such file"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(DataError, match=message) as error:
            read(path)
        assert "\n" not in str(error.value)
        assert path.name in str(error.value)
