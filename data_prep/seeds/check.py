"""The rows of one span, each looked at alone: fields, coordinates, the photo, opened once, and what a benchmark shares.

What is wrong with a row is its `fault`, one of FAULTS, with `why` in words; the row is then no seed. `leaks` is counted
of every row, and drops it only where the user asks for it.
"""
import hashlib
import io
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from PIL import ExifTags, Image

from data_prep.leaks import HASHED_PIXELS, Known
from data_prep.seeds import sources
from data_prep.seeds.pictures import Pictures
from data_prep.seeds.sources import Span
from gre.data import exif, near, tables
from gre.data.images import check_ratio, decode, formats
from gre.data.raw import RowError
from gre.geo.places import gazetteer
from gre.geo.point import LatLon, valid
from gre.geo.truth import checked_truth

IN_MEMORY = 64  # rows whose photos may be in memory at once
GAZETTEER_CUT = 15000  # people; of the cities whose nearest says which country a photo is of
FAULTS = {  # fault → what it means, for cards
    "broken row": "cannot be read as a row of its table, or names no photo",
    "no coordinates": "has none, or they are no numbers in decimal degrees",
    "out of range": "latitude beyond 90 or longitude beyond 180 degrees",
    "0, 0": "what tools write where no place is known",
    **{why: "in the EXIF data of the photo" for why in exif.WHY},
    "outside": "the name leads out of the photos' folder",
    "ambiguous": "several photos may be meant",
    "absent": "listed, and in none of the places",
    "unreadable": "is no photo, or damaged",
    "tiny": "a side shorter than min_side, or 200 times the other",
    "blank": "nothing is to be seen",
    "contradiction": "one and the same photo stands there with places more than 1 km apart: none can be trusted",
    "duplicate": "the same photo, byte for byte or by its id, comes earlier",
    "near duplicate": "what it shows comes earlier: resized, recompressed, or taken twice",
    "leak": "a benchmark shares its id, author, picture or place, and drop= asks to leave such photos out",
    "not sampled": "another photo of its country or cell was drawn"}
SCHEMA = pyarrow.schema([
    ("row", pyarrow.int64()), ("where", pyarrow.string()), ("id", pyarrow.string()), ("photo", pyarrow.string()),
    ("lat", pyarrow.float64()), ("lon", pyarrow.float64()), ("altitude_m", pyarrow.float64()),
    ("author", pyarrow.string()), ("licence", pyarrow.string()), ("url", pyarrow.string()),
    ("sha256", pyarrow.string()), ("phash", pyarrow.string()), ("width", pyarrow.int32()), ("height", pyarrow.int32()),
    ("country", pyarrow.string()), ("leaks", pyarrow.list_(pyarrow.string())),
    ("fault", pyarrow.string()), ("why", pyarrow.string())])


class Fault(Exception):
    """What makes a row no seed: (fault, why)."""


@dataclass(frozen=True)
class Asked:
    """What is asked of rows. pictures: None: photos are not opened; own: they are the user's, and their EXIF data say
    where they were taken; licence: of rows that name none."""

    pictures: Pictures | None
    own: bool
    exchange: bool
    min_side: int
    licence: str
    known: Sequence[Known]
    leak_km: float | None
    threads: int


@dataclass
class Row:
    """A row on its way; what it lacks is None or empty."""

    row: int
    where: str
    id: str = ""
    photo: str = ""
    lat: float | None = None
    lon: float | None = None
    altitude_m: float | None = None
    author: str = ""
    licence: str = ""
    url: str = ""
    sha256: str = ""
    phash: str | None = None
    width: int | None = None
    height: int | None = None
    country: str = ""
    leaks: list[str] = field(default_factory=list)
    fault: str = ""
    why: str = ""


def span(span: Span, asked: Asked) -> pyarrow.Table:
    """The checked rows of a span, SCHEMA."""
    table = tables.open_table(Path(span.table))
    names = sources.columns(table)
    with ThreadPoolExecutor(asked.threads) as pool:  # Pillow and hashes work outside Python's lock
        one = _Checker(asked, names, table.delimiter)
        lines, rows = sources.lines(span), []
        while some := list(islice(lines, IN_MEMORY)):
            rows += pool.map(one, some) if asked.pictures else map(one, some)
    located = [row for row in rows if row.lat is not None]
    points = [LatLon(row.lat, row.lon) for row in located]
    for row, city in zip(located, gazetteer(GAZETTEER_CUT).nearest_cities(points)):
        row.country = city.country
    _tell_leaks([row for row in located if not row.fault], asked)
    return pyarrow.table({name: [getattr(row, name) for row in rows] for name in SCHEMA.names}, schema=SCHEMA)


def content_of(line: tables.Line, names: dict[str, str], photo: str, pictures: Pictures) -> bytes:
    """A photo's bytes, from its row or from where it lies. Raises Fault."""
    inside = line.fields[names["photo"]] if "photo" in names else None
    inside = inside.get("bytes") if isinstance(inside, dict) else inside
    if isinstance(inside, bytes):
        return inside
    try:
        return pictures.read(pictures.find(photo))
    except LookupError:
        raise Fault("absent", "") from None
    except RowError as error:
        raise Fault("outside" if "leaves" in str(error) else "ambiguous" if " may be " in str(error) else "unreadable",
                    str(error)) from None


