"""Where rows come from: tables of any known form, GRE30K-Seed, or a folder of one's own photos. Cut into spans.

A span is a piece of one table that one process reads. All else that has to be known of a table as a whole is seen while
it is cut: whether latitude and longitude stand under each other's header.
"""
import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.shards import whole
from gre.config import UserError
from gre.data import forms, tables
from gre.data.images import SUFFIXES
from gre.data.raw import DataError
from gre.data.records import FEW_ROWS
from gre.data.tables import Line, Mark, Table
from gre.geo.truth import swapped

COLUMNS: Mapping[str, tuple[str, ...]] = {  # beside those every table of photos has
    **tables.COLUMNS, "author": (*tables.COLUMNS["author"], "user_nsid", "creator_username", "photographer"),
    "licence": ("license", "licence", "license_name", "license_url"),
    "url": ("url", "page_url", "source_url", "source", "download_url", "thumb_original_url")}
SAMPLE = 10_000  # places by which a swap is told


@dataclass(frozen=True)
class Span:
    """Rows `first` to `first + count` of all, which a table holds from a mark on."""

    table: str
    mark: Mark
    first: int
    count: int


def listed(table: Path, photos: Path | None, work: Path) -> list[Path]:
    """The tables to read; a folder of photos and GRE30K-Seed's JSON are listed in one first. Raises UserError."""
    if photos is not None:
        return [_listing(work / "photos.csv", _walk(photos), photos)]
    if not table.exists():
        raise UserError(f"table={table}: not there. Name a table (CSV, TSV, Parquet, JSON of GRE30K-Seed) or a folder "
                        "of such")
    if table.is_dir():
        found = sorted(path for path in table.iterdir() if path.name.lower().endswith(tables.TABLES))
        if not found:
            raise UserError(f"table={table}: no table in that folder. Name one, or photos={table} for photos that know "
                            "where they were taken")
        return found
    if table.name.lower().endswith((".json", ".jsonl", ".json.gz", ".jsonl.gz")):
        return [_listing(work / "rows.csv", _seed_rows(table), table)]
    return [table]


def spans(paths: list[Path], rows: int, exchange: bool, plan: Path) -> tuple[list[Span], bool]:
    """(the spans of `rows` rows each, whether latitude and longitude are to be exchanged), kept at `plan`.

    Raises DataError for swapped columns, unless they are to be exchanged, and for a table without the columns.
    """
    if not plan.exists():
        found: list[Span] = []
        why = []
        for path in paths:
            table = tables.open_table(path)
            names = columns(table)
            sample = _Sample()
            for mark, lines in tqdm(table.marks(rows), desc=f"reading {path.name}", unit="shard", delay=2.0):
                found.append(Span(str(path), mark, found[-1].first + found[-1].count if found else 0, len(lines)))
                sample.add(line for line in lines if not line.fault)
            why.append(_order(path, sample.points(names, table.delimiter), exchange) if "lat" in names else None)
        if not found:
            raise DataError(f"{paths[0]}: no row under the header. Get the file again")
        if len({bool(one) for one in why if one is not None}) > 1:
            raise DataError(f"latitude and longitude are swapped in some of these tables only ("
                            f"{', '.join(map(str, paths))}): exchange the headers there, one run a kind")
        with whole(plan) as partial:
            partial.write_text(json.dumps({"exchange": any(why), "spans": [
                [span.table, list(span.mark), span.first, span.count] for span in found]}) + "\n", encoding="utf-8")
    kept = json.loads(plan.read_text(encoding="utf-8"))
    return [Span(path, Mark(*mark), first, count) for path, mark, first, count in kept["spans"]], kept["exchange"]


def lines(span: Span) -> Iterator[tuple[int, Line]]:
    """(row number among all, the row) of a span."""
    table = tables.open_table(Path(span.table))
    yield from zip(range(span.first, span.first + span.count), table.lines(span.mark))


def columns(table: Table) -> dict[str, str]:
    """What we call it → the header it has here. Raises DataError unless photo or id, and both coordinates or neither
    where the table lists photos of one's own, are there."""
    found = tables.columns(table.header, COLUMNS)
    own = table.path.name == "photos.csv" and table.header == ["image"]
    needed = ("id",) if own else ("id", "lat", "lon")
    if missing := [name for name in needed if name not in found and (name != "id" or "photo" not in found)]:
        raise DataError(f"{table.path}: no column for {', '.join(missing)} in the header "
                        f"{table.delimiter.join(table.header)[:200]!r}. Name the columns "
                        + "; ".join(f"{name}: {' or '.join(COLUMNS[name])}" for name in missing))
    return found


class _Sample:
    """At most SAMPLE rows of a table of any length, evenly spread: every `step`-th, which doubles as they fill."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.seen, self.step = 0, 1

    def add(self, lines: Any) -> None:
        for line in lines:
            if self.seen % self.step == 0:
                self.lines.append(line)
                if len(self.lines) > SAMPLE:
                    self.lines, self.step = self.lines[::2], 2 * self.step
            self.seen += 1

    def points(self, names: Mapping[str, str], delimiter: str) -> list[tuple[float, float]]:
        pairs = [[tables.decimal(line.fields[names[name]].strip(), delimiter) for name in ("lat", "lon")]
                 for line in self.lines] if "lat" in names else []
        return [(float(lat), float(lon)) for lat, lon in pairs if tables.is_number(lat) and tables.is_number(lon)]


def _order(path: Path, points: list[tuple[float, float]], exchange: bool) -> bool:
    """Whether to exchange latitude and longitude."""
    reason = swapped(points) if len(points) >= FEW_ROWS else ""
    if reason and not exchange:
        raise DataError(f"{path}: latitude and longitude stand under each other's header ({reason}). Exchange the "
                        "headers, or write swapped=exchange")
    if exchange and not reason:
        raise DataError(f"{path}: latitude and longitude are not swapped. Leave swapped away")
    return bool(reason)


def _walk(folder: Path) -> Iterator[dict[str, str]]:
    """Every file that is named as a photo is, in a fixed order, one folder in memory at a time."""
    if not folder.is_dir():
        raise UserError(f"photos={folder}: no such folder")
    for at, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not name.startswith("._"):  # a Macintosh's notes about a file
                yield {"image": Path(at, name).relative_to(folder).as_posix()}


def _seed_rows(path: Path) -> Iterator[dict[str, str]]:
    """Rows of GRE30K-Seed, or any JSON rows with its fields. What is no such row is one without a photo."""
    for number, value in forms.json_lines(path) or forms.rows(path):
        row = value if isinstance(value, dict) else {}
        image = row.get("image")
        image = image[0] if isinstance(image, list) and len(image) == 1 else image
        yield {"image": image if isinstance(image, str) else "", "lat": str(row.get("gt_lat", "")),
               "lon": str(row.get("gt_lon", "")), "row": str(number)}


def _listing(path: Path, rows: Iterator[dict[str, str]], source: Path) -> Path:
    """A table made of rows, once."""
    if not path.exists():
        first = next(rows, None)
        if first is None:
            raise UserError(f"{source}: no photo in it. Photos end in {', '.join(SUFFIXES)}")
        with whole(path) as partial, open(partial, "w", newline="", encoding="utf-8",
                                          errors="surrogateescape") as stream:
            writer = csv.DictWriter(stream, list(first), lineterminator="\n", quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerow(first)
            writer.writerows(rows)
    return path
