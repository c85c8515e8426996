"""Benchmarks as they lie on disk → rows to predict, whole or not at all.

What each one is stands in benchmarks.yaml. The tables in the wild differ in their headers (COLUMNS) and in how they
name photos; YFCC4k's raw list has no header. Refused, with the reason: a column or coordinate that cannot be read,
latitude and longitude under each other's header, an id that comes twice, a number of rows that is not the benchmark's,
a photo that is not there. Two keys say otherwise, and are recorded: benchmark.rows, benchmark.swapped.
gre.geo.truth says when latitude and longitude are taken to be swapped.
"""
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from omegaconf import OmegaConf

from gre.config import nearest, option
from gre.data import forms, tables
from gre.data.hashes import photo_hashes
from gre.data.raw import DataError
from gre.data.records import DataConfig, Keys, SeedRow, read_bench
from gre.geo.point import LatLon
from gre.geo.truth import checked_truth, swapped

GREVAL = "GREval-Bench"
KEYS = Keys("benchmark.labels", "benchmark.images", drop="")
CSV = "csv"  # the name for any table of the user's own
COLUMNS = {  # what we call it: headers it goes by, any case; of several the first counts
    **tables.COLUMNS,
    "gt_city": ("city",), "gt_region": ("region", "state"), "gt_country": ("country",), "gt_continent": ("continent",),
    **{f"gt_{name}": (name,) for name in ("unique_city", "unique_sub-region", "unique_region", "unique_country")},
    "scene": ("scene",), "indoor": ("indoor",), "locatability": ("locatability",)}
SCENES = {"prob_indoor": "indoor", "prob_natural": "natural", "prob_urban": "urban"}  # any case; the likeliest is it
INDOOR = {"1": "indoor", "1.0": "indoor", "true": "indoor", "yes": "indoor",
          "0": "outdoor", "0.0": "outdoor", "false": "outdoor", "no": "outdoor"}
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif")


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


def read(config: BenchmarkConfig, instruction: str, photos: bool = True) -> list[BenchmarkRow]:
    """All rows of a benchmark, each asked `instruction`. photos: False leaves those of a table unlooked for, and each
    row's image is as the table names it. Raises DataError, a UserError, with reason and remedy."""
    if config.swapped not in ("refuse", "exchange"):
        raise DataError(f"benchmark.swapped is {config.swapped!r}: write refuse or exchange")
    labels, images = files(config, photos)
    if labels.suffix == ".json":
        rows = _greval(labels, images, instruction)
    else:
        rows = [BenchmarkRow(line.id, Path(line.photo), instruction, place, line.labels)
                for line, place in _table(labels, config)]
    _check_ids(rows, labels)
    _check_count(len(rows), labels, config)
    if not photos:
        return rows
    rows = rows if labels.suffix == ".json" else _with_pictures(rows, labels, images)
    _tell_copies(rows, labels)
    return rows


def files(config: BenchmarkConfig, photos: bool = True) -> tuple[Path, Path]:
    """(table, folder of photos). Raises DataError, saying how to get the benchmark, when one is not there; without
    `photos` their folder need not be."""
    if config.name != CSV and config.name not in known():
        raise DataError(f"benchmark.name={config.name}: no such benchmark; did you mean "
                        f"{nearest(config.name, [*known(), CSV])!r}? There are {', '.join(known())} and {CSV}")
    entry = known().get(config.name, {"labels": "", "images": "", "get": "name both keys"})
    labels, images = Path(config.labels or entry["labels"]), Path(config.images or entry["images"])
    for key, path, there in (("labels", labels, labels.exists()), ("images", images, images.is_dir() or not photos)):
        if not there or (key == "labels" or photos) and not path.parts:
            raise DataError(f"benchmark.{key}={path}: not there. {config.name}: {entry['get']}")
    if labels.is_dir():
        found = sorted(path for path in labels.iterdir() if path.name.lower().endswith((*tables.TABLES, ".json")))
        if len(found) != 1:
            raise DataError(f"{labels} holds {len(found)} tables ({', '.join(p.name for p in found) or 'none'}): "
                            "name the right one with benchmark.labels=FILE")
        labels = found[0]
    return labels, images


