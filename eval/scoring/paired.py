"""Is the difference between two models on the same rows more than luck? p-values that respect clusters.

Were the models alike, either could have given either answer, cluster by cluster: so the sign of each cluster's summed
difference is flipped at random, and p is the share of flips whose total is at least as far from zero as the one seen.
"""
import math
from collections.abc import Sequence

import numpy as np

_CELLS_AT_ONCE = 2**22  # bounds memory: an array of flips by clusters has 32 MB


def sign_flip(sums: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Two-sided p-values (measures,) of the paired permutation test.

    sums: (clusters, measures), each cluster's summed difference. With at most `draws` possible flips all are counted
    and p is exact; otherwise `draws` of them are drawn and p is (1 + as far) / (1 + draws), never 0.
    """
    sums = sums[(sums != 0).any(axis=1)]  # a cluster without a difference has no sign to flip
    seen = np.abs(sums.sum(axis=0)) - 1e-9 * np.abs(sums).sum(axis=0)  # (measures,); rounding must not break a tie
    count = len(sums)
    exact = 2**count <= draws
    total = 2**count if exact else draws
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // max(count, 1))
    as_far = np.zeros(sums.shape[1])
    for start in range(0, total, at_once):
        flips = np.arange(start, min(start + at_once, total))
        signs = (flips[:, None] >> np.arange(count) & 1 if exact  # the bits of 0 … 2**count - 1 are all flips
                 else generator.integers(0, 2, size=(len(flips), count), dtype=np.int8)) * 2.0 - 1.0
        as_far += (np.abs(signs @ sums) >= seen).sum(axis=0)
    return as_far / total if exact else (1 + as_far) / (1 + total)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: the smallest times m, the next times m - 1, …, never falling and at most 1."""
    order = np.argsort(p_values, kind="stable")
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = least
    return adjusted


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Exact two-sided McNemar test of (n,) hits, 0 or 1: only for rows that are independent of each other.

    Of the rows where one model hits and the other misses, each is as likely to favour either: p is twice the binomial
    tail, at most 1.
    """
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    n = only_a + only_b
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
            for k in range(min(only_a, only_b) + 1)]
    return min(1.0, 2 * math.fsum(map(math.exp, logs)))
