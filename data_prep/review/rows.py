"""What a person sees of a row, and what he may change of it. No torch.

A row is known by its content (sha256 of its JSON), so that decisions outlive rows that are added or moved: equal rows
share one. What is edited is a copy of the row's own JSON; all other fields stay as they are.
"""
import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gre.config import UserError
from gre.data.raw import BadRow, DataError
from gre.data.reason import SOLUTION, ReasonRow
from gre.data.records import BenchRow, CoTRow, JudgeRow, Row, row_of, stream_values
from gre.geo.point import LatLon, distance_km
from gre.text.answers import parse_answer, split_completion
from gre.text.chains import chain_of

EDITABLE: dict[str, dict[str, tuple[str | int, ...]]] = {  # kind → what it is called on the page → where it stands
    "cot": {"response": ("conversations", 1, "value")},
    "judge": {"reasoning": ("predicted_cot",), "answer": ("predicted_answer",), "label": ("conversations", 1, "value")},
    "reason": {"reasoning": ("response",), "place": (SOLUTION,)},
    "bench": {"reasoning": ("gt_cot",)},
    "seed": {}}


@dataclass(frozen=True)
class Item:
    """A row under review. number: in its file; value: its JSON; row: what is read from it."""

    kind: str
    number: int
    value: dict[str, Any]
    row: Row

    @cached_property
    def sha256(self) -> str:
        """Of the row's JSON."""
        return hashlib.sha256(json.dumps(self.value, sort_keys=True, default=str).encode(
            "utf-8", "surrogatepass")).hexdigest()

    @property
    def image(self) -> str | list[str]:
        """The photo's path, as the row says it."""
        return next(self.value[name] for name in ("images", "image", "image_path") if name in self.value)

    @property
    def question(self) -> str:
        """What was asked; empty where the row does not say."""
        return "" if isinstance(self.row, BenchRow) else self.row.instruction

    @property
    def reasoning(self) -> str:
        """The chain; empty where the row has none."""
        row = self.row
        return {CoTRow: lambda: chain_of(row.response), JudgeRow: lambda: row.chain, BenchRow: lambda: row.chain,
                ReasonRow: lambda: row.response}.get(type(row), lambda: "")().strip()

    @property
    def answered(self) -> str:
        """The answer as it was written; empty where there is none."""
        row = self.row
        if isinstance(row, CoTRow):
            return (split_completion(row.response)[1] or "").strip()
        if isinstance(row, ReasonRow):
            return ", ".join(filter(None, [row.names.city, row.names.country]))
        return row.answer.strip() if isinstance(row, JudgeRow) else ""

    @property
    def answer(self) -> LatLon | None:
        """Where the answer points."""
        if isinstance(self.row, CoTRow | JudgeRow):
            return parse_answer(self.row.response if isinstance(self.row, CoTRow) else self.row.answer)
        return None

    @property
    def label(self) -> str:
        """What a Judge row is labelled."""
        return str(self.row.label) if isinstance(self.row, JudgeRow) else ""

    @property
    def error_km(self) -> float | None:
        """From the answer to the truth."""
        answer, truth = self.answer, self.row.truth
        return None if answer is None or truth is None else distance_km(answer, truth)

    @property
    def fields(self) -> dict[str, str]:
        """What may be edited, as it is."""
        found = {}
        for name, (*path, last) in EDITABLE[self.kind].items():
            inner = self.value
            for step in path:
                inner = inner[step]
            found[name] = inner.get(last) or ""
        return found

    def edited(self, fields: Mapping[str, str]) -> "Item":
        """The row with other texts. Raises BadRow, saying what is wrong with them."""
        value = copy.deepcopy(self.value)
        for name, text in fields.items():
            if name not in EDITABLE[self.kind]:
                raise BadRow(f"{name} cannot be edited")
            *path, last = EDITABLE[self.kind][name]
            inner = value
            for step in path:
                inner = inner[step]
            if text or last in inner:
                inner[last] = text
        made = Item(self.kind, self.number, value, row_of(self.kind, None, Path("row"), self.number, value))
        if self.answer is not None and made.answer is None:
            raise BadRow("no answer can be read in it any more: write one place, such as 48.86, 2.35")
        return made


def read(path: Path, image_root: str) -> tuple[str, list[Item]]:
    """(kind of the file, its rows). Raises DataError for a row that cannot be used: nobody could judge it."""
    if not path.is_file():
        raise DataError(f"data.path={path}: no such file")
    kind, rows = stream_values(path, image_root)
    items = []
    for number, value, row in tqdm(rows, f"rows of {path.name}", unit="row", delay=2):
        if isinstance(row, str):
            raise DataError(f"{path}, row {number}: {row}. Repair the row: python -m data_prep.inspect {path} names "
                            "such rows")
        items.append(Item(kind, number, value, row))
    if not items:
        raise UserError(f"{path} holds no rows")
    return kind, items
