"""Places as map formats write them, said as plain text: that KML has the longitude first, and without heights.

    <coordinates>2.3522,48.8566,0</coordinates>  ->  (lon, lat): (2.3522, 48.8566);
    geo:48.8566,2.3522,35                        ->  geo:48.8566,2.3522
"""
import re

_N = r"[-+−]?[0-9]{1,3}(?:\.[0-9]{1,20})?"
_C = r"\s?,\s?"
_KML = re.compile(rf"<coordinates>([^<>]*+)(?:</coordinates>|\Z)"
                  rf"|\bKML\b[^0-9\n+−<-]{{0,20}}({_N}{_C}{_N}{_C}{_N})(?![0-9.])", re.IGNORECASE)
_TRIPLE = re.compile(rf"({_N}){_C}({_N})(?:{_C}{_N})?(?![0-9.])")
_HEIGHT = re.compile(
    rf"(?P<geo>geo:{_N},{_N}),{_N}(?![0-9.])"
    rf"|(?P<wkt>POINT)\s?Z?\s?\(\s?(?P<lon>{_N})\s(?P<lat>{_N})\s{_N}\s?\)"
    rf"|(?P<json>[\"']type[\"']\s?:\s?[\"']Point[\"']\s?,\s?[\"']coordinates[\"']\s?:\s?\[\s?{_N}{_C}{_N}){_C}{_N}(?=\s?\])")


def plain(text: str) -> str:
    """The text with these places said plainly; linear in its length."""
    return _HEIGHT.sub(_without_height, _KML.sub(_longitude_first, text))


def _longitude_first(match: re.Match) -> str:
    return " " + _TRIPLE.sub(r"(lon, lat): (\1, \2);", match[1] if match[2] is None else match[2]) + " "


def _without_height(match: re.Match) -> str:
    return match["geo"] or match["json"] or f"{match['wkt']}({match['lon']} {match['lat']})"
