"""Photos as people hand them over: a file, a folder, bytes, a picture of PIL, or an address. No torch.

An address is refused unless it is asked for by name: who locates photos of others should know what is fetched.
"""
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx2
from PIL import Image

from gre.config import UserError
from gre.data.images import SUFFIXES, check_ratio, decode, from_picture, read_bytes
from gre.data.raw import DataError, RowError
from gre.locate.formats import printable

Photo = str | os.PathLike | bytes | Image.Image
ADDRESS = re.compile(r"https?://", re.IGNORECASE)
MAX_FETCHED_BYTES = 50 * 2**20
TIMEOUT_S = 30


def is_one(photo) -> bool:
    """Whether this is a photo rather than several: no list, and no folder."""
    return isinstance(photo, (bytes, bytearray, Image.Image)) or _is_path(photo) and not os.path.isdir(photo)


def listed(photos: Photo | Sequence[Photo]) -> list[Photo]:
    """One entry a photo, paths as text: folders opened, with their subfolders, in the order of their names.

    Raises UserError for a folder without photos.
    """
    found: list[Photo] = []
    for photo in [photos] if is_one(photos) or _is_path(photos) else photos:
        found += _in_folder(Path(photo)) if _is_path(photo) and os.path.isdir(photo) else [
            os.fspath(photo) if _is_path(photo) else photo]
    return found


def open_photo(photo: Photo, name: str, urls: bool = False) -> Image.Image:
    """The photo: RGB, upright, no metadata. name: for messages. urls: whether an address is fetched.

    Raises DataError for what cannot be read, and RowError, one of these, for what is no photo, is damaged, or has a
    shape that cannot be asked about.
    """
    if isinstance(photo, Image.Image):
        image = from_picture(photo, name)
    elif isinstance(photo, (bytes, bytearray)):
        image = decode(bytes(photo), name)
    elif ADDRESS.match(str(photo)):
        image = decode(_fetched(str(photo), urls), name)
    elif not os.path.isfile(photo):
        raise DataError(f"{name}: {_no_file(photo)}")
    else:
        image = decode(read_bytes(photo), name)
    check_ratio(image.size, name)
    return image


def _no_file(path: str | os.PathLike) -> str:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name with a zero byte
        return "there is no such file"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "is no file"


def _is_path(photo) -> bool:
    return isinstance(photo, (str, os.PathLike))


def _in_folder(folder: Path) -> list[str]:
    """The photos in it and in its subfolders; what is left out is counted on standard error."""
    found, unreadable, linked, other = [], [], 0, 0
    for at, folders, names in os.walk(folder, onerror=unreadable.append):
        photos = [str(Path(at, name)) for name in names if os.path.splitext(name)[1].lower() in SUFFIXES]
        found += photos
        other += len(names) - len(photos)
        linked += sum(os.path.islink(os.path.join(at, name)) for name in folders)
    left_out = ", ".join(f"{what}: {count}" for what, count in (
        ("files whose names are not those of photos", other), ("linked folders", linked),
        ("folders that cannot be read", len(unreadable))) if count)
    if not found:
        raise UserError(f"{folder} holds no photos: they are told by their names ({', '.join(SUFFIXES)})"
                        + (f". Left out: {left_out}" if left_out else ""))
    if left_out:
        print(f"left out of {printable(str(folder))}: {left_out}", file=sys.stderr)
    return sorted(found)


def _fetched(address: str, urls: bool) -> bytes:
    if not urls:
        raise RowError(f"{address} is an address, and nothing is fetched unless asked for: download the photo, or "
                       "write urls=True (--urls)")
    try:
        with httpx2.stream("GET", address, timeout=TIMEOUT_S, follow_redirects=True) as answer:
            answer.raise_for_status()
            content = b""
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > MAX_FETCHED_BYTES:
                    raise RowError(f"{address}: more than {MAX_FETCHED_BYTES >> 20} MiB: download it yourself")
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:  # UnicodeError: http://a..b, a redirect too
        raise DataError(f"{address}: cannot be fetched ({type(error).__name__}: {error})") from None
    return content
