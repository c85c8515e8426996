"""GPS reward: 1 on the spot, falling smoothly with the distance of the answer from the truth."""
import math
from collections.abc import Sequence

from gre.rewards import answers
from gre.rewards.answers import Answers


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


def gps_rewards(thetas_km: Sequence[float], groups: Sequence[Answers]) -> list[list[float]]:
    """The GPS reward of every completion's answer."""
    return [[gps_reward(answers.distance_km(text, group.row.truth), thetas_km) for text in group.texts]
            for group in groups]
