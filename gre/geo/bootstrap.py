"""95 % intervals from a bootstrap that resamples clusters: photos of one author or place stand and fall together.

A draw takes as many clusters as there are, with replacement, each with all its rows, and divides sums: what the rows
drawn score together by how many they are. It never averages the clusters' own means, in which a photo of a small
cluster would count for more than one of a large cluster.

Few clusters know little of how much clusters differ, so that the 2.5th and the 97.5th percentile of the draws lie too
near. An interval runs between percentiles farther out (Hesterberg 2015, "What teachers should know about the
bootstrap", https://doi.org/10.1080/00031305.2015.1089789): those of the normal distribution at t * sqrt(k / (k - 1)),
where t is Student's 97.5 % quantile with k - 1 degrees of freedom. k is the effective number of clusters (Kish),
(sum of sizes)^2 / sum of squared sizes: ten clusters of which one has nearly all rows are hardly more than one.
With k = 200 it is the 2.4th percentile, with 20 the 1.6th, with 5 the 0.1th.
"""
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self, TypedDict

import numpy as np

_NORMAL = NormalDist()
_DRAWS_AT_ONCE = 1000
_CELLS_AT_ONCE = 2**22  # bounds memory: an array of draws by rows has 32 MB, however many rows there are


class Interval(TypedDict):
    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which rows stand and fall together. index: (n,) the cluster of each row, counted from 0 in order of first
    appearance. sizes: (clusters,) rows of each."""

    index: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, labels: Sequence[Hashable]) -> Self:
        """Rows with equal labels are one cluster."""
        number = {label: index for index, label in enumerate(dict.fromkeys(labels))}
        index = np.array([number[label] for label in labels], dtype=np.int64)
        return cls(index, np.bincount(index, minlength=len(number)))

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def effective(self) -> float:
        """How many clusters of equal size would be worth as much: 1 to len(self)."""
        return effective_clusters(self.sizes)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums of (n,) or (n, measures) values over the rows of each cluster: (clusters,) or (clusters, measures)."""
        if values.ndim == 1:
            return np.bincount(self.index, weights=values, minlength=len(self))
        return np.stack([self.sums(column) for column in values.T], axis=1)


def effective_clusters(sizes: np.ndarray) -> float:
    """Kish's effective number of clusters of these sizes."""
    return float(sizes.sum() ** 2 / (sizes.astype(float) ** 2).sum())


