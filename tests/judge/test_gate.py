"""The judge's quality, worked out by hand, and the gate before RL."""
import numpy as np
import pytest

from gre.config import UserError
from gre.judge.quality import auc, calibration_error, check_gate


@pytest.mark.parametrize("scores, labels, expected", [
    ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 1.0),
    ([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], 0.0),
    ([0.5, 0.5, 0.5], [1, 0, 0], 0.5),
    ([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0], 0.75),  # of the four pairs, only (0.4, 0.6) is the wrong way round
    ([0.6, 0.4, 0.6, 0.1], [1, 1, 0, 0], 0.625),  # (0.6, 0.6) is a tie, (0.4, 0.6) is wrong
])
def test_auc_by_hand(scores, labels, expected):
    assert auc(scores, labels) == pytest.approx(expected)


def test_auc_is_the_share_of_ordered_pairs():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 20, 200) / 20, rng.random(200) < 0.3
    true, false = scores[labels][:, None], scores[~labels]
    assert auc(scores, labels) == pytest.approx(np.mean((true > false) + 0.5 * (true == false)))


@pytest.mark.parametrize("labels", [[1, 1], [0, 0], []])
def test_auc_of_one_kind_has_no_meaning(labels):
    with pytest.raises(ValueError, match="labelled False"):
        auc([0.5] * len(labels), labels)


def test_calibration_error_by_hand():
    assert calibration_error([0.8] * 5, [1, 1, 1, 1, 0]) == pytest.approx(0)
    assert calibration_error([1.0, 0.0], [1, 0]) == 0
    assert calibration_error([1.0, 0.0], [0, 1]) == 1
    # Bin 0.2-0.3: mean 0.25, half true, gap 0.25; bin 0.9-1: mean 0.95, all true, gap 0.05; two rows each.
    assert calibration_error([0.25, 0.25, 0.95, 0.95], [1, 0, 1, 1]) == pytest.approx(0.5 * 0.25 + 0.5 * 0.05)


def test_the_gate_looks_at_the_lower_auc_and_says_why():
    assert check_gate({"auc": 0.9, "auc_on_policy": 0.75}, 0.7) == 0.75
    with pytest.raises(UserError, match="stage 1's own completions is 0.650, below judge.min_auc=0.7"):
        check_gate({"auc": 0.9, "auc_on_policy": 0.65}, 0.7)
    with pytest.raises(UserError, match="held-out Judge rows is 0.500"):
        check_gate({"auc": 0.5, "auc_on_policy": 0.8}, 0.7)
    with pytest.raises(UserError, match="auc_on_policy is missing"):
        check_gate({"auc": 0.9}, 0.7)
    with pytest.raises(UserError, match="no meaning"):
        check_gate({"auc": 0.9, "auc_on_policy": None}, 0.7)
    for metrics in ({"auc": float("nan"), "auc_on_policy": 0.9}, {"auc": 0.9, "auc_on_policy": float("nan")}):
        with pytest.raises(UserError, match="nan"):
            check_gate(metrics, 0.7)
