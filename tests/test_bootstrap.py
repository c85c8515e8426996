"""Intervals that resample clusters: worked by hand, enumerated, and held against a known truth."""
import math

import numpy as np
import pytest

from gre.geo.bootstrap import paired_bootstrap


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
    with pytest.raises(ValueError, match="one score of each kind per picture"):
        paired_bootstrap(a, b, clusters)


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="index 1 is not finite"):
        paired_bootstrap([1, math.nan], [0, 0], ["x", "y"])
