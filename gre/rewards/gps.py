"""GPS reward: 1 on the spot, falling with the distance of the answer from the truth, by one of four published shapes.

    logistic     GRE       the mean over theta of 2 / (1 + e^(d / theta))
    exponential  GeoAgent  e^(-d / 200 km)
    piecewise    REVERSE   linear through 1 km: 1.0, 25: 0.8, 200: 0.6, 750: 0.4, 2500: 0.2
    geoscore     GeoGuessr e^(-d / 1492.7 km), the evaluation's GeoScore as a share of its 5,000 points
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gre.config import option
from gre.geo.accuracy import GEOSCORE_MAX, geoscore
from gre.rewards import answers
from gre.rewards.answers import Answers

SHAPES = ("logistic", "exponential", "piecewise", "geoscore")
EXPONENTIAL_KM = 200.0  # GeoAgent's
POINTS_KM = (1.0, 25.0, 200.0, 750.0, 2500.0, 20015.0)  # REVERSE's; that it ends at the antipode with 0 is ours
POINTS = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)


@dataclass
class DistanceConfig:
    """The reward of a distance."""

    shape: str = option("logistic", "how the reward falls: logistic, exponential, piecewise or geoscore")
    thetas_km: list[float] = option([25.0, 200.0, 750.0, 2500.0], "scales of the logistic shape; the mean over them is "
                                                                  "paid")

    def __post_init__(self):
        if self.shape not in SHAPES:
            raise ValueError(f"gps.shape is {self.shape!r}: write {', '.join(SHAPES)}")
        gps_reward(0.0, self.thetas_km)


def gps_reward(distance_km: float | None, thetas_km: Sequence[float]) -> float:
    """The mean over theta of GRE's 2 / (1 + e^(d / theta)), written 1 - tanh(d / 2 theta), which never overflows.

    distance_km: None for a completion without a readable answer, which earns 0. thetas_km: one theta pays only near
    it (at d = theta 0.538); several pay a little at every scale. Raises ValueError for a theta that is not positive.
    """
    if not thetas_km or not all(0 < theta < math.inf for theta in thetas_km):
        raise ValueError(f"thetas_km must be positive distances, got {list(thetas_km)}")
    if distance_km is None:
        return 0.0
    return sum(1 - math.tanh(distance_km / (2 * theta)) for theta in thetas_km) / len(thetas_km)


def distance_reward(distance_km: float | None, config: DistanceConfig) -> float:
    """What the configured shape pays at a distance; 0 without a readable answer (None)."""
    if distance_km is None:
        return 0.0
    if config.shape == "exponential":
        return math.exp(-distance_km / EXPONENTIAL_KM)
    if config.shape == "piecewise":
        return float(np.interp(distance_km, POINTS_KM, POINTS))
    if config.shape == "geoscore":
        return geoscore(distance_km) / GEOSCORE_MAX
    return gps_reward(distance_km, config.thetas_km)


def gps_rewards(thetas_km: Sequence[float], groups: Sequence[Answers]) -> list[list[float]]:
    """The logistic reward of every completion's answer."""
    return distance_rewards(DistanceConfig(thetas_km=list(thetas_km)), groups)


def distance_rewards(config: DistanceConfig, groups: Sequence[Answers]) -> list[list[float]]:
    """The configured reward of every completion's answer."""
    return [[distance_reward(answers.distance_km(text, group.row.truth), config) for text in group.texts]
            for group in groups]

