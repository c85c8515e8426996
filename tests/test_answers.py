"""What the reader of answers makes of strings as models print them. Each row: where it comes from, the text, the place.
"""
import io
import json
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gre.geo.point import LatLon
from gre.text.answers import format_answer, main, parse_answer, split_completion

PARIS = (48.8566, 2.3522)
SYDNEY = (-33.8688, 151.2093)
RIO = (-22.9, -43.2)

READ = [
    # kind, text, place
    ("tags", "<think>A café.</think><answer>48.8566, 2.3522</answer>", PARIS),
    ("tags, spaced", "<think>A café.</think>\n<answer>\n 48.8566, 2.3522 \n</answer>\n", PARIS),
    ("tags, capitals", "<THINK>A café.</THINK><Answer>48.8566, 2.3522</Answer>", PARIS),
    ("answer tag cut off", "<think>A café.</think><answer>48.8566, 2.3522", PARIS),
    ("answer tag opened in the prompt", "48.8566, 2.3522</answer>", PARIS),
    ("chain opened in the prompt", "It could be 10.0, 20.0.</think><answer>48.8566, 2.3522</answer>", PARIS),
    ("no answer tags after the chain", "<think>Not 10.0, 20.0.</think>48.8566, 2.3522", PARIS),
    ("prose outside the answer tags", "Not 10, 20: <answer>48.8566, 2.3522</answer>", PARIS),
    ("same place twice", "<answer>48.8566, 2.3522</answer> <answer>48.8566, 2.3522</answer>", PARIS),
    ("end token left in", "<answer>48.8566, 2.3522</answer><|im_end|>", PARIS),
    ("no tags", "48.8566, 2.3522", PARIS),
    ("no space", "48.8566,2.3522", PARIS),
    ("space only", "48.8566 2.3522", PARIS),
    ("semicolon", "48.8566; 2.3522", PARIS),
    ("slash", "48.8566 / 2.3522", PARIS),
    ("two lines", "48.8566\n2.3522", PARIS),
    ("round brackets", "(48.8566, 2.3522)", PARIS),
    ("square brackets", "[48.8566, 2.3522]", PARIS),
    ("braces", "{48.8566, 2.3522}", PARIS),
    ("angle brackets", "<48.8566, 2.3522>", PARIS),
    ("bold", "**48.8566, 2.3522**", PARIS),
    ("boxed", r"\boxed{48.8566, 2.3522}", PARIS),
    ("boxed pair", r"$\boxed{(48.8566, 2.3522)}$", PARIS),
    ("boxed, cut off", r"\boxed{48.8566, 2.3522", PARIS),
    ("boxed, with text", r"\boxed{\text{Paris: } 48.8566, 2.3522}", PARIS),
    ("plus sign", "+48.8566, +2.3522", PARIS),
    ("ISO 6709", "+48.8566+002.3522/", PARIS),
    ("ISO 6709, south", "-33.8688+151.2093/", SYDNEY),
    ("geo URI", "geo:48.8566,2.3522", PARIS),
    ("map link", "https://maps.google.com/?q=48.8566,2.3522", PARIS),
    ("map link with zoom", "https://www.google.com/maps/@48.8566,2.3522,15z", PARIS),
    ("WKT is x y", "POINT(2.3522 48.8566)", PARIS),
    ("GeoJSON is x y", '{"type": "Point", "coordinates": [2.3522, 48.8566]}', PARIS),
    # labels
    ("labels", "Latitude: 48.8566, Longitude: 2.3522", PARIS),
    ("labels, reversed", "Longitude: 2.3522, Latitude: 48.8566", PARIS),
    ("labels, lines", "Latitude: 48.8566\nLongitude: 2.3522", PARIS),
    ("labels, list", "- **Latitude:** 48.8566° N\n- **Longitude:** 2.3522° E", PARIS),
    ("labels, equals", "lat=48.8566, lon=2.3522", PARIS),
    ("labels, no mark", "lat 48.8566 lng 2.3522", PARIS),
    ("labels, dots", "Lat. 48.8566, Long. 2.3522", PARIS),
    ("labels, capitals", "LATITUDE 48.8566 LONGITUDE 2.3522", PARIS),
    ("labels, dash", "Latitude - 48.8566, Longitude - 2.3522", PARIS),
    ("labels, spaced minus", "Latitude: - 33.8688, Longitude: 151.2093", SYDNEY),
    ("labels, arrow", "latitude -> 48.8566, longitude -> 2.3522", PARIS),
    ("labels, after", "48.8566 (lat), 2.3522 (lon)", PARIS),
    ("labels, after, reversed", "2.3522 longitude, 48.8566 latitude", PARIS),
    ("labels, pair", "Latitude, Longitude: 48.8566, 2.3522", PARIS),
    ("labels, pair reversed", "(lon, lat): (2.3522, 48.8566)", PARIS),
    ("labels, pair slash", "Lat/Long: 48.8566, 2.3522", PARIS),
    ("labels, prose", "The latitude is approximately 48.8566 and the longitude is about 2.3522.", PARIS),
    ("labels, hemispheres", "Latitude: 48.8566 N, Longitude: 2.3522 E", PARIS),
    ("labels, hemisphere in brackets", "Latitude (S): 33.8688, Longitude (E): 151.2093", SYDNEY),
    ("labels, hemisphere choice", "Latitude (N/S): -33.8688, Longitude (E/W): 151.2093", SYDNEY),
    ("labels, one", "Latitude: 48.8566, 2.3522", PARIS),
    ("Chinese", "纬度：48.8566，经度：2.3522", PARIS),
    ("Chinese hemispheres", "北纬48.8566度，东经2.3522度", PARIS),
    # JSON, Python, code
    ("JSON", '{"lat": 48.8566, "lon": 2.3522}', PARIS),
    ("JSON, lng", '{"lat":48.8566,"lng":2.3522}', PARIS),
    ("JSON, reversed", '{"longitude": 2.3522, "latitude": 48.8566}', PARIS),
    ("JSON, strings", '{"latitude": "48.8566", "longitude": "2.3522"}', PARIS),
    ("JSON, string with signs", '{"lat": "33.8688° S", "lon": "151.2093° E"}', SYDNEY),
    ("JSON, nested", '{"location": {"city": "Paris", "coordinates": {"lat": 48.8566, "lng": 2.3522}}}', PARIS),
    ("JSON, confidence between", '{"lat": 48.8566, "confidence": 0.9, "lon": 2.3522}', PARIS),
    ("JSON, pair", '{"coordinates": [48.8566, 2.3522]}', PARIS),
    ("JSON, escaped", '{\\"lat\\": 48.8566, \\"lon\\": 2.3522}', PARIS),
    ("Python dict", "{'lat': 48.8566, 'lon': 2.3522}", PARIS),
    ("curly quotes", "{“lat”: 48.8566, ‘lon’: 2.3522}", PARIS),
    ("mixed quotes", "{'lat\": 48.8566, lon': 2.3522}", PARIS),
    ("pretty JSON in a fence", '```json\n{\n  "latitude": 48.8566,\n  "longitude": 2.3522\n}\n```', PARIS),
    ("Python in a fence", "```python\nlat_deg = 48.8566\nlon_deg = 2.3522\n```", PARIS),
    ("gt keys", '{"gt_lat": 48.8566, "gt_lon": 2.3522}', PARIS),
    ("tuple of strings", "('48.8566', '2.3522')", PARIS),
    # angles and hemispheres
    ("degree signs", "48.8566°, 2.3522°", PARIS),
    ("letters after", "48.8566° N, 2.3522° E", PARIS),
    ("letters glued", "33.8688S, 151.2093E", SYDNEY),
    ("letters, nothing between", "33.8688°S151.2093°E", SYDNEY),
    ("letters before", "S 33.8688, E 151.2093", SYDNEY),
    ("letters before, glued", "S33.8688 E151.2093", SYDNEY),
    ("letters, reversed", "151.2093° E, 33.8688° S", SYDNEY),
    ("letters, small", "33.8688°s, 151.2093°e", SYDNEY),
    ("sign and letter", "-33.8688° S, 151.2093° E", SYDNEY),
    ("words after", "33.8688 degrees South, 151.2093 degrees East", SYDNEY),
    ("words, latitude", "33.8688° south latitude and 151.2093° east longitude", SYDNEY),
    ("words without degrees", "33.8688 south, 151.2093 east", SYDNEY),
    ("words before", "South 33.8688, East 151.2093", SYDNEY),
    ("ordinal indicator as degree", "22.9º S, 43.2º W", RIO),
    ("LaTeX degrees", r"$33.8688^\circ \text{S}, 151.2093^{\circ}\text{E}$", SYDNEY),
    ("HTML", "33.8688&deg;&nbsp;S, 151.2093&deg; E", SYDNEY),
    ("dash between", "48.8566° N - 2.3522° E", PARIS),
    ("European decimals", "48,8566° N, 2,3522° E", PARIS),
    ("DMS", "48°51'24\"N 2°21'08\"E", (48 + 51 / 60 + 24 / 3600, 2 + 21 / 60 + 8 / 3600)),
    ("DMS, primes", "48° 51′ 24″ N, 2° 21′ 8″ E", (48 + 51 / 60 + 24 / 3600, 2 + 21 / 60 + 8 / 3600)),
    ("DMS, curly", "48°51’24.5”S, 2°21’8.5”W", (-48 - 51 / 60 - 24.5 / 3600, -2 - 21 / 60 - 8.5 / 3600)),
    ("DMS, two apostrophes", "48°51'24''N, 2°21'8''E", (48 + 51 / 60 + 24 / 3600, 2 + 21 / 60 + 8 / 3600)),
    ("DMS, words", "48 degrees 51 minutes 24 seconds North, 2 degrees, 21 minutes and 8 seconds East",
     (48 + 51 / 60 + 24 / 3600, 2 + 21 / 60 + 8 / 3600)),
    ("DMS, sign of zero", "51°28'N, -0°30'", (51 + 28 / 60, -0.5)),
    ("DM", "48°51.4'N, 2°21.1'E", (48 + 51.4 / 60, 2 + 21.1 / 60)),
    ("D and M in words", "33 degrees 52 minutes South, 151 degrees 12 minutes East", (-33 - 52 / 60, 151.2)),
    # signs
    ("Unicode minus", "−22.9, −43.2", RIO),
    ("en dash as minus", "–22.9, –43.2", RIO),
    ("full-width", "－２２．９，　－４３．２", RIO),
    ("no-break space", "-22.9,\u00a0-43.2", RIO),
    ("bare fraction", ".5, -.25", (0.5, -0.25)),
    ("whole degrees", "48, 2", (48, 2)),
    ("Python's small floats", "1e-05, 2.5", (1e-05, 2.5)),
    ("on the equator", "0.0, 9.45", (0.0, 9.45)),
    ("the edges", "-90, 180.0", (-90, 180)),
    # with other words and numbers
    ("place before", "Paris, France (48.8566, 2.3522)", PARIS),
    ("place before, dash", "Paris, France - 48.8566, 2.3522", PARIS),
    ("place before, long dash", "Paris, France—48.8566, 2.3522", PARIS),
    ("place after", "48.8566, 2.3522 (Paris, France)", PARIS),
    ("coordinates:", "Coordinates: approximately 48.8566, 2.3522.", PARIS),
    ("tildes", "~48.8566, ~2.3522", PARIS),
    ("about, twice", "about 48.8566, about 2.3522", PARIS),
    ("list number", "1. 48.8566, 2.3522", PARIS),
    ("list number and place", "1) Paris, France: 48.8566, 2.3522", PARIS),
    ("option", "Option 2: 48.8566, 2.3522", PARIS),
    ("house number before", "10 Rue de Rivoli, Paris, 48.8566, 2.3522", PARIS),
    ("house number after", "Hauptstraße 12, 50.11, 8.68", (50.11, 8.68)),
    ("house and postcode", "4 Place Jussieu, 75005 Paris, France, 48.8566, 2.3522", PARIS),
    ("hemisphere in a street", "20 W 34th St, New York: 40.75° N, 73.98° W", (40.75, -73.98)),
    ("percentage", "48.8566, 2.3522 (90% confidence)", PARIS),
    ("percentage in a row", "48.8566, 2.3522, 90%", PARIS),
    ("confidence", "48.8566, 2.3522, confidence: 0.85", PARIS),
    ("confidence first", "Confidence: 0.85, 48.8566, 2.3522", PARIS),
    ("tolerance", "48.8566 ± 0.01, 2.3522 ± 0.01", PARIS),
    ("radius", "48.8566, 2.3522 within 25 km", PARIS),
    ("year", "Photographed in 1998, at 48.8566, 2.3522", PARIS),
    ("date and time", "On 2024-05-01 at 12:30, 48.8566, 2.3522", PARIS),
    ("decade and ordinal", "The 1970s blocks of the 5th ward: 48.8566, 2.3522", PARIS),
    ("range of numbers", "A 2-3 storey street. 48.8566, 2.3522", PARIS),
    ("temperature", "At 20°C; 48.8566, 2.3522", PARIS),
    ("word after", "48.8566, 2.3522 south of the river", PARIS),
    ("compass word before", "It is in the south: 43.3, 5.4", (43.3, 5.4)),
    ("hedged", "I cannot be sure, but my best guess is 48.8566, 2.3522", PARIS),
    ("same place in two forms", "48.8566° N, 2.3522° E (48°51'24\"N, 2°21'08\"E)", PARIS),
    ("same place, rounded", "About 48.86, 2.35; exactly 48.8566, 2.3522", PARIS),
]

