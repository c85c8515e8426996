"""Answers as files: JSON lines, GeoJSON, CSV, KML, GPX. No torch.

What a model wrote, and what a file is called, is untrusted: it is escaped in XML, without the control characters that
XML has no way to hold, once more in KML's descriptions, which are shown as HTML; all text in CSV is quoted, and a cell
that a spreadsheet would take for a formula opens with an apostrophe.
"""
import csv
import html
import io
import json
import re
from collections.abc import Sequence
from xml.etree import ElementTree

from gre.locate.located import Located

COLUMNS = ("path", "latitude", "longitude", "city", "region", "country", "distance_km", "radius_km", "reasoning", "raw")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
KML, GPX = "http://www.opengis.net/kml/2.2", "http://www.topografix.com/GPX/1/1"


def json_lines(answers: Sequence[Located]) -> str:
    """One object a photo and line."""
    return "".join(json.dumps(answer.record()) + "\n" for answer in answers)


def geojson(answers: Sequence[Located]) -> str:
    """A FeatureCollection (RFC 7946); a photo without an answer is a feature without a geometry."""
    features = []
    for answer in answers:
        fields = answer.record()
        at = [fields.pop("longitude"), fields.pop("latitude")]
        features.append({"type": "Feature", "properties": fields,
                         "geometry": None if at[0] is None else {"type": "Point", "coordinates": at}})
    return json.dumps({"type": "FeatureCollection", "features": features}) + "\n"


def table(answers: Sequence[Located]) -> str:
    """CSV with a header, all text quoted; what a photo has no answer to is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)  # else a bare \r begins a row
    writer.writerow(COLUMNS)
    for answer in answers:
        place = answer.place
        writer.writerow([_no_formula(answer.path), answer.latitude, answer.longitude,
                         *((place.city, place.region, place.country, place.distance_km) if place else [None] * 4),
                         answer.radius_km, _no_formula(answer.reasoning), _no_formula(answer.raw)])
    return text.getvalue()


def kml(answers: Sequence[Located]) -> str:
    """A placemark a photo; without an answer it has no point."""
    ElementTree.register_namespace("", KML)
    document = ElementTree.SubElement(root := ElementTree.Element(f"{{{KML}}}kml"), f"{{{KML}}}Document")
    for answer in answers:
        mark = ElementTree.SubElement(document, f"{{{KML}}}Placemark")
        _add(mark, KML, "name", answer.path)
        _add(mark, KML, "description", html.escape(describe(answer)))
        if answer.latitude is not None:
            point = ElementTree.SubElement(mark, f"{{{KML}}}Point")
            _add(point, KML, "coordinates", f"{answer.longitude},{answer.latitude}")
    return _xml(root)


def gpx(answers: Sequence[Located]) -> str:
    """A waypoint for every photo with an answer: GPX has none without a position."""
    ElementTree.register_namespace("", GPX)
    root = ElementTree.Element(f"{{{GPX}}}gpx", version="1.1", creator="gre-locate")
    for answer in answers:
        if answer.latitude is not None:
            lon = _decimal(answer.longitude)
            mark = ElementTree.SubElement(root, f"{{{GPX}}}wpt", lat=_decimal(answer.latitude),
                                          lon="-180" if lon == "180" else lon)  # GPX 1.1: below 180
            _add(mark, GPX, "name", answer.path)
            _add(mark, GPX, "desc", describe(answer))
    return _xml(root)


def text(answers: Sequence[Located]) -> str:
    """For people, in a terminal: no control character of a name or a model gets there."""
    blocks = []
    for answer in answers:
        where = ("no answer" if answer.latitude is None else
                 f"{answer.latitude:.4f}, {answer.longitude:.4f}  {near(answer)}")
        around = scatter(answer) and f"\n  {scatter(answer)}"
        said = "".join(f"\n  {line}" for line in (answer.reasoning or "").splitlines() if line.strip())
        blocks.append(f"{printable(answer.path or 'photo')}\n  {where}{around}{said}\n")
    return "\n".join(printable(block, "\n") for block in blocks)


def near(answer: Located) -> str:
    """The nearest city, and how far away it is where that is worth saying."""
    if answer.place is None:
        return ""
    away = answer.place.distance_km
    return str(answer.place) if away < 1 else f"{answer.place} ({away:.0f} km away)"


def scatter(answer: Located) -> str:
    """How far the samples lie apart; empty where nothing is known about it."""
    if answer.radius_km is None:
        return ""
    return f"half of {len(answer.samples)} samples lie within {answer.radius_km:g} km"


def describe(answer: Located) -> str:
    """Place and reasoning."""
    return "\n".join(filter(None, [near(answer), answer.reasoning or answer.raw]))


def printable(said: str, but: str = "") -> str:
    """`said` with what a terminal would obey written out."""
    return "".join(letter if letter.isprintable() or letter in but else letter.encode(
        "unicode_escape").decode() for letter in said)


def _decimal(degrees: float) -> str:
    """Without an exponent, which GPX does not know; 7 digits are a centimetre."""
    return f"{degrees:.7f}".rstrip("0").rstrip(".")


def _no_formula(said: str | None) -> str | None:
    return f"'{said}" if said and said.startswith(_FORMULA) else said


def _add(parent: ElementTree.Element, space: str, name: str, said: str | None) -> None:
    ElementTree.SubElement(parent, f"{{{space}}}{name}").text = _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", said or "")


def _xml(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
