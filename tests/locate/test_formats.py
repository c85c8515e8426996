"""Answers as files: read back by the standard library, with hostile text in names and answers; and the radius."""
import csv
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gre.config import UserError
from gre.geo.point import LatLon
from gre.locate import formats, worldmap
from gre.locate.kept import Kept
from gre.locate.located import Located, Place, Sample, named, pointed_at, radius_km
from gre.locate.photos import listed

HOSTILE = "<script>alert(1)</script> \r=1+1 \x1b[31m]]> & \"quoted\" 'x' \x00 https://a.b [x](javascript:1)"
PARIS = Located("a \"b\"\n<c>.jpg", 48.86, 2.35, Place("Paris", "Île-de-France", "France", 0.7), 12.5, HOSTILE,
                f"<think>{HOSTILE}</think><answer>48.86, 2.35</answer>", True,
                (Sample(48.86, 2.35, None), Sample(None, None, None)))
NOWHERE = Located("b.jpg", None, None, None, None, None, "=cmd|' /C calc'!A0")
BOTH = [PARIS, NOWHERE]


def test_json_lines_hold_null_for_no_answer():
    first, second = map(json.loads, formats.json_lines(BOTH).splitlines())
    assert list(second) == ["path", "latitude", "longitude", "place", "radius_km", "reasoning", "raw"]
    assert list(second.values()) == ["b.jpg", None, None, None, None, None, NOWHERE.raw]
    assert Located.of(first) == PARIS and first["place"]["country"] == "France" and first["radius_km"] == 12.5


def test_geojson_puts_the_longitude_first():
    first, second = json.loads(formats.geojson(BOTH))["features"]
    assert first["geometry"] == {"type": "Point", "coordinates": [2.35, 48.86]} and second["geometry"] is None
    assert first["properties"]["path"] == PARIS.path and second["properties"]["raw"] == NOWHERE.raw


def test_csv_is_read_back_and_holds_no_formula():
    first, second = csv.DictReader(io.StringIO(formats.table(BOTH), newline=""))
    assert first["path"] == PARIS.path and [first[name] for name in ("latitude", "city", "radius_km")] == [
        "48.86", "Paris", "12.5"]
    assert first["reasoning"] == HOSTILE and second["raw"] == "'" + NOWHERE.raw and second["latitude"] == ""
    (row,) = csv.DictReader(io.StringIO(formats.table([replace(NOWHERE, path="=1+1\r.jpg")]), newline=""))
    assert row["path"] == "'=1+1\r.jpg"


def test_kml_and_gpx_are_xml_that_holds_text_only():
    marks = ElementTree.fromstring(formats.kml(BOTH).encode()).findall(f".//{{{formats.KML}}}Placemark")
    name, said, point = marks[0]
    assert name.text == PARIS.path and point[0].text == "2.35,48.86" and len(marks[1]) == 2
    assert "&lt;script&gt;" in said.text and "<" not in said.text  # what a balloon shows as HTML
    (waypoint,) = ElementTree.fromstring(formats.gpx(BOTH).encode())
    assert waypoint.attrib == {"lat": "48.86", "lon": "2.35"} and "Paris, Île-de-France, France" in waypoint[1].text


@pytest.mark.parametrize("at, lat, lon", [
    ((5e-05, 180.0), "0.00005", "-180"), ((-5e-05, 179.99999999), "-0.00005", "-180"), ((-90.0, -180.0), "-90", "-180"),
    ((0.0, 179.9999999), "0", "179.9999999")])
def test_gpx_has_decimals_without_exponent_and_longitudes_below_180(at, lat, lon):
    (waypoint,) = ElementTree.fromstring(formats.gpx([replace(PARIS, latitude=at[0], longitude=at[1])]).encode())
    assert waypoint.attrib == {"lat": lat, "lon": lon}


@given(st.text(st.characters(exclude_categories=())))  # halves of characters, too: names of files need not be text
def test_any_text_can_be_written(said):
    answer = Located(said, 1.0, 2.0, None, None, said, said)
    for xml in (formats.kml([answer]), formats.gpx([answer])):
        ElementTree.fromstring(xml.encode())
    assert not [letter for letter in formats.text([answer]) if not letter.isprintable() and letter != "\n"]
    assert json.loads(formats.json_lines([answer]))["raw"] == said
    header, row = csv.reader(io.StringIO(formats.table([answer]), newline=""))
    cell = f"'{said}" if said[:1] in tuple("=+-@\t\r\n") else said
    assert header == list(formats.COLUMNS) and row == [cell, "1.0", "2.0", "", "", "", "", "", cell, cell]
    worldmap.page([answer]).encode()


def test_a_page_executes_nothing_that_a_model_wrote():
    page = worldmap.page(BOTH)
    assert "<script" not in page and "default-src 'none'" in page
    assert not re.search("(src|href)=.(?!#world)", page)  # nothing is fetched
    assert page.count("class='answer'") == 1 and page.count("class='sample'") == 1
    assert "cx='2.35' cy='-48.86'" in page and "half of 2 samples lie within 12.5 km" in page


