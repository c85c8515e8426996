"""The rows of GRE30K-CoT, -Judge, -Seed, GREval-Bench and MP16-Reason, as published: read, checked by row, written.

gre.data.forms says in which forms a file may lie on disk; `image` is a path or a list of one path; degrees are decimal.
Published rows say `images/x.jpg` while the published folders are called `imgs`: a leading `images/` is read from
`imgs/` where only that exists, or from `data.image_root` itself, and the mapping is printed. Photos are not opened
here: before training `gre.training.data.usable_rows` does. A file of another kind and swapped coordinates are refused
as a whole.
"""
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from gre.config import option
from gre.data import forms, raw
from gre.data.raw import IMAGE_MARK, BadRow, DataError
from gre.data.reason import SOLUTION, ReasonRow, reason_row
from gre.geo.point import LatLon
from gre.geo.truth import swapped
from gre.provenance import write_atomically

LABELS = {"true": True, "truth": True, "false": False}  # the paper's text once says Truth
KINDS = {"cot": "GRE30K-CoT", "judge": "GRE30K-Judge", "seed": "GRE30K-Seed", "bench": "GREval-Bench",
         "reason": "MP16-Reason"}
SHOWN = 10  # bad rows in one message
FIRST = 10_000  # rows that say of which kind a file is when it is streamed
FEW_ROWS = 10  # fewer say nothing about the file as a whole: all may lie in the middle of nowhere


@dataclass
class DataConfig:
    """Which rows to read."""

    path: str = option("", "JSON array or JSON lines in a published form")
    image_root: str = option("", "folder the rows' image paths start from; default: the folder of the data file")
    on_bad_row: str = option("stop", "stop at the first bad row, or drop: leave bad rows out, count and list them")
    dropped_list: str = option("", "with on_bad_row=drop: file to write the list of dropped rows into")


class Keys(NamedTuple):
    """What the user calls the settings of a DataConfig, for remedies; empty where there is no such setting."""

    path: str = "data.path"
    image_root: str = "data.image_root"
    drop: str = "data.on_bad_row=drop"

    @property
    def repair(self) -> str:
        """What to do about a row that cannot be used."""
        return f"Repair the row, or set {self.drop} to leave bad rows out" if self.drop else (
            "Repair the row: all of them count here")


DATA = Keys()


@dataclass(frozen=True)
class CoTRow:
    """GRE30K-CoT: `response` is the whole <think>…</think><answer>…</answer>. `truth`: None for MP16-Reason alone."""

    id: str  # "<file stem>:<row>"; rows count from 1, in JSON lines they are the line numbers
    image: Path
    instruction: str
    response: str
    truth: LatLon | None


@dataclass(frozen=True)
class JudgeRow:
    """GRE30K-Judge: is `answer`, reached by `chain`, right?"""

    id: str
    image: Path
    instruction: str
    chain: str
    answer: str
    label: bool
    truth: LatLon


@dataclass(frozen=True)
class SeedRow:
    """GRE30K-Seed: a question without an answer."""

    id: str
    image: Path
    instruction: str
    truth: LatLon


@dataclass(frozen=True)
class BenchRow:
    """GREval-Bench: `id` is its sample_id, `chain` the annotated reasoning."""

    id: str
    image: Path
    chain: str
    truth: LatLon


Row = TypeVar("Row", CoTRow, JudgeRow, SeedRow, BenchRow, ReasonRow)


def read_cot(config: DataConfig, keys: Keys = DATA) -> list[CoTRow]:
    """The rows of a GRE30K-CoT file. keys: for messages. Raises DataError naming file, row, field and remedy; so do all
    readers here."""
    return _read(config, keys, "cot")


def read_judge(config: DataConfig, keys: Keys = DATA) -> list[JudgeRow]:
    """The rows of a GRE30K-Judge file; the label is True, False or Truth (any case)."""
    return _read(config, keys, "judge")


def read_seed(config: DataConfig, keys: Keys = DATA) -> list[SeedRow]:
    """The rows of a GRE30K-Seed file."""
    return _read(config, keys, "seed")


def read_bench(config: DataConfig, keys: Keys = DATA) -> list[BenchRow]:
    """The rows of a GREval-Bench file."""
    return _read(config, keys, "bench")


