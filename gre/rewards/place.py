"""Place reward, GLOBE's R_geo: is the country named the right one, and the city in it?

    1[country right] · (alpha · 1[city right] + 1 - alpha)

Names are compared through the gazetteer: München is Munich, USA is the United States, and Niger is not Nigeria.
`match: upstream` compares texts as GLOBE's released code does, for comparison with it.

Two places in one answer are no answer (gre/text/one_place.py).
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from gre.config import option
from gre.geo import names as spelling
from gre.geo.cities import City
from gre.geo.places import ONE_PLACE_KM, Gazetteer, Match
from gre.geo.point import LatLon, distance_km
from gre.rewards.answers import Answers
from gre.rewards.gps import DistanceConfig, distance_reward
from gre.text.named import Names, parse_names_as_globe, same_to_globe
from gre.text.one_place import before_where, read

MIN_POPULATION = 15_000  # of the gazetteer's cities, as where answers by name are scored


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


def place_reward(said: Names, truth: Names, alpha: float, same: Callable[[Names, Names], tuple[bool, bool]]) -> float:
    """1[country right] · (alpha · 1[city right] + 1 - alpha). same: whether the countries and the cities of two pairs
    of names are the same."""
    country, city = same(said, truth)
    return float(country) * (alpha * float(city) + 1 - alpha)


def same_by_gazetteer(gazetteer: Gazetteer, said: Names, truth: Names) -> tuple[bool, bool]:
    """(whether the countries are the same, whether the cities are). Names in one spelling are the same (Banff, Alberta
    is Banff), and names the gazetteer finds one place for, or two neighbours one of which is also called as the other
    is: Delhi, New Delhi. A city in a territory is in the country, too: San Juan, USA is San Juan, Puerto Rico.
    """
    countries = [gazetteer.country(name or "") for name in (said.country, truth.country)]
    country = _spelled_alike(said.country, truth.country) or _one_place(*countries)
    cities = [gazetteer.find(names.city or "", names.country or "") for names in (said, truth)]
    found = _one_place(*cities) or _namesakes(gazetteer, *cities)
    alike = country and (_spelled_alike(said.city, truth.city) or (
        cities[0].status == "miss" and _alike_before_where(gazetteer, said.city or "", truth.city, countries[1])))
    return country or (found and bool(said.country)), found or alike


def same_upstream(said: Names, truth: Names) -> tuple[bool, bool]:
    """(whether the countries are the same, whether the cities are) to GLOBE's released code."""
    country, city = (same_to_globe(*(name or "" for name in pair)) for pair in zip(said, truth, strict=True))
    return country, city


def _spelled_alike(a: str | None, b: str | None) -> bool:
    return bool(a and b and spelling.spellings(a) & spelling.spellings(b))


def _alike_before_where(gazetteer: Gazetteer, said: str, truth: str | None, country: Match) -> bool:
    """Whether `Banff, Alberta` is Banff: the gazetteer has none in the country, so that which one is no question."""
    name, codes = before_where(said, gazetteer), {place.code for place in country.candidates}
    return _spelled_alike(name, truth) and not any(city.country in codes for city in gazetteer.so_called(name)[2])


def _one_place(a: Match, b: Match) -> bool:
    return a.status == b.status == "found" and a.place == b.place


def _namesakes(gazetteer: Gazetteer, a: Match[City], b: Match[City]) -> bool:
    """Whether two cities found are neighbours in one country, and one carries the other's name among its own."""
    if not a.status == b.status == "found" or a.place.country != b.place.country or distance_km(
            a.place.point, b.place.point) > ONE_PLACE_KM:
        return False
    return any(spelling.fold(one.place.name) in gazetteer.called(other.place) for one, other in ((a, b), (b, a)))


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
