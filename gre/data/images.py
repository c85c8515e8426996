"""The one photo loader: any file PIL opens becomes an upright RGB photo with no metadata.

HEIC and HEIF, which phones write, are read by pillow-heif; AVIF, WebP and all else by Pillow. Of the metadata only the
orientation is read; what else is wrong with it spoils no photo. HEIF and AVIF are turned by boxes of their own, and an
orientation in their EXIF data counts for nothing, as the standard says. Transparent pixels are laid on white. 16-bit
channels keep their upper 8 bits; floating-point greys are taken as 0 to 1, or as 0 to 255 when a value exceeds 1. Of an
animation, and of a file of several pictures (MPO), the first is used. Embedded colour profiles are ignored.
"""
import io
import math
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from gre.data.raw import DataError, RowError

MAX_RATIO = 200  # of a photo's sides: Qwen's image processors refuse a longer strip

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".heic", ".heif", ".hif", ".avif", ".tif", ".tiff",
            ".bmp", ".gif", ".mpo")
"""How files of photos are called."""

UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, EOFError, MemoryError, ArithmeticError, LookupError,
              RuntimeError, struct.error, zlib.error, Image.DecompressionBombError)  # what decoders raise
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
        image = _decoded(content, max_pixels)
    except MemoryError:
        raise DataError(f"{path}: there is no memory left to decode it: start fewer processes, or make it smaller"
                        ) from None
    except UNREADABLE as error:
        unknown = isinstance(error, UnidentifiedImageError)  # whose text is an address in memory
        what = _not_a_photo(content) or ("of no known kind" if unknown else f"{type(error).__name__}: {error}")
        raise RowError(f"{path}: cannot be read as a photo ({what}). Replace the file, or leave its row out") from error
    if max_pixels is not None and image.width * image.height > max_pixels:
        image = image.resize(_fit(image.size, max_pixels), Image.Resampling.LANCZOS)
    return Image.fromarray(np.asarray(image))  # a new photo: no EXIF, no comment, no profile, no open file


def from_picture(picture: Image.Image, name: str) -> Image.Image:
    """`load_image` of a picture that PIL has opened already. name: for messages."""
    try:
        return Image.fromarray(np.asarray(_upright(picture)))
    except UNREADABLE as error:
        raise RowError(f"{name}: cannot be read as a photo ({type(error).__name__}: {error}). Replace it, or leave it "
                       "out") from error


def check_ratio(size: tuple[int, int], path: str | Path) -> None:
    """Raise RowError for a photo too long for Qwen's image processors. size: width and height in pixels."""
    if max(size) > MAX_RATIO * min(size):
        raise RowError(f"{path}: {size[0]} x {size[1]} pixels, and one side of a photo may be {MAX_RATIO} times as "
                       "long as the other at most. Crop it, or leave its row out")


def _decoded(content: bytes, max_pixels: int | None) -> Image.Image:
    try:
        return _upright(_opened(content, max_pixels))
    except UNREADABLE:
        if not content.startswith(_PNG):
            raise
        return _upright(_opened(_without_text(content), max_pixels))  # Pillow refuses large comments and profiles


def _opened(content: bytes, max_pixels: int | None) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=formats())
    if image.format in ("JPEG", "MPO") and max_pixels is not None:
        image.draft("RGB", _fit(image.size, max_pixels))  # decodes fewer pixels, never less than asked
    image.load()
    return image


def _upright(image: Image.Image) -> Image.Image:
    """RGB, turned as the EXIF data says. ImageOps.exif_transpose writes all of it again, which fails on much of it."""
    try:
        method = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except UNREADABLE:  # EXIF data that cannot be read says nothing
        method = None
    return _to_rgb(image if method is None else image.transpose(method))


def _without_text(png: bytes) -> bytes:
    """A PNG without its comments and its colour profile."""
    kept, position = [_PNG], len(_PNG)
    while position + 8 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        if kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(png[position:position + length + 12])
        position += length + 12
    return b"".join(kept)


_OTHERS = {  # how a file begins that is no photo, in lower case: what it is, and what to do about it
    b"<!doctype html": "it is a web page, which a server sent instead of the photo",
    b"<html": "it is a web page, which a server sent instead of the photo",
    b"<svg": "it is an SVG drawing: export it as PNG",
    b"<?xml": "it is XML, such as a server's message or a phone's list of edits (.AAE): get the photo itself",
    b"version https://git-lfs": "it is a pointer of Git LFS: `git lfs pull` gets the photo",
    b"%pdf": "it is a PDF: export its page as PNG", b"pk\x03\x04": "it is a zip archive: unpack it",
    b"\x1f\x8b": "it is packed by gzip: unpack it",
    b"{": "it is JSON, such as a server's message: get the photo itself",
    b"\x1a\x45\xdf\xa3": "it is a video (WebM or Matroska): save a frame of it as JPEG"}
_VIDEO = "it is a video (MP4 or MOV): save a frame of it as JPEG"


def _not_a_photo(content: bytes) -> str:
    """What a file is that often stands where a photo should; empty when it is none of these."""
    if not content:
        return "it is empty"
    if content[4:8] in (b"moov", b"mdat", b"wide", b"free") or (
            content[4:8] == b"ftyp" and not content[8:12].startswith((b"he", b"mi", b"ms", b"av"))):
        return _VIDEO  # photos' brands are heic, heix, hevc, mif1, msf1, avif, avis and such; avc1 is a video's
    if content[4:12] == b"ftypavc1":
        return _VIDEO
    start = content[:1000].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(b"<?xml") and b"<svg" in start:
        return _OTHERS[b"<svg"]
    if start.startswith(b"<?xml") and b"<html" in start:
        return _OTHERS[b"<html"]
    return next((what for begin, what in _OTHERS.items() if start.startswith(begin)), "")


@cache
def formats() -> list[str]:
    """All formats PIL knows, with HEIF, but EPS, which is a program and would be run by Ghostscript."""
    import pillow_heif  # who opens no photo, as bench/gpu_check.py does, need not have it

    Image.init()
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    return [name for name in Image.ID if name != "EPS"]


def _fit(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """The largest size of the same proportions with at most `max_pixels` pixels, and at least one pixel a side."""
    width, height = size
    if width * height <= max_pixels:
        return size
    scale = math.sqrt(max_pixels / (width * height))
    width, height = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
    return min(width, max_pixels), min(height, max(1, max_pixels // width))  # for sides that were raised to 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of PIL to RGB; see the head of this file for what becomes of alpha and of more than 8 bits."""
    if image.mode.startswith(("I", "F")):
        image = _to_8_bit(image)
    if image.mode == "LAB":
        transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        image = ImageCms.applyTransform(image, transform)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Greys of 16 bits (modes I;16 and I) or floating point (mode F) as mode L."""
    grey = np.asarray(image)
    if image.mode == "F":
        grey = np.nan_to_num(grey, nan=0.0, posinf=0.0, neginf=0.0)
        grey = grey * 255.0 if grey.max(initial=0.0) <= 1.0 else grey
        return Image.fromarray(np.clip(grey, 0, 255).round().astype(np.uint8))
    return Image.fromarray((np.clip(grey, 0, 65535).astype(np.uint16) >> 8).astype(np.uint8))


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from a photo's header where it can be read. Raises as `load_image` and `check_ratio`
    do."""
    try:
        with Image.open(path, formats=formats()) as image:
            size = image.size
    except UNREADABLE:
        size = load_image(path).size  # has the words for what is wrong, or reads past a broken comment
    check_ratio(size, path)
    return size
