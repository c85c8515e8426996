"""The evaluation's numbers, worked by hand."""
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gre.geo.accuracy import THRESHOLDS_KM, geoscore, summarize

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
    assert summary["mean_km"] == pytest.approx((0.5 + 1.0 + 25.1 + 750.0 + 20015.0 + 3000.0) / 6)
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