NOT_READ = [
    ("empty", ""),
    ("empty tags", "<think>48.85, 2.35</think><answer></answer>"),
    ("only a chain", "<think>48.85, 2.35</think>"),
    ("chain never closed", "<think>It is at 48.85, 2.35"),
    ("chain never closed, answer inside", "<think>So <answer>48.85, 2.35</answer>"),
    ("answer inside the chain", "<think>So <answer>48.85, 2.35</answer></think>"),
    ("second chain never closed", "<think>a</think><answer>48.85, 2.35</answer><think>but"),
    ("words", "Paris, France"),
    ("refusal", "I cannot determine the location of this photo."),
    ("no answer", "no answer"),
    ("one number", "48.85"),
    ("zero", "0.0"),
    ("zeros", "(0, 0)"),
    ("zeros, decimals", "0.0, 0.0"),
    ("zeros, signed", "-0.00, 0.00"),
    ("zeros, labelled", '{"lat": 0.0, "lon": 0.0}'),
    ("refusal with zeros", "Unable to determine. 0.0, 0.0"),
    ("NaN", "NaN, NaN"),
    ("half NaN", '{"lat": 48.85, "lon": NaN}'),
    ("null", '{"lat": null, "lon": null}'),
    ("half null", '{"lat": 48.85, "lon": null, "confidence": 0.9}'),
    ("template", "<answer><latitude>, <longitude></answer>"),
    ("template, letters", "XX.XXXX, YY.YYYY"),
    ("latitude too large", "90.5, 2.35"),
    ("longitude too large", "48.85, 180.1"),
    ("swapped", "151.2093, -33.8688"),
    ("labelled, out of range", "Latitude: 151.2, Longitude: -33.9"),
    ("one good pair, one out of range", "48.85, 2.35 or 120.5, 200.5"),
    ("minutes out of range", "48°75'N 2°21'E"),
    ("seconds out of range", "48°51'60\"N 2°21'E"),
    ("two places", "48.8566, 2.3522 or 40.7128, -74.0060"),
    ("two places, list", "1. 48.8566, 2.3522\n2. 40.7128, -74.0060"),
    ("two places, labelled", "Latitude: 48.85, Longitude: 2.35. Or latitude: 40.71, longitude: -74.0."),
    ("two places, JSON", '[{"lat": 48.85, "lon": 2.35}, {"lat": 40.71, "lon": -74.0}]'),
    ("two places, two answers", "<answer>48.85, 2.35</answer><answer>40.71, -74.0</answer>"),
    ("two places close by", "48.85, 2.35 or 48.86, 2.36"),
    ("two places, one in letters", "48.85, 2.35 (40.71° N, 74.0° W)"),
    ("two latitudes", "48.85° N, 2.35° N"),
    ("label against letter", "Latitude: 48.85° E, Longitude: 2.35° N"),
    ("sign against letter", "-48.85° N, 2.35° E"),
    ("only a latitude", "Latitude: 48.85"),
    ("only a parallel", "It lies on the 45.5° N parallel"),
    ("longitude, then a number", "Longitude: 2.35, 48.85"),
    ("order said far away", "longitude, latitude of the tower as I see it: 2.35, 48.85"),
    ("three numbers", "48.85, 2.35, 35.5"),
    ("three whole numbers", "48, 51, 24"),
    ("ranges", "48.8-48.9, 2.3-2.4"),
    ("ranges in words", "48.1 to 48.9, 2.1 to 2.9"),
    ("between", "between 48.1 and 48.9 latitude"),
    ("decimal commas", "48,8566; 2,3522"),
    ("bullet or minus", "- 48.85, 2.35"),
    ("dash or minus", "Latitude - 33.86, Longitude 151.2"),
    ("rating", "8/10"),
    ("always", "24/7"),
    ("minutes under a key", '{"latitude": {"degrees": 48, "minutes": 51}, "longitude": {"degrees": 2, "minutes": 21}}'),
    ("space between degrees and minutes", "48 51 24 N 2 21 03 E"),
    ("letter glued to a label", "Lat48.85 Lon2.35"),
    ("two counts", "5 trees, 12 m apart"),
    ("date", "2024-05-01"),
    ("version", "1.2.3, 4.5.6"),
    ("IP addresses", "10.0.0.1, 10.0.0.2"),
    ("identifiers", "A48.85, B2.35"),
    ("too many numbers", "1.5, 2.5 " * 5000),
]


