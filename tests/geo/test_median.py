"""The geometric median on the sphere: worked by hand, at the poles and the date line, and its properties."""
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gre.geo.median import geometric_median
from gre.geo.point import LatLon, distance_km

POINTS = st.builds(LatLon, st.floats(-89, 89), st.floats(-180, 180))
NEAR = st.builds(LatLon, st.floats(-25, 25), st.floats(-25, 25))  # within a hemisphere: one minimum

CROSS = [LatLon(0.0, 1.0), LatLon(0.0, -3.0), LatLon(2.0, 0.0), LatLon(-2.0, 0.0)]


def total(point: LatLon, points: list[LatLon]) -> float:
    return sum(distance_km(point, other) for other in points)


@pytest.mark.parametrize("points, median", [
    ([(48.86, 2.35)], (48.86, 2.35)),
    ([(1.0, 2.0), (3.0, 4.0)], (1.0, 2.0)),                                # all points between are as good: the first
    ([(10.0, 0.0), (10.0, 0.0), (-30.0, 50.0)], (10.0, 0.0)),              # two of three are one place
    ([(0.0, 0.0), (0.0, 1.0), (0.0, 90.0)], (0.0, 1.0)),                   # on one line: the middle one
    ([(80.0, 0.0), (80.0, 120.0), (80.0, -120.0)], (90.0, 0.0)),           # around the pole
    ([(0.0, 179.0), (0.0, -179.0), (1.0, 180.0), (-1.0, 180.0)], (0.0, 180.0)),   # across the date line
    ([(0.0, -1.0), (0.0, 1.0), (1.0, 0.0), (-1.0, 0.0)], (0.0, 0.0)),
    ([(0.0, 0.0), (0.0, 180.0)], (0.0, 0.0)),                              # antipodes
    ([(0.0, 0.0), (0.0, 180.0), (0.0, 1.0)], (0.0, 1.0))])                 # 1 + 179 degrees; from 0 it is 1 + 180
def test_worked_by_hand(points, median):
    found = geometric_median([LatLon(*point) for point in points])
    assert distance_km(found, LatLon(*median)) < 0.01


def test_an_equilateral_triangle_has_its_centre_and_an_outlier_moves_it_little():
    triangle = [LatLon(0.0, 0.0), LatLon(0.0, 2.0), LatLon(np.sqrt(3), 1.0)]
    assert distance_km(geometric_median(triangle), LatLon(np.sqrt(3) / 3, 1.0)) < 0.1
    crowd = triangle * 3 + [LatLon(-40.0, 150.0)]
    assert distance_km(geometric_median(crowd), geometric_median(triangle)) < 60


def test_a_wide_angle_takes_the_corner():
    # At 0, 0 the two others pull at 150 degrees: together by 2 cos 75 = 0.52, less than the point's own 1 (Fermat).
    points = [LatLon(0.0, 0.0), LatLon(5.0, 0.0), LatLon(-5 * np.cos(np.pi / 6), 2.5)]
    assert geometric_median(points) == points[0]


def test_without_points_there_is_none():
    with pytest.raises(ValueError, match="no points"):
        geometric_median([])
    with pytest.raises(ValueError, match="no place"):
        geometric_median([LatLon(91, 0), LatLon(0, 0), LatLon(1, 1)])


@settings(max_examples=60)
@given(st.lists(POINTS, min_size=1, max_size=9))
def test_never_worse_than_any_of_its_points(points):
    found = geometric_median(points)
    assert total(found, points) <= min(total(point, points) for point in points) + 1e-6


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(NEAR, min_size=3, max_size=9, unique=True), NEAR)
@example([*CROSS, LatLon(1e-9, -3.0)], LatLon(0.0, 0.0))  # two answers 0.1 mm apart, and 1 cm
@example([*CROSS, LatLon(1e-7, -3.0)], LatLon(0.0, 0.0))
def test_no_other_place_is_nearer_to_all_within_a_hemisphere(points, other):
    assert total(geometric_median(points), points) <= total(other, points) * (1 + 1e-6) + 1e-6


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(NEAR, min_size=3, max_size=7, unique=True), st.floats(-180, 180))
def test_turning_the_globe_turns_the_median(points, turn):
    assume(min(distance_km(a, b) for a in points for b in points if a is not b) > 1)
    turned = [LatLon(point.lat_deg, (point.lon_deg + turn + 180) % 360 - 180) for point in points]
    found, after = geometric_median(points), geometric_median(turned)
    back = [LatLon(after.lat_deg, (after.lon_deg - turn + 180) % 360 - 180)]
    assert total(back[0], points) == pytest.approx(total(found, points), rel=1e-6)


@settings(max_examples=40)
@given(POINTS, st.lists(POINTS, min_size=1, max_size=4))
def test_a_majority_in_one_place_is_the_median(place, others):
    points = others + [place] * (len(others) + 1)
    assert distance_km(geometric_median(points), place) < 1e-3
