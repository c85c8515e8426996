"""What is counted of the rows of a data file, one row after another: numbers, never the rows themselves.

Worst are rows that cannot be used; then, where rows hold answers, those without a readable one and those farthest from
the truth; else those with the smallest photos.
"""
import heapq
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import median

import numpy as np

from data_prep import card
from data_prep.card import Part
from eval.drawing import photos as drawn
from gre.data.raw import RowError
from gre.data.reason import ReasonRow
from gre.data.records import BenchRow, CoTRow, JudgeRow, SeedRow
from gre.geo.accuracy import THRESHOLDS_KM
from gre.geo.places import gazetteer
from gre.geo.point import distance_km
from gre.text.answers import parse_answer
from gre.text.chains import chain_of, split_steps

Row = CoTRow | JudgeRow | SeedRow | BenchRow | ReasonRow
WORST = 10
CUT = 15000  # people; of the cities whose nearest says which country a photo is of
_BAD, _UNREADABLE, _FAR, _SMALL = 3, 2, 1, 0


@dataclass(order=True)
class Worst:
    """A row among the worst. rank: the higher, the worse."""

    rank: tuple[int, float]
    row: str = field(compare=False)
    what: str = field(compare=False)
    image: Path | None = field(compare=False)


class Facts:
    """What the rows of one file are. kind: of gre.data.records.KINDS."""

    def __init__(self, kind: str):
        self.kind, self.rows, self.usable = kind, 0, 0
        self.faults: Counter[str] = Counter()
        self.countries: Counter[str] = Counter()
        self.cells: Counter[int] = Counter()
        self.labels: Counter[str] = Counter()
        self.named: Counter[str] = Counter()
        self.entities: Counter[str] = Counter()
        self.localizable: Counter[str] = Counter()
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.instructions: Counter[str] = Counter()
        self.distances = {"": array("f"), "True": array("f"), "False": array("f")}
        self.unreadable = 0
        self.lengths, self.steps = array("l"), array("l")
        self._worst: list[Worst] = []

    def bad(self, row: str, why: str, image: Path | None = None) -> None:
        """A row that cannot be used. why begins with a name of what is wrong, for counting."""
        self.rows += 1
        self.faults[why.split(":", 1)[0] if why.startswith("field") else "photo" if image else "row"] += 1
        self._worse((_BAD, -self.rows), row, why, image)

    def good(self, rows: Sequence[Row], sizes: Sequence[tuple[int, int] | None]) -> None:
        """Rows that can be used, with the sizes of their photos where those were opened."""
        self.rows += len(rows)
        self.usable += len(rows)
        truths = [row.truth for row in rows if row.truth is not None]
        points = np.array(truths, dtype=float).reshape(-1, 2)
        self.cells.update(card.cells(points[:, 0], points[:, 1]).tolist())
        self.countries.update(city.country for city in gazetteer(CUT).nearest_cities(truths))
        for row, size in zip(rows, sizes):
            if not isinstance(row, BenchRow):
                self._question(row.instruction)
            if size is not None:
                self.sizes[size] += 1
                if isinstance(row, SeedRow | BenchRow | ReasonRow):
                    self._worse((_SMALL, -size[0] * size[1]), row.id, f"{size[0]} x {size[1]} pixels", row.image)
            if isinstance(row, ReasonRow):
                self._place(row)
            self._chain(row)
            if isinstance(row, CoTRow | JudgeRow):
                self._answer(row, row.response if isinstance(row, CoTRow) else row.answer)

    def parts(self, max_pixels: int, listed: str) -> list[Part]:
        """The card. listed: what gre.training.look says of the rows, or why it was not asked."""
        places = gazetteer(CUT)
        worst = sorted(self._worst, reverse=True)
        return [
            Part("Rows", [f"{self.rows:,} rows, {self.usable:,} can be used.", listed, *self._labelled()]),
            card.counted("What is wrong", self.faults, "where", [] if self.faults else ["Nothing was found."]),
            Part("Distances", self._unread(), ("answers", "median km", *(f"≤ {km} km" for km in THRESHOLDS_KM), "n"),
                 [self._distances(label, km) for label, km in self.distances.items() if len(km)]),
            Part("Chains", head=("", "5 %", "median", "95 %", "most"), rows=[
                (name, *(f"{value:,.0f}" for value in np.percentile(numbers, [5, 50, 95, 100])))
                for name, numbers in (("characters", self.lengths), ("steps", self.steps)) if len(numbers)]),
            self._tokens(max_pixels),
            card.counted("Countries named", self.named, "country"),
            card.counted("Entities", self.entities, "entity"),
            card.counted("Localizable", self.localizable, "said to be"),
            card.counted("Countries", {places.countries[code].name: count for code, count in self.countries.items()},
                         "country", [f"A photo's country is that of the nearest city of {places}."]),
            Part("Map", maps={"photos": self.cells}),
            card.counted("Questions", {text if len(text) <= 80 else text[:77] + "...": count
                                       for text, count in self.instructions.items()}, "asked"),
            Part(f"The {len(worst)} worst rows", photos=[
                (_shown(one.image), f"{one.row}: {one.what}") for one in worst])]

    def data(self) -> dict:
        """card.json's numbers."""
        return {"rows": self.rows, "usable": self.usable, "faults": self.faults, "labels": self.labels,
                "countries": dict(sorted(self.countries.items())), **self._reason_data(),
                "unreadable_answers": self.unreadable,
                "median_km": {label or "all": float(median(km)) for label, km in self.distances.items() if len(km)},
                "chain_characters": {"median": float(median(self.lengths))} if len(self.lengths) else {},
                "worst": [[one.row, one.what] for one in sorted(self._worst, reverse=True)]}

    def _question(self, text: str) -> None:
        if text in self.instructions or len(self.instructions) < 1000:  # a file may ask each row another question
            self.instructions[text] += 1
        else:
            self.instructions["(others)"] += 1

    def _place(self, row: ReasonRow) -> None:
        self.named[row.names.country or "none"] += 1
        self.entities.update(row.entities)
        self.localizable[{True: "localizable", False: "not localizable", None: "not said"}[row.localizable]] += 1

    def _reason_data(self) -> dict:
        return {} if self.kind != "reason" else {
            "named": dict(sorted(self.named.items())), "entities": len(self.entities),
            "localizable": dict(sorted(self.localizable.items()))}

    def _chain(self, row: Row) -> None:
        text = {CoTRow: lambda: chain_of(row.response), JudgeRow: lambda: row.chain, BenchRow: lambda: row.chain,
                SeedRow: lambda: None, ReasonRow: lambda: row.response or None}[type(row)]()
        if text is not None:
            self.lengths.append(len(text))
            self.steps.append(len(split_steps(text)))

    def _answer(self, row: CoTRow | JudgeRow, text: str) -> None:
        label = str(row.label) if isinstance(row, JudgeRow) else ""
        if label:
            self.labels[label] += 1
        answer = parse_answer(text)
        if answer is None:
            self.unreadable += 1
            self._worse((_UNREADABLE, -self.rows), row.id, f"no answer can be read in {text[-80:]!r}", row.image)
            return
        km = distance_km(answer, row.truth)
        self.distances[label].append(km)
        if label != "False":
            self._worse((_FAR, km), row.id, f"the answer lies {km:,.0f} km from {row.truth.lat_deg:.4f}, "
                        f"{row.truth.lon_deg:.4f}, the truth", row.image)

    def _worse(self, rank: tuple[int, float], row: str, what: str, image: Path | None) -> None:
        one = Worst(rank, row, what, image)
        if len(self._worst) < WORST:
            heapq.heappush(self._worst, one)
        else:
            heapq.heappushpop(self._worst, one)

    def _labelled(self) -> list[str]:
        return [f"{self.labels['True']:,} are labelled True, {self.labels['False']:,} False."] if self.labels else []

    def _unread(self) -> list[str]:
        if self.kind not in ("cot", "judge"):
            return []
        return ["From the answer to where the photo was taken."] + (
            [f"{self.unreadable:,} answers cannot be read."] if self.unreadable else [])

    @staticmethod
    def _distances(label: str, km: Sequence[float]) -> tuple[str, ...]:
        values = np.asarray(km)
        return (f"labelled {label}" if label else "all", f"{np.median(values):,.1f}",
                *(f"{(values <= limit).mean():.1%}" for limit in THRESHOLDS_KM), f"{len(values):,}")

    def _tokens(self, max_pixels: int) -> Part:
        """Visual tokens of a photo, as Qwen2.5-VL's processor cuts it: 28 x 28 pixels each."""
        if not self.sizes:
            return Part("Visual tokens", ["Photos were not opened."])
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize  # brings torch

        counts: Counter[int] = Counter()
        for (width, height), number in self.sizes.items():
            high, wide = smart_resize(height, width, factor=28, max_pixels=max_pixels)
            counts[high // 28 * (wide // 28)] += number
        values = np.repeat(list(counts), list(counts.values()))
        return Part("Visual tokens", [f"A photo, at a budget of {max_pixels:,} pixels (of Qwen2.5-VL)."],
                    ("", "5 %", "median", "95 %", "most"),
                    [("tokens", *(f"{ceil(value):,}" for value in np.percentile(values, [5, 50, 95, 100])))])


def _shown(image: Path | None) -> str:
    """A photo for the page; empty for one that cannot be read."""
    if image is None or not image.is_file():
        return ""
    try:
        return drawn.data_uri(image)
    except RowError:
        return ""
