"""The geometric median on the sphere: the point whose distances to the given points add up to the least.

Weiszfeld's iteration, carried out in the tangent plane: every point is seen from the current estimate as a vector of
its distance's length, the vectors are averaged with weights 1 / distance, and the estimate moves along their mean.
A start that is one of the points stays there when the pull of the others is no larger than its own count (Vardi and
Zhang 2000, https://doi.org/10.1073/pnas.97.4.1423); otherwise it is left in the direction of the pull.
Unlike the mean, it stays with the majority: one answer on the wrong continent moves it little.
"""
from collections.abc import Sequence

import numpy as np

from gre.geo.nearest import unit_vectors
from gre.geo.point import LatLon

STEPS = 200
SAME_RAD = 1e-9  # 6 mm; nearer is the same point
DONE_RAD = 1e-12  # far below it: next to a point a step is as short as the way to it, and is no end


def geometric_median(points: Sequence[LatLon]) -> LatLon:
    """The geometric median of (n,) points in degrees; of one or two points, or of antipodes, the first given.

    Started from the point whose distances to the others add up to the least, so that it is never worse than any of
    them, and from the mean direction; points spread over more than a hemisphere may have several local minima, of which
    this is the better one found.
    Raises ValueError without points, and for a point off the globe.
    """
    if not len(points):
        raise ValueError("no points to take the median of")
    vectors = unit_vectors(points)  # (n, 3)
    totals = [_distances(vector, vectors).sum() for vector in vectors]
    best_at = int(np.argmin(np.round(totals, 12)))  # equal but for rounding: the first
    if len(points) < 3:
        return LatLon.checked(*points[best_at])
    best, least = _descended(vectors[best_at], vectors)
    middle = vectors.sum(axis=0)
    if np.linalg.norm(middle) > SAME_RAD:  # next to other points the way out of one is long, and from here it is not
        found, total = _descended(middle / np.linalg.norm(middle), vectors)
        if total < least * (1 - SAME_RAD):
            best = found
    if np.array_equal(best, vectors[best_at]):
        return LatLon.checked(*points[best_at])  # the point as given, without rounding
    return LatLon.checked(float(np.degrees(np.arcsin(np.clip(best[2], -1, 1)))),
                          float(np.degrees(np.arctan2(best[1], best[0]))))


def _descended(start: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """Where the iteration comes to from a start (3,), and its total in radians."""
    best, least = start, _distances(start, vectors).sum()
    for _ in range(STEPS):
        step = _step(best, vectors)
        length = float(np.linalg.norm(step))
        if length < DONE_RAD:
            break
        estimate = np.cos(length) * best + np.sin(length) * step / length
        estimate /= np.linalg.norm(estimate)
        total = _distances(estimate, vectors).sum()
        if total >= least:
            break  # at the limit of rounding, or uphill on the far side of the globe
        best, least = estimate, total
    return best, least


def _distances(vector: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(n,) angles in radians, exact for near points and for antipodes alike."""
    return 2 * np.arctan2(np.linalg.norm(vectors - vector, axis=1), np.linalg.norm(vectors + vector, axis=1))


def _step(estimate: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(3,) where Weiszfeld's iteration goes from here, as a tangent vector in radians."""
    angles = _distances(estimate, vectors)
    away = angles > SAME_RAD
    across = vectors[away] - (vectors[away] @ estimate)[:, None] * estimate  # (m, 3) in the tangent plane
    norms = np.linalg.norm(across, axis=1)
    directions = across[norms > 0] / norms[norms > 0, None]  # an antipode pulls nowhere
    pull = directions.sum(axis=0)
    strength = float(np.linalg.norm(pull))
    own = len(vectors) - int(away.sum())  # points at the estimate itself
    if strength <= own:
        return np.zeros(3)
    return pull * (1 - own / strength) / (1 / angles[away][norms > 0]).sum()
