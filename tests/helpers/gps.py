"""EXIF data with a GPS block, made by hand: writers differ in the very types that Pillow would choose for them."""
import io
import struct
from collections.abc import Sequence

from PIL import Image

from gre.data.images import formats

ASCII, BYTE, RATIONAL, SIGNED, UNDEFINED = 2, 1, 5, 10, 7


def rationals(*pairs: tuple[int, int], kind: int = RATIONAL) -> tuple[int, int, bytes]:
    form = ">ll" if kind == SIGNED else ">LL"
    return kind, len(pairs), b"".join(struct.pack(form, *pair) for pair in pairs)


def text(value: bytes, kind: int = ASCII) -> tuple[int, int, bytes]:
    return kind, len(value), value


def directory(entries: dict[int, tuple[int, int, bytes]], start: int) -> bytes:
    """A TIFF directory that lies at `start`, its long values behind it. Big-endian."""
    head, tail = struct.pack(">H", len(entries)), b""
    behind = start + 2 + 12 * len(entries) + 4
    for tag, (kind, count, value) in sorted(entries.items()):
        if len(value) <= 4:
            field = value.ljust(4, b"\0")
        else:
            field, tail = struct.pack(">L", behind + len(tail)), tail + value
        head += struct.pack(">HHL", tag, kind, count) + field
    return head + bytes(4) + tail


def exif(gps: dict[int, tuple[int, int, bytes]] | None, **base: Sequence) -> bytes:
    """EXIF data whose GPS block is `gps`; None: it has none."""
    entries = {0x010F: text(b"Maker\0")}
    if gps is None:
        return b"Exif\0\0MM\0*\0\0\0\x08" + directory(entries, 8)
    entries[0x8825] = (4, 1, bytes(4))
    place = 8 + len(directory(entries, 8))
    entries[0x8825] = (4, 1, struct.pack(">L", place))
    return b"Exif\0\0MM\0*\0\0\0\x08" + directory(entries, 8) + directory(gps, place)


def dms(lat: Sequence[tuple[int, int]], lon: Sequence[tuple[int, int]], north: bytes | None = b"N\0",
        east: bytes | None = b"E\0", **more: tuple[int, int, bytes]) -> dict[int, tuple[int, int, bytes]]:
    """A GPS block. more: x6=… adds tag 6."""
    block = {2: rationals(*lat), 4: rationals(*lon), **{int(tag[1:]): value for tag, value in more.items()}}
    block |= {1: text(north)} if north is not None else {}
    return block | ({3: text(east)} if east is not None else {})


def at(lat: float, lon: float) -> dict[int, tuple[int, int, bytes]]:
    """A GPS block as phones write it, to 0.0001 seconds."""
    def parts(degrees: float) -> list[tuple[int, int]]:
        whole, rest = divmod(round(abs(degrees) * 36_000_000), 36_000_000)
        minutes, seconds = divmod(rest, 600_000)
        return [(whole, 1), (minutes, 1), (seconds, 10_000)]
    return dms(parts(lat), parts(lon), b"S\0" if lat < 0 else b"N\0", b"W\0" if lon < 0 else b"E\0")


def saved(picture: Image.Image, kind: str = "JPEG", exif: bytes = b"", **options) -> bytes:
    formats()  # HEIF is known from here on
    buffer = io.BytesIO()
    picture.save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()
