"""What must hold for any text: properties of the reader of answers, each tried on random examples when it is called."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gre.geo.point import LatLon
from gre.text.answers import format_answer, parse_answer


def near(place):
    return pytest.approx(place, abs=1e-9)


POINTS = st.builds(LatLon, st.floats(-90, 90), st.floats(-180, 180))


@given(POINTS, st.integers(0, 8))
def whatever_the_formatter_prints_the_reader_reads(point, decimals):
    rounded = (round(point.lat_deg, decimals), round(point.lon_deg, decimals))
    if rounded == (0, 0):
        with pytest.raises(ValueError, match="means no answer"):
            format_answer(point, decimals)
    else:
        printed = format_answer(point, decimals)
        assert "-0.00," not in printed
        assert parse_answer(f"<think>x</think><answer>{printed}</answer>") == near(rounded)


def letters(value: float, positive: str, negative: str) -> tuple[str, str]:
    return f"{abs(value)}", negative if value < 0 else positive


def forms(lat: float, lon: float) -> list[str]:
    """One place as people and models print it."""
    (north, ns), (east, ew) = letters(lat, "N", "S"), letters(lon, "E", "W")
    ns_word, ew_word = {"N": "north", "S": "south"}[ns], {"E": "east", "W": "west"}[ew]
    return [
        f"({lat}, {lon})", f"{lon}, {lat} (lon, lat)", f"\\boxed{{{lat}, {lon}", f"[{lat}],[{lon}]",
        f"Latitude: {lat}, Longitude: {lon}", f"Long. {lon}; Lat. {lat}", f"{lat} (lat), {lon} (lon)",
        f'{{"lat": {lat}, "lng": "{lon}"}}', f"{{'longitude': {lon}, 'confidence': 0.9, 'latitude': {lat}}}",
        f'{{"lat": {north}, "lat_ref": "{ns}", "lon": {east}, "lon_ref": "{ew}"}}',
        f"| Latitude | Longitude |\n|---|---|\n| {lat} | {lon} |", f"{lat}, {lon}".replace("-", "−"),
        f"{north}° {ns}, {east}° {ew}", f"{ew}{east} {ns}{north}", f"{north}°{ns}{east}°{ew}",
        f"Latitude: {north} {ns_word}, Longitude: {east} {ew_word}",
        f"Latitude ({ns}): {north}, Longitude ({ew}): {east}",
        f"{north} degrees {ns_word} latitude and {east} degrees {ew_word} longitude",
        f"1. Paris, 10 Rue de Rivoli (90 %): {lat}, {lon}, within 25 km"]


@given(st.integers(-900_000, 900_000), st.integers(-1_800_000, 1_800_000), st.integers(0, len(forms(0, 0)) - 1))
def a_place_is_read_in_every_usual_form(lat_ten_thousandths, lon_ten_thousandths, form):
    place = (lat_ten_thousandths / 10_000, lon_ten_thousandths / 10_000)
    assert parse_answer(forms(*place)[form]) == (None if place == (0, 0) else near(place))


@given(st.integers(-90 * 3600, 90 * 3600), st.integers(-180 * 3600, 180 * 3600), st.sampled_from([
    "{}°{}'{}\"{}", "{}° {}′ {}″ {}", "{} degrees {} minutes {} seconds {}", "{}d{}m{}s {}", "{} {} {} {}",
    "{}:{}:{}{}"]))
def degrees_minutes_and_seconds_are_read(lat_seconds, lon_seconds, form):
    printed = [form.format(*(abs(seconds) // unit % base for unit, base in ((3600, 360), (60, 60), (1, 60))),
                           names[seconds < 0]) for seconds, names in ((lat_seconds, "NS"), (lon_seconds, "EW"))]
    place = (lat_seconds / 3600, lon_seconds / 3600)
    assert parse_answer(", ".join(printed)) == (None if place == (0, 0) else near(place))


@given(st.text(), st.text())
def what_the_chain_says_changes_nothing(chain, answer):
    if "<" not in chain + answer:
        assert parse_answer(f"<think>48.85, 2.35 {chain}</think><answer>{answer}</answer>") == parse_answer(answer)


@given(st.text(st.characters(exclude_categories=["Nd"])), st.sampled_from(["", "48.85", "-7", "5°"]), st.text(
    st.characters(exclude_categories=["Nd"])))
def text_without_two_numbers_is_never_a_place(before, number, after):
    assert parse_answer(before + number + after) is None


PIECES = st.sampled_from([
    "48.85", "2.35", "-33.9", "151", "°", "'", '"', " N", "S", " W", "lat", "lon", "Longitude", ":", ", ", ";", " ",
    "\n", "-", "−", "–", "(", "]", "{", "/", "km", "%", "and", "to", "between", "the", "confidence", "1.", "\\boxed{",
    "e-05", ".", "<think>", "</think>", "<answer>", "</answer>"])


@given(st.lists(PIECES, max_size=25).map("".join))
def any_mixture_is_a_place_on_the_globe_or_no_answer(text):
    place = parse_answer(text)
    assert place is None or place == LatLon.checked(*place)


@given(st.text())
def any_text_is_read_without_an_error(text):
    parse_answer(text)


PROPERTIES = [whatever_the_formatter_prints_the_reader_reads,
              a_place_is_read_in_every_usual_form,
              degrees_minutes_and_seconds_are_read,
              what_the_chain_says_changes_nothing,
              text_without_two_numbers_is_never_a_place,
              any_mixture_is_a_place_on_the_globe_or_no_answer,
              any_text_is_read_without_an_error]
