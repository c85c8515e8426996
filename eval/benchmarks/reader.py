"""Benchmarks as they lie on disk → rows to predict, whole or not at all.

What each one is stands in benchmarks.yaml. The tables in the wild differ in their headers (COLUMNS) and in how they
name photos; YFCC4k's raw list has no header. Refused, with the reason: a column or coordinate that cannot be read,
latitude and longitude under each other's header, an id that comes twice, a number of rows that is not the benchmark's,
a photo that is not there. Two keys say otherwise, and are recorded: benchmark.rows, benchmark.swapped.

Latitude and longitude are taken to be swapped when
- a "latitude" lies beyond 90 degrees while every "longitude" lies within: then there is no other reading;
- or, where no number is beyond 90, the photos as read lie in the middle of nowhere (median distance to the nearest city
  over LOST_KM) and, exchanged, ten times nearer. Copies of Im2GPS3k from before 2020-02-17 fall under the first rule.
"""
import csv
import io
import math
import os
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

from omegaconf import OmegaConf

from gre.config import nearest, option
from gre.data import raw
from gre.data.raw import DataError
from gre.data.records import DataConfig, SeedRow, read_bench
from gre.geo.places import gazetteer
from gre.geo.point import LatLon

GREVAL = "GREval-Bench"
CSV = "csv"  # the name for any table of the user's own
COLUMNS = {  # what we call it: headers it goes by, any case; of several the first counts
    "id": ("IMG_ID", "IMG_FILE", "id", "image_id", "photo_id", "image", "img", "filename", "file_name"),
    "lat": ("LAT", "latitude", "gt_lat"),
    "lon": ("LON", "lng", "longitude", "gt_lon"),
    "author": ("AUTHOR", "creator_id"),
    "gt_city": ("city",), "gt_region": ("region", "state"), "gt_country": ("country",), "gt_continent": ("continent",),
    **{f"gt_{name}": (name,) for name in ("unique_city", "unique_sub-region", "unique_region", "unique_country")},
    "scene": ("scene",), "indoor": ("indoor",), "locatability": ("locatability",)}
SCENES = {"Prob_indoor": "indoor", "Prob_natural": "natural", "Prob_urban": "urban"}  # the likeliest is the scene
YFCC_OFFSETS = (0, 1)  # YFCC100M's lists count the photo id as column 0 or, after a line number, as column 1
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
TABLES = (".csv", ".tsv", ".txt")
LOST_KM = 100.0
LOOKED_AT = 1000  # rows whose nearest city is looked up to tell a swap


@dataclass
class BenchmarkConfig:
    """Which benchmark, and where its files are."""

    name: str = option("", "a name in benchmarks.yaml, or csv for any table with an id, a latitude, a longitude")
    labels: str = option("", "the table, or the folder that holds it and no other; empty: where benchmarks.yaml says")
    images: str = option("", "folder of the photos, subfolders included; empty: where benchmarks.yaml says")
    rows: int | None = option(None, "rows this copy has, where that is not the benchmark's number or none is known")
    swapped: str = option("refuse", "refuse a table whose latitude and longitude are swapped, or exchange them")


@dataclass(frozen=True)
class BenchmarkRow(SeedRow):
    """A row to predict. labels: what a prediction line carries beside it (author, gt_country, scene …)."""

    labels: Mapping[str, str | bool | list] = field(default_factory=dict)


@cache
def known() -> dict[str, dict]:
    """benchmarks.yaml: name → rows, rows_source, licence, get, images, labels."""
    content = resources.files("eval.benchmarks").joinpath("benchmarks.yaml").read_text(encoding="utf-8")
    return OmegaConf.to_container(OmegaConf.create(content))


def read(config: BenchmarkConfig, instruction: str) -> list[BenchmarkRow]:
    """All rows of a benchmark, each asked `instruction`. Raises DataError, a UserError, with reason and remedy."""
    if config.swapped not in ("refuse", "exchange"):
        raise DataError(f"benchmark.swapped is {config.swapped!r}: write refuse or exchange")
    labels, images = files(config)
    if labels.suffix == ".json":
        rows = _greval(labels, images, instruction)
    else:
        rows = [BenchmarkRow(id, Path(), instruction, point, extra) for id, point, extra in _table(labels, config)]
    _check_ids(rows, labels)
    _check_count(len(rows), labels, config)
    return rows if labels.suffix == ".json" else _with_pictures(rows, labels, images)


