"""Columns → numbers with intervals, for all rows, for each slice of them, and for two models on the same rows.

One set of bootstrap draws serves everything: a slice's number in a draw comes from the rows of the slice that were
drawn, and a difference is taken within the draw. Where few clusters hold all that varies the draws hardly do: shares
have the intervals of gre/geo/shares.py, and GeoScore and the mean are never narrower than theirs on rare hits. The mean
distance, which the farthest answers decide, has a bootstrap-t interval. Fewer
than WITHHELD effective clusters get no interval; fewer than FEW are marked where they are shown.
"""
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from eval.scoring import paired
from eval.scoring.columns import Columns
from gre.geo import bootstrap, shares
from gre.geo.accuracy import GEOSCORE_MAX, THRESHOLDS_KM, geoscore
from gre.geo.bootstrap import Clusters
from gre.geo.point import NO_ANSWER_KM

DRAWS = 10_000  # bootstrap resamples, and sign flips where not all can be counted
WITHIN = [f"within_{limit}_km" for limit in THRESHOLDS_KM]
MEANS = [*WITHIN, "geoscore", "mean_km"]  # what is a mean over rows, and so a ratio of sums over clusters
MEDIAN = "median_km"
SKEWED = "mean_km"  # its interval is a bootstrap-t
TAIL = 0.025
LARGEST = {"geoscore": GEOSCORE_MAX, "mean_km": 20_016.0}  # of a row, a bit over half the globe; of shares it is 1
WITHHELD, FEW = 5, 15  # effective clusters below which there is no interval, and below which it is marked
Bounds = tuple[float, float]
Estimates = dict[str, dict[str, float | None]]
"""Measure → {"value", "low", "high", "effective_clusters"}; low and high None where the interval is withheld."""


class Part:
    """Means and the median of some of the rows: of all of them once, and of each bootstrap draw.

    values: (rows, measures). middle: (rows,) what the median is taken of, or None. rows: indices into clusters.index.
    """

    def __init__(self, names: Sequence[str], values: np.ndarray, middle: np.ndarray | None, rows: np.ndarray,
                 clusters: Clusters):
        self.names = [*names, *([] if middle is None else [MEDIAN])]
        self.here, own = np.unique(clusters.index[rows], return_inverse=True)  # the clusters these rows belong to
        grouped = Clusters(own, np.bincount(own))
        self.n, self.sums, self.sizes = len(rows), grouped.sums(values), grouped.sizes
        self.values, self.clusters = values, grouped
        self.effective = grouped.effective
        self.value = list(values.mean(axis=0))
        self.order = None
        if middle is not None:
            order = np.argsort(middle, kind="stable")
            self.order, self.ascending = own[order], middle[order]
            self.value.append(np.median(middle))

    def draw(self, times_drawn: np.ndarray) -> np.ndarray:
        """(draws, measures) for (draws, clusters) resamples; NaN in draws that hold none of these rows."""
        drawn = times_drawn[:, self.here] if len(self.here) < times_drawn.shape[1] else times_drawn
        with np.errstate(invalid="ignore"):
            means = (drawn @ self.sums) / (drawn @ self.sizes)[:, None]
        if self.order is None:
            return means
        return np.column_stack([means, bootstrap.medians(drawn, self.order, self.ascending)])

    def studentised(self, times_drawn: np.ndarray) -> np.ndarray:
        """(draws, 1) of what is SKEWED, or (draws, 0): draws whose percentiles are its bootstrap-t interval.

        The standard error of a ratio of sums over clusters is that of sum - ratio * size, by linearization.
        """
        if SKEWED not in self.names:
            return np.empty((len(times_drawn), 0))
        at = self.names.index(SKEWED)
        drawn, sums, sizes = times_drawn[:, self.here], self.sums[:, at], self.sizes.astype(float)
        total, rows, squares, products, square_rows = (
            drawn @ np.column_stack([sums, sizes, sums**2, sums * sizes, sizes**2])).T
        with np.errstate(invalid="ignore"):
            means = total / rows
            spreads = np.sqrt(np.maximum(0, squares - 2 * means * products + means**2 * square_rows)) / rows
        spread = float(np.sqrt(((sums - self.value[at] * sizes) ** 2).sum()) / sizes.sum())
        return bootstrap.studentised(means, spreads, self.value[at], spread)[:, None]


def parts(columns: Columns) -> dict[tuple[str, ...], Part]:
    """Everything of a file that gets a number: () is all rows, ("slice", field, label) a slice, ("name", way, level)
    the rows whose name at that level the benchmark has."""
    charged = np.where(np.isnan(columns.distance_km), NO_ANSWER_KM, columns.distance_km)
    values = np.column_stack([
        *(charged <= limit for limit in THRESHOLDS_KM),
        [geoscore(None if np.isnan(distance) else distance) for distance in columns.distance_km.tolist()], charged])
    found = {(): np.arange(len(charged))}
    for field, labels in columns.slices.items():
        found |= {("slice", field, str(label)): np.flatnonzero(labels == label) for label in np.unique(labels)}
    made = {key: Part(MEANS, values[rows], charged[rows], rows, columns.clusters) for key, rows in found.items()}
    for way, levels in columns.names.items():
        for level, right in levels.items():
            rows = np.flatnonzero(~np.isnan(right))
            made["name", way, level] = Part([f"{level}_right"], right[rows, None], None, rows, columns.clusters)
    return made


