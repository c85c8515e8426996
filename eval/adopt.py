"""Predictions of others → a prediction file, and its scores: `python -m eval.adopt FILE.csv out=FILE.jsonl [key=…]`.

FILE is CSV, TSV or Parquet with a row a photo: its id, the latitude and longitude predicted (decimal degrees; empty
where nothing was answered, which counts as wrong) and, unless benchmark.name= names a benchmark, those of the truth.
Usual names of columns are found by themselves (NAMES), others are named: columns.lat=…. With a benchmark every one of
its rows must be there and no other; its truths, labels and authors count, and truths in FILE must be the same. A last
line of totals is left out, and told. Photos are not needed.
"""
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from eval import predictions, score
from eval.benchmarks import reader
from eval.benchmarks.reader import BenchmarkConfig, BenchmarkRow
from eval.predictions import Prediction
from gre import provenance
from gre.config import REQUIRED, UserError, main, nearest, option
from gre.data import tables
from gre.geo.point import LatLon, distance_km

NAMES = {  # what we call it: headers it goes by, any case; of several the first counts
    "id": reader.COLUMNS["id"] + ("key", "photo", "image_name", "img_id", "sample_id"),
    "lat": ("pred_lat", "predicted_lat", "lat_pred", "pred_latitude", "predicted_latitude", "latitude_pred",
            "prediction_lat", "lat", "latitude"),
    "lon": ("pred_lon", "predicted_lon", "predicted_long", "pred_lng", "pred_long", "predicted_lng", "lon_pred",
            "lng_pred", "pred_longitude", "predicted_longitude", "longitude_pred", "prediction_lon", "lon", "lng",
            "long", "longitude"),
    "gt_lat": ("gt_lat", "true_lat", "lat_gt", "lat_true", "gt_latitude", "true_latitude", "target_lat", "lat",
               "latitude"),
    "gt_lon": ("gt_lon", "gt_long", "gt_lng", "true_lon", "true_long", "true_lng", "lon_gt", "lng_gt", "lon_true",
               "gt_longitude", "true_longitude", "target_lon", "lon", "lng", "long", "longitude"),
    "author": reader.COLUMNS["author"],
    "text": ("text", "response", "output", "completion", "answer", "prediction")}
TOTALS = ("", "mean", "average", "total", "all", "overall", "sum", "median")  # the id of a line that is no photo's
LAST = 3  # lines at the end that may be totals: a heading and its numbers, as GeoEstimation's files have them
SAME_KM = 0.2  # truths written with three decimals differ by less


@dataclass
class ColumnsConfig:
    """Headers in the table; empty: found by usual names."""

    id: str = option("", "the photo's id or file name")
    lat: str = option("", "latitude predicted")
    lon: str = option("", "longitude predicted")
    gt_lat: str = option("", "latitude of the truth")
    gt_lon: str = option("", "longitude of the truth")
    author: str = option("", "who took the photo: intervals resample authors")
    text: str = option("", "what the model said")


@dataclass
class Config:
    table: str = option(REQUIRED, "the table; `table=` may be left out for FILE.csv, .tsv or .parquet")
    out: str = option(REQUIRED, "prediction file to write, .jsonl")
    columns: ColumnsConfig = option(ColumnsConfig(), "the columns")
    benchmark: BenchmarkConfig = option(BenchmarkConfig(), "the benchmark the photos are of; its table must be here")
    scores: str = option("", "JSON file for the scores, as eval.score writes it; empty: only print them")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    labels = [str(reader.files(config.benchmark, photos=False)[0])] if config.benchmark.name else []
    return {"reads": [config.table, *labels], "writes": [config.out, *filter(None, [config.scores])]}