def files(config: BenchmarkConfig) -> tuple[Path, Path]:
    """(table, folder of photos). Raises DataError, saying how to get the benchmark, when one is not there."""
    if config.name != CSV and config.name not in known():
        raise DataError(f"benchmark.name={config.name}: no such benchmark; did you mean "
                        f"{nearest(config.name, [*known(), CSV])!r}? There are {', '.join(known())} and {CSV}")
    entry = known().get(config.name, {"labels": "", "images": "", "get": "name both keys"})
    labels, images = Path(config.labels or entry["labels"]), Path(config.images or entry["images"])
    for key, path, there in (("labels", labels, labels.exists()), ("images", images, images.is_dir())):
        if not there or not path.parts:
            raise DataError(f"benchmark.{key}={path}: not there. {config.name}: {entry['get']}")
    if labels.is_dir():
        tables = sorted(path for path in labels.iterdir() if path.suffix.lower() in (*TABLES, ".json"))
        if len(tables) != 1:
            raise DataError(f"{labels} holds {len(tables)} tables ({', '.join(p.name for p in tables) or 'none'}): "
                            "name the right one with benchmark.labels=FILE")
        labels = tables[0]
    return labels, images


def record(config: BenchmarkConfig) -> dict:
    """What a prediction file says about its benchmark: what was expected, and what the user had to accept."""
    entry = known().get(config.name, {})
    return {"name": config.name, "expected_rows": entry.get("rows"), "rows_source": entry.get("rows_source", ""),
            "accepted_rows": config.rows, "swapped": config.swapped}


def _greval(path: Path, images: Path, instruction: str) -> list[BenchmarkRow]:
    """GREval-Bench's JSON; `scene`, `indoor`, `locatability` and `indicators` are taken where a row has them."""
    rows = read_bench(DataConfig(path=str(path), image_root=str(images)))
    names = ("scene", "indoor", "locatability", "indicators")
    extras = [{name: row[name] for name in names if row.get(name) is not None} for _, row in raw.rows(path)]
    return [BenchmarkRow(row.id, row.image, instruction, row.truth, extra) for row, extra in zip(rows, extras)]


def _table(path: Path, config: BenchmarkConfig) -> list[tuple[str, LatLon, dict]]:
    """(id, place, labels) of every row."""
    read = [(where, id, _degrees(lat, where, "latitude"), _degrees(lon, where, "longitude"), extra)
            for where, id, lat, lon, extra in _lines(path)]
    if not read:
        raise DataError(f"{path}: no row under the header. Get the file again")
    if reason := _swapped([(lat, lon) for _, _, lat, lon, _ in read]):
        if config.swapped == "refuse":
            raise DataError(f"{path}: latitude and longitude stand under each other's header ({reason}). Exchange the "
                            "headers, or write benchmark.swapped=exchange")
        print(f"{path}: latitude and longitude are exchanged ({reason})", file=sys.stderr)
        read = [(where, id, lon, lat, extra) for where, id, lat, lon, extra in read]
    elif config.swapped == "exchange":
        raise DataError(f"{path}: latitude and longitude are not swapped. Leave benchmark.swapped away")
    rows = []
    for where, id, lat, lon, extra in read:
        try:
            rows.append((id, LatLon.checked(lat, lon), extra))
        except ValueError as error:
            raise DataError(f"{where}: {error}. Repair the row") from None
    return rows


