"""Evaluation: hand-worked numbers, controls, refusals, and the shape of what is written."""
import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image

from eval import predictions
from eval.answering import controls
from eval.drawing import charts, worldmap
from eval.predictions import Prediction
from eval.quickstart import numbers
from gre.config import UserError
from gre.geo.land import symbol
from gre.geo.point import LatLon

THETAS_KM = [25.0, 750.0]


def row(number: int, place: str = "Paris, France", lat: float | None = 48.0, lon: float | None = 2.0,
        **fields) -> Prediction:
    text = "<think>A sign.</think><answer>unknown</answer>" if lat is None else (
        f"<think>A sign.</think><answer>{lat}, {lon}</answer>")
    return replace(Prediction(f"test:{number}", place, f"imgs/{number}.png", 48.0, 2.0, text, lat, lon, True), **fields)


def test_a_prediction_file_reads_back_as_written(tmp_path):
    rows = [row(1, text="line\u2028separator, tab\t and \"quotes\" <b>é</b>\r\n"), row(2, lat=None, lon=None)]
    predictions.append(tmp_path / "deep" / "p.jsonl", rows)
    assert predictions.read(tmp_path / "deep" / "p.jsonl") == rows


@pytest.mark.parametrize("lines, message", [
    (["{"], "line 1 is not a prediction"),
    ([json.dumps({"id": "a"})], "line 1 is not a prediction"),
    ([json.dumps(asdict(row(1)) | {"lat": None})], "line 1: lat is None"),
    ([json.dumps(asdict(row(1)))] * 2, "row test:1 more than once"),
])
def test_a_broken_file_is_refused_by_name(tmp_path, lines, message):
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=message):
        predictions.read(path)


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(UserError, match="eval.predict"):
        predictions.read(tmp_path / "none.jsonl")


def test_a_later_field_does_not_break_reading(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(asdict(row(1)) | {"country": "France"}) + "\n")
    assert predictions.read(path) == [row(1)]


def test_a_half_written_line_is_cut_off(tmp_path):
    path = tmp_path / "p.jsonl"
    predictions.append(path, [row(1)])
    path.write_text(path.read_text() + '{"id": "test:2", "te')
    predictions.drop_torn_line(path)
    assert predictions.read(path) == [row(1)]


def test_missing_and_foreign_rows_are_refused():
    with pytest.raises(UserError, match="1 of 2 rows have no prediction, the first is test:2"):
        predictions.check_complete([row(1)], ["test:1", "test:2"], "stage1")
    with pytest.raises(UserError, match="belong to no row of the data, the first is test:3"):
        predictions.check_complete([row(1), row(3)], ["test:1"], "stage1")
    assert predictions.check_complete([row(2), row(1)], ["test:1", "test:2"], "x") == [row(1), row(2)]


@pytest.mark.parametrize("other", [[row(1)], [row(2), row(1)], [row(1), row(2, place="Nice, France")],
                                   [row(1), row(2, gt_lat=47.0)]])
def test_files_of_different_rows_are_not_compared(other):
    with pytest.raises(UserError, match="predict both on the same data"):
        numbers.geoscore_gain([row(1), row(2)], other, ("a", "b"), seed=0)


def test_numbers_worked_by_hand():
    # One degree of latitude is 111.195 km on a sphere of radius 6371.0088 km.
    rows = [row(1), row(2, lat=49.0), row(3, lat=None, lon=None), row(4, lat=58.0)]
    made = numbers.summary(rows, THETAS_KM)
    assert made["n"] == 4 and made["unparsed"] == 1
    assert made["within_km"] == {"1": 0.25, "25": 0.25, "200": 0.5, "750": 0.5, "2500": 0.75}
    # 5000, 5000 e^(-111.195/1492.7) = 4641.1, 0, 5000 e^(-1111.95/1492.7) = 2373.9
    assert made["mean_geoscore"] == pytest.approx((5000 + 4641.06 + 0 + 2373.86) / 4, abs=0.1)
    assert made["median_km"] == pytest.approx((111.195 + 1111.95) / 2, abs=0.01)
    # gps: 1; mean(2/(1+e^4.4478), 2/(1+e^0.14826)) = 0.47473; 0; mean(2/(1+e^44.478), 2/(1+e^1.4826)) = 0.18503
    assert made["mean_reward"] == pytest.approx((4 + 1 + 0.47473 + 0.18503) / 4, abs=1e-4)


def test_an_unfinished_answer_loses_the_format_reward():
    assert numbers.greedy_reward(row(1), THETAS_KM) == 2
    assert numbers.greedy_reward(row(1, finished=False), THETAS_KM) == 1
    assert numbers.greedy_reward(row(1, text="48.0, 2.0"), THETAS_KM) == 1


def test_intervals_resample_places_not_photos():
    # Two places, all gain in one: a draw of places holds it 0, 1 or 2 times in 2, so the interval is the whole range.
    a = [row(i, place="gains") for i in range(50)] + [row(50 + i, place="does not") for i in range(50)]
    b = [row(i, place="gains", lat=None, lon=None) for i in range(50)] + a[50:]
    gain = numbers.geoscore_gain(a, b, ("a", "b"), seed=0)
    assert (gain["mean"], gain["low"], gain["high"]) == (2500, 0, 5000)


def test_no_readable_answer_is_no_certainty():
    """40 places, nothing read: of the share's own interval, 0 to 8.8 % (Clopper and Pearson, 1 - 0.025^(1/40), and
    Student's t for 40 places), at most 5,000 a photo."""
    rows = [row(i, place=f"place {i}", lat=None, lon=None) for i in range(40)]
    found = numbers.geoscore_interval(rows, seed=0)
    assert (found["mean"], found["low"]) == (0, 0)
    assert found["high"] == pytest.approx(5000 * (1 - 0.025 ** (1 / 40)), rel=0.1)