def test_the_radius_holds_half_of_all_samples():
    # One degree on the equator is 111.195 km.
    points = [LatLon(0, 0), LatLon(0, 1), LatLon(0, 3), None]
    assert radius_km(LatLon(0, 0), points) == 111.2
    assert radius_km(LatLon(0, 0), [*points, LatLon(0, 2)]) == 222.4  # three of five
    assert radius_km(LatLon(0, 0), [LatLon(0, 0), None, None]) is None  # two of three say nothing
    assert radius_km(LatLon(0, 0), [LatLon(0, 0)]) is None and radius_km(None, [None, None]) is None


@pytest.mark.slow
@pytest.mark.parametrize("answer, at", [
    ("country: France\ncity: Paris", (48.85341, 2.3488)), ("Paris, France", (48.85341, 2.3488)),
    ("city: Paris, country: France, confidence: 0.85", (48.85341, 2.3488)),
    ("city: Paris, 48.9, 2.4", (48.9, 2.4)), ("city: Paris, 35.68, 139.69", (35.68, 139.69)),  # as evaluation reads it
    ("city: Paris or Lyon", None), ("city: Springfield", None), ("city: Xanadupolis", None), ("country: France", None),
    ("city: Paris, at 48.85, 2.35 or 40.71, -74.00", None), ("unknown", None)])
def test_an_answer_points_where_its_coordinates_are_else_its_city(answer, at):
    assert pointed_at(f"<think>Rome?\ncity: Rome</think><answer>{answer}</answer>") == at
    assert pointed_at(f"<think>city: {answer}") is None


@pytest.mark.slow
def test_places_keep_their_order():
    found = named([LatLon(35.68, 139.69), None, LatLon(-33.87, 151.21)])
    assert [point.place and point.place.country for point in found] == ["Japan", None, "Australia"]


def test_what_is_left_out_of_a_folder_is_counted(tmp_path, monkeypatch, capsys):
    (tmp_path / "in/sub").mkdir(parents=True)
    for name in ("b.JFIF", "sub/a.png", "notes.txt", "sub/.DS_Store", ".jpg"):
        (tmp_path / "in" / name).touch()
    monkeypatch.chdir(tmp_path)
    assert listed("in/sub/") == ["in/sub/a.png"] and "sub: files whose names are not those of photos: 1\n" in (
        capsys.readouterr().err)
    Path("in/linked").symlink_to(tmp_path / "in/sub")
    monkeypatch.chdir("in")
    for _ in range(21):  # a path of more than 4,096 characters cannot be opened, whoever asks
        Path("d" * 200).mkdir()
        os.chdir("d" * 200)
    os.chdir(tmp_path)
    assert listed("in") == ["in/b.JFIF", "in/sub/a.png"]
    assert capsys.readouterr().err == ("left out of in: files whose names are not those of photos: 3, linked folders: "
                                       "1, folders that cannot be read: 1\n")
    Path("in/b.JFIF").unlink()
    Path("in/sub/a.png").unlink()
    with pytest.raises(UserError, match="holds no photos: .*[.]jfif.* Left out: files whose .*: 3, linked folders: 1"):
        listed("in")


def test_kept_answers_are_those_of_the_same_settings(tmp_path):
    path = tmp_path / "kept.jsonl"
    Kept(path, {"model": 1}).add(BOTH)
    with open(path, "a") as stream:
        stream.write('{"path": "torn')
    assert list(Kept(path, {"model": 1}).answers.values()) == BOTH and path.read_text().endswith("}\n")
    with pytest.raises(UserError, match="made with another model"):
        Kept(path, {"model": 2})
    (tmp_path / "other.jsonl").write_text("mine")
    with pytest.raises(UserError, match="no other.jsonl.settings.json says how it was made"):
        Kept(tmp_path / "other.jsonl", {})
    good = formats.json_lines([PARIS])
    for line in ("{}", "null", "[1]", "1", '"a"', good.replace('"path": ', '"path": [1], "was": '),
                 json.dumps({**PARIS.record(), "path": ["a"]}), json.dumps({**PARIS.record(), "path": 1}),
                 json.dumps({**PARIS.record(), "latitude": "48.86"}), json.dumps({**PARIS.record(), "latitude": 95.0}),
                 json.dumps({**PARIS.record(), "longitude": None}), json.dumps({**PARIS.record(), "raw": None}),
                 json.dumps({**PARIS.record(), "samples": [1]}), json.dumps({**PARIS.record(), "place": [1]})):
        path.write_text(f"{good}{line.strip()}\n")
        with pytest.raises(UserError, match="kept.jsonl, line 2: no answer of this command .*: delete the line"):
            Kept(path, {"model": 1})
    for content in ("", "[1]", "{", "null"):
        (tmp_path / "kept.jsonl.settings.json").write_text(content)
        with pytest.raises(UserError, match="kept.jsonl.settings.json does not say how kept.jsonl was made .*delete"):
            Kept(path, {"model": 1})