def _lines(path: Path) -> Iterator[tuple[str, str, str, str, dict]]:
    """(file and line, id, latitude, longitude, labels) as written."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}). Save the file as UTF-8") from None
    first = content.split("\n", 1)[0].rstrip("\r")
    tab = "\t" in first
    columns = _columns(next(csv.reader([first], delimiter="\t" if tab else ",")))
    if tab and not columns.keys() & {"lat", "lon"}:
        yield from _yfcc(path, content)
        return
    if missing := [name for name in ("id", "lat", "lon") if name not in columns]:
        raise DataError(f"{path}: no column for {', '.join(missing)} in the header {first[:200]!r}. Name the columns "
                        + "; ".join(f"{name}: {' or '.join(COLUMNS[name])}" for name in missing))
    reader = csv.DictReader(io.StringIO(content, newline=""), delimiter="\t" if tab else ",")
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():
            raise DataError(f"{where}: more or fewer fields than the header has. Repair the row")
        yield where, row[columns["id"]].strip(), row[columns["lat"]], row[columns["lon"]], _labels(row, columns)


def _columns(header: list[str]) -> dict[str, str]:
    """What we call it → the header it has here."""
    here = {name.strip().lower(): name for name in header}
    found = {ours: next((here[name.lower()] for name in names if name.lower() in here), None)
             for ours, names in COLUMNS.items()}
    return {ours: name for ours, name in found.items() if name is not None}


def _labels(row: dict[str, str], columns: dict[str, str]) -> dict[str, str | bool]:
    """Labels of a row; an empty field and a `nan` are none."""
    labels = {ours: row[name].strip() for ours, name in columns.items() if ours not in ("id", "lat", "lon")}
    labels = {ours: value for ours, value in labels.items() if value and value.lower() != "nan"}
    if SCENES.keys() <= row.keys():
        scene = SCENES[max(SCENES, key=lambda name: float(row[name] or "nan"))]
        labels |= {"scene": scene, "indoor": "indoor" if scene == "indoor" else "outdoor"}
    return labels


def _yfcc(path: Path, content: str) -> Iterator[tuple[str, str, str, str, dict]]:
    """YFCC100M's own list, no header: photo id, …, longitude 11 columns on, latitude after it; author 2 columns on.

    The list has a line number in front or not. Only one of the two readings has a photo id of digits and numbers for
    both coordinates in every row: where a coordinate would be in the other, machine tags stand, or a hash for the id.
    """
    lines = [(f"{path}, line {number}", line.split("\t")) for number, line in enumerate(content.split("\n"), 1)
             if line.strip()]
    for offset in YFCC_OFFSETS:
        if all(len(fields) > offset + 12 and fields[offset].isdigit() and _number(fields[offset + 11])
               and _number(fields[offset + 12]) for _, fields in lines):
            for where, fields in lines:
                yield where, fields[offset], fields[offset + 12], fields[offset + 11], {"author": fields[offset + 2]}
            return
    raise DataError(f"{path}: separated by tabs, without a header, and not YFCC100M's list (photo id in column 0 or 1, "
                    "longitude and latitude 11 and 12 columns on). Give it a header")


def _number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _degrees(text: str, where: str, name: str) -> float:
    if not _number(text):
        raise DataError(f"{where}: {name} is {text.strip()!r}, not a number in decimal degrees. Repair the row")
    return float(text)


def _swapped(points: list[tuple[float, float]]) -> str:
    """Why the two columns must be swapped; empty when they are not. The rule is at the head of the file."""
    lat, lon = max(abs(a) for a, _ in points), max(abs(b) for _, b in points)
    if lat > 90:
        return f"a latitude of {lat:g}, and no longitude beyond {lon:g}" if lon <= 90 and lat <= 180 else ""
    if lon > 90:
        return ""
    some = [points[i * len(points) // LOOKED_AT] for i in range(LOOKED_AT)] if len(points) > LOOKED_AT else points
    cities = gazetteer(15000)
    as_read, exchanged = (statistics.median(near.distance_km for near in cities.nearest(places)) for places in (
        [LatLon(a, b) for a, b in some], [LatLon(b, a) for a, b in some]))
    if as_read > LOST_KM and as_read > 10 * exchanged:
        return (f"the median photo lies {as_read:.0f} km from the nearest city as read, and {exchanged:.0f} km from "
                f"it exchanged; {cities}")
    return ""


def _check_ids(rows: list[BenchmarkRow], labels: Path) -> None:
    if twice := [id for id, count in Counter(row.id for row in rows).items() if count > 1]:
        raise DataError(f"{labels}: {len(twice)} ids come more than once, the first is {twice[0]!r}. Remove the "
                        "repeated rows, or get the file again")


def _check_count(count: int, labels: Path, config: BenchmarkConfig) -> None:
    """The number of rows against benchmark.rows, else the benchmark's own."""
    entry = known().get(config.name, {"rows": count})
    expected = entry["rows"] if config.rows is None else config.rows
    if expected is None:
        raise DataError(f"{config.name}: how many rows it has is not known ({entry['rows_source']}), and {labels} has "
                        f"{count:,}. Write benchmark.rows={count} if that is your whole copy")
    if count != expected:
        said = f"{config.name} has {expected:,} ({entry['rows_source']})" if config.rows is None else (
            f"benchmark.rows says {expected:,}")
        raise DataError(f"{labels}: {count:,} rows, and {said}. Complete the file, or accept another count with "
                        f"benchmark.rows={count}: it is then no longer comparable with published numbers")


def _with_pictures(rows: list[BenchmarkRow], labels: Path, images: Path) -> list[BenchmarkRow]:
    """The rows with their photos, searched by file name below `images`; an id may leave the ending away, and may
    write a slash where the file has an underscore."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    for folder, _, names in os.walk(images):
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in PICTURES:
                path = Path(folder, name)
                for key in {name, stem, path.relative_to(images).as_posix()}:
                    by_name[key].append(path)
    found = [by_name.get(row.id) or by_name.get(row.id.replace("/", "_")) or [] for row in rows]
    if missing := [row.id for row, paths in zip(rows, found) if not paths]:
        raise DataError(f"{labels}: {len(missing)} of {len(rows):,} photos are missing below {images}, the first is "
                        f"{missing[0]!r}. A benchmark without them would be another one: put them there")
    if unclear := [(row.id, paths) for row, paths in zip(rows, found) if len(paths) > 1]:
        raise DataError(f"{labels}: {unclear[0][0]!r} may be {unclear[0][1][0]} or {unclear[0][1][1]} ({len(unclear)} "
                        "such rows). Keep one, or write ids with their folder or ending")
    return [BenchmarkRow(row.id, paths[0].resolve(), row.instruction, row.truth, row.labels)
            for row, paths in zip(rows, found)]