def near(place):
    return pytest.approx(place, abs=1e-9)


@pytest.mark.parametrize("text, place", [pytest.param(text, place, id=kind) for kind, text, place in READ])
def test_read(text, place):
    assert parse_answer(text) == near(place)


@pytest.mark.parametrize("text", [pytest.param(text, id=kind) for kind, text in NOT_READ])
def test_no_answer(text):
    assert parse_answer(text) is None


@pytest.mark.parametrize("kind, text, place", READ)
def test_a_chain_before_changes_nothing(kind, text, place):
    if "hink>" not in text.lower():
        body = text if "answer>" in text else f"<answer>{text}</answer>"
        assert parse_answer(f"<think>Lima? -12.0, -77.0</think>{body}") == parse_answer(text)


@pytest.mark.parametrize("text, expected", [
    ("<think>a</think><answer>b</answer>", ("a", "b")),
    ("a</think>b", ("a", "b")),
    ("b", (None, "b")),
    ("<think>a", ("a", None)),
    ("x<think>a</think>y<think>c</think>z", ("a\n\nc", "x\n\ny\n\nz")),
    ("<think></think><answer></answer>", ("", "")),
    ("<answer>a</answer>b<answer>c", (None, "a\n\nc")),
])
def test_split_completion(text, expected):
    assert split_completion(text) == expected


