"""A place on the globe, in degrees, and the one distance used by rewards, evaluation and data preparation."""
from typing import NamedTuple, Self

EARTH_RADIUS_KM = 6371.0088  # of the sphere that haversine measures on
NO_ANSWER_KM = 20015.0  # what an unanswered photo is charged: half the Earth's circumference


def valid(lat_deg: float, lon_deg: float) -> bool:
    """Whether the two numbers are a latitude in [-90, 90] and a longitude in [-180, 180]; NaN and infinity are not."""
    return -90.0 <= lat_deg <= 90.0 and -180.0 <= lon_deg <= 180.0


class LatLon(NamedTuple):
    """Latitude and longitude in decimal degrees, north and east positive."""

    lat_deg: float
    lon_deg: float

    @classmethod
    def checked(cls, lat_deg: float, lon_deg: float) -> Self:
        """The place, as floats. ValueError for a number not finite or out of range: nothing is wrapped or swapped."""
        if not valid(lat_deg, lon_deg):
            raise ValueError(f"latitude {lat_deg}, longitude {lon_deg} is no place: "
                             "latitude must lie in [-90, 90] and longitude in [-180, 180] degrees")
        return cls(float(lat_deg), float(lon_deg))


def distance_km(a: LatLon, b: LatLon) -> float:
    """Great-circle distance in km on a sphere of radius 6371.0088 km (haversine). ValueError for a point off the globe.
    """
    from haversine import haversine  # who reads rows and measures nothing, as the trainer does, need not have it

    for point in (a, b):
        LatLon.checked(*point)
    return haversine(a, b, check=False)
