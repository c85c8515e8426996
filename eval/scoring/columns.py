"""What scoring keeps of a prediction file: columns, read line by line, so that 210,000 chains of reasoning never lie in
memory.

Beside what eval/predictions.py asks for, a line may carry
    author                                         who took the photo: intervals then resample authors, not places
    gt_continent, indoor, scene, locatability      labels the scores are broken down by (`indoor` may be true or false)
    gt_city, gt_region, gt_country, gt_continent   the benchmark's own names
    gt_unique_country … gt_unique_city             OSV-5M's own names of its four levels
    city, region, country, continent               the names predicted, null where the answer has none
    indicators                                     the benchmark's geographic indicators: a page marks them in the chain
    refused                                        true or false where an engine says whether the model declined
    filtered                                       what a filter of the endpoint said in place of an answer
"""
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from unicodedata import normalize

import numpy as np

from eval import predictions
from eval.predictions import Prediction
from eval.scoring import samples
from gre.config import UserError
from gre.geo.bootstrap import Clusters
from gre.geo.places import Gazetteer
from gre.geo.point import LatLon
from gre.text import one_place
from gre.text.answers import split_completion
from gre.text.named import Names, parse_names, parse_names_as_globe

SLICES = {"continent": "gt_continent", "indoor": "indoor", "scene": "scene", "locatability": "locatability"}
NAMES = ("city", "region", "country", "continent")
TRUE_NAMES = (*NAMES, "unique_country", "unique_region", "unique_sub-region", "unique_city")
NOBODY = {"unknown", "anonymous", "none", "nan", "null", "n/a", "na", "-", "?"}  # written where no author is known
MOST_LABELS = 100  # of a field: more are no slices but a number, or an id
UNLABELLED = "(no label)"  # a slice of its own, so that the slices of a field add up to all rows
REFUSALS = re.compile(r"\b(unknown|unable|cannot|can[’']?t|can not|could not|couldn[’']?t|sorry|impossible|"
                      r"not possible|undetermined|n/a)\b", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Columns:
    """One prediction file. n rows, in the order of the file.

    keys: (n,) eval.predictions.key. distance_km: (n,), NaN where no answer can be read. refused: (n,) bool, where no
    answer can be read because none was given. clusters: rows resampled together; clustered_by: rows by what
    clusters them ("author", "place" or "row"). slices: field → (n,) labels. names: way of comparing → level → (n,) 1.0
    where the name is right, 0.0 where it is wrong or missing, NaN where the benchmark has none. `read` knows one way,
    "exact". Labels that no row carries are absent, and so are levels of which either the benchmark's names or the
    predicted ones are missing throughout. answers: (n,) where the coordinates point. true_names: level → (n,) the
    benchmark's names, None without one. said: (n,) the names answered with, None where an answer says two places;
    globe_said: the same as GLOBE's script reads them; both are empty unless answers are read by name. cut_off: (n,)
    bool, whether the answer ended at the limit; filtered: (n,) bool, where a filter of the endpoint stood in its way.
    samples: (n,) where each sample points, None for a row without. in_names: how many of the answers that are read by
    coordinates, and cannot be, name a country or a city.
    """

    keys: list[tuple[str, str, float, float]]
    distance_km: np.ndarray
    refused: np.ndarray
    clusters: Clusters
    clustered_by: dict[str, int]
    slices: dict[str, np.ndarray]
    names: dict[str, dict[str, np.ndarray]]
    answers: list[LatLon | None] = field(default_factory=list)
    true_names: dict[str, list[str | None]] = field(default_factory=dict)
    said: list[Names | None] = field(default_factory=list)
    globe_said: list[Names] = field(default_factory=list)
    cut_off: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    filtered: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    samples: list[list[LatLon | None] | None] = field(default_factory=list)
    in_names: int = 0

    @cached_property
    def truths(self) -> list[LatLon]:
        """(n,) where the photos were taken."""
        return [LatLon(*key[2:]) for key in self.keys]


def read(path: str | Path, cities: Gazetteer | None = None) -> Columns:
    """The columns of a prediction file. cities: with them the answers are read by name, too. Raises UserError naming
    file and row of a field that cannot be used."""
    keys, distances, refused, clusters, answers, said, globe_said = [], [], [], [], [], [], []
    cut_off, filtered, sampled = [], [], []
    slices, exact = {name: [] for name in SLICES}, {level: [] for level in NAMES}
    true_names = {level: [] for level in TRUE_NAMES}
    predicted, in_names = set(), 0
    for row, fields in predictions.stream(path):
        where = f"{path} row {row.id}"
        keys.append(predictions.key(row))
        distances.append(np.nan if row.error_km is None else row.error_km)
        refused.append(declined(row, fields, where))
        cut_off.append(not row.finished and not refused[-1])
        filtered.append(bool(fields.get("filtered")))
        sampled.append(samples.points(fields, where))
        clusters.append(cluster(row, fields))
        for kind, slice_field in SLICES.items():
            slices[kind].append(label(fields, slice_field, where))
        answers.append(row.answer)
        for level in TRUE_NAMES:
            true_names[level].append(name(fields, f"gt_{level}", where))
        for level in NAMES:
            exact[level].append(name_right(true_names[level][-1], name(fields, level, where)))
            predicted |= {level} & fields.keys()
        if cities is not None:
            said.append(names_said(row, fields, cities))
            globe_said.append(parse_names_as_globe(row.text))
        elif row.answer is None:
            in_names += any(parse_names(row.text))
    if not keys:
        raise UserError(f"{path} holds no row: run eval.predict with out={path} again")
    return Columns(
        keys, np.array(distances), np.array(refused), Clusters.of(clusters),
        dict(Counter(kind for kind, _ in clusters)),
        {kind: np.array([UNLABELLED if value is None else value for value in values])
         for kind, values in slices.items() if any(value is not None for value in values) and _few(kind, values, path)},
        {"exact": {level: np.array(exact[level]) for level in NAMES
                   if level in predicted and not np.isnan(exact[level]).all()}}, answers, true_names, said, globe_said,
        np.array(cut_off), np.array(filtered), sampled, in_names)


def _few(kind: str, values: Sequence[str | None], path: str | Path) -> bool:
    """Whether a field has few enough labels to break scores down by; told where it has not."""
    if (count := len(set(values))) > MOST_LABELS:
        print(f"{path}: {SLICES[kind]} has {count:,} labels, such as {next(filter(None, values))!r}: scores are not "
              f"broken down by it (at most {MOST_LABELS})", file=sys.stderr)
    return count <= MOST_LABELS


def cluster(row: Prediction, fields: Mapping) -> tuple[str, str]:
    """(kind, name) of a row's cluster: its author, else its place, else the row alone. NOBODY is no author."""
    author = str(fields.get("author") or "").strip()
    if author and author.casefold() not in NOBODY:
        return "author", author
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
    if field == "indoor" and value in (0, 1):  # true and false too
        return "indoor" if value else "outdoor"
    if not isinstance(value, str):
        raise UserError(f"{where}: {field} is {value!r}; scores are broken down by labels, write text")
    return value


def name(fields: Mapping, field: str, where: str) -> str | None:
    """A name of a row; None without one."""
    value = fields.get(field)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise UserError(f"{where}: {field} is {value!r}, and a name is text or null")
    return sys.intern(value)  # few names stand in many rows


def names_said(row: Prediction, fields: Mapping, cities: Gazetteer) -> Names | None:
    """The names a row answers with: those of its line, else those of its text, read as rewards do. None for two places,
    of which one may be where the line's coordinates lie."""
    own = {level: fields[level] for level in ("country", "city") if level in fields}
    place = one_place.read(json.dumps(own) if own else row.text, cities)
    return place.names if place and one_place.one_place(place.names, row.answer, cities) else None


def name_right(truth: str | None, said: str | None) -> float:
    """1.0 when the predicted name is the benchmark's, case, white space and the coding of accents aside; 0.0 when it is
    another or missing; NaN when the benchmark has none."""
    if truth is None:
        return np.nan
    return float(said is not None and _folded(said) == _folded(truth))


def _folded(name: str) -> str:
    return normalize("NFC", " ".join(name.split())).casefold()
