"""Are these the places where photos were taken? What is looked for in every table of truths, to train on or to measure
with.

Latitude and longitude are taken to be swapped, each under the other's name, by what most rows say:
- most are places only when exchanged; or some are, none is one only as read, and the rest lie nearer to cities
  exchanged. Copies of Im2GPS3k from before 2020-02-17 are such;
- or, where no number is beyond 90, the photos as read lie in the middle of nowhere (median distance to the nearest city
  over LOST_KM) and, exchanged, ten times nearer.
"""
import statistics
from collections.abc import Sequence

from gre.geo.point import LatLon, valid

LOST_KM = 100.0
LOOKED_AT = 1000  # rows whose nearest city is looked up to tell a swap
Degrees = tuple[float, float]  # latitude and longitude as read


def checked_truth(lat_deg: float, lon_deg: float) -> LatLon:
    """The place. ValueError as of `LatLon.checked`, and for (0, 0), which tools write where they know of none."""
    if lat_deg == lon_deg == 0:
        raise ValueError("0, 0 is what tools write where no place is known, and no photo was taken there")
    return LatLon.checked(lat_deg, lon_deg)


def swapped(points: Sequence[Degrees]) -> str:
    """Why latitude and longitude must be swapped in these rows; empty when they are not. The rule is at the head of the
    file. One row out of range says nothing of the others."""
    exchanged_only = [(a, b) for a, b in points if not valid(a, b) and valid(b, a)]
    read_only = [(a, b) for a, b in points if valid(a, b) and not valid(b, a)]
    if 2 * len(exchanged_only) > len(points):
        return _beyond(exchanged_only, points)
    both = [(a, b) for a, b in points if valid(a, b) and valid(b, a)]
    if read_only or not both:
        return ""
    from gre.geo.places import gazetteer  # half a second, which most tables do not need

    some = [both[i * len(both) // LOOKED_AT] for i in range(LOOKED_AT)] if len(both) > LOOKED_AT else both
    cities = gazetteer(15000)
    as_read, exchanged = (statistics.median(near.distance_km for near in cities.nearest(places)) for places in (
        [LatLon(a, b) for a, b in some], [LatLon(b, a) for a, b in some]))
    if exchanged_only:
        return _beyond(exchanged_only, points) if exchanged < as_read else ""
    if as_read > LOST_KM and as_read > 10 * exchanged:
        return (f"the median photo lies {as_read:.0f} km from the nearest city as read, and {exchanged:.0f} km from "
                f"it exchanged; {cities}")
    return ""


def _beyond(exchanged_only: Sequence[Degrees], points: Sequence[Degrees]) -> str:
    lat = max((a for a, _ in exchanged_only), key=abs)
    return (f"a latitude of {lat:g}, and {len(exchanged_only):,} of {len(points):,} rows that are places only when "
            "exchanged")