def record(config: BenchmarkConfig) -> dict:
    """What a prediction file says about its benchmark: what was expected, and what the user had to accept."""
    entry = known().get(config.name, {})
    return {"name": config.name, "expected_rows": entry.get("rows"), "rows_source": entry.get("rows_source", ""),
            "accepted_rows": config.rows, "swapped": config.swapped}


def _greval(path: Path, images: Path, instruction: str) -> list[BenchmarkRow]:
    """GREval-Bench's JSON; `scene`, `indoor`, `locatability` and `indicators` are taken where a row has them."""
    rows = read_bench(DataConfig(path=str(path), image_root=str(images)), KEYS)
    names = ("scene", "indoor", "locatability", "indicators")
    extras = [{name: row[name] for name in names if row.get(name) is not None} for _, row in forms.rows(path)]
    return [BenchmarkRow(row.id, row.image, instruction, row.truth, extra) for row, extra in zip(rows, extras)]


class Line(NamedTuple):
    """A line of a table as written. where: file and line; photo: as the table names it."""

    where: str
    id: str
    photo: str
    lat: str
    lon: str
    labels: dict[str, str]


def _table(path: Path, config: BenchmarkConfig) -> list[tuple[Line, LatLon]]:
    """Every row and its place."""
    lines = list(_lines(path))
    if not lines:
        raise DataError(f"{path}: no row under the header. Get the file again")
    degrees = [(_degrees(line.lat, line.where, "latitude"), _degrees(line.lon, line.where, "longitude"))
               for line in lines]
    if reason := swapped(degrees):
        if config.swapped == "refuse":
            raise DataError(f"{path}: latitude and longitude stand under each other's header ({reason}). Exchange the "
                            "headers, or write benchmark.swapped=exchange")
        print(f"{path}: latitude and longitude are exchanged ({reason})", file=sys.stderr)
        degrees = [(lon, lat) for lat, lon in degrees]
    elif config.swapped == "exchange":
        raise DataError(f"{path}: latitude and longitude are not swapped. Leave benchmark.swapped away")
    rows = []
    for line, pair in zip(lines, degrees, strict=True):
        try:
            rows.append((line, checked_truth(*pair)))
        except ValueError as error:
            raise DataError(f"{line.where}: {error}. Repair the row") from None
    return rows


def _lines(path: Path) -> Iterator[Line]:
    table = tables.open_table(path)
    columns = tables.columns(table.header, COLUMNS)
    if missing := [name for name in ("id", "lat", "lon") if name not in columns]:
        raise DataError(f"{path}: no column for {', '.join(missing)} in the header "
                        f"{table.delimiter.join(table.header)[:200]!r}. Name the columns "
                        + "; ".join(f"{name}: {' or '.join(COLUMNS[name])}" for name in missing))
    scenes = _scenes(table.header)
    for where, row, _ in tables.rows_of(table.lines()):
        id, lat, lon = (row[columns[name]].strip() for name in ("id", "lat", "lon"))
        lat, lon = tables.decimal(lat, table.delimiter), tables.decimal(lon, table.delimiter)
        photo = row[columns["photo"]].strip() if "photo" in columns else id
        yield Line(where, id, photo, lat, lon, {**_labels(row, columns), **_scene(row, scenes, where)})


def _labels(row: dict[str, str], columns: dict[str, str]) -> dict[str, str]:
    """Labels of a row; an empty field and a `nan` are none."""
    labels = {ours: row[name].strip() for ours, name in columns.items() if ours not in ("id", "photo", "lat", "lon")}
    return {ours: INDOOR.get(value.lower(), value) if ours == "indoor" else value for ours, value in labels.items()
            if _has_value(value)}


def _scenes(header: list[str]) -> dict[str, str]:
    """The header here, whatever its case → the scene it is the probability of; empty unless all are there."""
    found = {name: SCENES[name.strip().lower()] for name in header if name.strip().lower() in SCENES}
    return found if len(found) == len(SCENES) else {}