def resamples(clusters: Clusters, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each draw takes each cluster: arrays (some draws, clusters), `draws` rows in all.

    The same seed gives the same draws, however many come at once.
    """
    generator = np.random.default_rng(seed)
    count = len(clusters)
    at_once = max(1, min(_DRAWS_AT_ONCE, _CELLS_AT_ONCE // len(clusters.index)))
    for start in range(0, draws, at_once):
        yield generator.multinomial(count, np.full(count, 1.0 / count), size=min(at_once, draws - start)).astype(float)


def medians(times_drawn: np.ndarray, index: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The exact median of each draw: of its rows by size, each as often as it was drawn, the middle one, or the mean of
    the middle two. NaN for a draw without rows.

    times_drawn: (draws, clusters) whole numbers. index: (n,) the cluster of each row; values: (n,) ascending.
    Returns (draws,).
    """
    count, clusters = len(values), times_drawn.shape[1]
    total = times_drawn @ np.bincount(index, minlength=clusters)  # (draws,)
    drawn = total > 0
    if not drawn.all():
        middle = np.full(len(total), np.nan)
        if drawn.any():
            middle[drawn] = medians(times_drawn[drawn], index, values)
        return middle
    # A draw that takes too many of the lower half has its median about so many rows lower: look at those rows first.
    low_half = times_drawn @ np.bincount(index[:count // 2], minlength=clusters) / total
    reach = math.ceil(1.5 * count * np.abs(low_half - 0.5).max()) + 8
    middle, found = _medians_among(times_drawn, index, values, total, max(0, count // 2 - reach),
                                   min(count, count // 2 + reach))
    if not found.all():
        middle[~found], _ = _medians_among(times_drawn[~found], index, values, total[~found], 0, count)
    return middle


def _medians_among(times_drawn: np.ndarray, index: np.ndarray, values: np.ndarray, total: np.ndarray, start: int,
                   end: int) -> tuple[np.ndarray, np.ndarray]:
    """(the median of each draw, whether both its middle rows are among start to end; where not, it is none)."""
    before = times_drawn @ np.bincount(index[:start], minlength=times_drawn.shape[1])  # (draws,)
    drawn = before[:, None] + np.cumsum(times_drawn[:, index[start:end]], axis=1)  # drawn up to each row
    lower, upper = np.floor((total + 1) / 2), np.floor(total / 2 + 1)  # which of the drawn rows, counted from 1
    found = (before < lower) & (drawn[:, -1] >= upper)
    last = end - start - 1
    low, high = (values[start + np.minimum((drawn < rank[:, None]).sum(axis=1), last)] for rank in (lower, upper))
    return (low + high) / 2, found


def student(freedom: float) -> float:
    """Student's 97.5 % quantile by its expansion in 1 / degrees of freedom (Abramowitz and Stegun 26.7.5): within 0.3 %
    from 4 on."""
    z = _NORMAL.inv_cdf(0.975)
    return (z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
            + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3))


def tail(effective: float) -> float:
    """The share of draws below an interval of 95 %, for an effective number of clusters; 0 for a single one."""
    freedom = effective - 1
    return 0.0 if freedom < 1e-6 else _NORMAL.cdf(-student(freedom) * math.sqrt(effective / freedom))


def bounds(samples: np.ndarray, effective: float) -> tuple[float, float]:
    """The 95 % interval of (draws,) values. A draw that is NaN held none of the rows asked for: it is left out."""
    return between(samples, tail(effective))


def between(samples: np.ndarray, outside: float) -> tuple[float, float]:
    """What is left when the share `outside` is cut off at either end of (draws,) values, NaN aside."""
    low, high = np.quantile(samples[~np.isnan(samples)], (outside, 1 - outside))
    return float(low), float(high)


def studentised(drawn: np.ndarray, spreads: np.ndarray, value: float, spread: float) -> np.ndarray:
    """Draws whose percentiles are the bootstrap-t interval (Efron and Tibshirani 1993, chapter 12): a draw above the
    value by so many of its own standard errors lies below it by so many of the value's. For skewed sums, which a few
    far-off rows decide: a draw that misses them is low and thinks itself sure.

    drawn, spreads: (draws,) means and their standard errors; value, spread: of all rows. NaN for a draw without a
    spread; where the value has none, the draws as they are. Few clusters need no percentiles farther out here: draws
    whose clusters happen to be alike take care of that.
    """
    if spread <= 1e-12 * abs(value):
        return drawn
    with np.errstate(divide="ignore", invalid="ignore"):
        made = value - (drawn - value) * (spread / spreads)
    return np.where(spreads > 1e-9 * spread, made, np.nan)


def paired_bootstrap(
    a: Sequence[float], b: Sequence[float], clusters: Sequence[Hashable], draws: int = 10_000, seed: int = 0
) -> Interval:
    """Mean of a - b over photos, with a 95 % interval that resamples clusters instead of photos.

    a, b: (n,) scores of the same photos in the same order. clusters: (n,) the place or author of each photo. The
    same seed gives the same interval.
    Raises ValueError when the three are empty, of different lengths, or a score is not finite.
    """
    if not len(a) == len(b) == len(clusters) or len(a) == 0:
        raise ValueError(f"paired_bootstrap needs one score of each kind per photo: "
                         f"{len(a)} and {len(b)} scores, {len(clusters)} clusters")
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)  # (n,)
    if not np.isfinite(difference).all():
        raise ValueError(f"score at index {int(np.argmin(np.isfinite(difference)))} is not finite")
    grouped = Clusters.of(clusters)
    sums = grouped.sums(difference)
    means = [(times_drawn @ sums) / (times_drawn @ grouped.sizes) for times_drawn in resamples(grouped, draws, seed)]
    low, high = bounds(np.concatenate(means), grouped.effective)
    return Interval(mean=float(difference.mean()), low=low, high=high)
