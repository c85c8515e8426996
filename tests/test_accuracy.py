"""The evaluation's numbers, worked by hand, and the interval that resamples places."""
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gre.geo.accuracy import THRESHOLDS_KM, geoscore, paired_bootstrap, summarize

distances = st.lists(st.one_of(st.none(), st.floats(0, 20015)), min_size=1, max_size=30)


def test_geoscore_by_hand():
    assert geoscore(0) == 5000
    assert geoscore(1492.7) == pytest.approx(5000 / math.e)
    assert geoscore(None) == 0
    assert geoscore(20015) == pytest.approx(0.0075, abs=1e-3)


def test_summary_by_hand():
    summary = summarize([0.5, 1.0, 25.1, 750.0, None, 3000.0])
    assert summary["within_km"] == {"1": 2 / 6, "25": 2 / 6, "200": 3 / 6, "750": 4 / 6, "2500": 4 / 6}
    assert summary["median_km"] == pytest.approx((25.1 + 750.0) / 2)
    assert summary["n"] == 6
    assert summary["unparsed"] == 1
    assert summary["mean_geoscore"] == pytest.approx(
        5000 / 6 * sum(math.exp(-d / 1492.7) for d in (0.5, 1.0, 25.1, 750.0, 3000.0)))


def test_an_unanswered_picture_counts_as_half_way_round_the_globe():
    assert summarize([None, None, 3.0])["median_km"] == pytest.approx(20015, abs=1)
    assert summarize([None])["mean_geoscore"] == 0


@given(distances)
def test_shares_grow_with_the_threshold(values):
    shares = [summarize(values)["within_km"][str(limit)] for limit in THRESHOLDS_KM]
    assert shares == sorted(shares)
    assert 0 <= shares[0] and shares[-1] <= 1


@given(distances)
def test_a_missing_answer_is_never_better_than_any_answer(values):
    answered = [20000.0 if value is None else value for value in values]
    assert summarize(values)["mean_geoscore"] <= summarize(answered)["mean_geoscore"]
    assert summarize(values)["median_km"] >= summarize(answered)["median_km"]


@pytest.mark.parametrize("bad", [[math.nan], [-1.0], [1.0, math.inf]])
def test_impossible_distances_are_refused(bad):
    with pytest.raises(ValueError, match=f"at index {len(bad) - 1}: expected a finite number"):
        summarize(bad)


def test_nothing_to_summarize_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        summarize([])


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
