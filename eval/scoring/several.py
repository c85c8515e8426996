"""More than two models on the same rows: every pair tested, with Holm over all of them; and several seeds of one model.
"""
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from eval import predictions
from eval.scoring import measures, paired
from eval.scoring.columns import Columns
from eval.scoring.measures import MEANS, MEDIAN, WITHHELD, WITHIN
from gre.config import UserError
from gre.geo import bootstrap, shares


def check_measures(names: Sequence[str]) -> None:
    """Raises UserError for what has no test."""
    if unknown := [name for name in names if name not in MEANS]:
        raise UserError(f"pairs={unknown[0]}: no measure that is tested; there are {', '.join(MEANS)}")


def pairs(files: Mapping[str, Columns], tested: Sequence[str], draws: int, seed: int) -> list[dict]:
    """{"a", "b", "measure", "value", "low", "high", "effective_clusters", "p", "holm"} of every pair and measure; p by
    sign flips over clusters, Holm's over all of them, which are one family. Raises UserError for other rows."""
    check_same(files)
    found = []
    for (a, of_a), (b, of_b) in itertools.combinations(files.items(), 2):
        block = measures.estimate({a: of_a, b: of_b}, draws, seed)[()]["difference"]
        p = measures.p_values(of_a, of_b, draws, seed)["sign_flip"]
        found += [{"a": a, "b": b, "measure": name, **block[name], "p": p[name]} for name in tested]
    for one, adjusted in zip(found, paired.holm([one["p"] for one in found])):
        one["holm"] = adjusted
    return found


def seeds(files: Mapping[str, Columns], draws: int, seed: int) -> dict[str, dict]:
    """Measure → {"mean", "spread", "low", "high", "seeds", "effective_clusters"} of several seeds of one model.

    spread: standard deviation of the seeds. The interval is over seeds and clusters: a draw takes clusters, the same
    for all seeds, and as many seeds as there are, with replacement; what seeds differ by is stretched by the root of
    S / (S - 1), since S of them differ by so much less from their own mean than from what more would come to. Raises
    UserError for other rows, and for a single seed.
    """
    if len(files) < 2:
        raise UserError("seeds=true needs the scores of two seeds or more: scores=[a.json,b.json,…]")
    check_same(files)
    parts = [measures.parts(columns)[()] for columns in files.values()]
    values = np.array([part.value for part in parts])  # (seeds, measures)
    mean, count = values.mean(axis=0), len(parts)
    places = np.concatenate([np.mean([part.draw(times_drawn) for part in parts], axis=0) for times_drawn in
                             bootstrap.resamples(next(iter(files.values())).clusters, draws, seed)])
    taken = np.random.default_rng([seed, 1]).integers(0, count, (len(places), count))
    drawn = places + (values[taken].mean(axis=1) - mean) * math.sqrt(count / (count - 1))
    made = {}
    for at, name in enumerate((*MEANS, MEDIAN)):
        low, high = (bootstrap.bounds(drawn[:, at], parts[0].effective) if parts[0].effective >= WITHHELD
                     else (None, None))
        if low is not None and name in WITHIN:  # a rare hit is no certainty over seeds either
            own = shares.interval(np.mean([part.sums[:, at] for part in parts], axis=0), parts[0].sizes)
            low, high = max(0.0, min(low, own[0])), min(1.0, max(high, own[1]))
        made[name] = {"mean": float(mean[at]), "spread": float(values[:, at].std(ddof=1)), "low": low, "high": high,
                      "seeds": count, "effective_clusters": round(parts[0].effective, 2)}
    return made


def check_same(files: Mapping[str, Columns]) -> None:
    """Raises UserError unless all files hold the same rows, clustered alike."""
    (first, columns), *others = files.items()
    for name, other in others:
        predictions.check_same_keys(columns.keys, other.keys, (first, name))
        if not np.array_equal(columns.clusters.index, other.clusters.index):
            raise UserError(f"{first} and {name} differ in author of the same rows: predict both from the same data")
