"""95 % intervals of shares that hold near 0 and 1 too, where a bootstrap has nothing to vary: no hit among 500 rows is
no proof that none in 500,000 would be.

Clopper and Pearson's exact interval (1934, https://doi.org/10.1093/biomet/26.4.404) on an effective number of rows, as
Korn and Graubard do it for clusters (1998, Survey Methodology 24-2): the rows, divided by the design effect, that is
the variance over clusters in units of that of independent rows, and by the square of Student's t over that of many
clusters. The design effect that rare hits show is luck, and none is seen where there is no hit: it is averaged with the
largest there can be, rows of a cluster being copies of each other, which counts as one cluster more beside those that
hold a hit. So the effective rows of a set without a hit are its effective clusters; with many hits it hardly matters.

Everything here takes what clusters sum up to, (clusters,), of values between 0 and 1, and their sizes; of values that
are not all 0 or 1 the intervals are wider than they need be, since none varies more than hits and misses do.
"""
import math

import numpy as np

from gre.geo.bootstrap import effective_clusters, student

RARE = 5  # clusters with a hit (or with a miss) below which a mean's bootstrap is not relied on
_LEVEL = 0.025
_STEPS = 45  # of a bisection: to 3e-14


def interval(sums: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a share. ValueError for sums below 0 or above the sizes."""
    if (sums < 0).any() or (sums > sizes * (1 + 1e-9)).any():
        raise ValueError("a share's sums lie between 0 and the sizes of the clusters")
    rows = float(sizes.sum())
    share = min(1.0, float(sums.sum()) / rows)
    shown, worst = carriers(sums, sizes), rows / effective_clusters(sizes)
    effect = worst
    if 0 < share < 1:
        variance = len(sizes) / (len(sizes) - 1) * float(((sums - share * sizes) ** 2).sum()) / rows**2
        effect = (shown * variance * (rows - 1) / (share * (1 - share)) + worst) / (shown + 1)
    few = student(rows - 1) / student(effective_clusters(sizes) - 1)
    effective_rows = rows / max(1.0, effect) * few**2
    return clopper_pearson(share * effective_rows, effective_rows)


def no_narrower(drawn: tuple[float, float], sums: np.ndarray, sizes: np.ndarray,
                largest: float = 1.0) -> tuple[float, float]:
    """A mean's interval by a bootstrap, made as wide as a share's where few clusters hold all that varies.

    sums: what the clusters' values, each between 0 and `largest`, add up to.
    """
    if carriers(sums / largest, sizes) >= RARE:
        return drawn
    low, high = interval(sums / largest, sizes)
    return min(drawn[0], largest * low), max(drawn[1], largest * high)


def difference(better: np.ndarray, worse: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the share of rows where one model is better, minus the share where it is worse: both shares'
    own intervals, their distances squared and added (Newcombe 1998)."""
    up, down = better.sum() / sizes.sum(), worse.sum() / sizes.sum()
    (up_low, up_high), (down_low, down_high) = interval(better, sizes), interval(worse, sizes)
    return (float(up - down - math.hypot(up - up_low, down_high - down)),
            float(up - down + math.hypot(up_high - up, down - down_low)))


def carriers(sums: np.ndarray, sizes: np.ndarray) -> float:
    """How many clusters hold a hit, or hold a miss, whichever are fewer; a hit of half a value counts half."""
    return float(min(np.minimum(1, sums).sum(), np.minimum(1, np.maximum(0, sizes - sums)).sum()))


def clopper_pearson(hits: float, rows: float) -> tuple[float, float]:
    """The exact 95 % interval of `hits` among `rows`, which need not be whole."""
    low = 0.0 if hits <= rows * 1e-12 else _beta_quantile(_LEVEL, hits, rows - hits + 1)
    high = 1.0 if hits >= rows * (1 - 1e-12) else _beta_quantile(1 - _LEVEL, hits + 1, rows - hits)
    return low, high


def _beta_quantile(level: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _beta_share(middle, a, b) < level else (low, middle)
    return (low + high) / 2


def _beta_share(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function, by its continued fraction (Numerical Recipes, 3rd edition, 6.4)."""
    if not 0 < x < 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b  # where the fraction of x itself converges slowly


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 10_000):
        for term in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                     -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            c, d = 1 + term / c, 1 / (1 + term * d)
            fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return fraction