def run(config: Config) -> dict:
    """Write the prediction file and what it was made from beside it, and score it; returns the scores.

    Raises UserError for a column that is not found, a number that is none, rows that are not the benchmark's, truths
    that are not its, and a file that is there.
    """
    out = Path(config.out)
    if out.exists() or out.suffix != ".jsonl":
        raise UserError(f"out={out}: name a .jsonl file that is not there yet")
    rows, left_out = read(Path(config.table), config.columns, truths=not config.benchmark.name)
    known = reader.read(config.benchmark, "", photos=False) if config.benchmark.name else None
    made = own(rows, config.table) if known is None else of_benchmark(rows, known, config.table)
    provenance.write_atomically(out.with_suffix(".json"), json.dumps({
        "model": {"name": out.stem}, "adopted": {
            "path": provenance.public_path(config.table), "sha256": provenance.file_hash(config.table),
            "rows": len(rows), "left_out": left_out},
        **({"benchmark": reader.record(config.benchmark)} if known is not None else {})}, indent=2) + "\n")
    partial = out.with_name(out.name + ".partial")
    partial.unlink(missing_ok=True)
    predictions.append(partial, [row for row, _ in made], {row.id: fields for row, fields in made})
    partial.replace(out)
    print(f"{out}: {len(made):,} rows of {config.table}" + (f"; left out: {left_out}" if left_out else ""))
    return score.run(score.Config(str(out), out=config.scores))


@dataclass(frozen=True)
class Row:
    """A row of the table. point: None where nothing was answered; truth: None where the table has none."""

    where: str
    id: str
    point: LatLon | None
    truth: LatLon | None
    author: str
    text: str


def read(path: Path, columns: ColumnsConfig, truths: bool) -> tuple[list[Row], str]:
    """(the rows, a last line of totals that was left out). truths: they must be there."""
    if not path.exists():
        raise UserError(f"there is no {path}")
    table = tables.open_table(path)
    names = found(table.header, columns, truths, path)
    lines = list(table.lines())
    if broken := [line for line in lines if line.fault and not line.fields]:  # totals have fewer fields
        raise UserError(f"{broken[0].where}: {broken[0].fault}. Repair the line")
    fields = [(where, {ours: row[name].strip() for ours, name in names.items()}) for where, row, _ in lines]
    last = range(max(0, len(fields) - LAST), len(fields))
    totals = next((at for at in last if _is_total(fields[at][1])), len(fields))
    left_out = "; ".join(f"{where}, {row['id'] or 'without an id'}: totals" for where, row in fields[totals:])
    return [_row(where, row, table.delimiter) for where, row in fields[:totals]], left_out


def _is_total(row: Mapping[str, str]) -> bool:
    """Whether a line at the end is no photo's: named so, or a heading of totals, with words for all coordinates."""
    places = [row[name] for name in ("lat", "lon", "gt_lat", "gt_lon") if name in row]
    return row["id"].lower() in TOTALS or all(place and not place[-1].isdigit() for place in places)


def found(header: Sequence[str], columns: ColumnsConfig, truths: bool, path: Path) -> dict[str, str]:
    """What we call it → the header it has here. A plain `lat` is what was predicted, unless another column says so."""
    here = {name.strip().lower(): name for name in reversed(header)}
    names: dict[str, str] = {}
    for ours, usual in NAMES.items():
        if given := getattr(columns, ours):
            if given.strip().lower() not in here:
                raise UserError(f"columns.{ours}={given}: {path} has no such column; did you mean "
                                f"{nearest(given, list(header))!r}? It has {', '.join(header)}")
            names[ours] = here[given.strip().lower()]
        elif free := [here[name.lower()] for name in usual if name.lower() in here
                      and here[name.lower()] not in names.values()]:
            names[ours] = free[0]
    needed = ("id", "lat", "lon", *(("gt_lat", "gt_lon") if truths else ()))
    if missing := [ours for ours in needed if ours not in names]:
        raise UserError(f"{path}: no column for {', '.join(missing)} among {', '.join(header)}: name them, such as "
                        f"columns.{missing[0]}=HEADER" + ("; or name the benchmark, which has the truths: "
                                                          "benchmark.name=NAME" if "gt_lat" in missing else ""))
    return names


