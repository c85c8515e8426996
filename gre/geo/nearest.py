"""The nearest of many points on the sphere: exact everywhere, poles and date line included.

Points become unit vectors and are sorted into cells of a cube grid. A query looks into cells in the order of the least
distance any of their points can have, and stops when that bound exceeds the best it found: the answer is that of a
search through all points. The straight line through the globe orders points as the great circle does.
"""
from collections.abc import Sequence

import numpy as np

from gre.geo.point import LatLon

CELLS_PER_AXIS = 16  # cells are about 800 km wide


def unit_vectors(points: Sequence[LatLon]) -> np.ndarray:
    """(n, 3) vectors of length 1 from the centre of the globe. ValueError for a point off the globe."""
    for point in points:
        LatLon.checked(*point)
    lat, lon = np.radians(np.asarray(points, dtype=float).reshape(-1, 2)).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


class NearestPoint:
    """Built once over (n, 2) degrees, then asked for the nearest of any point."""

    def __init__(self, points: Sequence[LatLon]):
        if not len(points):
            raise ValueError("no points to search")
        vectors = unit_vectors(points)
        cell = np.floor((vectors + 1) * (CELLS_PER_AXIS / 2)).astype(np.int64) @ [1, 64, 4096]
        self._order = np.argsort(cell, kind="stable")  # (n,) index of the point at each sorted place
        self._vectors = vectors[self._order]
        starts = np.flatnonzero(np.diff(cell[self._order], prepend=-1))
        self._spans = list(zip(starts, [*starts[1:], len(vectors)]))
        self._centres = np.stack([self._vectors[start:end].mean(axis=0) for start, end in self._spans])  # (cells, 3)
        self._radii = np.array([np.linalg.norm(self._vectors[start:end] - centre, axis=1).max()
                                for (start, end), centre in zip(self._spans, self._centres)])

    def index(self, point: LatLon) -> int:
        """Index of the nearest point; of equally near ones, the first given."""
        (vector,) = unit_vectors([point])
        bounds = np.linalg.norm(self._centres - vector, axis=1) - self._radii
        best, best_index = np.inf, -1
        for cell in np.argsort(bounds):
            if bounds[cell] > best:
                break
            start, end = self._spans[cell]
            squares = np.square(self._vectors[start:end] - vector).sum(axis=1)
            at = int(squares.argmin())  # sorting was stable: the first of equals within a cell
            found = float(np.sqrt(squares[at])), int(self._order[start + at])
            best, best_index = min((best, best_index), found) if best_index >= 0 else found
        return best_index
