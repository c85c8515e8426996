"""How good a judge is, and whether it may reward a policy. Pure functions."""
import numpy as np
from numpy.typing import ArrayLike

from gre.config import UserError

BINS = 10


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Chance that a true row scores above a false one, ties counting half (area under the ROC curve).

    Raises ValueError when the labels are all of one kind, where it has no meaning.
    """
    scores, labels = np.asarray(scores, dtype=float), np.asarray(labels, dtype=bool)
    true, false = np.sort(scores[labels]), scores[~labels]
    if not len(true) or not len(false):
        raise ValueError("the AUC needs rows labelled True and rows labelled False")
    twice_below = np.searchsorted(true, false, "left") + np.searchsorted(true, false, "right")  # a tie counts once
    return float(1 - twice_below.sum() / (2 * len(true) * len(false)))


def calibration_error(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Expected calibration error over ten equal bins of P(True): mean |share of true rows - mean P(True)| of a bin,
    weighted by its rows (Guo et al. 2017)."""
    probabilities, labels = np.asarray(probabilities, dtype=float), np.asarray(labels, dtype=float)
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=labels - probabilities, minlength=BINS)  # rows of a bin x (share - mean)
    return float(np.abs(gaps).sum() / len(labels))


def check_gate(metrics: dict, min_auc: float) -> float:
    """The lower AUC of a judge's manifest metrics: on held-out Judge rows and on the policy's own completions.

    Raises UserError when it is below `min_auc` or was not measured: such a judge would reward noise.
    """
    where = {"auc": "on held-out Judge rows", "auc_on_policy": "on stage 1's own completions"}
    for name, rows in where.items():
        if name in metrics and metrics[name] is None:
            raise UserError(f"the judge's AUC {rows} has no meaning, so RL does not start: the answers were all right, "
                            "all wrong or unreadable. Name a better stage 1 or sample more of it (policy.num_photos)")
        if name not in metrics:
            raise UserError(f"the judge's AUC {rows} was not measured ({name} is missing from its manifest), so RL "
                            "does not start: train the judge with policy.model_name_or_path and policy.data.path")
    for name, rows in where.items():
        if not metrics[name] >= min_auc:
            raise UserError(f"the judge's AUC {rows} is {metrics[name]:.3f}, below judge.min_auc={min_auc}, so RL does "
                            "not start: its verdicts would reward noise. Train it on more or cleaner rows, train it "
                            "longer, or lower judge.min_auc")
    return min(metrics[name] for name in where)
