"""Files that people hand over by mistake or on purpose: what is no photo, and photos in forms few programs read."""
import io
import struct
import zlib

import numpy as np
from PIL import Image

from tests.helpers.gps import at, exif, saved

QUOTES = "a 'b' \"c\"\n<img src=x onerror=alert(1)>.png"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels, and holds one row of zeros."""
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(1 + 3 * width))) + chunk(b"IEND", b""))


def files(colour: tuple[int, int, int]) -> dict[str, tuple[bytes, str]]:
    """name: (content, what is said of it; empty for a photo). The photos are `colour` all over, or nearly."""
    photo = Image.new("RGB", (56, 56), colour)
    deep = io.BytesIO()
    Image.fromarray(np.full((56, 56), 30000, np.uint16)).save(deep, "PNG")
    return {
        "bomb.png": (png_of(50_000, 50_000), "cannot be read as a photo .DecompressionBombError.*2500000000 pixels"),
        "half.jpg": (saved(photo.resize((400, 300)))[:700], "cannot be read as a photo .*truncated"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "an SVG drawing"),
        "text.jpg": (b"Nice weather here.", "cannot be read as a photo .of no known kind."),
        "moving.gif": (saved(photo, "GIF", save_all=True, append_images=[Image.new("RGB", (56, 56))]), ""),
        "print.jpg": (saved(photo.convert("CMYK"), quality=100), ""),
        "deep.png": (deep.getvalue(), ""),
        "phone.heic": (saved(photo, "HEIF", exif(at(35.0, 139.0)), quality=100), ""),
        QUOTES: (saved(photo, "PNG"), "")}
