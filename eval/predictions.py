"""Prediction files: one JSON line per photo, read back whole or not at all.

    {"id", "place", "image", "gt_lat", "gt_lon", "text", "lat", "lon", "finished"}

Degrees are decimal; lat and lon are null where the text holds no readable answer. `finished` is false when the model
was cut off at the token limit. `image` is relative to the data's folder. Later versions add fields and drop none.
eval/scoring/columns.py lists further fields a line may carry (author, slices, names).
"""
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from gre import provenance
from gre.config import UserError
from gre.geo.point import LatLon, distance_km

TABLES = (".csv", ".tsv", ".parquet")
TYPES = {"id": str, "image": str, "text": str, "finished": bool}
WORDS = {str: "text", bool: "true or false"}
ENDPOINTS = "endpoints"  # in the settings beside a file: where it was answered, in order of first use


@dataclass(frozen=True)
class Prediction:
    """What a model said about one photo, and where the photo was taken (degrees)."""

    id: str
    place: str | None
    image: str
    gt_lat: float
    gt_lon: float
    text: str
    lat: float | None
    lon: float | None
    finished: bool

    @property
    def truth(self) -> LatLon:
        return LatLon(self.gt_lat, self.gt_lon)

    @property
    def answer(self) -> LatLon | None:
        return None if self.lat is None else LatLon(self.lat, self.lon)

    @property
    def error_km(self) -> float | None:
        """Distance from truth to answer; None without a readable answer."""
        return None if self.answer is None else distance_km(self.truth, self.answer)


