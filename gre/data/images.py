"""The one photo loader: any file PIL opens becomes an upright RGB photo with no metadata.

Transparent pixels are laid on white. 16-bit greys keep their upper 8 bits; floating-point greys are taken as 0 to 1, or
as 0 to 255 when a value exceeds 1. Of an animation the first frame is used. Embedded colour profiles are ignored.
"""
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from gre.data.raw import DataError

_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, EOFError, MemoryError, ArithmeticError, LookupError,
               struct.error, zlib.error, Image.DecompressionBombError)  # what Pillow's decoders raise on damaged files


def load_image(path: str | Path, max_pixels: int | None = None) -> Image.Image:
    """The photo at `path`: mode RGB, EXIF orientation applied, metadata gone.

    max_pixels: width times height is at most this, sides kept in proportion; None leaves the size alone.
    Raises DataError, naming the file, when it is missing, damaged, truncated or no photo.
    """
    if max_pixels is not None and max_pixels < 1:
        raise ValueError(f"max_pixels must be at least 1, got {max_pixels}")
    if not Path(path).is_file():
        raise DataError(f"{path}: no such photo. Check the row's `image`, or set data.image_root to the folder "
                        "that holds the photos")
    try:
        with Image.open(path, formats=_formats()) as opened:
            if opened.format == "JPEG" and max_pixels is not None:
                opened.draft("RGB", _fit(opened.size, max_pixels))  # decodes fewer pixels, never less than asked
            opened.load()
            picture = _to_rgb(ImageOps.exif_transpose(opened))
    except _UNREADABLE as error:
        raise DataError(f"{path}: cannot be read as a photo ({type(error).__name__}: {error}). "
                        "Replace the file, or leave its row out") from error
    if max_pixels is not None and picture.width * picture.height > max_pixels:
        picture = picture.resize(_fit(picture.size, max_pixels), Image.Resampling.LANCZOS)
    return Image.fromarray(np.asarray(picture))  # a new photo: no EXIF, no comment, no profile, no open file


def _formats() -> list[str]:
    """All formats PIL knows but EPS, which is a program and would be run by Ghostscript."""
    Image.init()
    return [name for name in Image.ID if name != "EPS"]


def _fit(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """The largest size of the same proportions with at most `max_pixels` pixels, and at least one pixel a side."""
    width, height = size
    if width * height <= max_pixels:
        return size
    scale = math.sqrt(max_pixels / (width * height))
    width, height = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
    return min(width, max_pixels), min(height, max(1, max_pixels // width))  # for sides that were raised to 1


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode of PIL to RGB; see the head of this file for what becomes of alpha and of more than 8 bits."""
    if picture.mode.startswith(("I", "F")):
        picture = _to_8_bit(picture)
    if picture.mode == "LAB":
        transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        picture = ImageCms.applyTransform(picture, transform)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """Greys of 16 bits (modes I;16 and I) or floating point (mode F) as mode L."""
    grey = np.asarray(picture)
    if picture.mode == "F":
        grey = np.nan_to_num(grey, nan=0.0, posinf=0.0, neginf=0.0)
        grey = grey * 255.0 if grey.max(initial=0.0) <= 1.0 else grey
        return Image.fromarray(np.clip(grey, 0, 255).round().astype(np.uint8))
    return Image.fromarray((np.clip(grey, 0, 65535).astype(np.uint16) >> 8).astype(np.uint8))


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels from a photo's header. Raises DataError when it has none."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as a photo ({error}): replace it, or leave its row out") from error
