"""The nearest of many points on the sphere: exact everywhere, poles and date line included.

Points become unit vectors, among which scipy's k-d tree finds the nearest: the straight line through the globe orders
points as the great circle does.
"""
import math
from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree

from gre.geo.point import EARTH_RADIUS_KM, LatLon


def unit_vectors(points: Sequence[LatLon]) -> np.ndarray:
    """(n, 3) vectors of length 1 from the centre of the globe. ValueError for a point off the globe."""
    for point in points:
        LatLon.checked(*point)
    lat, lon = np.radians(np.asarray(points, dtype=float).reshape(-1, 2)).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


class NearestPoint:
    """Built once over (n, 2) degrees, then asked for the nearest of any points."""

    def __init__(self, points: Sequence[LatLon]):
        if not len(points):
            raise ValueError("no points to search")
        places, self._first = np.unique(unit_vectors(points), axis=0, return_index=True)
        self._tree = KDTree(places)

    def indices(self, points: Sequence[LatLon]) -> np.ndarray:
        """(n,) index of the nearest point of each; of several at one place, the first given."""
        return self._first[self._tree.query(unit_vectors(points))[1]]

    def within(self, point: LatLon, km: float) -> list[int]:
        """Indices of all points within so many km of one, in no order; of several at one place, the first given."""
        chord = 2 * math.sin(min(km / EARTH_RADIUS_KM, math.pi) / 2)
        return [int(self._first[at]) for at in self._tree.query_ball_point(unit_vectors([point])[0], chord)]