def append(path: Path, rows: Iterable[Prediction], labels: Mapping[str, Mapping] = MappingProxyType({})) -> None:
    """Add rows to the end of a prediction file; folders are made. labels: row id → further fields of its line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as stream:
        stream.writelines(json.dumps({**asdict(row), **labels.get(row.id, {})}, ensure_ascii=False) + "\n"
                          for row in rows)


def read(path: str | Path) -> list[Prediction]:
    """The rows of a prediction file. Raises UserError naming file and line of a row that is none or comes twice."""
    return [row for row, _ in stream(path)]


def stream(path: str | Path) -> Iterator[tuple[Prediction, dict]]:
    """The rows of a prediction file one by one, each with all fields of its line. Raises UserError as `read` does."""
    seen = set()
    if str(path).lower().endswith(TABLES):
        raise UserError(f"{path} is a table, and predictions are JSON lines: import it with python -m eval.adopt "
                        f"{path} out={Path(path).with_suffix('.jsonl')}")
    try:
        # Only \n ends a line: text may hold U+2028. Editors put a mark before UTF-8, and leave blank lines.
        with open(path, encoding="utf-8-sig", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                row, fields = _parse(line, f"{path} line {number}")
                if row.id in seen:
                    raise UserError(f"{path} holds row {row.id} more than once (line {number}): delete the file and "
                                    "predict again")
                seen.add(row.id)
                yield row, fields
    except FileNotFoundError:
        raise UserError(f"there are no predictions {path}: run eval.predict with out={path} first") from None


def arguments(argv: Sequence[str]) -> list[str]:
    """Of a command about a prediction file: one named without a key is that file, not a config."""
    return [f"predictions={text}" if text.lower().endswith((".jsonl", *TABLES)) and (
        "=" not in text or Path(text).is_file()) else text for text in argv]


def put_in_order(path: Path, ids: Sequence[str]) -> None:
    """Sort the lines of a prediction file by `ids`, which an interrupted batch may have left in another order."""
    lines = {json.loads(line)["id"]: line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()}
    if list(lines) != list(ids) and lines.keys() == set(ids):
        provenance.write_atomically(path, "".join(lines[row_id] + "\n" for row_id in ids))


def drop_torn_line(path: Path) -> None:
    """Cut off a last line that an interrupted run left half written."""
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        path.write_bytes(content[:content.rfind(b"\n") + 1])


def check_writable(out: Path, read: Iterable[Path]) -> None:
    """Raises UserError where predictions, or the settings that lie beside them, would be written over something else.
    read: the files a run reads."""
    beside = out.with_suffix(".json")
    if out.is_dir():
        raise UserError(f"out={out} is a folder: name a file in it, such as out={out / 'predictions.jsonl'}")
    if mine := [file for file in read if file.resolve() in (out.resolve(), beside.resolve())]:
        raise UserError(f"out={out} would be written over {mine[0]}, which is read (settings go into {beside}): choose "
                        f"another name, such as out={out.with_name(out.stem + '.predictions.jsonl')}")
    if beside.exists() and not _holds_settings(beside):
        raise UserError(f"out={out} keeps its settings in {beside}, which is a file of another kind: choose another "
                        "name")
    if out.exists() and out.stat().st_size and not beside.exists():
        raise UserError(f"out={out} is there already, and no {beside} says how it was predicted: choose another name")


def _holds_settings(beside: Path) -> bool:
    try:
        content = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(content, dict) and "decoding" in content


def check_settings(path: Path, source: dict) -> list[str]:
    """The endpoints that a prediction file has been answered by. Raises UserError when the settings beside it are not
    those of `source`; where a model is served is no setting."""
    beside = path.with_suffix(".json")
    before = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
    model = dict(before.get("model", {}))  # earlier versions wrote the endpoint into it
    endpoints = before.get(ENDPOINTS, [model.pop("endpoint")] if "endpoint" in model else [])
    before = {**before, "model": model}
    if changed := [key for key in source if key != ENDPOINTS and before.get(key) != source[key]]:
        raise UserError(f"{path} was predicted with another {', '.join(changed)}: delete it or choose another out=")
    return endpoints


def check_out(out: str, predictions: Sequence[str]) -> None:
    """Raises UserError when numbers would be written over what eval.predict says of a prediction file."""
    for path in predictions:
        if out and Path(out).absolute() in (Path(path).absolute(), Path(path).with_suffix(".json").absolute()):
            raise UserError(f"out={out} belongs to {path}: choose another name, such as "
                            f"out={Path(path).with_suffix('.scores.json')}")


def check_complete(rows: Sequence[Prediction], ids: Sequence[str], name: str) -> list[Prediction]:
    """`rows` in the order of `ids`. UserError when one is missing or foreign: n is never what happened to work."""
    by_id = {row.id: row for row in rows}
    missing, foreign = [i for i in ids if i not in by_id], sorted(set(by_id) - set(ids))
    if missing:
        raise UserError(f"{name}: {len(missing)} of {len(ids)} rows have no prediction, the first is {missing[0]}: run "
                        "eval.predict again, it continues where it stopped")
    if foreign:
        raise UserError(f"{name}: {len(foreign)} predictions belong to no row of the data, the first is {foreign[0]}: "
                        "delete the file and predict again")
    return [by_id[row_id] for row_id in ids]


def check_same_rows(a: Sequence[Prediction], b: Sequence[Prediction], names: tuple[str, str]) -> None:
    """Raises UserError unless both files hold the same photos in the same order: a paired comparison needs pairs."""
    check_same_keys([key(row) for row in a], [key(row) for row in b], names)


def key(row: Prediction) -> tuple[str, str, float, float]:
    """What must agree for two rows to be about one photo: id, place, latitude and longitude of the truth."""
    return row.id, row.place, row.gt_lat, row.gt_lon


def check_same_keys(a: Sequence[tuple], b: Sequence[tuple], names: tuple[str, str]) -> None:
    """`check_same_rows` for keys alone."""
    if len(a) != len(b):
        raise UserError(f"{names[0]} has {len(a)} rows and {names[1]} has {len(b)}: predict both on the same data")
    for left, right in zip(a, b):
        if left != right:
            raise UserError(f"{names[0]} has row {left} where {names[1]} has {right}: predict both on the same data")


def _parse(line: str, where: str) -> tuple[Prediction, dict]:
    try:
        fields = json.loads(line)
        row = Prediction(**{name: fields[name] for name in Prediction.__dataclass_fields__})
        if wrong := [name for name, kind in TYPES.items() if not isinstance(fields[name], kind)]:
            raise UserError(f"{where}: {wrong[0]} is {json.dumps(fields[wrong[0]])}, and {WORDS[TYPES[wrong[0]]]} is "
                            "wanted: mend the line if it was edited; otherwise predict again, with another out=")
        if (row.lat is None) != (row.lon is None):
            raise UserError(f"{where}: lat is {row.lat} and lon is {row.lon}; both are numbers or both are null")
        for point in filter(None, (row.truth, row.answer)):
            LatLon.checked(*point)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{where} is not a prediction ({type(error).__name__}: {error}): mend the line if it was "
                        "edited; otherwise predict again, with another out=") from None
    return row, fields