def read_reason(config: DataConfig, keys: Keys = DATA) -> list[ReasonRow]:
    """The rows of an MP16-Reason file."""
    return _read(config, keys, "reason")


def read_taught(config: DataConfig) -> list[CoTRow]:
    """The rows of a GRE30K-CoT file, or of an MP16-Reason file: its reasoning, and its place in GLOBE's two lines."""
    path = Path(config.path)
    if not path.is_file() or not any("reason" in _kinds(value) for _, value in islice(
            forms.rows(path), FEW_ROWS)):
        return read_cot(config)
    rows = read_reason(config)
    faults = {row.id: f"it has no {'response' if row.names.country else SOLUTION} to learn from" for row in rows
              if not (row.response and row.names.country)}
    list_dropped(rows, faults, config)
    return [CoTRow(row.id, row.image, row.instruction, f"<think>{row.response}</think><answer>country: "
                   f"{row.names.country}\ncity: {row.names.city or 'unknown'}</answer>", row.truth)
            for row in left_out(rows, faults, config)]


def stream(path: Path, image_root: str = "", find: bool = True) -> tuple[str, Iterator[tuple[int, Row | str]]]:
    """(kind of the file, of KINDS; row number and the row, or what is wrong with it). JSON lines are read one by one.

    find: False leaves photos unlooked for, and a row's image is what the row says.
    Raises DataError for a file that is of no kind, and for one whose coordinates are swapped, as far as its first rows
    show.
    """
    kind, rows = stream_values(path, image_root, find)
    return kind, ((number, row) for number, _, row in rows)


def stream_values(path: Path, image_root: str = "", find: bool = True) -> tuple[str, Iterator[tuple[
        int, Any, Row | str]]]:
    """`stream`, with the JSON value that each row was read from."""
    folder = raw.ImageFolder(path, image_root, DATA.image_root)
    values = iter(forms.json_lines(path) or forms.rows(path))
    first = list(islice(values, FIRST))
    found = Counter(kind for _, value in first for kind in _kinds(value)[:1])
    if not found:
        raise DataError(f"{path}: its rows are none of {', '.join(KINDS.values())} (docs/formats.md)")
    kind = found.most_common(1)[0][0]
    _check_order(path, [value for _, value in first])

    def rows() -> Iterator[tuple[int, Any, Row | str]]:
        for number, value in chain(first, values):
            try:
                yield number, value, row_of(kind, folder if find else None, path, number, value)
            except BadRow as error:
                yield number, value, str(error)
    return kind, rows()


def row_of(kind: str, folder: raw.ImageFolder | None, path: Path, number: int, value: Any) -> Row:
    """The row that a JSON value is. folder: None leaves its photo unlooked for. Raises BadRow."""
    row = raw.json_object(value)

    def image(name: str) -> Path:
        if folder:
            return folder.find(row, name)
        said = raw.field(row, name)
        return Path(str(said[0] if isinstance(said, list) and len(said) == 1 else said))
    return _BUILD[kind](row, f"{path.stem}:{number}", image)


def _cot(row: dict, id: str, image: Callable[[str], Path]) -> CoTRow:
    instruction, response = raw.turns(row)
    return CoTRow(id, image("image"), instruction, response, raw.truth(row))


def _judge(row: dict, id: str, image: Callable[[str], Path]) -> JudgeRow:
    instruction, label = raw.turns(row)
    if label.strip().lower() not in LABELS:
        raise BadRow(f"field 'conversations': the gpt value must be True or False, got {raw.shown(label)}")
    return JudgeRow(id, image("image"), instruction, raw.text(row, "predicted_cot"), raw.text(row, "predicted_answer"),
                    LABELS[label.strip().lower()], raw.truth(row))


def _seed(row: dict, id: str, image: Callable[[str], Path]) -> SeedRow:
    return SeedRow(id, image("image"), raw.instruction(raw.text(row, "instructions"), "instructions"), raw.truth(row))


def _bench(row: dict, id: str, image: Callable[[str], Path]) -> BenchRow:
    sample_id = raw.field(row, "sample_id")
    if isinstance(sample_id, bool) or not isinstance(sample_id, (str, int)):
        raise BadRow(f"field 'sample_id': expected text or a whole number, got {raw.shown(sample_id)}")
    return BenchRow(str(sample_id), image("image_path"), raw.text(row, "gt_cot"), raw.truth(row))


