"""What several samples of a photo say beyond their median: how sure the model is, and what choosing among them may win.

Of a row with n samples (eval.predict samples=n), those that can be read have a geometric median, which is the answer.
spread      their mean distance to it, in km; where fewer than half can be read there is none, and it counts as largest
calibration rows by spread in ten groups of equal size: mean spread and median error of each; and Spearman's rank
            correlation of spread and error
risk        the surest share of rows, by least spread: within 25 and 750 km, GeoScore, median error of those alone
best of n   the first n samples: their median as the answer, and the oracle, the one nearest to the truth, which bounds
            what any choice among them can win. An unread answer counts as anywhere else
"""
from collections.abc import Mapping, Sequence

import numpy as np

from gre.config import UserError
from gre.geo.accuracy import geoscore
from gre.geo.median import geometric_median
from gre.geo.point import NO_ANSWER_KM, LatLon, distance_km

COVERED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
GROUPS = 10


def points(fields: Mapping, where: str) -> list[LatLon | None] | None:
    """Where each sample of a line points, None where it cannot be read; None for a line without samples."""
    if "samples" not in fields:
        return None
    try:
        return [None if one["lat"] is None else LatLon.checked(one["lat"], one["lon"]) for one in fields["samples"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: samples cannot be used ({type(error).__name__}: {error}): predict again") from None


def scored(truths: Sequence[LatLon], samples: Sequence[Sequence[LatLon | None]]) -> dict:
    """{"samples", "n", "rank_correlation", "calibration", "risk", "best_of"}. samples: (rows, n). UserError where rows
    have different numbers of samples."""
    counts = {len(row) for row in samples}
    if len(counts) > 1:
        raise UserError(f"rows have {min(counts)} to {max(counts)} samples: predict all with one samples=")
    count = counts.pop()
    error_km = np.array([_error(truth, row) for truth, row in zip(truths, samples)])
    spread_km = np.array([spread(row) for row in samples])
    order = np.argsort(spread_km, kind="stable")
    groups = [group for group in np.array_split(order, GROUPS) if len(group)]
    return {
        "samples": count, "n": len(samples), "rank_correlation": rank_correlation(spread_km, error_km),
        "calibration": [{"n": len(group), "spread_km": float(spread_km[group].mean()),
                         "median_km": float(np.median(error_km[group]))} for group in groups],
        "risk": [{"covered": share, **_numbers(error_km[order[:max(1, round(share * len(order)))]])}
                 for share in COVERED],
        "best_of": [{"first": first, "median": _numbers(np.array([_error(truth, row[:first]) for truth, row in
                                                                 zip(truths, samples)])),
                     "oracle": _numbers(np.array([_nearest(truth, row[:first]) for truth, row in
                                                  zip(truths, samples)]))} for first in _powers(count)]}


def spread(row: Sequence[LatLon | None]) -> float:
    """Mean distance in km of the samples that can be read to their median; half the globe where most cannot."""
    read = [point for point in row if point is not None]
    if 2 * len(read) < len(row) or not read:
        return NO_ANSWER_KM
    middle = geometric_median(read)
    return float(np.mean([distance_km(middle, point) for point in read]))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's, ties sharing their mean rank; None where either does not vary."""
    ranks = [_ranks(values) for values in (a, b)]
    if any(rank.std() == 0 for rank in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, own, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[own]


def _error(truth: LatLon, row: Sequence[LatLon | None]) -> float:
    read = [point for point in row if point is not None]
    return distance_km(truth, geometric_median(read)) if read else np.inf


def _nearest(truth: LatLon, row: Sequence[LatLon | None]) -> float:
    return min((distance_km(truth, point) for point in row if point is not None), default=np.inf)


def _numbers(error_km: np.ndarray) -> dict[str, float]:
    return {"n": len(error_km), "within_25_km": float((error_km <= 25).mean()),
            "within_750_km": float((error_km <= 750).mean()),
            "geoscore": float(np.mean([geoscore(None if np.isinf(one) else one) for one in error_km.tolist()])),
            "median_km": float(np.median(np.minimum(error_km, NO_ANSWER_KM)))}


def _powers(count: int) -> list[int]:
    """1, 2, 4, … and the number itself."""
    return sorted({count, *(2**at for at in range(count.bit_length()) if 2**at <= count)})
