"""How good a set of answers is: shares within distances, median, mean and GeoScore.

A distance of None is a photo without a readable answer: GeoScore 0, outside every threshold, 20,015 km in median and
mean.
"""
import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import TypedDict

from gre.geo.point import NO_ANSWER_KM

THRESHOLDS_KM = (1, 25, 200, 750, 2500)  # street, city, region, country, continent
GEOSCORE_MAX = 5000.0
GEOSCORE_SCALE_KM = 1492.7


class Summary(TypedDict):
    mean_geoscore: float
    median_km: float
    mean_km: float
    within_km: dict[str, float]  # share (0 to 1) of photos at most that far away, by THRESHOLDS_KM
    n: int
    unparsed: int


def geoscore(distance_km: float | None) -> float:
    """GeoGuessr's score 5000 · exp(-d / 1492.7 km): 5,000 on the spot, 1,839 at 1,492.7 km; None scores 0."""
    return 0.0 if distance_km is None else GEOSCORE_MAX * math.exp(-distance_km / GEOSCORE_SCALE_KM)


def summarize(distances_km: Sequence[float | None]) -> Summary:
    """The numbers of one checkpoint on one set, one distance per photo.

    Raises ValueError when there is no photo, or a distance is negative or not finite.
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
        mean_km=fmean(counted),
        within_km={str(limit): fmean(distance <= limit for distance in counted) for limit in THRESHOLDS_KM},
        n=len(distances_km),
        unparsed=sum(distance is None for distance in distances_km),
    )
