"""The rows of GRE30K-CoT, -Judge, -Seed and GREval-Bench, exactly as published: read, checked row by row, written.

A file is a JSON array or JSON lines; `image` is a path or a list of one path; degrees are decimal. Published rows say
`images/x.jpg` while the published folders are called `imgs`: a leading `images/` is read from `imgs/` where only that
exists, or from `data.image_root` itself, and the mapping is printed. Photos are not opened here (gre.data.images).
"""
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from gre.config import option
from gre.data import raw
from gre.data.raw import IMAGE_MARK, BadRow, DataError
from gre.geo.point import LatLon

LABELS = {"true": True, "truth": True, "false": False}  # the paper's text once says Truth


@dataclass
class DataConfig:
    """Which rows to read."""

    path: str = option("", "JSON array or JSON lines in a published form")
    image_root: str = option("", "folder the rows' image paths start from; default: the folder of the data file")
    on_bad_row: str = option("stop", "stop at the first bad row, or drop: leave bad rows out, count and list them")
    dropped_list: str = option("", "with on_bad_row=drop: file to write the list of dropped rows into")


@dataclass(frozen=True)
class CoTRow:
    """GRE30K-CoT: `response` is the whole <think>…</think><answer>…</answer>."""

    id: str  # "<file stem>:<row>"; rows count from 1, in JSON lines they are the line numbers
    image: Path
    instruction: str
    response: str
    truth: LatLon


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


Row = TypeVar("Row", CoTRow, JudgeRow, SeedRow, BenchRow)


def read_cot(config: DataConfig) -> list[CoTRow]:
    """The rows of a GRE30K-CoT file. Raises DataError naming file, row, field and remedy; so do all readers here."""
    def build(row: dict, id: str, image: Path) -> CoTRow:
        instruction, response = raw.turns(row)
        return CoTRow(id, image, instruction, response, raw.truth(row))
    return _read(config, "image", build)


def read_judge(config: DataConfig) -> list[JudgeRow]:
    """The rows of a GRE30K-Judge file; the label is True, False or Truth (any case)."""
    def build(row: dict, id: str, image: Path) -> JudgeRow:
        instruction, label = raw.turns(row)
        if label.strip().lower() not in LABELS:
            raise BadRow(f"field 'conversations': the gpt value must be True or False, got {raw.shown(label)}")
        return JudgeRow(id, image, instruction, raw.text(row, "predicted_cot"), raw.text(row, "predicted_answer"),
                        LABELS[label.strip().lower()], raw.truth(row))
    return _read(config, "image", build)


def read_seed(config: DataConfig) -> list[SeedRow]:
    """The rows of a GRE30K-Seed file."""
    def build(row: dict, id: str, image: Path) -> SeedRow:
        return SeedRow(id, image, raw.instruction(raw.text(row, "instructions"), "instructions"), raw.truth(row))
    return _read(config, "image", build)


def read_bench(config: DataConfig) -> list[BenchRow]:
    """The rows of a GREval-Bench file."""
    def build(row: dict, id: str, image: Path) -> BenchRow:
        sample_id = raw.field(row, "sample_id")
        if isinstance(sample_id, bool) or not isinstance(sample_id, (str, int)):
            raise BadRow(f"field 'sample_id': expected text or a whole number, got {raw.shown(sample_id)}")
        return BenchRow(str(sample_id), image, raw.text(row, "gt_cot"), raw.truth(row))
    return _read(config, "image_path", build)


def _read(config: DataConfig, image_field: str, build: Callable[[dict, str, Path], Row]) -> list[Row]:
    path = Path(config.path)
    if config.on_bad_row not in ("stop", "drop"):
        raise DataError(f"data.on_bad_row is {config.on_bad_row!r}: write stop or drop")
    if not config.path or not path.is_file():
        raise DataError(f"data.path={config.path}: no such file. Set it to a JSON array or a JSON-lines file")
    folder = raw.ImageFolder(path, config.image_root)
    rows, dropped = [], []
    for number, value in raw.rows(path):
        try:
            row = raw.json_object(value)
            rows.append(build(row, f"{path.stem}:{number}", folder.find(row, image_field)))
        except BadRow as error:
            if config.on_bad_row == "stop":
                raise DataError(f"{path}, row {number}: {error}. Repair the row, or set data.on_bad_row=drop to leave "
                                "bad rows out") from None
            dropped.append(f"row {number}: {error}")
    if dropped:
        _report_dropped(path, dropped, len(rows), config.dropped_list)
    if not rows:
        raise DataError(f"{path}: no usable row among {len(dropped)}. Check data.path and data.image_root")
    return rows


def _report_dropped(path: Path, dropped: list[str], kept: int, dropped_list: str) -> None:
    print(f"{path}: dropped {len(dropped)} bad rows, kept {kept}", *dropped, sep="\n  ", file=sys.stderr)
    if dropped_list:
        Path(dropped_list).parent.mkdir(parents=True, exist_ok=True)
        Path(dropped_list).write_text("".join(f"{path}, {line}\n" for line in dropped), encoding="utf-8")


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
    lines = [_line({"image": _published_image(path, row.image), "instructions": row.instruction, **_degrees(row.truth)})
             for row in rows]
    _replace(path, "".join(line + "\n" for line in lines))


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
    _replace(path, "[\n" + ",\n".join(map(_line, rows)) + "\n]\n")


def _line(row: dict) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def _replace(path: str | Path, text: str) -> None:
    """Write the file beside its place and rename it: an interrupted writer leaves no half file."""
    unfinished = Path(f"{path}.unfinished")
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