_BUILD: dict[str, Callable[[dict, str, Callable[[str], Path]], Any]] = {
    "cot": _cot, "judge": _judge, "seed": _seed, "bench": _bench, "reason": reason_row}


def _read(config: DataConfig, keys: Keys, kind: str) -> list:
    path = Path(config.path)
    if config.on_bad_row not in ("stop", "drop"):
        raise DataError(f"data.on_bad_row is {config.on_bad_row!r}: write stop or drop")
    if not config.path or not path.is_file():
        raise DataError(f"{keys.path}={config.path}: no such file. Set it to a JSON array or a JSON-lines file")
    folder = raw.ImageFolder(path, config.image_root, keys.image_root)
    values = list(forms.rows(path))
    _check_kind(path, keys, kind, [value for _, value in values])
    _check_order(path, [value for _, value in values])
    rows, dropped = [], []
    for number, value in values:
        try:
            rows.append(row_of(kind, folder, path, number, value))
        except BadRow as error:
            if config.on_bad_row == "stop":
                raise DataError(f"{path}, row {number}: {error}. {keys.repair}") from None
            dropped.append(f"row {number}: {error}")
    if dropped:
        print(f"{path}: dropped {len(dropped)} bad rows, kept {len(rows)}", *dropped, sep="\n  ", file=sys.stderr)
    if config.on_bad_row == "drop" and config.dropped_list:
        Path(config.dropped_list).parent.mkdir(parents=True, exist_ok=True)
        Path(config.dropped_list).write_text("".join(f"{path}, {line}\n" for line in dropped), encoding="utf-8",
                                             errors="backslashreplace")
    if not rows:
        raise DataError(f"{path}: no usable row among {len(values)}" + (f"; the first is {dropped[0]}" if dropped else
                        f". Name a file with rows: {keys.path}=FILE"))
    return rows


def left_out(rows: Sequence[Row], faults: Mapping[str, str], config: DataConfig) -> list[Row]:
    """The rows without those that only their photo or their tokens show to be bad. faults: row id -> what is wrong.

    Raises DataError naming them, unless they may be dropped: then they are counted and listed by `list_dropped`.
    """
    bad = [f"row {row_number(row)}: {faults[row.id]}" for row in rows if row.id in faults]
    if bad and config.on_bad_row == "stop":
        more = "".join(f"\n  {line}" for line in bad[1:SHOWN]) + ("\n  …" if len(bad) > SHOWN else "")
        others = f" {len(bad) - 1:,} more of {len(rows):,} rows cannot be used:{more}" if len(bad) > 1 else ""
        raise DataError(f"{config.path}, {bad[0]}. {DATA.repair}.{others}")
    if bad and len(bad) == len(rows):
        raise DataError(f"{config.path}: no usable row among {len(rows):,}; the first is {bad[0]}")
    return [row for row in rows if row.id not in faults]


