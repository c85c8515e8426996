"""LatLon and the distance: hand-worked numbers and the geometry of the globe."""
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gre.geo.point import NO_ANSWER_KM, LatLon, distance_km, valid

latitudes = st.floats(-90, 90)
longitudes = st.floats(-180, 180)
points = st.builds(LatLon, latitudes, longitudes)
HALF_CIRCUMFERENCE_KM = math.pi * 6371.0088


@pytest.mark.parametrize("a, b, expected_km", [
    ((0, 0), (0, 1), 111.195),  # one degree of the equator: 2 pi 6371.0088 / 360
    ((0, 0), (90, 0), HALF_CIRCUMFERENCE_KM / 2),
    ((0, 0), (0, 180), HALF_CIRCUMFERENCE_KM),
    ((60, 0), (60, 180), HALF_CIRCUMFERENCE_KM / 3),  # over the pole, 60 degrees of arc
    ((48.8566, 2.3522), (51.5074, -0.1278), 343.56),  # Paris to London
    ((0, 179.5), (0, -179.5), 111.195),  # across the date line
])
def test_known_distances(a, b, expected_km):
    assert distance_km(LatLon(*a), LatLon(*b)) == pytest.approx(expected_km, abs=0.01)


@given(points, points)
def test_distance_is_symmetric_bounded_and_zero_on_the_spot(a, b):
    assert distance_km(a, b) == distance_km(b, a)
    assert 0 <= distance_km(a, b) <= HALF_CIRCUMFERENCE_KM + 1e-6
    assert distance_km(a, a) == 0


@given(points, points, points)
def test_a_detour_is_never_shorter(a, b, c):
    assert distance_km(a, c) <= distance_km(a, b) + distance_km(b, c) + 1e-6


@given(latitudes, longitudes)
def test_checked_keeps_what_is_valid(lat_deg, lon_deg):
    assert valid(lat_deg, lon_deg)
    assert LatLon.checked(lat_deg, lon_deg) == (lat_deg, lon_deg)


@pytest.mark.parametrize("lat_deg, lon_deg", [
    (90.0001, 0), (-91, 0), (0, 180.5), (0, -181), (151.2, -33.9), (math.nan, 0), (0, math.inf),
])
def test_numbers_off_the_globe_are_refused(lat_deg, lon_deg):
    assert not valid(lat_deg, lon_deg)
    with pytest.raises(ValueError, match=r"latitude must lie in \[-90, 90\]"):
        LatLon.checked(lat_deg, lon_deg)
    with pytest.raises(ValueError, match="is no place"):
        distance_km(LatLon(0, 0), LatLon(lat_deg, lon_deg))


def test_no_answer_is_as_far_as_the_globe_allows():
    assert NO_ANSWER_KM == pytest.approx(HALF_CIRCUMFERENCE_KM, abs=0.2)
