"""What is measured on a step's completions and never rewarded: where they really lie, and how they are written.

The numbers are those of all processes together, so that every process logs, and a guard sees, the same.
"""
import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gre.config import UserError
from gre.geo.point import NO_ANSWER_KM, LatLon, distance_km
from gre.rewards.answers import Answers
from gre.text.answers import parse_answer, split_completion

WORD = re.compile(r"\w+")


class CompletionNumbers:
    """Measures the completions of a step. places: names → where they lie, for `chain_to_answer_km`; empty: off."""

    def __init__(self, places: Mapping[str, Sequence[LatLon]]):
        self.places = {tuple(words(name)): list(points) for name, points in places.items()}

    def __call__(self, groups: Sequence[Answers], p_true: Tensor | None = None) -> dict[str, float]:
        """{name: number} over all processes; rows must have a `truth`. p_true: (prompts, G), the judge's.

        distance_km/mean and /median: from the answers to the truth, 20,015 km where there is none to read; unreadable:
        their share; distinct_answers: different places answered, per prompt; think_characters: mean length of the
        chains; chain_to_answer_km: median distance from the last place a chain names to its answer, and places_named:
        the share of answers it could be told for. On readable answers p_true: its mean; rank_correlation: mean over
        groups of Spearman's correlation of it with minus the distance, rank_correlation_groups: how many have one.
        Names whose number has no meaning in this step are left out.
        """
        nan = float("nan")
        scores = [[nan] * len(group.texts) for group in groups] if p_true is None else p_true.tolist()
        table = [[*self._measure(text, group.row.truth), score]
                 for group, values in zip(groups, scores, strict=True)
                 for text, score in zip(group.texts, values, strict=True)]
        local = torch.tensor(table, dtype=torch.float64, device=PartialState().device)
        return summary(gather(local).cpu().numpy(), len(groups[0].texts))

    def _measure(self, text: str, truth: LatLon) -> tuple[float, float, float, float, float]:
        """Latitude, longitude, kilometres to the truth and from the last place named, NaN where there are none; length
        of the chain."""
        chain, point = split_completion(text)[0] or "", parse_answer(text)
        nan = float("nan")
        if point is None:
            return nan, nan, nan, nan, len(chain)
        named = last_named(chain, self.places)
        return (*point, distance_km(point, truth), min((distance_km(point, place) for place in named), default=nan),
                len(chain))


def summary(table: NDArray, num_generations: int) -> dict[str, float]:
    """`CompletionNumbers` from one line per completion, groups one after the other: (n, 6) of latitude, longitude,
    kilometres to the truth, kilometres from the last place named, characters of the chain, P(True)."""
    points, error_km, chain_km, characters, p_true = table[:, :2], *table[:, 2:].T
    readable = np.isfinite(error_km)
    charged_km = np.where(readable, error_km, NO_ANSWER_KM)
    numbers = {"distance_km/mean": charged_km.mean(), "distance_km/median": np.median(charged_km),
               "unreadable": 1 - readable.mean(), "think_characters": characters.mean(),
               "distinct_answers": len(np.unique(points[readable], axis=0)) / (len(table) / num_generations)}
    if np.isfinite(chain_km).any():
        numbers["chain_to_answer_km"] = np.nanmedian(chain_km)
        numbers["places_named"] = np.isfinite(chain_km).sum() / readable.sum()
    groups = [group[readable[group]] for group in np.arange(len(table)).reshape(-1, num_generations)]
    correlations = [rank_correlation(p_true[group], -error_km[group]) for group in groups]
    ranked = [value for value in correlations if value is not None]
    if ranked:
        numbers |= {"rank_correlation": np.mean(ranked), "rank_correlation_groups": len(ranked),
                    "p_true": p_true[readable].mean()}
    return {name: float(number) for name, number in numbers.items()}


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float | None:
    """Spearman's rank correlation, ties sharing their mean rank; None where either has no spread or is not known (NaN).
    """
    if len(a) < 2 or not np.isfinite([a, b]).all():
        return None
    a, b = _ranks(a), _ranks(b)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: ArrayLike) -> NDArray:
    _, index, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[index]


def words(text: str) -> list[str]:
    """The words of a text as names are looked up: without case and punctuation."""
    return WORD.findall(text.casefold())


def last_named(chain: str, places: Mapping[tuple[str, ...], Sequence[LatLon]]) -> Sequence[LatLon]:
    """Where the last place named in a chain may lie, one point for each place of that name; empty when none is named.

    places: a name's `words` → its points. Of names that end at the same word the longest counts (New York over York).
    """
    said, longest = words(chain), max(map(len, places), default=0)
    for end in range(len(said), 0, -1):
        for start in range(max(0, end - longest), end):
            if tuple(said[start:end]) in places:
                return places[tuple(said[start:end])]
    return []


def read_places(path: str | None) -> dict[str, list[LatLon]]:
    """Names and where they lie, from a CSV with the columns name, lat, lon; None: no places. A name may stand there
    several times. Raises UserError naming the line."""
    if path is None:
        return {}
    if not Path(path).is_file():
        raise UserError(f"guards.places={path}: no such file. Set it to a CSV with the columns name,lat,lon or to null")
    places: dict[str, list[LatLon]] = {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                point = LatLon.checked(float(row["lat"]), float(row["lon"]))
                if not words(row["name"]):
                    raise ValueError("no name")
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"{path}, line {number}: {error}. Give name,lat,lon in decimal degrees") from error
            places.setdefault(row["name"], []).append(point)
    return places