def list_dropped(rows: Sequence[Row], faults: Mapping[str, str], config: DataConfig) -> None:
    """Print which rows were left out, and add them to data.dropped_list. One process calls it."""
    bad = [f"row {row_number(row)}: {faults[row.id]}" for row in rows if row.id in faults]
    if not bad:
        return
    print(f"{config.path}: dropped {len(bad)} bad rows, kept {len(rows) - len(bad)}", *bad, sep="\n  ", file=sys.stderr)
    if config.dropped_list:
        with open(config.dropped_list, "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.writelines(f"{config.path}, {line}\n" for line in bad)


def row_number(row: Row) -> str:
    """The number of a row in its file, as messages say it."""
    return row.id.rpartition(":")[2]


def _check_kind(path: Path, keys: Keys, wanted: str, values: Sequence[Any]) -> None:
    """Refuse a file most of whose rows are of another kind: each row would only say that it lacks a field."""
    others = [kinds[0] for value in values if (kinds := _kinds(value)) and wanted not in kinds]
    if 2 * len(others) > len(values):
        kind = max(set(others), key=others.count)
        raise DataError(f"{path} is a {KINDS[kind]} file ({others.count(kind):,} of {len(values):,} rows), and "
                        f"{KINDS[wanted]} rows are wanted here: name such a file with {keys.path}=FILE")


def _kinds(value: Any) -> list[str]:
    """Which kinds of row a value may be, by the fields that only they have."""
    if not isinstance(value, dict):
        return []
    judged, asked = "predicted_cot" in value, "conversations" in value
    found = {"judge": judged, "cot": asked and not judged, "seed": "instructions" in value,
             "bench": "sample_id" in value or "gt_cot" in value,
             "reason": SOLUTION in value or "localizability" in value}
    return [kind for kind, here in found.items() if here]


def _check_order(path: Path, values: Sequence[Any]) -> None:
    """Refuse a file whose latitudes and longitudes stand under each other's name."""
    degrees = [(value.get("gt_lat"), value.get("gt_lon")) for value in values if isinstance(value, dict)]
    points = [pair for pair in degrees if all(isinstance(number, (int, float)) and math.isfinite(number)
                                              for number in pair)]
    if len(points) >= FEW_ROWS and (reason := swapped(points)):
        raise DataError(f"{path}: gt_lat and gt_lon stand under each other's name ({reason}). Exchange the two names "
                        "in the file")


def write_cot(path: str | Path, rows: Iterable[CoTRow]) -> None:
    """Write the published form of GRE30K-CoT: a JSON array, a row a line. Photos must lie under the file's folder.

    Like all writers here it replaces the file in one step, says `images/` for a photo in `imgs/`, and raises
    DataError for a photo elsewhere. Reading the file gives the same rows; their ids are those of the new file.
    """
    _write_array(path, ({**_published_turns(path, row, row.response), **_degrees(row.truth)} for row in rows))


def write_judge(path: str | Path, rows: Iterable[JudgeRow]) -> None:
    """Write the published form of GRE30K-Judge: a JSON array, a row a line."""
    _write_array(path, ({**_published_turns(path, row, str(row.label)), **_degrees(row.truth),
                         "predicted_cot": row.chain, "predicted_answer": row.answer} for row in rows))


def write_seed(path: str | Path, rows: Iterable[SeedRow]) -> None:
    """Write the published form of GRE30K-Seed: JSON lines."""
    lines = (_line({"image": _published_image(path, row.image), "instructions": row.instruction,
                    **_degrees(row.truth)}) + "\n" for row in rows)
    write_atomically(Path(path), lines)


def write_bench(path: str | Path, rows: Iterable[BenchRow],
                extras: Mapping[str, Mapping] = MappingProxyType({})) -> None:
    """Write the published form of GREval-Bench: a JSON array, a row a line. extras: row id → optional fields."""
    _write_array(path, ({"sample_id": row.id, "image_path": _published_image(path, row.image), "gt_cot": row.chain,
                         **_degrees(row.truth), **extras.get(row.id, {})} for row in rows))


def _published_turns(path: str | Path, row: CoTRow | JudgeRow, reply: str) -> dict:
    return {"image": _published_image(path, row.image),
            "conversations": [{"from": "human", "value": f"{IMAGE_MARK}\n{row.instruction}"},
                              {"from": "gpt", "value": reply}]}


def _published_image(path: str | Path, image: Path) -> str:
    """The photo's path as published rows say it: relative to the data file, `images/` for `imgs/`."""
    folder = Path(path).parent.resolve()
    try:
        parts = image.resolve().relative_to(folder).parts
    except ValueError:
        raise DataError(f"{image}: not under {folder}, where {Path(path).name} is written. Move the photos there, "
                        "into imgs/") from None
    return "/".join(("images", *parts[1:]) if parts[0] == "imgs" else parts)


def _degrees(truth: LatLon) -> dict[str, float]:
    return {"gt_lat": truth.lat_deg, "gt_lon": truth.lon_deg}


def _write_array(path: str | Path, rows: Iterable[dict]) -> None:
    """A row after another, so that rows that are made one by one are never all in memory."""
    lines = ((",\n" if number else "") + _line(row) for number, row in enumerate(rows))
    write_atomically(Path(path), chain(["[\n"], lines, ["\n]\n"]))


def _line(row: dict) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False)