class _Checker:
    def __init__(self, asked: Asked, names: dict[str, str], delimiter: str):
        self.asked, self.names, self.delimiter = asked, names, delimiter

    def __call__(self, numbered: tuple[int, tables.Line]) -> Row:
        number, line = numbered
        row = Row(number + 1, line.where.rpartition("/")[2])
        try:
            if line.fault:
                raise Fault("broken row", line.fault)
            self._fields(row, line.fields)
            if not self.asked.own:
                self._place(row, line.fields)
            if self.asked.pictures is not None:
                self._open(row, line)
        except Fault as fault:
            row.fault, row.why = fault.args
        return row

    def _fields(self, row: Row, fields: dict[str, Any]) -> None:
        said = {ours: value.strip() for ours, name in self.names.items() if isinstance(value := fields[name], str)}
        inside = fields[self.names["photo"]] if "photo" in self.names else None
        if isinstance(inside, dict) and isinstance(inside.get("path"), str):
            said["photo"] = inside["path"]
        row.id = said.get("id") or said.get("photo", "")
        row.photo = said.get("photo") or row.id
        row.author, row.url = said.get("author", ""), said.get("url", "")
        row.licence = said.get("licence") or self.asked.licence
        if "row" in fields and self.names.get("photo") == "image" and row.where.startswith("rows.csv"):
            row.where = f"row {fields['row']}"  # of the JSON that was listed
        if not row.photo and not isinstance(inside, (dict, bytes)):
            raise Fault("broken row", "it names no photo")

    def _place(self, row: Row, fields: dict[str, Any]) -> None:
        degrees = [tables.decimal(fields[self.names[name]].strip(), self.delimiter) for name in ("lat", "lon")]
        if not all(map(tables.is_number, degrees)):
            raise Fault("no coordinates", f"latitude {degrees[0][:40]!r}, longitude {degrees[1][:40]!r}")
        lat, lon = map(float, degrees[::-1] if self.asked.exchange else degrees)
        try:
            row.lat, row.lon = checked_truth(lat, lon)
        except ValueError:
            if lat == lon == 0:
                raise Fault("0, 0", "") from None
            swapped = "; exchanged it would be a place" if valid(lon, lat) else ""
            raise Fault("out of range", f"latitude {lat:g}, longitude {lon:g}{swapped}") from None

    def _open(self, row: Row, line: tables.Line) -> None:
        content = content_of(line, self.names, row.photo, self.asked.pictures)
        row.sha256 = hashlib.sha256(content).hexdigest()
        try:
            picture = decode(content, row.photo, HASHED_PIXELS)  # decoded whole all the same: damage shows
            with Image.open(io.BytesIO(content), formats=formats()) as opened:
                row.width, row.height = opened.size  # as stored
                data = exif.exif_of(opened)
            if (row.width > row.height) != (picture.width > picture.height):
                row.width, row.height = row.height, row.width  # as it is seen
            check_ratio((row.width, row.height), row.photo)
        except RowError as error:
            raise Fault("tiny" if "as long as the other" in str(error) else "unreadable", str(error)) from None
        if self.asked.own:
            self._whose(row, data)
        if min(row.width, row.height) < self.asked.min_side:
            raise Fault("tiny", f"{row.width} x {row.height} pixels")
        words = near.perceptual_hash(picture)
        if words is None:
            raise Fault("blank", "")
        row.phash = near.as_text(words)

    def _whose(self, row: Row, data: Image.Exif) -> None:
        """Place, author and licence of a photo of one's own."""
        row.author = exif.text_of(data, ExifTags.Base.Artist)
        row.licence = row.licence or exif.text_of(data, ExifTags.Base.Copyright)
        try:
            found = exif.fix(data)
        except exif.NoPosition as error:
            said = re.fullmatch(r".*? \((.*)\)", str(error), re.DOTALL)
            raise Fault(error.kind, said[1] if said else "") from None
        (row.lat, row.lon), row.altitude_m = found.place, found.altitude_m


def _tell_leaks(rows: Sequence[Row], asked: Asked) -> None:
    """Fill in `leaks`: "KIND BENCHMARK ROW" each."""
    hashed = [row for row in rows if row.phash]
    hashes = np.stack([near.from_text(row.phash) for row in hashed]) if hashed else np.empty((0, near.WORDS), np.uint64)
    for known in asked.known:
        for row in rows:
            named = known.by_name(row.id, row.photo, row.url, author=row.author)
            row.leaks += [f"{kind} {known.name} {other}" for kind, other in named.items()]
        for at, other in known.by_picture(hashes).items():
            hashed[at].leaks.append(f"picture {known.name} {other}")
        if asked.leak_km is not None:
            for at, other in known.by_place([LatLon(row.lat, row.lon) for row in rows], asked.leak_km).items():
                rows[at].leaks.append(f"place {known.name} {other}")
