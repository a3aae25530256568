"""Pictures from files that anyone may have made: what they show, as 8-bit sRGB.

Only the decoders of common picture formats are let at a file: none that starts another program. A picture with more
pixels than Pillow's guard against decompression bombs lets through is refused before it is decoded.

Grey becomes three equal channels, 16 bits become 8, what is transparent lies on white, a turn that a camera noted
(EXIF) is made, and of several frames the first counts. Colour profiles are not read: colours count as sRGB.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from otbench.errors import DataError
from otbench.files import require_file, shown, unreadable

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
"""Formats that are read, by Pillow's names. JPEG includes the files of phones that hold several pictures (MPO)."""
ENDINGS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".ppm": "PPM",
}
"""How the names of picture files end, and the format of each."""
Pixels = NDArray[np.uint8]


def read_picture(path: Path, *, most: int | None = None) -> tuple[Pixels, tuple[int, int]]:
    """Return a picture, shape (height, width, 3), and the width and height that it has in the file, once turned.

    Args:
        path: the file.
        most: pixels; a larger picture is made smaller, each of its pixels the mean of those it stands for. None = any
            number.

    Raises:
        DataError: no file, no picture, one that is damaged or truncated, or one with too many pixels.
    """
    from PIL import Image, UnidentifiedImageError

    require_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which do not matter here
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                size, picture = _seen(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        guard = f"{Image.MAX_IMAGE_PIXELS:,}".replace(",", " ")
        raise DataError(
            f"{shown(path)}: has more pixels than the {guard} that Pillow's guard lets through; scale it down"
        ) from None
    except PermissionError as error:
        raise unreadable(path, error) from error
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise DataError(f"{shown(path)}: is no picture that is read here; formats: {known}") from None
    except DataError as error:
        raise DataError(f"{shown(path)}: {error}") from None
    except Exception as error:  # a damaged picture can raise anything from the decoders
        why = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(f"{shown(path)}: the picture cannot be decoded ({why}); it may be truncated") from error
    return picture if most is None else smaller(picture, most), size


def picture_bytes(picture: Pixels, format: str) -> bytes:
    """Return the content of a file that shows `picture`, (height, width, 3); without loss, or nearly so (JPEG).

    Args:
        picture: levels.
        format: one of `FORMATS`.
    """
    from PIL import Image

    out = io.BytesIO()
    options: dict[str, dict[str, int]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
    Image.fromarray(picture).save(out, format, **options.get(format, {}))
    return out.getvalue()


def smaller(picture: Pixels, most: int) -> Pixels:
    """Return `picture` with at most `most` pixels, its sides in the same ratio; as it is where it has no more."""
    from PIL import Image

    height, width = picture.shape[:2]
    if height * width <= most:
        return picture
    ratio = (most / (height * width)) ** 0.5
    size = max(1, min(most, int(width * ratio))), max(1, min(most, int(height * ratio)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def _seen(image: Image) -> tuple[tuple[int, int], Pixels]:
    """Return width and height, and what one sees of `image` on a white page."""
    from PIL import Image, ImageOps

    image.load()
    turned = ImageOps.exif_transpose(image)
    if turned.mode == "F":
        raise DataError("its pixels are floating-point numbers without a known range; save it with 8 or 16 bits")
    if turned.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        levels = np.asarray(turned).astype(np.int64)
        grey = np.clip((levels + 128) // 257, 0, 255).astype(np.uint8)
        grey[levels == turned.info.get("transparency", -1)] = 255  # one level may stand for nothing
        turned = Image.fromarray(grey)
    if turned.has_transparency_data:
        over = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return turned.size, np.array(turned.convert("RGB"))
