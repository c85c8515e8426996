"""What scoring keeps of a prediction file: columns, read line by line, so that 210,000 chains of reasoning never lie in
memory.

Beside what eval/predictions.py asks for, a line may carry
    author                                         who took the photo: intervals then resample authors, not places
    gt_continent, indoor, scene, locatability      labels the scores are broken down by (`indoor` may be true or false)
    gt_city, gt_region, gt_country, gt_continent   the benchmark's own names
    city, region, country, continent               the names predicted, null where the answer has none
    refused                                        true or false where an engine says whether the model declined
"""
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import numpy as np

from eval import predictions
from eval.predictions import Prediction
from gre.config import UserError
from gre.geo.bootstrap import Clusters
from gre.text.answers import split_completion

SLICES = {"continent": "gt_continent", "indoor": "indoor", "scene": "scene", "locatability": "locatability"}
NAMES = ("city", "region", "country", "continent")
UNLABELLED = "(no label)"  # a slice of its own, so that the slices of a field add up to all rows
REFUSALS = re.compile(r"\b(unknown|unable|cannot|can[’']?t|can not|could not|couldn[’']?t|sorry|impossible|"
                      r"not possible|undetermined|n/a)\b", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Columns:
    """One prediction file. n rows, in the order of the file.

    keys: (n,) eval.predictions.key. distance_km: (n,), NaN where no answer can be read. refused: (n,) bool, where no
    answer can be read because none was given. clusters: who stands and falls together; clustered_by: rows by what
    clusters them ("author", "place" or "row"). slices: field → (n,) labels. names: level → (n,) 1.0 where the name is
    right, 0.0 where it is wrong or missing, NaN where the benchmark has none. Labels that no row carries are absent,
    and so are levels of which either the benchmark's names or the predicted ones are missing throughout.
    """

    keys: list[tuple[str, str, float, float]]
    distance_km: np.ndarray
    refused: np.ndarray
    clusters: Clusters
    clustered_by: dict[str, int]
    slices: dict[str, np.ndarray]
    names: dict[str, np.ndarray]


def read(path: str | Path) -> Columns:
    """The columns of a prediction file. Raises UserError naming file and row of a field that cannot be used."""
    keys, distances, refused, clusters = [], [], [], []
    slices, names = {name: [] for name in SLICES}, {level: [] for level in NAMES}
    predicted = set()
    for row, fields in predictions.stream(path):
        where = f"{path} row {row.id}"
        keys.append(predictions.key(row))
        distances.append(np.nan if row.error_km is None else row.error_km)
        refused.append(declined(row, fields, where))
        clusters.append(cluster(row, fields))
        for name, field in SLICES.items():
            slices[name].append(label(fields, field, where))
        for level in NAMES:
            names[level].append(name_right(fields, level, where))
            predicted |= {level} & fields.keys()
    if not keys:
        raise UserError(f"{path} holds no row: run eval.predict with out={path} again")
    return Columns(
        keys, np.array(distances), np.array(refused), Clusters.of(clusters),
        dict(Counter(kind for kind, _ in clusters)),
        {name: np.array([UNLABELLED if value is None else value for value in values])
         for name, values in slices.items() if any(value is not None for value in values)},
        {level: np.array(names[level]) for level in NAMES if level in predicted and not np.isnan(names[level]).all()})


def cluster(row: Prediction, fields: Mapping) -> tuple[str, str]:
    """(kind, name) of a row's cluster: its author, else its place, else the row alone."""
    if fields.get("author"):
        return "author", str(fields["author"])
    return ("place", row.place) if row.place else ("row", row.id)


def declined(row: Prediction, fields: Mapping, where: str) -> bool:
    """Whether an unreadable answer is a refusal: the line says so, or the answer, finished and without a digit, holds
    one of REFUSALS. It counts as wrong either way; this only says why."""
    if row.answer is not None:
        if fields.get("refused"):
            raise UserError(f"{where}: refused is true and lat, lon hold an answer: one of them is wrong")
        return False
    if "refused" in fields:
        return bool(fields["refused"])
    answer = split_completion(row.text)[1] or ""
    return row.finished and not re.search(r"\d", answer) and REFUSALS.search(answer) is not None


def label(fields: Mapping, field: str, where: str) -> str | None:
    """The label of a row in a slice field; None without one."""
    value = fields.get(field)
    if value is None or value == "":
        return None
    if field == "indoor" and isinstance(value, bool):
        return "indoor" if value else "outdoor"
    if not isinstance(value, str):
        raise UserError(f"{where}: {field} is {value!r}; scores are broken down by labels, write text")
    return value


def name_right(fields: Mapping, level: str, where: str) -> float:
    """1.0 when the predicted name of this level is the benchmark's, case, white space and the coding of accents aside;
    0.0 when it is another or missing; NaN when the benchmark has none."""
    truth, said = fields.get(f"gt_{level}"), fields.get(level)
    if truth is None or truth == "":
        return np.nan
    for name, value in ((f"gt_{level}", truth), (level, said)):
        if value is not None and not isinstance(value, str):
            raise UserError(f"{where}: {name} is {value!r}, and a name is text or null")
    return float(said is not None and _folded(said) == _folded(truth))


def _folded(name: str) -> str:
    return normalize("NFC", " ".join(name.split())).casefold()
