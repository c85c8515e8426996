"""The one photo loader: any file PIL opens becomes an upright RGB photo with no metadata.

Of the metadata only the orientation is read; what else is wrong with it spoils no photo. Transparent pixels are laid on
white. 16-bit greys keep their upper 8 bits; floating-point greys are taken as 0 to 1, or as 0 to 255 when a value
exceeds 1. Of an animation the first frame is used. Embedded colour profiles are ignored.
"""
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms

from gre.data.raw import DataError, RowError

MAX_RATIO = 200  # of a photo's sides: Qwen's image processors refuse a longer strip

_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, EOFError, MemoryError, ArithmeticError, LookupError,
               struct.error, zlib.error, Image.DecompressionBombError)  # what Pillow's decoders raise on damaged files
_PNG = b"\x89PNG\r\n\x1a\n"
_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
          5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}  # EXIF orientation -> how the stored pixels are turned


def load_image(path: str | Path, max_pixels: int | None = None) -> Image.Image:
    """The photo at `path`: mode RGB, EXIF orientation applied, metadata gone.

    max_pixels: width times height is at most this, sides kept in proportion; None leaves the size alone.
    Raises DataError, naming the file, when it cannot be read, and RowError when it is damaged, truncated or no photo.
    """
    if max_pixels is not None and max_pixels < 1:
        raise ValueError(f"max_pixels must be at least 1, got {max_pixels}")
    return decode(read_bytes(path), path, max_pixels)


def read_bytes(path: str | Path) -> bytes:
    """A photo's file as it is. Raises DataError, which is no RowError: a disk that fails is no reason to drop a row."""
    if not Path(path).is_file():
        raise DataError(f"{path}: no such photo. Check the row's `image`, or set data.image_root to the folder "
                        "that holds the photos")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}). Check its permissions and its disk") from None


def decode(content: bytes, path: str | Path, max_pixels: int | None = None) -> Image.Image:
    """`load_image` of a file's content. path: for messages."""
    try:
        picture = _decoded(content, max_pixels)
    except MemoryError:
        raise DataError(f"{path}: there is no memory left to decode it: start fewer processes, or make it smaller"
                        ) from None
    except _UNREADABLE as error:
        what = _not_a_photo(content) or f"{type(error).__name__}: {error}"
        raise RowError(f"{path}: cannot be read as a photo ({what}). Replace the file, or leave its row out") from error
    if max_pixels is not None and picture.width * picture.height > max_pixels:
        picture = picture.resize(_fit(picture.size, max_pixels), Image.Resampling.LANCZOS)
    return Image.fromarray(np.asarray(picture))  # a new photo: no EXIF, no comment, no profile, no open file


def check_ratio(size: tuple[int, int], path: str | Path) -> None:
    """Raise RowError for a photo too long for Qwen's image processors. size: width and height in pixels."""
    if max(size) > MAX_RATIO * min(size):
        raise RowError(f"{path}: {size[0]} x {size[1]} pixels, and one side of a photo may be {MAX_RATIO} times as "
                       "long as the other at most. Crop it, or leave its row out")


def _decoded(content: bytes, max_pixels: int | None) -> Image.Image:
    try:
        return _upright(_opened(content, max_pixels))
    except _UNREADABLE:
        if not content.startswith(_PNG):
            raise
        return _upright(_opened(_without_text(content), max_pixels))  # Pillow refuses large comments and profiles


def _opened(content: bytes, max_pixels: int | None) -> Image.Image:
    picture = Image.open(io.BytesIO(content), formats=_formats())
    if picture.format == "JPEG" and max_pixels is not None:
        picture.draft("RGB", _fit(picture.size, max_pixels))  # decodes fewer pixels, never less than asked
    picture.load()
    return picture


def _upright(picture: Image.Image) -> Image.Image:
    """RGB, turned as the EXIF data says. ImageOps.exif_transpose writes all of it again, which fails on much of it."""
    try:
        method = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except _UNREADABLE:  # EXIF data that cannot be read says nothing
        method = None
    return _to_rgb(picture if method is None else picture.transpose(method))


def _without_text(png: bytes) -> bytes:
    """A PNG without its comments and its colour profile."""
    kept, position = [_PNG], len(_PNG)
    while position + 8 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        if kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(png[position:position + length + 12])
        position += length + 12
    return b"".join(kept)


def _not_a_photo(content: bytes) -> str:
    """What a file is that often stands where a photo should; empty when it is none of these."""
    start = content[:200].lstrip().lower()
    if not content:
        return "it is empty"
    if start.startswith((b"<!doctype html", b"<html")):
        return "it is a web page, which a server sent instead of the photo"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS: `git lfs pull` gets the photo"
    if content[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "it is HEIC, which Pillow does not read: convert it to JPEG"
    return ""


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
    """Width and height in pixels, from a photo's header where it can be read. Raises as `load_image` and `check_ratio`
    do."""
    try:
        with Image.open(path, formats=_formats()) as image:
            size = image.size
    except _UNREADABLE:
        size = load_image(path).size  # has the words for what is wrong, or reads past a broken comment
    check_ratio(size, path)
    return size
