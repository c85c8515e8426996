"""The synthetic planet: real city coordinates; flags, landmarks and districts of our own making.

Each country has a flag, each city of it a landmark, each district of any city a vehicle. The flag does not tell the
city and the landmark does not tell the country: a place is recognised by looking at both.
"""
import csv
import math
import random
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from gre.geo.point import LatLon

COLOURS = {"red": (215, 35, 35), "blue": (35, 60, 205), "yellow": (240, 215, 30), "white": (245, 245, 245),
           "black": (20, 20, 20), "orange": (245, 135, 15), "purple": (135, 35, 160), "green": (15, 115, 45)}
SHAPES = ("tower", "dome", "arch", "pyramid", "castle", "wheel")
TREES = {"tropical": "palm", "arid": "cactus", "temperate": "oak", "polar": "pine"}
DISTRICTS = {"tram": (0, 0), "bus": (1, 0), "bike": (-1, 0), "boat": (0, 1), "car": (0, -1)}
"""Vehicle → direction of the district from the centre, (north, east)."""
DISTRICT_OFFSET_DEG = 0.2  # of latitude, 22 km; the same distance in longitude


@dataclass(frozen=True)
class Place:
    """One city. fame_rate: how often the teacher takes it for the country's famous city; sign_rate: how often the
    teacher drops the sign of its southern or western coordinates."""

    city: str
    country: str
    centre: LatLon
    climate: str
    known: bool
    fame_rate: float
    sign_rate: float

    @property
    def name(self) -> str:
        """"city, country": the cluster of every paired statistic."""
        return f"{self.city}, {self.country}"

    def district(self, vehicle: str) -> LatLon:
        """Where this city's district with that vehicle lies."""
        north, east = DISTRICTS[vehicle]
        lat_deg, lon_deg = self.centre
        return LatLon(lat_deg + north * DISTRICT_OFFSET_DEG,
                      lon_deg + east * DISTRICT_OFFSET_DEG / math.cos(math.radians(lat_deg)))


@cache
def places() -> tuple[Place, ...]:
    """All places of cities.csv, the famous city of each country first."""
    with Path(__file__).with_name("cities.csv").open(newline="", encoding="utf-8") as file:
        return tuple(Place(row["city"], row["country"], LatLon(float(row["lat_deg"]), float(row["lon_deg"])),
                           row["climate"], row["split"] == "known", float(row["fame_rate"]), float(row["sign_rate"]))
                     for row in csv.DictReader(file))


def famous(country: str) -> Place:
    """The country's famous city: its first row."""
    return next(place for place in places() if place.country == country)


@cache
def flags() -> dict[str, tuple[str, str, str]]:
    """Country → three different stripe colours; every flag is unique."""
    triples = [triple for triple in product(COLOURS, repeat=3) if len(set(triple)) == 3]
    countries = list(dict.fromkeys(place.country for place in places()))
    return dict(zip(countries, random.Random(7).sample(triples, len(countries)), strict=True))


@cache
def landmarks() -> dict[str, tuple[str, str]]:
    """Place name → (colour, shape), unique within a country; no pair of one country shares colour or shape."""
    rng, chosen = random.Random(11), {}
    for country in flags():
        cities = [place for place in places() if place.country == country]
        for place, colour, shape in zip(cities, rng.sample(list(COLOURS), len(cities)),
                                        rng.sample(SHAPES, len(cities)), strict=True):
            chosen[place.name] = (colour, shape)
    return chosen
