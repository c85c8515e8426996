"""Does a 95 % interval hold the truth 95 times in 100? `python -m eval.scoring.coverage out=FILE.md`.

Test sets are made whose truth is known, scored as eval.score scores them, once with intervals that resample clusters
and once with intervals that resample rows. In a made set every cluster has its own typical error, as photographers and
places do: the decimal logarithm of a distance in km is normal around the cluster's mean (standard deviation 0.6), and
the means are normal around 2.5, that is 316 km (standard deviation 0.8). Distances end at half the Earth's
circumference.
"""
import functools
import math
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.scoring import measures
from eval.scoring.columns import Columns
from gre import provenance
from gre.config import UserError, main, option
from gre.geo.accuracy import geoscore
from gre.geo.bootstrap import Clusters
from gre.geo.point import NO_ANSWER_KM

MEAN, BETWEEN, WITHIN = 2.5, 0.8, 0.6  # of log10 km: the mean, the spread of clusters, the spread inside a cluster
SETS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {  # name → rows of each cluster
    "200 authors of unequal size": lambda generator: np.ceil(generator.lognormal(2.0, 1.0, 200)).astype(int),
    "72 places of 5 photos": lambda generator: np.full(72, 5),
    "300 single photos": lambda generator: np.full(300, 1),
}
MEASURES = ("within_25_km", "within_750_km", "geoscore", "median_km")


@dataclass
class Config:
    out: str = option("", "Markdown file for the result; empty: only print")
    repeats: int = option(1000, "made sets of each kind whose clusters are resampled")
    row_repeats: int = option(300, "of these, sets whose rows are resampled as well (slow, and far off sooner)")
    draws: int = option(500, "bootstrap draws an interval")
    seed: int = option(0, "seed of the made sets and of the bootstrap")


@functools.cache
def truth() -> dict[str, float]:
    """What a made set's measures are without chance: by integration over the normal distribution."""
    spread = math.hypot(BETWEEN, WITHIN)
    z = np.linspace(-8, 8, 40_001)
    density = np.exp(-z**2 / 2)
    scores = [geoscore(min(10 ** (MEAN + spread * at), NO_ANSWER_KM)) for at in z]

    def within(limit_km: float) -> float:
        return 0.5 * math.erfc((MEAN - math.log10(limit_km)) / spread / math.sqrt(2))

    return {"within_25_km": within(25), "within_750_km": within(750), "median_km": 10**MEAN,
            "geoscore": float((density * scores).sum() / density.sum())}


def made_set(sizes: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(distances in km (n,), cluster of each row (n,))."""
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    logs = generator.normal(MEAN, BETWEEN, len(sizes))[cluster] + generator.normal(0, WITHIN, len(cluster))
    return np.minimum(10**logs, NO_ANSWER_KM), cluster


def holds(distance_km: np.ndarray, cluster: np.ndarray, draws: int, seed: int) -> dict[str, bool]:
    """Whether the interval of each measure holds the truth."""
    columns = Columns([], distance_km, np.zeros(len(cluster), dtype=bool), Clusters.of(cluster.tolist()), {}, {}, {})
    estimates = measures.estimate({"made": columns}, draws, seed)[()]["made"]
    return {name: estimates[name]["low"] <= value <= estimates[name]["high"] for name, value in truth().items()}


def coverage(name: str, config: Config) -> dict[str, dict[str, float]]:
    """{"clusters" or "rows": {measure: share of intervals that hold the truth}} of one kind of made set."""
    held = {"clusters": [], "rows": []}
    for repeat in range(config.repeats):
        generator = np.random.default_rng([config.seed, list(SETS).index(name), repeat])
        distance_km, cluster = made_set(SETS[name](generator), generator)
        held["clusters"].append(holds(distance_km, cluster, config.draws, repeat))
        if repeat < config.row_repeats:
            held["rows"].append(holds(distance_km, np.arange(len(cluster)), config.draws, repeat))
    return {by: {measure: float(np.mean([one[measure] for one in results])) for measure in MEASURES}
            for by, results in held.items()}


def page(found: Mapping[str, Mapping], config: Config) -> str:
    """The result as Markdown."""
    def cell(share: float, repeats: int) -> str:
        return f"{share:.1%} ± {1.96 * math.sqrt(share * (1 - share) / repeats):.1%}"

    rows = [f"| {name} | {measure} | {cell(found[name]['clusters'][measure], config.repeats)} | "
            f"{cell(found[name]['rows'][measure], config.row_repeats)} |" for name in found for measure in MEASURES]
    return "\n".join([
        "# Coverage of the 95 % interval", "",
        f"`{shlex.join(['python', '-m', 'eval.scoring.coverage', *sys.argv[1:]])}`, commit {provenance.commit()}, seed "
        f"{config.seed}: {config.repeats} made sets of each kind ({config.row_repeats} for the row bootstrap), "
        f"{config.draws} draws an interval.", "",
        "How often the interval holds the truth that the set was made with; ± is twice the standard error of that "
        "share.", "",
        "| made set | measure | clusters resampled | rows resampled |", "|---|---|---|---|", *rows, ""])


def run(config: Config) -> None:
    """Print the table, and write it. Raises UserError for counts that make no share."""
    if not 0 < config.row_repeats <= config.repeats:
        raise UserError(f"row_repeats is {config.row_repeats} and repeats {config.repeats}: rows are resampled in some "
                        "of the same sets, so write 0 < row_repeats <= repeats")
    text = page({name: coverage(name, config) for name in SETS}, config)
    print(text)
    if config.out:
        provenance.write_atomically(Path(config.out), text)


if __name__ == "__main__":
    main(run, Config, __doc__, lambda config: {"reads": [], "writes": [*filter(None, [config.out])]})
