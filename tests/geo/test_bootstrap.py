"""Intervals that resample clusters: worked by hand, enumerated, and held against a known truth."""
import itertools
import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest

from gre.geo import bootstrap
from gre.geo.bootstrap import Clusters, bounds, medians, paired_bootstrap, resamples, tail


@pytest.fixture
def plain_percentiles(monkeypatch):
    """Intervals from the 2.5th to the 97.5th percentile, as if clusters were many."""
    monkeypatch.setattr(bootstrap, "tail", lambda effective: 0.025)


def test_a_constant_difference_has_an_interval_of_no_width():
    interval = paired_bootstrap([3, 4, 5], [1, 2, 3], ["a", "b", "b"], draws=500)
    assert interval == {"mean": 2.0, "low": 2.0, "high": 2.0}


def test_the_interval_matches_the_normal_one_for_many_single_pictures():
    generator = np.random.default_rng(1)
    a = generator.normal(1.0, 2.0, size=400)
    interval = paired_bootstrap(a, np.zeros(400), range(400))
    half_width = 1.96 * a.std() / math.sqrt(400)
    assert interval["mean"] == pytest.approx(a.mean())
    assert interval["low"] == pytest.approx(a.mean() - half_width, abs=0.02)
    assert interval["high"] == pytest.approx(a.mean() + half_width, abs=0.02)


def test_copies_of_one_place_add_no_certainty():
    a, zero, places = [1.0, -1.0, 2.0, 0.5], [0.0] * 4, ["a", "b", "c", "d"]
    once = paired_bootstrap(a, zero, places)
    tenfold = paired_bootstrap(a * 10, zero * 10, places * 10)
    assert (tenfold["low"], tenfold["high"]) == pytest.approx((once["low"], once["high"]))
    as_if_independent = paired_bootstrap(a * 10, zero * 10, range(40))
    assert as_if_independent["high"] - as_if_independent["low"] < (once["high"] - once["low"]) / 2


def test_unequal_places_are_weighted_by_their_pictures():
    # Two places, drawn twice with replacement: (big, big) 1, (small, small) 0, one of each 3/4 of the pictures.
    interval = paired_bootstrap([1, 1, 1, 0], [0, 0, 0, 0], ["big", "big", "big", "small"])
    assert interval == {"mean": 0.75, "low": 0.0, "high": 1.0}


def test_the_seed_fixes_the_interval():
    arguments = ([1.0, 5.0, 2.0], [0.0, 1.0, 2.5], ["a", "b", "c"])
    assert paired_bootstrap(*arguments, seed=3) == paired_bootstrap(*arguments, seed=3)


@pytest.mark.parametrize("a, b, clusters", [([1], [1, 2], ["x"]), ([1], [1], ["x", "y"]), ([], [], [])])
def test_scores_that_do_not_pair_up_are_refused(a, b, clusters):
    with pytest.raises(ValueError, match="one score of each kind per photo"):
        paired_bootstrap(a, b, clusters)


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="index 1 is not finite"):
        paired_bootstrap([1, math.nan], [0, 0], ["x", "y"])


def test_the_interval_is_that_of_all_equally_likely_draws(plain_percentiles):
    # Four clusters with sums 2, 0, 1, 3 over 2, 1, 3, 3 rows: 4^4 = 256 draws, each a ratio of sums, worked out here
    # with fractions. The percentiles may stray from the enumerated ones by the luck of 10,000 draws: 0.6 % is 4 sigma.
    a, places = [1, 1, 0, 1, 0, 0, 1, 1, 1], ["a", "a", "b", "c", "c", "c", "d", "d", "d"]
    sums, sizes = [2, 0, 1, 3], [2, 1, 3, 3]
    ratios = sorted(Fraction(sum(sums[i] for i in draw), sum(sizes[i] for i in draw))
                    for draw in itertools.product(range(4), repeat=4))
    interval = paired_bootstrap(a, [0] * 9, places)
    assert interval["mean"] == pytest.approx(6 / 9)
    for end, level in (("low", 0.025), ("high", 0.975)):
        assert ratios[int((level - 0.006) * 256)] <= interval[end] + 1e-12
        assert interval[end] - 1e-12 <= ratios[int((level + 0.006) * 256)]


