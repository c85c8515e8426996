"""Predictions → numbers: `python -m eval.score predictions=FILE [against=FILE] [key=value …]`.

Protocol: answers are coordinates, no geocoder; distance on a sphere of radius 6371.0088 km; within means <=; an answer
that cannot be read counts as wrong (GeoScore 0, 20,015 km) and stays in the denominator. Intervals are 95 %, from a
bootstrap that resamples places, because photos of one place stand and fall together.
"""
from collections.abc import Sequence
from dataclasses import dataclass

from eval import predictions
from eval.predictions import Prediction
from gre.config import REQUIRED, main, option
from gre.geo import accuracy
from gre.rewards.format import format_reward
from gre.rewards.gps import gps_reward

DRAWS = 10_000  # bootstrap resamples


@dataclass
class Config:
    predictions: str = option(REQUIRED, "prediction file to score")
    against: str = option("", "prediction file of the same rows to compare with; empty: none")
    thetas_km: list[float] = option(REQUIRED, "scales of the GPS reward, as stage 3 was given them, such as [25,750]")
    seed: int = option(0, "seed of the bootstrap")


def summary(rows: Sequence[Prediction], thetas_km: Sequence[float]) -> dict:
    """The numbers of one prediction file, in the form results.json has them."""
    numbers = accuracy.summarize([row.error_km for row in rows])
    rewards = [greedy_reward(row, thetas_km) for row in rows]
    return {"mean_geoscore": numbers["mean_geoscore"], "median_km": numbers["median_km"],
            "mean_reward": sum(rewards) / len(rewards), "within_km": numbers["within_km"], "n": numbers["n"],
            "unparsed": numbers["unparsed"]}


def greedy_reward(row: Prediction, thetas_km: Sequence[float]) -> float:
    """Stage 3's reward of an answer, 0 to 2: format + gps, one fixed function for all checkpoints."""
    return format_reward(row.text, row.finished) + gps_reward(row.error_km, thetas_km)


def geoscores(rows: Sequence[Prediction]) -> list[float]:
    """GeoScore of each row, 0 to 5000."""
    return [accuracy.geoscore(row.error_km) for row in rows]


def gain(a: Sequence[float], b: Sequence[float], places: Sequence[str], seed: int) -> dict[str, float]:
    """Mean of a - b over pictures, with the 95 % interval of the bootstrap over places: {"mean", "low", "high"}."""
    return accuracy.paired_bootstrap(a, b, places, draws=DRAWS, seed=seed)


def geoscore_gain(a: Sequence[Prediction], b: Sequence[Prediction], names: tuple[str, str],
                  seed: int) -> dict[str, float]:
    """How much better `a` locates the same pictures than `b`, in GeoScore points."""
    predictions.check_same_rows(a, b, names)
    return gain(geoscores(a), geoscores(b), [row.place for row in a], seed)


def geoscore_interval(rows: Sequence[Prediction], seed: int) -> dict[str, float]:
    """Mean GeoScore of one file with its interval."""
    return gain(geoscores(rows), [0.0] * len(rows), [row.place for row in rows], seed)


def run(config: Config) -> None:
    """Print the numbers of a file and, with `against`, the paired gain."""
    rows = predictions.read(config.predictions)
    interval, numbers = geoscore_interval(rows, config.seed), summary(rows, config.thetas_km)
    print(f"{config.predictions}: GeoScore {numbers['mean_geoscore']:.0f} "
          f"[{interval['low']:.0f}, {interval['high']:.0f}], median {numbers['median_km']:.1f} km, "
          f"reward {numbers['mean_reward']:.3f}, n {numbers['n']}, unparsed {numbers['unparsed']}")
    print("  within km:", ", ".join(f"{km} {share:.1%}" for km, share in numbers["within_km"].items()))
    if config.against:
        other = predictions.read(config.against)
        difference = geoscore_gain(rows, other, (config.predictions, config.against), config.seed)
        print(f"  GeoScore over {config.against}: {difference['mean']:+.0f} "
              f"[{difference['low']:+.0f}, {difference['high']:+.0f}]")


if __name__ == "__main__":
    main(run, Config, __doc__,
         lambda config: {"reads": [config.predictions, *filter(None, [config.against])], "writes": []})
