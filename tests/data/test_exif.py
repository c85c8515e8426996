"""Positions in EXIF data: each kind that occurs, made by hand, is read right or refused by name."""
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gre.data import exif
from gre.data.exif import NoPosition
from tests.helpers import gps
from tests.helpers.gps import BYTE, SIGNED, UNDEFINED, at, dms, rationals, text

PARIS = [(48, 1), (51, 1), (3024, 100)], [(2, 1), (17, 1), (402, 10)]  # 48.8584, 2.2945
SMALL = Image.new("RGB", (8, 8), (9, 99, 200))


def opened(content: bytes) -> Image.Exif:
    from gre.data.images import formats
    return exif.exif_of(Image.open(io.BytesIO(content), formats=formats()))


def read(block, kind="JPEG") -> exif.Fix:
    return exif.fix(opened(gps.saved(SMALL, kind, gps.exif(block))))


@pytest.mark.parametrize("kind", ["JPEG", "HEIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_any_kind_of_file_says_where_it_was_taken(kind):
    found = read(dms(*PARIS, x5=(BYTE, 1, b"\0"), x6=rationals((354, 10))), kind)
    assert found.place == pytest.approx((48.8584, 2.2945), abs=1e-9) and found.altitude_m == 35.4


@pytest.mark.parametrize("block, expected", [
    (dms([(33, 1), (51, 1), (2448, 100)], [(70, 1), (30, 1), (0, 1)], b"S\0", b"W\0"), (-33.8568, -70.5)),
    (dms(*PARIS, b"n\0", b"w\0"), (48.8584, -2.2945)),                       # lower case
    (dms(*PARIS, b"North", b" West \0\0"), (48.8584, -2.2945)),              # a word, blanks and zeros
    (dms([(488584, 10000)], [(22945, 10000)]), (48.8584, 2.2945)),          # decimals, and nothing behind them
    (dms([(488584, 10000), (0, 1), (0, 1)], [(22945, 10000), (0, 0), (0, 0)]), (48.8584, 2.2945)),
    (dms([(48, 1), (51504, 1000), (0, 0)], [(2, 1), (17670, 1000), (0, 0)]), (48.8584, 2.2945)),  # no seconds measured
    (dms([(48, 1), (60, 1), (0, 1)], [(2, 1), (59, 1), (60, 1)]), (49.0, 3.0)),  # rounded up to 60
    (dms([(0, 1), (0, 1), (0, 1)], [(2, 1), (0, 1), (0, 1)], None), (0.0, 2.0)),  # the equator needs no reference
    ({1: text(b"N\0", UNDEFINED), 3: text(b"E", BYTE), 2: rationals(*PARIS[0]), 4: rationals(*PARIS[1])},
     (48.8584, 2.2945)),  # bytes for text
    ({2: rationals((-335, 10), kind=SIGNED), 4: rationals((-705, 10), kind=SIGNED)}, (-33.5, -70.5)),  # a sign instead
    (dms([(90, 1)], [(180, 1)], b"S\0", b"W\0"), (-90.0, -180.0)),
])
def test_what_is_read(block, expected):
    assert read(block).place == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("block, kind, said", [
    (None, exif.NO_GPS, ""),
    ({}, exif.EMPTY, ""),
    ({0: (BYTE, 4, b"\2\3\0\0")}, exif.EMPTY, ""),
    ({1: text(b"N\0"), 2: rationals(*PARIS[0])}, exif.BROKEN, "one of latitude and longitude"),
    (dms([(0, 0)] * 3, [(0, 0)] * 3), exif.BROKEN, "the latitude's degrees are 0/0"),
    (dms([(48, 0), (51, 1), (0, 1)], PARIS[1]), exif.BROKEN, "the latitude's degrees are 48/0"),
    (dms(PARIS[0], [(2, 1), (17, 1), (40, 0)]), exif.BROKEN, "the longitude's seconds are 40/0"),
    (dms([(48, 1), (85, 1), (0, 1)], PARIS[1]), exif.BROKEN, "the latitude is 48° 85 0"),
    (dms([(48, 1)] * 4, PARIS[1]), exif.BROKEN, "4 parts"),
    ({**dms(*PARIS), 2: text(b"48.8584\0")}, exif.BROKEN, "not a rational"),
    (dms(*PARIS, None), exif.NO_HEMISPHERE, "no N or S beside the latitude"),
    (dms(*PARIS, b"N\0", b"\0"), exif.NO_HEMISPHERE, "no E or W beside the longitude"),
    (dms(*PARIS, b"N\0", b"O\0"), exif.NO_HEMISPHERE, "reference is 'O'"),  # Ouest or Ost
    ({**dms(*PARIS), 2: rationals((-485, 10), kind=SIGNED)}, exif.NO_HEMISPHERE, "a negative latitude beside N"),
    (dms([(0, 1)] * 3, [(0, 1)] * 3), exif.NO_FIX, "0, 0"),
    (dms([(0, 1)] * 3, [(0, 1)] * 3, None, None), exif.NO_FIX, "0, 0"),
    (dms(*PARIS, x9=text(b"V\0")), exif.NO_FIX, "GPSStatus V"),
    (dms([(91, 1)], PARIS[1]), exif.NO_PLACE, "latitude 91"),
    (dms(PARIS[0], [(181, 1)]), exif.NO_PLACE, "longitude 181"),
])
def test_what_is_refused_by_name(block, kind, said):
    with pytest.raises(NoPosition) as raised:
        read(block)
    assert raised.value.kind == kind and said in str(raised.value)


def test_a_photo_without_exif_and_one_whose_exif_is_cut():
    with pytest.raises(NoPosition, match=exif.NO_EXIF):
        exif.fix(opened(gps.saved(SMALL)))
    whole = gps.exif(dms(*PARIS))
    for length in range(12, len(whole), 7):
        try:
            exif.fix(opened(gps.saved(SMALL, exif=whole[:length])))
        except NoPosition as error:
            assert error.kind in exif.WHY


@pytest.mark.parametrize("more, metres", [
    ({"x6": rationals((12, 1))}, 12.0), ({"x6": rationals((12, 1)), "x5": (BYTE, 1, b"\1")}, -12.0),
    ({"x6": rationals((12, 0))}, None), ({"x6": rationals((0, 0))}, None), ({"x6": text(b"high\0")}, None), ({}, None)])
def test_the_altitude_locates_nobody_and_spoils_no_photo(more, metres):
    assert read(dms(*PARIS, **more)).altitude_m == metres


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_any_place_comes_back(lat, lon):
    if round(lat, 6) or round(lon, 6):
        assert read(at(lat, lon)).place == pytest.approx((lat, lon), abs=1e-7)


PART = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))


@given(st.lists(PART, min_size=1, max_size=4), st.lists(PART, min_size=1, max_size=4),
       st.one_of(st.none(), st.binary(max_size=6)), st.one_of(st.none(), st.binary(max_size=6)))
def test_any_numbers_are_a_place_or_a_named_refusal(lat, lon, north, east):
    try:
        place = read(dms(lat, lon, north, east)).place
        assert -90 <= place.lat_deg <= 90 and -180 <= place.lon_deg <= 180
    except NoPosition as error:
        assert error.kind in exif.WHY
