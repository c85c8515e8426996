"""Is the answer in the right country, region, city? Two ways, each with its own denominators; neither changes a
distance.

- By the offline gazetteer: the names of the city nearest to the answer against the benchmark's own names where it has
  them and the gazetteer knows them, else against those of the city nearest to the truth. A part of a city is a place
  of its own there, so the city is also right where answer and truth have the same nearest place. The ceiling is what
  the true coordinates score.
- As OSV-5M's own code does (metrics/utils.py of gastruc/osv5m): the package reverse_geocoder's names of the answer
  against the columns unique_country, unique_region, unique_sub-region and unique_city; a row whose column says nan is
  left out of that level. The package looks for the nearest city in degrees, as on a flat map: near the date line and
  the poles it errs, and so do OSV-5M's numbers. An answer that cannot be read, which that code never has, is wrong.
"""
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import numpy as np

from eval.scoring.columns import Columns
from gre.config import UserError
from gre.geo import names
from gre.geo.cities import CONTINENTS, City, Near
from gre.geo.places import TERRITORIES, Gazetteer
from gre.geo.point import LatLon, distance_km

LEVELS = ("country", "continent", "city")
OSV5M_LEVELS = {"country": ("cc",), "region": ("admin1", "cc"), "sub-region": ("admin2", "admin1", "cc"),
                "city": ("name", "admin2", "admin1", "cc")}  # what OSV-5M joins by underscores
_CONTINENTS = {names.fold(name): name for name in CONTINENTS.values()}
Right = dict[str, np.ndarray]  # level → (n,) 1.0 right, 0.0 wrong, NaN not in the denominator


def by_gazetteer(columns: Columns, gazetteer: Gazetteer) -> tuple[Right, dict[str, dict], dict[str, list[str]]]:
    """(country, continent and city of every row; level → {"benchmark", "nearest"}: rows by whose name is the truth, and
    the "ceiling", 0 to 1; "continent" and "country" of each row, the latter that of the nearest city).

    A territory counts as its country where the benchmark names the country. A benchmark's city that is a tie is the
    candidate nearest to the photo.
    """
    truths = gazetteer.nearest(columns.truths)
    answered = [row for row, answer in enumerate(columns.answers) if answer is not None]
    answers: dict[int, Near] = dict(zip(answered, gazetteer.nearest([columns.answers[row] for row in answered])))
    right, perfect = (np.zeros((len(truths), len(LEVELS))) for _ in range(2))
    named = np.zeros(len(LEVELS), dtype=int)
    continents = []
    for row, truth in enumerate(truths):
        country, continent, city = (columns.true_names[level][row] for level in LEVELS)
        codes = {place.code for place in gazetteer.country(country).candidates} if country else set()
        known = _CONTINENTS.get(names.fold(continent)) if continent else None
        own = _named_city(city, country, columns.truths[row], gazetteer) if city else None
        named += [bool(codes), bool(known), own is not None]
        continents.append(known or truth.country.continent)
        allowed = ({code for name in codes for code in (name, *TERRITORIES.get(name, ()))} or {truth.country.code},
                   {continents[-1]}, {truth.city.id, *([own.id] if own else [])})
        perfect[row] = _inside(truth, allowed)
        if row in answers:
            right[row] = _inside(answers[row], allowed)
    beside = {level: {"benchmark": int(count), "nearest": len(truths) - int(count), "ceiling": float(ceiling)}
              for level, count, ceiling in zip(LEVELS, named, perfect.mean(axis=0))}
    return dict(zip(LEVELS, right.T)), beside, {"continent": continents,
                                                "country": [truth.country.name for truth in truths]}


def _inside(near: Near, allowed: Sequence[set]) -> list[bool]:
    """Whether country, continent and city of a place are among those that are right."""
    return [value in right for value, right in zip((near.country.code, near.country.continent, near.city.id), allowed)]


def by_osv5m(columns: Columns) -> tuple[Right, str]:
    """(OSV-5M's four levels, name and version of the geocoder). Raises UserError without any of the four columns."""
    from reverse_geocoder import RGeocoder  # an extra; eval.score looks for it before it reads anything

    truth = {level: columns.true_names.get(f"unique_{level}", []) for level in OSV5M_LEVELS}
    if not any(name for names_of_level in truth.values() for name in names_of_level):
        raise UserError("areas=osv5m compares with the columns unique_country, unique_region, unique_sub-region and "
                        "unique_city of OSV-5M's test.csv, and no row has one of them")
    answered = [row for row, answer in enumerate(columns.answers) if answer is not None]
    found = RGeocoder(mode=1, verbose=False).query([columns.answers[row] for row in answered]) if answered else []
    return osv5m_right(truth, dict(zip(answered, found))), f"reverse_geocoder {version('reverse_geocoder')}"


def osv5m_right(truth: Mapping[str, Sequence[str | None]], places: Mapping[int, Mapping[str, str]]) -> Right:
    """The four levels. truth: level → (n,) the benchmark's name, None where its column says nan. places: row → what
    reverse_geocoder calls the answer (cc, admin1, admin2, name); a row that is not there has no answer."""
    right = {}
    for level, fields in OSV5M_LEVELS.items():
        right[level] = np.array([np.nan if name is None else 0.0 for name in truth[level]])
        for row, place in places.items():
            if truth[level][row] is not None:
                right[level][row] = truth[level][row] == "_".join(place[field] for field in fields)
    return {level: values for level, values in right.items() if not np.isnan(values).all()}


def _named_city(name: str, country: str | None, truth: LatLon, gazetteer: Gazetteer) -> City | None:
    """The benchmark's city in the gazetteer: of several so called, the nearest to the photo; None for a miss."""
    match = gazetteer.find(name, country or "")
    if match.status == "miss":
        return None
    return min(match.candidates, key=lambda city: distance_km(truth, city.point))
