"""The one place a completion answers with, by name, by coordinates or by both.

Two places in one answer are no answer, however they are written: two names under one label, `Paris or Lyon`, `Paris
(or Lyon)`, `Paris, Lyon`, or the names of one place and the coordinates of another. Cities that lie no farther apart
than ONE_PLACE_KM are one place, and so are a city and what says where it is: `Montmartre, Paris`, `Paris, Texas`.
"""
import re
from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import NamedTuple

from gre.geo.cities import City, Country
from gre.geo.places import ONE_PLACE_KM, TERRITORIES, Gazetteer, Match
from gre.geo.point import LatLon, distance_km
from gre.text.answers import parse_answer, split_completion
from gre.text.coordinates import ambiguous
from gre.text.named import Names, names_said

SAME_PLACE_KM = 200.0  # between the city named and the coordinates beside it: farther apart they are two places
_BETWEEN = re.compile(r"\s*(?:[/;|&,:()\[\]]|\s[-–—]\s|\b(?:or|and|and/or)\b)\s*", re.IGNORECASE)
_HEDGES = re.compile(r"^(?:(?:either|or|and|maybe|perhaps|possibly|probably|likely|alternatively|else)\b[\s,]*)+",
                     re.IGNORECASE)


class OnePlace(NamedTuple):
    """The one place a completion answers with: by name, and where that is: the coordinates it gives, else those of the
    city named. None for what it does not say."""

    names: Names
    point: LatLon | None


def read(text: str, gazetteer: Gazetteer) -> OnePlace | None:
    """The place of a completion; None where it says two."""
    said = names_said(text)
    if any(len(names) > 1 for names in said.values()) or ambiguous(split_completion(text)[1] or ""):
        return None
    return one_place(Names(*(next(iter(names), None) for names in said.values())), parse_answer(text), gazetteer)


def one_place(names: Names, point: LatLon | None, gazetteer: Gazetteer) -> OnePlace | None:
    """The place of names, and of coordinates where there are some; None where they say two."""
    country, city = names
    at_home = partial(gazetteer.find, country=country or "")
    if country and _several(country, gazetteer.country) or city and _several(city, at_home):
        return None
    match = at_home(city) if city else None
    if point is not None and _elsewhere(point, country, match, gazetteer):
        return None
    return OnePlace(names, point or (match.place.point if match and match.status == "found" else None))


def _several(name: str, find: Callable[[str], Match]) -> bool:
    """Whether a name is that of two places: `Paris or Lyon`, but not `Bosnia and Herzegovina`, and not `Paris, Texas`.
    """
    whole = find(name)
    if whole.status == "tie":
        return False
    rest = re.findall(r"[(\[]([^)\]]*)[)\]]", name)  # the gazetteer does not look into brackets
    written = [*whole.ignored, *rest] if whole.status == "found" else [name]
    parts = [_HEDGES.sub("", part) for text in written for part in _BETWEEN.split(text)]
    matches = [find(part) for part in parts if part] + [whole]
    places = {match.place for match in matches if match.status == "found" and match.how in ("name", "alias")}
    return any(_apart(a, b) for a, b in combinations(places, 2))


def _apart(a: City | Country, b: City | Country) -> bool:
    """Two countries are, and two cities that are no neighbours."""
    return not (isinstance(a, City) and isinstance(b, City)) or distance_km(a.point, b.point) > ONE_PLACE_KM


def _elsewhere(point: LatLon, country: str | None, city: Match[City] | None, gazetteer: Gazetteer) -> bool:
    """Whether coordinates lie in another place than the one named. Of a city that may be several, none is near; of a
    country, no city is near, and another one's is the nearest."""
    if city and city.status != "miss":
        return all(distance_km(point, place.point) > SAME_PLACE_KM for place in city.candidates)
    named = gazetteer.country(country) if country else None
    if named is None or named.status == "miss":
        return False
    codes = {code for place in named.candidates for code in (place.code, *TERRITORIES.get(place.code, ()))}
    near = (*gazetteer.nearest_cities([point]), *gazetteer.around(point, SAME_PLACE_KM))
    return not any(place.country in codes for place in near)
