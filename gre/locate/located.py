"""What is said of one photo: coordinates, the city nearest to them, the reasoning, and how far its samples scatter. No
torch."""
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from gre.geo.places import gazetteer
from gre.geo.point import LatLon, distance_km
from gre.text.answers import parse_answer
from gre.text.one_place import read

MIN_POPULATION = 15_000  # of the cities named, as in evaluation's tables; GeoNames counts districts of large ones


@dataclass(frozen=True)
class Place:
    """A city of the offline gazetteer (GeoNames), its region and country in English, and how far away it is. region:
    empty where GeoNames gives the city none."""

    city: str
    region: str
    country: str
    distance_km: float

    def __str__(self) -> str:
        return ", ".join(filter(None, [self.city, self.region, self.country]))


@dataclass(frozen=True)
class Sample:
    """One of several answers to a photo. All three are None where it says no one place."""

    latitude: float | None
    longitude: float | None
    place: Place | None


@dataclass(frozen=True)
class Located:
    """The answer to one photo.

    path: as it was named; None for a photo that is no file. latitude, longitude: in decimal degrees, north and east
    positive, None where the model said no one place (`pointed_at`); place: the city nearest to them. radius_km: of the
    circle around them that holds half of the samples; None for a single answer, and where more than half can't be read.
    reasoning: what stands between the model's <think> tags, None without them; raw: all it wrote, untrusted text.
    finished: False where it was cut off at the limit. samples: in the order they were drawn; empty for a single answer.
    """

    path: str | None
    latitude: float | None
    longitude: float | None
    place: Place | None
    radius_km: float | None
    reasoning: str | None
    raw: str
    finished: bool = True
    samples: tuple[Sample, ...] = ()

    def record(self) -> dict:
        """For a JSON line: `path, latitude, longitude, place, radius_km, reasoning, raw`, and the samples if any."""
        fields = asdict(self)
        fields.pop("finished")
        return fields if fields["samples"] else {name: value for name, value in fields.items() if name != "samples"}

    @classmethod
    def of(cls, record: dict) -> "Located":
        """What `record` was made of, but for `finished`. Raises TypeError or KeyError for another record."""
        samples = tuple(Sample(one["latitude"], one["longitude"], one["place"] and Place(**one["place"]))
                        for one in record.get("samples", ()))
        return cls(**{**record, "place": record["place"] and Place(**record["place"]), "samples": samples})


class Point(NamedTuple):
    """A place with what is near it."""

    at: LatLon | None
    place: Place | None


def pointed_at(text: str) -> LatLon | None:
    """Where a completion points: the coordinates it gives, as evaluation reads them, else those of the city it names.
    None where it says no place that is found, or more than one."""
    if (point := parse_answer(text)) is not None:
        return point
    said = read(text, gazetteer(MIN_POPULATION))
    return said and said.point


def named(points: Sequence[LatLon | None]) -> list[Point]:
    """Each point with the city nearest to it."""
    cities = gazetteer(MIN_POPULATION)
    near = iter(cities.nearest([point for point in points if point is not None]))
    return [Point(None, None) if point is None else Point(point, Place(
        (found := next(near)).city.name, cities.region_name(found.city), found.country.name,
        round(found.distance_km, 1))) for point in points]


def radius_km(answer: LatLon | None, samples: Sequence[LatLon | None]) -> float | None:
    """The radius around `answer` within which half of the samples lie. One that says no place lies in no circle; None
    where they are more than half, and for fewer than two samples."""
    half = math.ceil(len(samples) / 2)
    if answer is None or len(samples) < 2:
        return None
    away = sorted(distance_km(answer, point) for point in samples if point is not None)
    return round(away[half - 1], 1) if len(away) >= half else None
