"""Files that stand where a photo should, by what is wrong with them; and photos that look damaged and are whole."""
import io
import struct
import zlib

from PIL import ExifTags, Image, PngImagePlugin


def jpeg(**options) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGB").save(buffer, "JPEG", **options)
    return buffer.getvalue()


def png(size=(64, 48), **options) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (9, 99, 200)).save(buffer, "PNG", **options)
    return buffer.getvalue()


def signed_rational() -> bytes:
    """A JPEG on its side whose EXIF data hold a signed rational where Pillow writes none back."""
    directory = (_entry(0x0112, 3, struct.pack(">HH", 6, 0)) + _entry(0x011A, 10, struct.pack(">L", 38)) + bytes(4)
                 + struct.pack(">ll", -1, 3))
    return jpeg(exif=b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + directory)


def _entry(tag: int, kind: int, value: bytes) -> bytes:
    return struct.pack(">HHL", tag, kind, 1) + value


def large_text() -> bytes:
    """A PNG with a comment that unpacks to four times what Pillow allows."""
    comment = PngImagePlugin.PngInfo()
    comment.add_text("workflow", "x" * (4 << 20), zip=True)
    return png(pnginfo=comment)


def large_profile() -> bytes:
    """A PNG with a colour profile that unpacks to four times what Pillow allows."""
    whole = png()
    data = b"icc\0\0" + zlib.compress(bytes(4 << 20))
    chunk = struct.pack(">I", len(data)) + b"iCCP" + data + struct.pack(">I", zlib.crc32(b"iCCP" + data))
    return whole[:33] + chunk + whole[33:]


def broken_exif() -> bytes:
    """A JPEG whose EXIF data are cut off."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.ImageDescription] = "A café."
    content = bytearray(jpeg(exif=exif))
    place = content.index(b"Exif\0\0") + 6
    content[place:place + 4] = b"XX\0*"
    return bytes(content)


DAMAGED = {  # name: (content, what is said)
    "truncated.jpg": (jpeg()[:900], "cannot be read as a photo .*truncated"),
    "empty.jpg": (b"", "cannot be read as a photo .it is empty"),
    "page.jpg": (b"\n<!DOCTYPE html><html>403</html>", "a web page, which a server sent instead of the photo"),
    "strip.png": (png((3000, 10)), "3000 x 10 pixels, and one side of a photo may be 200 times"),
    "pointer.jpg": (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n", "git lfs pull"),
    "phone.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "cannot be read as a photo"),
    "drawing.jpg": (b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg width="9" height="9"/>', "an SVG drawing"),
    "error.jpg": (b'\xef\xbb\xbf<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "it is XML"),
    "clip.jpg": (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "it is a video .MP4 or MOV."),
    "live.heic": (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "it is a video .MP4 or MOV."),
    "message.jpg": (b'{"error": "not found"}', "it is JSON"),
}
WHOLE = {  # name: (content, size of the photo)
    "signed.jpg": (signed_rational(), (48, 64)), "comment.png": (large_text(), (64, 48)),
    "profile.png": (large_profile(), (64, 48)), "exif.jpg": (broken_exif(), (64, 48))}
