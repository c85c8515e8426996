"""Answers by name (GLOBE's protocol): a geocoder turns country and city into coordinates, which are scored as any are.

The geocoder is the offline gazetteer. A name it does not find, or finds in several places at once, is an answer that
cannot be read: wrong, and in the denominator; so are two places in one answer (gre/text/one_place.py). What the
geocoder itself costs is its ceiling: the true names through the same geocoder. Where the benchmark has no name, the
nearest city of the gazetteer is the true one.

The names themselves are compared as the place reward does (`right`), and as GLOBE's published script does, which has no
gazetteer and compares texts (`globe_right`).
"""
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial

import numpy as np

from eval.scoring.columns import Columns
from gre.geo.places import Gazetteer
from gre.geo.point import LatLon, distance_km
from gre.rewards.place import same_by_gazetteer
from gre.text.named import Names, same_to_globe
from gre.text.one_place import one_place


def located(said: Sequence[Names | None], gazetteer: Gazetteer) -> tuple[list[LatLon | None], dict[str, int]]:
    """(where each answer points by its names, None where it does not; {"matched", "tie", "conflict", "miss", "two
    places", "no name"}: answers by outcome; a conflict is a city that is known, but not in the country named). said:
    None for two places."""
    points, outcomes = [], Counter(matched=0, tie=0, conflict=0, miss=0, **{"two places": 0, "no name": 0})
    for names in said:
        if names is None or names.city is None:
            points.append(None)
            outcomes["two places" if names is None else "no name"] += 1
            continue
        match = gazetteer.find(names.city, names.country or "")
        points.append(match.place.point if match.status == "found" else None)
        outcomes["matched" if match.status == "found" else "conflict" if match.status == "miss" and match.candidates
                 else match.status] += 1
    return points, dict(outcomes)


def distances(truths: Sequence[LatLon], points: Sequence[LatLon | None]) -> np.ndarray:
    """(n,) km, NaN where there is no point."""
    return np.array([np.nan if point is None else distance_km(truth, point) for truth, point in zip(truths, points)])


def true_names(columns: Columns, gazetteer: Gazetteer) -> tuple[list[Names | None], dict[str, int]]:
    """(the true names of each row as an answer, so None where they are read as two places; {"benchmark", "nearest"}:
    rows by where the name comes from)."""
    own = list(map(Names, columns.true_names["country"], columns.true_names["city"]))
    missing = [row for row, names in enumerate(own) if names.city is None]
    for row, near in zip(missing, gazetteer.nearest([columns.truths[row] for row in missing])):
        own[row] = Names(near.country.name, near.city.name)
    return ([names if one_place(names, None, gazetteer) else None for names in own],
            {"benchmark": len(own) - len(missing), "nearest": len(missing)})


def right(columns: Columns, gazetteer: Gazetteer) -> tuple[dict[str, np.ndarray], dict[str, dict[str, int]]]:
    """({"country", "city"}: (n,) 1.0 or 0.0, by the comparison that the place reward pays by; level → {"benchmark",
    "nearest"}: rows by whose name is the truth). Two places in one answer are wrong."""
    same = cache(partial(same_by_gazetteer, gazetteer))
    values = np.zeros((len(columns.keys), 2))
    own = list(map(Names, columns.true_names["country"], columns.true_names["city"]))
    for row, (said, true, near) in enumerate(zip(columns.said, own, gazetteer.nearest(columns.truths))):
        nearest = Names(near.country.name, near.city.name)
        filled = Names(true.country or nearest.country, true.city or nearest.city)
        if said is not None:  # the nearest city may lie across a border from the benchmark's country
            values[row] = same(said, filled)[0], same(said, filled if true.city else nearest)[1]
    named = {level: sum(getattr(true, level) is not None for true in own) for level in Names._fields}
    return dict(zip(named, values.T)), {level: {"benchmark": count, "nearest": len(own) - count}
                                        for level, count in named.items()}


def globe_right(columns: Columns) -> dict[str, np.ndarray]:
    """{"country", "city"}: (n,) 1.0 or 0.0, as GLOBE's eval.py compares names; a row without a true name is wrong.
    Empty where the benchmark names nothing."""
    if not any(columns.true_names["country"]) and not any(columns.true_names["city"]):
        return {}
    return {level: np.array([float(same_to_globe(said or "", truth or "")) for said, truth in zip(
        (getattr(names, level) for names in columns.globe_said), columns.true_names[level])])
        for level in ("country", "city")}
