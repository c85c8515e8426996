"""Tables as people save them: read row by row, entered anywhere, and every row that is broken is named."""
import csv
import gzip
import io

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from gre.data import tables
from gre.data.raw import DataError
from gre.data.tables import Mark


def read(path, content: bytes):
    path.write_bytes(content)
    return [(where.rpartition(", ")[2], fields, fault) for where, fields, fault in tables.open_table(path).lines()]


HERE = {"image": "a.jpg", "lat": "1", "lon": "2"}


@pytest.mark.parametrize("content", [
    b"image,lat,lon\na.jpg,1,2\n", b"image,lat,lon\r\na.jpg,1,2\r\n", b"\xef\xbb\xbfimage,lat,lon\na.jpg,1,2",
    b"image;lat;lon\na.jpg;1;2\n", b"image\tlat\tlon\na.jpg\t1\t2\n", b'"image","lat","lon"\n"a.jpg","1","2"\n',
    gzip.compress(b"image,lat,lon\na.jpg,1,2\n", mtime=0), b"image,lat,lon\n\na.jpg,1,2\n\n"])
def test_one_row_however_it_is_saved(tmp_path, content):
    ((where, fields, fault),) = read(tmp_path / "a.csv", content)
    assert fields == HERE and not fault and where == ("line 3" if b"\n\na" in content else "line 2")


def test_every_broken_row_is_named_and_the_others_are_read(tmp_path):
    rows = read(tmp_path / "a.csv", b'image,lat,lon\r\n"a\nb",1,2\r\na.jpg,1\r\nK\xf6ln.jpg,1,2\r\n"x"y,1,2\r\n'
                                    b'Z\xc3\xbcrich.jpg,1,2\r\na.jpg,1,2,3\r\n')
    assert [(where, fault) for where, _, fault in rows] == [
        ("line 3", ""), ("line 4", "more or fewer fields than the header has"), ("line 5", "not UTF-8"),
        ("line 6", "not CSV (',' expected after '\"')"), ("line 7", ""),
        ("line 8", "more or fewer fields than the header has")]
    assert rows[0][1]["image"] == "a\nb" and rows[4][1]["image"] == "Zürich.jpg"


@pytest.mark.parametrize("content, said", [
    (b'image,lat,lon\n"a.jpg,1,2\nb.jpg,3,4\n', "line 2 to 3: a quote that is opened there is never closed"),
    (b"image,lat,lon\ra.jpg,1,2\r", "old Macintosh"), (b"PK\x03\x04", "zip archive"),
    ("image,lat,lon\n".encode("utf-16"), "UTF-16"), (b"im\xe4ge,lat,lon\n", "first line is not UTF-8"),
    (b"PAR1 and no more", "Parquet file is broken"), (b"1\tx\ty\n", "not YFCC100M's list")])
def test_a_file_that_is_no_table_is_refused_by_name(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        read(tmp_path / "a.csv", content)


FIELD = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\0"), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(FIELD, FIELD, FIELD), min_size=1, max_size=20), st.integers(1, 7), st.booleans())
def test_a_table_entered_at_a_mark_goes_on_as_one_read_through(tmp_path, rows, every, crlf):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n" if crlf else "\n", quoting=csv.QUOTE_ALL).writerows([["a", "b", "c"], *rows])
    (tmp_path / "a.csv").write_bytes(text.getvalue().encode())
    table = tables.open_table(tmp_path / "a.csv")
    whole = list(table.lines())
    assert [tuple(line.fields.values()) for line in whole] == rows
    marks = list(table.marks(every))
    assert [line for _, piece in marks for line in piece] == whole
    for mark, piece in marks:
        assert list(table.lines(mark))[:len(piece)] == piece and mark.row % every == 0


def test_parquet_entered_anywhere_with_photos_inside(tmp_path):
    table = pyarrow.table({"image": [{"bytes": bytes([n]), "path": None} for n in range(25)],
                           "lat": [n / 3 for n in range(25)], "note": [None, "x"] * 12 + [None]})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    opened = tables.open_table(tmp_path / "a.parquet")
    for row in range(26):
        lines = list(opened.lines(Mark(row)))
        assert [line.fields["image"]["bytes"][0] for line in lines] == list(range(row, 25))
    assert lines == [] and float(next(opened.lines(Mark(10))).fields["lat"]) == 10 / 3
    marks = list(opened.marks(10))
    assert [(mark.row, len(piece)) for mark, piece in marks] == [(0, 10), (10, 10), (20, 5)]
    assert set(marks[0][1][0].fields) == {"lat", "note"}  # photos are left where they are


def test_yfcc_rows_without_a_place_are_rows(tmp_path):
    def line(number, lon="139.7", lat="35.6"):
        return "\t".join([str(number), f"{9000 + number}", "hash", "1@N02", *"abcdefgh", lon, lat, "16", "page", "file",
                          "CC BY 2.0", "http"])
    rows = read(tmp_path / "a.txt", "\n".join([line(0), line(1, "", ""), "7\t9007\tcut"] + [
        line(n) for n in range(2, 30)]).encode())
    assert rows[0][1] == {"photo_id": "9000", "author": "1@N02", "longitude": "139.7", "latitude": "35.6",
                          "page_url": "page", "license_name": "CC BY 2.0"}
    assert rows[1][1]["longitude"] == "" and not rows[1][2] and rows[2][2] == "fewer fields than YFCC100M's list has"
