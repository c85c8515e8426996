"""Intervals of shares near 0 and 1, against binomial sums in whole numbers."""
import math

import numpy as np
import pytest

from gre.geo import shares


def tail(n: int, hits: int, share: float) -> float:
    """P(at least `hits` of n)."""
    return sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(hits, n + 1))


@pytest.mark.parametrize("n, hits", [(6, 1), (6, 5), (20, 3), (50, 1), (50, 49), (200, 100)])
def test_clopper_and_pearson_leave_a_fortieth_on_either_side(n, hits):
    low, high = shares.clopper_pearson(hits, n)
    assert tail(n, hits, low) == pytest.approx(0.025) and 1 - tail(n, hits + 1, high) == pytest.approx(0.025)


@pytest.mark.parametrize("n", [5, 72, 500, 210_000])
def test_no_hit_and_all_hits(n):
    assert shares.clopper_pearson(0, n) == (0.0, pytest.approx(1 - 0.025 ** (1 / n)))
    assert shares.clopper_pearson(n, n) == (pytest.approx(0.025 ** (1 / n)), 1.0)


def test_single_rows_have_the_exact_interval():
    hits = np.arange(40) < 3
    assert shares.interval(hits.astype(float), np.ones(40)) == pytest.approx(shares.clopper_pearson(3, 40))


def test_clusters_without_a_hit_count_as_clusters():
    low, high = shares.interval(np.zeros(60), np.full(60, 8))
    assert low == 0 and high == pytest.approx(shares.clopper_pearson(0, 60)[1], rel=0.1)


def test_copies_of_rows_add_no_certainty():
    hits = (np.arange(60) < 20).astype(float)
    once, tenfold = shares.interval(hits, np.ones(60)), shares.interval(10 * hits, np.full(60, 10))
    assert tenfold == pytest.approx(once, abs=0.01)


def test_half_hits_are_wider_than_need_be_and_never_narrower():
    halves, whole = np.full(100, 0.5), (np.arange(100) % 2).astype(float)
    assert shares.interval(halves, np.ones(100)) == pytest.approx(shares.interval(whole, np.ones(100)), abs=0.002)


def test_sums_that_are_no_share_are_refused():
    with pytest.raises(ValueError, match="between 0 and the sizes"):
        shares.interval(np.array([2.0, 0.0]), np.ones(2))