def _row(where: str, fields: Mapping[str, str], delimiter: str) -> Row:
    def point(lat: str, lon: str) -> LatLon | None:
        texts = [tables.decimal(fields.get(name, ""), delimiter) for name in (lat, lon)]
        if all(text.lower() in ("", "nan", "none", "null") for text in texts):
            return None
        try:
            return LatLon.checked(*map(float, texts))
        except ValueError as error:
            raise UserError(f"{where}: {lat}, {lon} are {', '.join(map(repr, texts))} ({error}): write decimal "
                            "degrees, or leave both empty") from None

    return Row(where, fields["id"], point("lat", "lon"), point("gt_lat", "gt_lon"), fields.get("author", ""),
               fields.get("text", ""))


def own(rows: Sequence[Row], table: str) -> list[tuple[Prediction, dict]]:
    """Predictions with the table's own truths."""
    if without := [row.where for row in rows if row.truth is None]:
        raise UserError(f"{without[0]}: no truth ({len(without)} such rows): repair them, or name the benchmark")
    if not rows:
        raise UserError(f"{table}: no row under the header")
    _check_ids([row.id for row in rows], table)
    return [_prediction(row, row.id, row.id, row.truth, {"author": row.author} if row.author else {}) for row in rows]


def of_benchmark(rows: Sequence[Row], known: Sequence[BenchmarkRow], table: str) -> list[tuple[Prediction, dict]]:
    """Predictions in the order of the benchmark, with its truths and labels. Ids may lack the ending, or the folders.
    """
    by_name = {_plain(row.id): row for row in rows}
    _check_ids([_plain(row.id) for row in rows], table)
    if missing := [row.id for row in known if _plain(row.id) not in by_name]:
        raise UserError(f"{table}: {len(missing):,} of the benchmark's {len(known):,} rows are not there, the first is "
                        f"{missing[0]}: without them it is another benchmark. Rows that were not answered stand there "
                        "with empty coordinates")
    if foreign := sorted(by_name.keys() - {_plain(row.id) for row in known}):
        raise UserError(f"{table}: {len(foreign):,} rows are not the benchmark's, the first is "
                        f"{by_name[foreign[0]].id} ({by_name[foreign[0]].where}): leave them out, or name another "
                        "benchmark")
    pairs = [(by_name[_plain(row.id)], row) for row in known]
    if other := [row for row, truth in pairs if row.truth and distance_km(row.truth, truth.truth) > SAME_KM]:
        raise UserError(f"{other[0].where}: the truth is another than the benchmark's, as of {len(other):,} rows: is "
                        "it of this benchmark, and are latitude and longitude in their columns?")
    return [_prediction(row, truth.id, truth.image.as_posix(), truth.truth, dict(truth.labels)) for row, truth in pairs]


def _prediction(row: Row, id: str, image: str, truth: LatLon, labels: dict) -> tuple[Prediction, dict]:
    said = row.text or (f"{row.point.lat_deg}, {row.point.lon_deg}" if row.point else "")
    return Prediction(id, f"{truth.lat_deg}, {truth.lon_deg}", image, *truth, said, row.point and row.point.lat_deg,
                      row.point and row.point.lon_deg, True), labels


def _plain(id: str) -> str:
    """An id without folders and the ending of a picture."""
    path = PurePosixPath(id)
    return path.stem if path.suffix.lower() in reader.PICTURES else path.name


def _check_ids(ids: Sequence[str], table: str) -> None:
    if twice := [id for id in dict.fromkeys(ids) if ids.count(id) > 1] if len(set(ids)) < len(ids) else []:
        raise UserError(f"{table}: {len(twice)} ids come more than once, the first is {twice[0]!r}: keep one row each")


def arguments(argv: Sequence[str]) -> list[str]:
    """A table named without a key is `table`."""
    return [f"table={text}" if text.lower().endswith(tables.TABLES) and (
        "=" not in text or Path(text).is_file()) else text for text in argv]


if __name__ == "__main__":
    main(run, Config, __doc__, plan, arguments(sys.argv[1:]))