POINTS = st.builds(LatLon, st.floats(-90, 90), st.floats(-180, 180))


@given(POINTS, st.integers(0, 8))
def test_whatever_the_formatter_prints_the_reader_reads(point, decimals):
    rounded = (round(point.lat_deg, decimals), round(point.lon_deg, decimals))
    if rounded == (0, 0):
        with pytest.raises(ValueError, match="means no answer"):
            format_answer(point, decimals)
    else:
        printed = format_answer(point, decimals)
        assert "-0.00," not in printed
        assert parse_answer(f"<think>x</think><answer>{printed}</answer>") == near(rounded)


def test_format_answer_by_hand():
    assert format_answer(LatLon(48.8566, -0.001)) == "48.86, 0.00"
    with pytest.raises(ValueError, match="is no place"):
        format_answer(LatLon(91, 0))


@given(st.text(st.characters(exclude_categories=["Nd"])), st.sampled_from(["", "48.85", "-7", "5°"]), st.text(
    st.characters(exclude_categories=["Nd"])))
def test_text_without_two_numbers_is_never_a_place(before, number, after):
    assert parse_answer(before + number + after) is None


PIECES = st.sampled_from([
    "48.85", "2.35", "-33.9", "151", "°", "'", '"', " N", "S", " W", "lat", "lon", "Longitude", ":", ", ", ";", " ",
    "\n", "-", "−", "–", "(", "]", "{", "/", "km", "%", "and", "to", "between", "the", "confidence", "1.", "\\boxed{",
    "e-05", ".", "<think>", "</think>", "<answer>", "</answer>"])


