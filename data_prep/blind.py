"""Can a judge's label be told without the photo? The AUC of a classifier that sees chain and answer alone.

Where it can, a judge learns the teachers' habits (a hedge before a wrong answer, a country that is mostly right) and
not to look: a reward that a policy games by tone. Words and pairs of words of chain and answer are hashed into a
vector, on which a logistic regression with a ridge is fitted; its scores are those of photos it was not fitted on.
"""
import re
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit

WIDTH = 2**14  # of the vector
RIDGE = 1.0  # of the weights' squares, beside the sum of the rows' losses
FOLDS = 5
FEWEST = 50  # rows of either label: with fewer, an AUC says little
_WORD = re.compile(r"\w+")


class Row(NamedTuple):
    """What is seen of a Judge row, and the photo it is about."""

    sha256: str
    chain: str
    answer: str
    label: bool


def auc_of(rows: Sequence[Row]) -> float | None:
    """Area under the ROC curve over all rows, each scored by a classifier that saw no row of its photo; None where
    there are too few rows of either label."""
    labels = np.array([row.label for row in rows], dtype=bool)
    if min(labels.sum(), (~labels).sum()) < FEWEST:
        return None
    from gre.judge.quality import auc  # brings torch

    features = _vectors(rows)
    fold = np.array([int(row.sha256[-8:], 16) % FOLDS for row in rows])
    scores = np.zeros(len(rows))
    for number in range(FOLDS):
        held = fold == number
        if held.any() and 0 < labels[~held].sum() < (~held).sum():
            weights = _fit(features[~held], labels[~held])
            scores[held] = features[held] @ weights[:-1] + weights[-1]
    return auc(scores, labels)


def _vectors(rows: Sequence[Row]) -> csr_matrix:
    """(rows, WIDTH), 1 where a word or a pair of words is there, of length 1 each; chain and answer apart."""
    places, ends = [], [0]
    for row in rows:
        found = set()
        for name, text in (("chain", row.chain), ("answer", row.answer)):
            words = _WORD.findall(text.lower())
            found |= {crc32(f"{name} {' '.join(words[at:at + length])}".encode()) % WIDTH
                      for length in (1, 2) for at in range(len(words) - length + 1)}
        places += sorted(found)
        ends.append(len(places))
    lengths = np.diff(ends)
    return csr_matrix((np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths), places, ends),
                      shape=(len(rows), WIDTH))


def _fit(features: csr_matrix, labels: np.ndarray) -> np.ndarray:
    """(WIDTH + 1,) weights and intercept. Losses are weighted so that both labels count alike."""
    signs = np.where(labels, 1.0, -1.0)
    share = np.where(labels, len(labels) / (2 * labels.sum()), len(labels) / (2 * (~labels).sum()))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = signs * (features @ weights[:-1] + weights[-1])
        slope = -share * signs * expit(-margin)
        value = (share * np.logaddexp(0, -margin)).sum() + RIDGE / 2 * (weights[:-1] ** 2).sum()
        return value, np.append(features.T @ slope + RIDGE * weights[:-1], slope.sum())

    return minimize(loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
