"""The reader of answers against the table of strings by kind (answer_table.py), its time, its command, its page."""
import io
import json
import re
import subprocess
import sys
import time

import pytest

from gre.geo.point import LatLon
from gre.text.answers import format_answer, main, parse_answer, split_completion
from tests.helpers.answer_table import PARIS, RIO, ROWS
from tests.helpers.compare_readers import counts, markdown, upstream
from tests.helpers.paths import ROOT


def near(place):
    return pytest.approx(place, abs=1e-9)


@pytest.mark.parametrize("text, place", [
    pytest.param(text, place, id=f"{kind}: {text[:60]}") for kind, text, place in ROWS])
def test_read(text, place):
    assert parse_answer(text) == (None if place is None else near(place))


def test_the_table_is_large_and_no_string_stands_twice():
    texts = [text for _, text, _ in ROWS]
    assert len(texts) >= 250 and len(set(texts)) == len(texts)
    assert sum(place is None for _, _, place in ROWS) >= 80


@pytest.mark.parametrize("text, place", [(text, place) for _, text, place in ROWS if "hink>" not in text.lower()])
def test_a_chain_before_changes_nothing(text, place):
    body = text if "answer" in text else f"<answer>{text}</answer>"
    assert parse_answer(f"<think>Lima? -12.0, -77.0</think>{body}") == (None if place is None else near(place))


@pytest.mark.parametrize("text", [
    "(-33.8688), 151.2093", "33.8688 s, 151.2093 e", "48.8566:2.3522", "1 - 48.8566, 2.3522",
    "48 51' 24\" N, 2 21' 8\" E", "La latitude est 48.8566 et la longitude est 2.3522.",
    "Lat-33.8688, Lon151.2093", "48.8566E0, 2.3522E0",
    '{"lat": {"deg": 48, "dir": "N", "min": 51}, "lon": {"deg": 2, "dir": "E", "min": 21}}'])
def test_what_a_person_might_still_read_is_refused_and_not_misread(text):
    assert parse_answer(text) is None


def test_too_many_numbers_are_no_answer():
    assert parse_answer("1.5, 2.5 " * 5000) is None


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


def test_format_answer_by_hand():
    assert format_answer(LatLon(48.8566, -0.001)) == "48.86, 0.00"
    with pytest.raises(ValueError, match="is no place"):
        format_answer(LatLon(91, 0))


LONG = ["word ", "1", "1.5, 2.5 ", "<answer>", "</think>", "</answer>a", "<", "lat", "lat: ", "N ", "-", "48°",
        "48°51'", " ", "\n", "a", "(", ",", ".", "1.", "1 ", "x: ", "\\", "&", "^", "deg", "é", "# ", "1:", "1/", "1,",
        "1. ", "a" * 599 + "1", " " * 190 + "1", "1km", "A1", "minus ", "1d2m", "1:1:1 N", "N 1 1 1 ", "</a", "lat.",
        "^\\prime", "€1", "1€", "_", "1_", "map=1", "°O", "° est", "lat1.5", "1,11111", "aB", "E1", "1e1", "(1)", "h: "]


@pytest.mark.slow
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


def test_upstream_s_parser_as_described():
    assert upstream("<answer>48.85, 2.35</answer>") == (2.35, 48.85)  # swapped at the call
    assert upstream("<answer>48.85, 2.35</answer>", swapped=False) == (48.85, 2.35)
    assert upstream("<answer>Longitude: 2.35, Latitude = 48.85</answer>", swapped=False) == (48.85, 2.35)
    assert upstream('<answer>"Longitude": 2.35, "Latitude": 48.85</answer>') == (48.85, 2.35)  # two wrongs
    assert upstream("<answer>1. 48.85, 2.35</answer>", swapped=False) == (1.0, 48.85)
    assert upstream("<answer>33.87° S, 151.21° E</answer>", swapped=False) == (33.87, 151.21)
    assert upstream("<answer>-33.87, 151.21</answer>") is None  # 151.21 is no latitude
    assert upstream("48.85, 2.35") is None and upstream("<answer>48.85</answer>") is None


@pytest.mark.slow
def test_the_comparison_counts_ours_right_everywhere_and_is_the_one_on_record():
    total = counts(ROWS)
    assert total["ours"] == total["n"] == len(ROWS)
    assert total["upstream"] < total["upstream, not swapped"] < total["n"]
    recorded = (ROOT / "docs" / "results" / "answer_reader.md").read_text(encoding="utf-8")
    assert markdown(ROWS) in recorded, "the table changed: python -m tests.helpers.compare_readers"


EXAMPLE = re.compile(r"^\| `` ?(.+?) ?`` \| (?:(-?[\d.]+), (-?[\d.]+)|no answer) \|", re.MULTILINE)


def test_the_page_says_what_the_reader_does():
    examples = EXAMPLE.findall((ROOT / "docs" / "answers.md").read_text(encoding="utf-8"))
    assert len(examples) >= 40
    for text, lat, lon in examples:
        text = text.replace("\\n", "\n").replace("\\|", "|")
        assert parse_answer(text) == (pytest.approx((float(lat), float(lon)), abs=1e-4) if lat else None), text