def test_medians_by_hand():
    # Values 1 (cluster 0), 2 and 9 (cluster 1), 5 (cluster 2).
    index, values = np.array([0, 1, 2, 1]), np.array([1.0, 2.0, 5.0, 9.0])
    times_drawn = np.array([[1, 1, 1],   # 1 2 5 9 -> 3.5
                            [3, 0, 0],   # 1 1 1 -> 1
                            [2, 1, 0],   # 1 1 2 9 -> 1.5
                            [0, 3, 0],   # 2 2 2 9 9 9 -> 5.5
                            [1, 0, 2],   # 1 5 5 -> 5
                            [0, 0, 0]])  # no row
    assert medians(times_drawn, index, values).tolist()[:5] == [3.5, 1.0, 1.5, 5.5, 5.0]
    assert np.isnan(medians(times_drawn, index, values)[5])


def test_medians_are_numpy_s():
    generator = np.random.default_rng(0)
    values = np.sort(generator.integers(0, 9, 30)).astype(float)
    clusters = Clusters.of(generator.integers(0, 7, 30).tolist())
    for times_drawn in resamples(clusters, 50, seed=1):
        for draw, median in zip(times_drawn.astype(int), medians(times_drawn, clusters.index, values)):
            assert median == np.median(np.repeat(values, draw[clusters.index]))


@pytest.mark.parametrize("count, clusters", [(500, 3), (500, 400), (40, 2)])
def test_medians_far_from_the_middle_are_found_too(count, clusters, monkeypatch):
    # Clusters lie one after the other, so that a draw that takes one thrice has its median far away. What is first
    # looked at is made narrow, too: most draws are then searched from end to end.
    index, values = np.sort(np.arange(count) % clusters), np.arange(count) ** 2.0
    times_drawn = np.random.default_rng(0).multinomial(clusters, np.full(clusters, 1 / clusters), 60).astype(float)
    expected = [np.median(np.repeat(values, draw.astype(int)[index])) for draw in times_drawn]
    assert medians(times_drawn, index, values).tolist() == expected
    monkeypatch.setattr(bootstrap.math, "ceil", lambda reach: 0)
    assert medians(times_drawn, index, values).tolist() == expected


def test_draws_do_not_depend_on_how_many_come_at_once(monkeypatch):
    clusters = Clusters.of(list("aabbcdddd"))
    whole = np.concatenate(list(resamples(clusters, 100, seed=5)))
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 63)  # 7 draws of 9 rows
    parts = list(resamples(clusters, 100, seed=5))
    assert [len(part) for part in parts] == [7] * 14 + [2]
    assert (np.concatenate(parts) == whole).all() and (whole.sum(axis=1) == 4).all()


def test_210_000_rows_are_drawn_a_few_draws_at_a_time():
    clusters = Clusters(np.arange(210_000), np.ones(210_000, dtype=int))
    assert next(resamples(clusters, 10_000, seed=0)).nbytes <= 2**25


def test_a_draw_without_rows_is_left_out():
    assert bounds(np.array([np.nan, 1.0, 3.0, np.nan]), 1e9) == pytest.approx((1.05, 2.95))


@pytest.mark.parametrize("clusters, student", [(5, 2.7764), (10, 2.2622), (21, 2.0860), (61, 2.0003), (1001, 1.9623)])
def test_few_clusters_move_the_percentiles_out_as_student_s_t_says(clusters, student):
    # Tables of Student's t at 97.5 % with 4, 9, 20, 60 and 1000 degrees of freedom.
    expected = NormalDist().cdf(-student * math.sqrt(clusters / (clusters - 1)))
    assert tail(clusters) == pytest.approx(expected, rel=0.03)
    assert tail(1) == 0.0 and tail(1.0001) == pytest.approx(0.0) and tail(1e9) == pytest.approx(0.025)


def test_clusters_of_unequal_size_are_worth_fewer():
    assert Clusters.of(list("aabbcc")).effective == pytest.approx(3)
    assert Clusters.of(list("aaaaaaaab")).effective == pytest.approx(81 / 65)  # 9^2 / (8^2 + 1)


def test_a_draw_divides_sums_and_averages_no_cluster_means(plain_percentiles):
    # A place of 10 hits and three single misses. k of 4 places drawn are the big one in C(4,k) 3^(4-k) of 256 cases:
    # 81, 108, 54, 12, 1. The 2.5th percentile is k = 0; the 97.5th is k = 3 (5.1 % are 3 or 4), which is 30 hits of 31
    # rows. Averaged means would say 3/4.
    interval = paired_bootstrap([1] * 10 + [0] * 3, [0] * 13, ["big"] * 10 + ["a", "b", "c"])
    assert interval == pytest.approx({"mean": 10 / 13, "low": 0.0, "high": 30 / 31})
