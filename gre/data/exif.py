"""Where a photo says it was taken: the GPS block of its EXIF data, as receivers really write it. No torch.

A position is read right or refused by name, never guessed:

- Degrees, minutes and seconds are rationals; a part of 0/0, or one that is left out, was not measured and counts as 0,
  so that degrees with decimals and no minutes are read. Degrees without a value, any other denominator of 0, minutes or
  seconds beyond 60 and negative parts behind the first are refused.
- The hemisphere is its reference's: N, S, E, W or the English word, in any case, as text or bytes. Without one a
  negative number is south or west; a positive one is refused, since it may be in either.
- (0, 0) and a receiver's own "no fix" (GPSStatus V) are refused: such numbers are no place or an old one.
"""
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from PIL import ExifTags, Image

from gre.data.images import UNREADABLE
from gre.geo.point import LatLon
from gre.geo.truth import checked_truth

# Why a photo has no position, for counting; the message of NoPosition says more.
NO_EXIF, NO_GPS, EMPTY, NO_FIX, BROKEN, NO_HEMISPHERE, NO_PLACE = WHY = (
    "no EXIF data", "no GPS block", "GPS block without a position", "receiver had no fix", "position cannot be read",
    "hemisphere unknown", "no place on Earth")
_GPS = ExifTags.GPS
_UNITS = (60, 60)  # what minutes and seconds may not exceed


class NoPosition(Exception):
    """A photo does not say where it was taken. kind: one of WHY; the text says what was found."""

    def __init__(self, kind: str, said: str = ""):
        super().__init__(f"{kind} ({said})" if said else kind)
        self.kind = kind


@dataclass(frozen=True)
class Fix:
    """What a receiver wrote. altitude_m: above the sea, None where it is not said or cannot be read."""

    place: LatLon
    altitude_m: float | None


def exif_of(image: Image.Image) -> Image.Exif:
    """The EXIF data of an opened photo; empty where there are none or they cannot be read."""
    try:
        return image.getexif()
    except UNREADABLE:
        return Image.Exif()


def fix(exif: Image.Exif) -> Fix:
    """The position in a photo's EXIF data. Raises NoPosition."""
    if not len(exif):
        raise NoPosition(NO_EXIF)
    if ExifTags.IFD.GPSInfo not in exif:
        raise NoPosition(NO_GPS)
    try:
        block = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except UNREADABLE as error:
        raise NoPosition(BROKEN, f"the GPS block: {type(error).__name__}") from None
    there = [tag in block for tag in (_GPS.GPSLatitude, _GPS.GPSLongitude)]
    if not all(there):
        raise NoPosition(BROKEN, "one of latitude and longitude is missing") if any(there) else NoPosition(EMPTY)
    if _text(block.get(_GPS.GPSStatus)).upper().startswith("V"):
        raise NoPosition(NO_FIX, "GPSStatus V")
    lat, lon = (_degrees(block, *tags) for tags in (
        (_GPS.GPSLatitude, _GPS.GPSLatitudeRef, "latitude", ("NORTH", "SOUTH")),
        (_GPS.GPSLongitude, _GPS.GPSLongitudeRef, "longitude", ("EAST", "WEST"))))
    if lat == lon == 0:
        raise NoPosition(NO_FIX, "0, 0")
    try:
        return Fix(checked_truth(lat, lon), _altitude(block))
    except ValueError as error:
        raise NoPosition(NO_PLACE, str(error)) from None


def text_of(exif: Image.Exif, tag: int) -> str:
    """A field of text, such as ExifTags.Base.Artist; empty where there is none."""
    return _text(exif.get(tag))


def _degrees(block: dict, tag: int, ref_tag: int, name: str, words: tuple[str, str]) -> float:
    parts = block[tag]
    parts = list(parts) if isinstance(parts, (tuple, list)) else [parts]
    if not 1 <= len(parts) <= 3:
        raise NoPosition(BROKEN, f"the {name} has {len(parts)} parts")
    values = [_number(part, f"the {name}'s {what}") for part, what in zip(parts, ("degrees", "minutes", "seconds"))]
    if values[0] is None:
        raise NoPosition(BROKEN, f"the {name}'s degrees are 0/0")
    first, *rest = [value or 0.0 for value in values]
    if any(not 0 <= value <= most for value, most in zip(rest, _UNITS)):
        raise NoPosition(BROKEN, f"the {name} is {first:g}° {' '.join(f'{value:g}' for value in rest)}")
    magnitude = abs(first) + sum(value / 60 ** power for power, value in enumerate(rest, 1))
    negative = math.copysign(1, first) < 0 and magnitude > 0
    ref = _text(block.get(ref_tag)).upper()
    if ref and ref not in (words[0], words[1], words[0][0], words[1][0]):
        raise NoPosition(NO_HEMISPHERE, f"the {name}'s reference is {ref[:20]!r}")
    if not ref and magnitude and not negative:
        raise NoPosition(NO_HEMISPHERE, f"no {words[0][0]} or {words[1][0]} beside the {name}")
    if ref and ref[0] == words[0][0] and negative:
        raise NoPosition(NO_HEMISPHERE, f"a negative {name} beside {ref[0]}")
    return -magnitude if negative or ref[:1] == words[1][0] else magnitude


def _number(part: Any, name: str) -> float | None:
    """A rational as a number; None for 0/0, which means that nothing was measured. Raises NoPosition."""
    top, bottom = getattr(part, "numerator", None), getattr(part, "denominator", None)
    if bottom == 0:
        if top == 0:
            return None
        raise NoPosition(BROKEN, f"{name} are {top}/0")
    if isinstance(part, bool) or not isinstance(part, (int, float, Fraction)) and top is None:
        raise NoPosition(BROKEN, f"{name} are {part!r:.40}, not a rational")
    value = float(part)
    if not math.isfinite(value):
        raise NoPosition(BROKEN, f"{name} are {value}")
    return value


def _altitude(block: dict) -> float | None:
    try:
        value = _number(block[_GPS.GPSAltitude], "the altitude")
    except (KeyError, NoPosition):
        return None  # nobody is located by it
    below = block.get(_GPS.GPSAltitudeRef)
    below = below[0] if isinstance(below, (bytes, tuple)) and len(below) else below
    return None if value is None else -abs(value) if below in (1, "1") else value


def _text(value: Any) -> str:
    """Text as writers store it: a string, bytes, either with zeros or blanks around it."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.replace("\0", " ").strip() if isinstance(value, str) else ""