def estimate(files: Mapping[str, Columns], draws: int, seed: int) -> dict[tuple[str, ...], dict]:
    """Numbers of one file or of two with the same rows, with 95 % intervals.

    files: name → columns; the rows must be the same (eval.predictions.check_same_keys). Returns by the keys of `parts`
    {"n", "clusters", name: Estimates, …, "difference": Estimates of the first file minus the second, if two}.
    """
    first = next(iter(files.values()))
    made = {name: parts(columns) for name, columns in files.items()}
    shared = [key for key in made[next(iter(files))] if all(key in found for found in made.values())]
    samples = {(name, key): [] for name in files for key in shared}
    for times_drawn in bootstrap.resamples(first.clusters, draws, seed):
        for name, key in samples:
            part = made[name][key]
            samples[name, key].append(np.hstack([part.draw(times_drawn), part.studentised(times_drawn)]))
    result = {}
    for key in shared:
        of = {name: made[name][key] for name in files}
        drawn = {name: np.concatenate(samples[name, key]) for name in files}
        part = next(iter(of.values()))
        result[key] = {"n": part.n, "clusters": len(part.here)}
        result[key] |= {name: _estimates(part, part.value, drawn[name], _near_bounds) for name, part in of.items()}
        if len(files) == 2:
            (a, b), (drawn_a, drawn_b) = of.values(), drawn.values()
            result[key]["difference"] = _estimates(a, np.subtract(a.value, b.value),
                                                   (drawn_a - drawn_b)[:, :len(a.names)],
                                                   functools.partial(_difference_near_zero, b))
    return result


def p_values(a: Columns, b: Columns, draws: int, seed: int) -> dict:
    """Tests of the difference over all rows, by measure: {"sign_flip": of each mean, "holm": of the five thresholds
    together, "mcnemar": of each threshold, or None where a cluster has more than one row}."""
    of_a, of_b = parts(a)[()], parts(b)[()]
    by_measure = dict(zip(MEANS, map(float, paired.sign_flip(of_a.sums - of_b.sums, draws, seed))))
    mcnemar = None
    if len(a.clusters) == len(a.keys):  # every cluster is a row, and its sums are the row's hits
        mcnemar = {name: paired.mcnemar(of_a.sums[:, at], of_b.sums[:, at]) for at, name in enumerate(WITHIN)}
    return {"sign_flip": by_measure, "holm": dict(zip(WITHIN, paired.holm([by_measure[name] for name in WITHIN]))),
            "mcnemar": mcnemar}


def _estimates(part: Part, values: Sequence[float], drawn: np.ndarray,
               bounded: Callable[[Part, str, int, Bounds], Bounds]) -> Estimates:
    """bounded: the interval that takes the place of the draws'."""
    estimates = {}
    for at, name in enumerate(part.names):
        low = high = None
        if part.effective >= WITHHELD:
            if name == SKEWED and drawn.shape[1] > len(part.names):
                low, high = np.clip(bootstrap.between(drawn[:, -1], TAIL), 0, LARGEST[SKEWED]).tolist()
            else:
                low, high = bootstrap.bounds(drawn[:, at], part.effective)
            if name != MEDIAN:
                low, high = bounded(part, name, at, (low, high))
        estimates[name] = {"value": float(values[at]), "low": low, "high": high,
                           "effective_clusters": round(part.effective, 2)}
    return estimates


def _near_bounds(part: Part, name: str, at: int, drawn: Bounds) -> Bounds:
    """Of a share its own interval; of a mean the draws', unless few clusters hold all that varies."""
    if name not in LARGEST:
        return shares.interval(part.sums[:, at], part.sizes)
    return shares.no_narrower(drawn, part.sums[:, at], part.sizes, LARGEST[name])


def _difference_near_zero(b: Part, a: Part, name: str, at: int, drawn: Bounds) -> Bounds:
    """Of a minus b: the draws' interval, and no narrower than what the few rows in which they differ allow."""
    largest = LARGEST.get(name, 1.0)
    rows = (a.values[:, at] - b.values[:, at]) / largest
    better, worse = (a.clusters.sums(np.maximum(0, sign * rows)) for sign in (1, -1))
    if name in LARGEST and sum(np.minimum(1, sums).sum() for sums in (better, worse)) >= shares.RARE:
        return drawn
    return _wider(drawn, shares.difference(better, worse, a.sizes), largest)


def _wider(drawn: Bounds, bounds: Bounds, scale: float) -> Bounds:
    return min(drawn[0], scale * bounds[0]), max(drawn[1], scale * bounds[1])