def test_the_best_constant_is_where_most_training_photos_are():
    paris, near, tokyo = LatLon(48.86, 2.35), LatLon(48.95, 2.5), LatLon(35.68, 139.69)
    assert controls.best_constant([tokyo, paris, near, paris]) == paris
    with pytest.raises(UserError, match="training rows"):
        controls.best_constant([])


def test_the_constant_answers_every_row_alike_and_well_formed():
    constant = controls.constant_predictions([row(1), row(2)], LatLon(48.0, 2.0))
    assert [numbers.greedy_reward(prediction, THETAS_KM) for prediction in constant] == [2, 2]
    assert [prediction.id for prediction in constant] == ["test:1", "test:2"]


@pytest.mark.parametrize("places", [
    list("aabbcc"), list("aaabbb"), list("aaaabcde"), [str(i % 24) for i in range(360)]])
def test_swapped_pictures_are_dealt_once_and_never_at_home(places):
    for seed in range(20):
        dealt = controls.deal(places, seed)
        assert sorted(dealt) == list(range(len(places)))
        assert all(places[mine] != place for mine, place in zip(dealt, places))
    assert controls.deal(places, 0) == controls.deal(places, 0)


def test_pictures_of_one_place_cannot_be_swapped():
    with pytest.raises(UserError, match="more than half"):
        controls.deal(list("aaab"), 0)


def test_a_blank_picture_keeps_its_size():
    blank = controls.blank(Image.new("RGB", (30, 20), "red"))
    assert blank.size == (30, 20) and len(blank.getcolors()) == 1


def test_arcs_are_shortest_ways_and_break_at_the_date_line():
    assert worldmap.arc(LatLon(0, 10), LatLon(0, 20)) == "M10.0,-0.0L15.0,-0.0L20.0,-0.0"
    across = worldmap.arc(LatLon(10, 175), LatLon(10, -175))
    assert across.count("M") == 2 and "L180," in across and "M-180," in across
    for start, end in ((LatLon(0, 0), LatLon(0, 180)), (LatLon(90, 0), LatLon(-90, 0)), (LatLon(5, 5), LatLon(5, 5))):
        assert "nan" not in worldmap.arc(start, end)


@pytest.fixture(scope="module")
def land() -> list[np.ndarray]:
    """The rings of land as a page draws them: of each, the longitudes and latitudes of its corners, closed."""
    drawn = re.search(r'<path class="land" transform="scale\(.1\)" fill-rule="evenodd" d="([^"]*)"', symbol())[1]
    subpaths = [np.array(re.findall(r"-?\d+", ring), int).reshape(-1, 2) for ring in drawn.split("Z")[:-1]]
    rings = [steps.cumsum(axis=0) / (10, -10) for steps in subpaths]
    return [np.concatenate([ring, ring[:1]]) for ring in rings]


def is_land(rings: list[np.ndarray], lat: float, lon: np.ndarray) -> np.ndarray:
    """Even-odd rule along one parallel: an odd number of edges lies west of the point."""
    edges = np.concatenate([np.hstack([ring[:-1], ring[1:]]) for ring in rings])
    x0, y0, x1, y1 = edges[(edges[:, 1] > lat) != (edges[:, 3] > lat)].T
    return (x0 + (lat - y0) * (x1 - x0) / (y1 - y0) < np.asarray(lon)[..., None]).sum(axis=-1) % 2 == 1


@pytest.mark.parametrize(("lat", "lon", "on_land"), [
    (51.5, -0.1, True), (-1.3, 36.8, True), (-33.8, 150.9, True), (39, -98, True),  # London, Nairobi, Sydney, Kansas
    (30, -40, False), (0, -150, False), (43, 15, False), (60, -85, False), (-30, 80, False),  # sea
    (42, 50.5, False), (40, 55, True),  # the Caspian is a hole
    (67, 179.5, True), (67, -179.5, True), (66, -172, True), (60, 179.5, False), (60, -179.5, False), (0, 179.9, False),
    (-16.6, 179.3, True), (71.2, 179.5, True), (71.2, -179, True),  # Chukotka, Fiji, Wrangel lie on the date line
    (-89.9, -179.9, True), (-89.9, 179.9, True), (-87, -100, True), (-86, 100, True), (-60, 0, False)])  # Antarctica
def test_land_is_land_and_sea_is_sea(land, lat, lon, on_land):
    assert is_land(land, lat, lon) == on_land


def test_land_is_29_per_cent_of_the_globe(land):
    """148.9 of 510.1 million km²; a polygon filled inside out or left open along the date line would be far off."""
    lon = np.arange(-179.5, 180)
    shares = {lat: is_land(land, lat, lon).mean() for lat in np.arange(-89.5, 90)}
    weights = np.cos(np.radians(list(shares)))
    assert np.average(list(shares.values()), weights=weights) == pytest.approx(148.9 / 510.1, abs=0.005)
    assert shares[-89.5] == 1 and shares[89.5] == 0


def test_land_has_natural_earths_polygons(land):
    """125 polygons, one with a hole, and the other side of two that reach across the date line on both."""
    assert len(land) == 125 + 1 + 2
    assert len(symbol()) < 40_000


def test_charts_escape_names_and_take_flat_lines():
    drawn = charts.lines("<script>", {"<b>": [(0, 1.0), (1, 1.0)]}, "step")
    assert "<script>" not in drawn and "<b>" not in drawn
    assert charts.ticks(0, 50) == [0, 20, 40, 60]
    assert charts.smooth([1, 2, 3], 2) == [1, 1.5, 2.5]