def _scene(row: dict[str, str], scenes: dict[str, str], where: str) -> dict[str, str]:
    """The likeliest scene; none where a probability is missing, since it might have been the highest."""
    said = {name: row[name].strip() for name in scenes}
    if not all(map(_has_value, said.values())) or not said:
        return {}
    if wrong := [name for name, value in said.items() if not tables.is_number(value)]:
        raise DataError(f"{where}: {wrong[0]} is {said[wrong[0]]!r}, not a number. Repair the row, or leave the "
                        f"columns {', '.join(scenes)} out")
    scene = scenes[max(said, key=lambda name: float(said[name]))]
    return {"scene": scene, "indoor": "indoor" if scene == "indoor" else "outdoor"}


def _has_value(text: str) -> bool:
    return bool(text) and text.lower() != "nan"


def _degrees(text: str, where: str, name: str) -> float:
    if not tables.is_number(text):
        raise DataError(f"{where}: {name} is {text.strip()!r}, not a number in decimal degrees. Repair the row")
    return float(text)


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


def _tell_copies(rows: Sequence[BenchmarkRow], labels: Path) -> None:
    """Say which rows show one and the same photo: it is counted as often as it comes. Only files of equal size are
    read."""
    by_size: dict[int, list[BenchmarkRow]] = defaultdict(list)
    for row in rows:
        by_size[row.image.stat().st_size].append(row)
    by_content: dict[str, list[str]] = defaultdict(list)
    for size, alike in by_size.items():
        if size and len(alike) > 1:
            hashes = photo_hashes(row.image for row in alike)
            for row in alike:
                by_content[hashes[row.image]].append(row.id)
    if copies := [ids for ids in by_content.values() if len(ids) > 1]:
        print(f"{labels}: {len(copies)} photos stand there under several ids, the first as {', '.join(copies[0][:3])}: "
              f"each counts as often as it comes", file=sys.stderr)


def _with_pictures(rows: list[BenchmarkRow], labels: Path, images: Path) -> list[BenchmarkRow]:
    """The rows with their photos, searched by file name below `images`; an id may leave the ending away, and may
    write a slash where the file has an underscore."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    for folder, folders, names in os.walk(images, followlinks=True):
        if _leads_back(Path(folder)):
            folders.clear()
            continue
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in PICTURES:
                path = Path(folder, name)
                below = path.relative_to(images)
                for key in {name, stem, below.as_posix(), below.with_suffix("").as_posix(),
                            Path(images.resolve().name, below).as_posix()}:
                    by_name[key].append(path)
    found = [_named_so(by_name, row.image.as_posix()) for row in rows]
    if not all(found) and any(row.image != Path(row.id) for row in rows):  # an `image` column of addresses, or such
        by_id = [_named_so(by_name, row.id) for row in rows]
        found = by_id if all(by_id) else found
    if missing := [row.image.as_posix() for row, paths in zip(rows, found) if not paths]:
        raise DataError(f"{labels}: {len(missing)} of {len(rows):,} photos are missing below {images}, the first is "
                        f"{missing[0]!r}. A benchmark without them would be another one: put them there")
    if unclear := [(row.id, paths) for row, paths in zip(rows, found) if len(paths) > 1]:
        raise DataError(f"{labels}: {unclear[0][0]!r} may be {unclear[0][1][0]} or {unclear[0][1][1]} ({len(unclear)} "
                        "such rows). Keep one, or write ids with their folder or ending")
    return [BenchmarkRow(row.id, paths[0].resolve(), row.instruction, row.truth, row.labels)
            for row, paths in zip(rows, found)]


def _leads_back(folder: Path) -> bool:
    """Whether a link leads to a folder that it lies in: looking there would never end."""
    return folder.is_symlink() and folder.absolute().is_relative_to(folder.resolve())


def _named_so(by_name: Mapping[str, list[Path]], name: str) -> list[Path]:
    """The photos that a table may mean: by the name itself, with underscores for slashes, by its last part."""
    return by_name.get(name) or by_name.get(name.replace("/", "_")) or by_name.get(Path(name).name) or []
