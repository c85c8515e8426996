"""How good a set of answers is: shares within distances, GeoScore, and intervals that resample places.

A distance of None is a picture without a readable answer: GeoScore 0, outside every threshold, 20,015 km in the median.
"""
import math
from collections.abc import Hashable, Sequence
from statistics import fmean, median
from typing import TypedDict

import numpy as np

from gre.geo.point import NO_ANSWER_KM

THRESHOLDS_KM = (1, 25, 200, 750, 2500)  # street, city, region, country, continent
GEOSCORE_MAX = 5000.0
GEOSCORE_SCALE_KM = 1492.7
_DRAWS_AT_ONCE = 1000  # bounds memory: 1,000 draws of 5,000 places are 40 MB


class Summary(TypedDict):
    mean_geoscore: float
    median_km: float
    within_km: dict[str, float]  # share (0 to 1) of pictures at most that far away, by THRESHOLDS_KM
    n: int
    unparsed: int


class Interval(TypedDict):
    mean: float
    low: float
    high: float


def geoscore(distance_km: float | None) -> float:
    """GeoGuessr's score 5000 · exp(-d / 1492.7 km): 5,000 on the spot, 1,839 at 1,492.7 km; None scores 0."""
    return 0.0 if distance_km is None else GEOSCORE_MAX * math.exp(-distance_km / GEOSCORE_SCALE_KM)


def summarize(distances_km: Sequence[float | None]) -> Summary:
    """The numbers of one checkpoint on one set, one distance per picture.

    Raises ValueError when there is no picture, or a distance is negative or not finite.
    """
    if not distances_km:
        raise ValueError("no distances to summarize: the set of predictions is empty")
    for row, distance in enumerate(distances_km):
        if distance is not None and not 0.0 <= distance < math.inf:
            raise ValueError(f"distance {distance} km at index {row}: expected a finite number >= 0, or None")
    counted = [NO_ANSWER_KM if distance is None else distance for distance in distances_km]
    return Summary(
        mean_geoscore=fmean(geoscore(distance) for distance in distances_km),
        median_km=float(median(counted)),
        within_km={str(limit): fmean(distance <= limit for distance in counted) for limit in THRESHOLDS_KM},
        n=len(distances_km),
        unparsed=sum(distance is None for distance in distances_km),
    )


def paired_bootstrap(
    a: Sequence[float], b: Sequence[float], clusters: Sequence[Hashable], draws: int = 10_000, seed: int = 0
) -> Interval:
    """Mean of a - b over pictures, with a 95 % percentile interval that resamples places instead of pictures.

    a, b: (n,) scores of the same pictures in the same order. clusters: (n,) the place of each picture. Pictures of one
    place are not independent, so each draw takes places with replacement, with all their pictures, and divides the
    summed difference by the number of pictures drawn. The same seed gives the same interval.
    Raises ValueError when the three are empty, of different lengths, or a score is not finite.
    """
    if not len(a) == len(b) == len(clusters) or len(a) == 0:
        raise ValueError(f"paired_bootstrap needs one score of each kind per picture: "
                         f"{len(a)} and {len(b)} scores, {len(clusters)} clusters")
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)  # (n,)
    if not np.isfinite(difference).all():
        raise ValueError(f"score at index {int(np.argmin(np.isfinite(difference)))} is not finite")
    index_of = {place: index for index, place in enumerate(dict.fromkeys(clusters))}
    index = [index_of[place] for place in clusters]
    places = len(index_of)
    sums = np.bincount(index, weights=difference, minlength=places)  # (places,)
    sizes = np.bincount(index, minlength=places)  # (places,)

    generator = np.random.default_rng(seed)
    means = []
    for start in range(0, draws, _DRAWS_AT_ONCE):
        count = min(_DRAWS_AT_ONCE, draws - start)
        times_drawn = generator.multinomial(places, np.full(places, 1.0 / places), size=count)  # (count, places)
        means.append((times_drawn @ sums) / (times_drawn @ sizes))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Interval(mean=float(difference.mean()), low=float(low), high=float(high))
