"""The numbers of results.json: of one prediction file, and of two about the same photos, paired."""
from collections.abc import Sequence

import numpy as np

from eval import predictions
from eval.predictions import Prediction
from eval.scoring.measures import DRAWS
from gre.geo import accuracy, shares
from gre.geo.bootstrap import Clusters, paired_bootstrap
from gre.rewards.format import format_reward
from gre.rewards.gps import gps_reward


def summary(rows: Sequence[Prediction], thetas_km: Sequence[float]) -> dict:
    """The numbers of one prediction file, in the form results.json has them."""
    numbers = accuracy.summarize([row.error_km for row in rows])
    rewards = [greedy_reward(row, thetas_km) for row in rows]
    return {"mean_geoscore": numbers["mean_geoscore"], "median_km": numbers["median_km"],
            "mean_reward": sum(rewards) / len(rewards), "within_km": numbers["within_km"], "n": numbers["n"],
            "unparsed": numbers["unparsed"]}


def cut_off(rows: Sequence[Prediction]) -> int:
    """How many of the answers that cannot be read ended at the limit of tokens."""
    return sum(row.error_km is None and not row.finished for row in rows)


def greedy_reward(row: Prediction, thetas_km: Sequence[float]) -> float:
    """Stage 3's reward of an answer, 0 to 2: format + gps, one fixed function for all checkpoints."""
    return format_reward(row.text, row.finished) + gps_reward(row.error_km, thetas_km)


def geoscores(rows: Sequence[Prediction]) -> list[float]:
    """GeoScore of each row, 0 to 5000."""
    return [accuracy.geoscore(row.error_km) for row in rows]


def gain(a: Sequence[float], b: Sequence[float], places: Sequence[str], seed: int) -> dict[str, float]:
    """Mean of a - b over photos, with the 95 % interval of the bootstrap over `places`: {"mean", "low", "high"}."""
    return paired_bootstrap(a, b, places, draws=DRAWS, seed=seed)


def geoscore_gain(a: Sequence[Prediction], b: Sequence[Prediction], names: tuple[str, str],
                  seed: int) -> dict[str, float]:
    """How much better `a` locates the same photos than `b`, in GeoScore points."""
    predictions.check_same_rows(a, b, names)
    return gain(geoscores(a), geoscores(b), [row.place for row in a], seed)


def geoscore_interval(rows: Sequence[Prediction], seed: int) -> dict[str, float]:
    """Mean GeoScore of one file with its interval: no readable answer among 360 photos is no certainty of none."""
    values, places = geoscores(rows), [row.place for row in rows]
    found, clusters = gain(values, [0.0] * len(rows), places, seed), Clusters.of(places)
    low, high = shares.no_narrower((found["low"], found["high"]), clusters.sums(np.array(values)), clusters.sizes,
                                   accuracy.GEOSCORE_MAX)
    return {**found, "low": low, "high": high}
