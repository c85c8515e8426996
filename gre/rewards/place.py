"""Place reward, GLOBE's R_geo: is the country named the right one, and the city in it?

    1[country right] · (alpha · 1[city right] + 1 - alpha)

Names are compared through the gazetteer: München is Munich, USA is the United States, and Niger is not Nigeria.
`match: upstream` compares texts as GLOBE's released code does, for comparison with it.

Two places in one answer are no answer, however they are written: two names under one label, `Paris or Lyon`, `Paris,
Lyon`, or the names of one place and the coordinates of another.
"""
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

from gre.config import option
from gre.geo import names as spelling
from gre.geo.places import TERRITORIES, City, Gazetteer, Match
from gre.geo.point import LatLon, distance_km
from gre.rewards.answers import Answers
from gre.rewards.gps import DistanceConfig, distance_reward
from gre.text.answers import parse_answer
from gre.text.named import Names, names_said, parse_names_as_globe, same_to_globe

MIN_POPULATION = 15_000  # of the gazetteer's cities, as where answers by name are scored
SAME_PLACE_KM = 200.0    # between the city named and the coordinates beside it: farther apart they are two places
_BETWEEN = re.compile(r"\s*(?:[/;|&,]|\bor\b|\band\b)\s*", re.IGNORECASE)


@dataclass
class PlaceConfig:
    """The reward of a country's and a city's name."""

    alpha: float = option(0.8, "share of the reward that the city earns, once the country is right")
    match: str = option("gazetteer", "gazetteer: names that mean one place are the same; upstream: texts are compared "
                                     "as GLOBE's released code does")

    def __post_init__(self):
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"place.alpha is {self.alpha}: it must lie between 0 and 1")
        if self.match not in ("gazetteer", "upstream"):
            raise ValueError(f"place.match is {self.match!r}: write gazetteer or upstream")


class Said(NamedTuple):
    """The one place a completion answers with: by name, and where that is: the coordinates it gives, else those of the
    city named. None for what it does not say."""

    names: Names
    point: LatLon | None


def read(text: str, gazetteer: Gazetteer) -> Said | None:
    """The place of a completion; None where it says two."""
    said = names_said(text)
    if any(len(names) > 1 for names in said.values()):
        return None
    country, city = (next(iter(names), None) for names in said.values())
    if country and _several(country, gazetteer.country):
        return None
    at_home = partial(gazetteer.find, country=country or "")
    if city and _several(city, at_home):
        return None
    point, match = parse_answer(text), at_home(city) if city else None
    found = match.place.point if match and match.status == "found" else None
    if point is not None and _elsewhere(point, country, match, gazetteer):
        return None
    return Said(Names(country, city), point or found)


def _several(name: str, find: Callable[[str], Match]) -> bool:
    """Whether a name is that of two places: `Paris or Lyon`, but not `Bosnia and Herzegovina`, and not `Paris, Texas`.
    """
    whole = find(name)
    parts = [whole.place.name, *whole.ignored] if whole.status == "found" else _BETWEEN.split(name)
    if whole.status == "tie" or len(parts) < 2:
        return False
    matches = [whole, *map(find, parts[1:])] if whole.status == "found" else list(map(find, parts))
    places = {match.place for match in matches if match.status == "found" and match.how in ("name", "alias")}
    return any(_apart(a, b) for a, b in combinations(places, 2))


def _apart(a: Any, b: Any) -> bool:
    """Two countries are, and two cities that are no neighbours: `Montmartre, Paris` is one place."""
    points = getattr(a, "point", None), getattr(b, "point", None)
    return None in points or distance_km(*points) > SAME_PLACE_KM


def _elsewhere(point: LatLon, country: str | None, city: Match[City] | None, gazetteer: Gazetteer) -> bool:
    """Whether coordinates lie in another place than the one named. Of a city that may be several, none is near; of a
    country, another one's city is the nearest."""
    if city and city.status != "miss":
        return all(distance_km(point, place.point) > SAME_PLACE_KM for place in city.candidates)
    named = gazetteer.country(country) if country else None
    if named is None or named.status == "miss":
        return False
    codes = {code for place in named.candidates for code in (place.code, *TERRITORIES.get(place.code, ()))}
    return gazetteer.nearest([point])[0].country.code not in codes


def place_reward(said: Names, truth: Names, alpha: float, same: Callable[[Names, Names], tuple[bool, bool]]) -> float:
    """1[country right] · (alpha · 1[city right] + 1 - alpha). same: whether the countries and the cities of two pairs
    of names are the same."""
    country, city = same(said, truth)
    return float(country) * (alpha * float(city) + 1 - alpha)


def same_by_gazetteer(gazetteer: Gazetteer, said: Names, truth: Names) -> tuple[bool, bool]:
    """(whether the countries are the same, whether the cities are). Names in one spelling are the same, and names the
    gazetteer finds one place for. A city in a territory is in the country, too: San Juan, USA is San Juan, Puerto Rico.
    """
    countries = [gazetteer.country(name or "") for name in (said.country, truth.country)]
    country = _spelled_alike(said.country, truth.country) or _one_place(*countries)
    found = _one_place(*(gazetteer.find(names.city or "", names.country or "") for names in (said, truth)))
    return country or (found and bool(said.country)), found or country and _spelled_alike(said.city, truth.city)


def same_upstream(said: Names, truth: Names) -> tuple[bool, bool]:
    """(whether the countries are the same, whether the cities are) to GLOBE's released code."""
    country, city = (same_to_globe(*(name or "" for name in pair)) for pair in zip(said, truth, strict=True))
    return country, city


def _spelled_alike(a: str | None, b: str | None) -> bool:
    return bool(a and b and spelling.spellings(a) & spelling.spellings(b))


def _one_place(a: Match, b: Match) -> bool:
    return a.status == b.status == "found" and a.place == b.place


def place_rewards(config: PlaceConfig, gazetteer: Gazetteer, groups: Sequence[Answers]) -> list[list[float]]:
    """The place reward of every completion; two places in an answer earn 0. Rows say their country and their city."""
    if config.match == "upstream":
        return [[place_reward(parse_names_as_globe(text, untagged=False), group.row.names, config.alpha, same_upstream)
                 for text in group.texts] for group in groups]
    same = partial(same_by_gazetteer, gazetteer)
    return [[place_reward(said.names, group.row.names, config.alpha, same)
             if (said := read(text, gazetteer)) is not None else 0.0 for text in group.texts] for group in groups]


def named_distance_km(text: str, truth: LatLon, gazetteer: Gazetteer) -> float | None:
    """Kilometres from the place of a completion to the truth: of its coordinates, else of the city it names. None where
    it says no place that is found, or two."""
    said = read(text, gazetteer)
    return None if said is None or said.point is None else distance_km(said.point, truth)


def named_distance_rewards(config: DistanceConfig, gazetteer: Gazetteer,
                           groups: Sequence[Answers]) -> list[list[float]]:
    """The distance reward of every completion's place, which may be said by name."""
    return [[distance_reward(named_distance_km(text, group.row.truth, gazetteer), config) for text in group.texts]
            for group in groups]