@given(st.lists(PIECES, max_size=25).map("".join))
def test_any_mixture_is_a_place_on_the_globe_or_no_answer(text):
    place = parse_answer(text)
    assert place is None or place == LatLon.checked(*place)


@given(st.text())
def test_any_text_is_read_without_an_error(text):
    parse_answer(text)


LONG = ["word ", "1", "1.5, 2.5 ", "<answer>", "</think>", "</answer>a", "<", "lat", "lat: ", "N ", "-", "48°",
        "48°51'", " ", "\n", "a", "(", ",", ".", "1.", "1 ", "x: ", "\\", "&", "^", "deg", "é", "# ", "1:", "1/", "1,",
        "1. ", "a" * 599 + "1", " " * 190 + "1", "1km", "A1"]


@pytest.mark.parametrize("piece", LONG, ids=repr)
def test_the_time_grows_with_the_length_only(piece):
    small, large = piece * (50_000 // len(piece)), piece * (400_000 // len(piece))

    def seconds(text):
        start = time.process_time()
        parse_answer(text + " 48.85, 2.35")
        return time.process_time() - start

    assert seconds(large) < 8 * 3 * min(seconds(small) for _ in range(2)) + 0.1  # quadratic would be 64 times


@pytest.mark.parametrize("gap", ["word ", "flat ", "a", "\n", " "])
def test_a_long_way_between_numbers_changes_nothing(gap):
    assert parse_answer(f"Paris: 48.8566, 2.3522. {gap * 1000} Really: 48.8566, 2.3522") == near(PARIS)
    assert parse_answer(f"Paris: 48.8566, 2.3522. {gap * 1000} Or 40.71, -74.0") is None
    assert parse_answer(f"Latitude: 48.8566 {gap * 1000} Longitude: 2.3522") == near(PARIS)


def test_the_command_reads_a_json_string_a_line():
    texts = ["48.8566, 2.3522", "no answer", "<think>\n1, 2</think><answer>−22.9, −43.2</answer>"]
    ran = subprocess.run([sys.executable, "-m", "gre.text.answers"], input="\n".join(map(json.dumps, texts)),
                         capture_output=True, text=True, check=True)
    assert [json.loads(line) for line in ran.stdout.splitlines()] == [list(PARIS), None, list(RIO)]


@pytest.mark.parametrize("line", ["48.8, 2.3", "", "7"])
def test_the_command_names_a_line_that_is_no_string(line, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(f'"48.8, 2.3"\n{line}\n'))
    assert main() == 1
    assert capsys.readouterr().err.startswith("line 2: expected one JSON string a line")
