"""Benchmarks on disk: the forms in the wild are read, and what is not whole is refused with the reason."""
import csv
import json
import os
import random
from pathlib import Path

import pytest

from eval import predictions
from eval.benchmarks import reader
from eval.benchmarks.reader import BenchmarkConfig
from eval.predictions import Prediction
from gre.config import UserError
from gre.geo.point import LatLon

IM2GPS3K = ["IMG_ID", "AUTHOR", "LAT", "LON", "S3_Label", "S16_Label", "S365_Label", "Prob_indoor", "Prob_natural",
            "Prob_urban"]
HERE = [(48.8584, 2.2945), (40.6892, -74.0445), (-33.8568, 151.2153), (35.6586, 139.7454), (51.5007, -0.1246),
        (-22.9519, -43.2105), (30.0444, 31.2357), (19.0760, 72.8777)]


def im2gps3k_rows(count: int = 2997) -> list[list]:
    """Rows in the form of im2gps3k_places365.csv: 198 authors, photos around eight cities."""
    rng = random.Random(0)
    rows = []
    for number in range(count):
        lat, lon = HERE[number % len(HERE)]
        indoor = number % 5 == 0
        rows.append([f"{number:08x}_{number}@N00.jpg", f"{number % 198}@N01", lat + rng.uniform(-0.2, 0.2),
                     lon + rng.uniform(-0.2, 0.2), 0, 1, 2, 0.8 if indoor else 0.1, 0.1, 0.1 if indoor else 0.8])
    return rows


def written(folder: Path, rows: list[list], header: list[str] = IM2GPS3K, missing: tuple[int, ...] = ()) -> Path:
    """A tree as upstream's eval.md has it; pictures are empty files, none is opened here."""
    (folder / "img").mkdir(parents=True)
    (folder / "label").mkdir()
    with open(folder / "label" / "table.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    for number, row in enumerate(rows):
        if number not in missing:
            (folder / "img" / row[0]).touch()
    return folder


def config(folder: Path, name: str = "Im2GPS3k", **keys) -> BenchmarkConfig:
    return BenchmarkConfig(name=name, labels=str(folder / "label"), images=str(folder / "img"), **keys)


def swapped(rows: list[list]) -> list[list]:
    return [[*row[:2], row[3], row[2], *row[4:]] for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("im2gps3k"), im2gps3k_rows())


@pytest.mark.slow
def test_a_whole_im2gps3k_is_read(whole):
    rows = reader.read(config(whole), "Where?")
    assert len(rows) == 2997 and len({row.labels["author"] for row in rows}) == 198
    first, second = rows[:2]
    assert first.id == "00000000_0@N00.jpg" and first.instruction == "Where?"
    assert first.image == (whole / "img" / first.id).resolve()
    assert first.truth == LatLon(*im2gps3k_rows(1)[0][2:4])
    assert first.labels == {"author": "0@N01", "scene": "indoor", "indoor": "indoor"}
    assert second.labels == {"author": "1@N01", "scene": "urban", "indoor": "outdoor"}


def test_2996_rows_are_refused_unless_accepted_by_name(tmp_path):
    folder = written(tmp_path, im2gps3k_rows(2996))
    with pytest.raises(UserError, match=r"2,996 rows, and Im2GPS3k has 2,997 \(.*GeoEstimation.*benchmark.rows=2996"):
        reader.read(config(folder), "Where?")
    assert len(reader.read(config(folder, rows=2996), "Where?")) == 2996
    assert reader.record(config(folder, rows=2996))["accepted_rows"] == 2996
    with pytest.raises(UserError, match="2,996 rows, and benchmark.rows says 2,995"):
        reader.read(config(folder, rows=2995), "Where?")


def test_a_missing_picture_is_refused_by_name(tmp_path):
    folder = written(tmp_path, im2gps3k_rows(), missing=(1234,))
    with pytest.raises(UserError, match="1 of 2,997 photos are missing below .*img, the first is '000004d2_1234@"):
        reader.read(config(folder), "Where?")


def test_a_duplicate_id_is_refused_by_name(tmp_path):
    rows = im2gps3k_rows()
    rows[7] = rows[5]
    with pytest.raises(UserError, match="1 ids come more than once, the first is '00000005_5@N00.jpg'"):
        reader.read(config(written(tmp_path, rows)), "Where?")


@pytest.mark.slow
def test_swapped_headers_are_refused_or_exchanged_by_name(tmp_path, whole, capsys):
    folder = written(tmp_path, swapped(im2gps3k_rows()))
    with pytest.raises(UserError, match="under each other's header .a latitude of 151.*benchmark.swapped=exchange"):
        reader.read(config(folder), "Where?")
    exchanged = reader.read(config(folder, swapped="exchange"), "Where?")
    assert [row.truth for row in exchanged] == [row.truth for row in reader.read(config(whole), "Where?")]
    assert "are exchanged (a latitude of 151" in capsys.readouterr().err
    with pytest.raises(UserError, match="are not swapped"):
        reader.read(config(whole, swapped="exchange"), "Where?")


def test_a_swap_without_a_number_over_90_is_seen_by_the_cities(tmp_path):
    rows = [[f"{n}.jpg", lat, lon] for n, (lat, lon) in enumerate([(48.86, 2.35), (52.52, 13.4), (41.9, 12.5)])]
    right, wrong = written(tmp_path / "a", rows, ["id", "latitude", "longitude"]), written(
        tmp_path / "b", [[name, lon, lat] for name, lat, lon in rows], ["id", "latitude", "longitude"])
    assert len(reader.read(config(right, "csv"), "Where?")) == 3
    with pytest.raises(UserError, match="under each other's header .the median photo lies .* cities of 15000"):
        reader.read(config(wrong, "csv"), "Where?")


@pytest.mark.parametrize("header, row, labels", [
    (["IMG_ID", "LAT", "LON"], ["a.jpg", "48.86", "2.35"], {}),
    (["id", "latitude", "longitude", "country", "city"], ["a", "48.86", "2.35", "France", "Paris"],
     {"gt_country": "France", "gt_city": "Paris"}),
    (["IMG_FILE", "LAT", "LON"], ["a.jpg", "48.86", "2.35"], {}),
    (["IMG_ID", "LAT", "LON", "neighbourhood", "city", "county", "state", "region", "country", "continent"],
     ["a.jpg", "48.86", "2.35", "", "Paris", "", "", "Île-de-France", "France", "Europe"],
     {"gt_city": "Paris", "gt_region": "Île-de-France", "gt_country": "France", "gt_continent": "Europe"}),
    (["id", "latitude", "longitude", "country", "region", "sub-region", "city", "unique_sub-region", "unique_city",
      "creator_username", "creator_id"],
     ["a", "48.86", "2.35", "FR", "IDF", "Paris", "nan", "nan", "Paris_FR", "x", "7"],
     {"gt_country": "FR", "gt_region": "IDF", "gt_unique_city": "Paris_FR", "author": "7"})])
def test_the_headers_in_the_wild(tmp_path, header, row, labels):
    folder = written(tmp_path, [row], header)
    (folder / "img" / "a").unlink(missing_ok=True)
    (folder / "img" / "a.jpg").touch()
    (read,) = reader.read(config(folder, "csv"), "Where?")
    assert (read.truth, read.labels) == (LatLon(48.86, 2.35), labels) and read.image.name == "a.jpg"


@pytest.mark.parametrize("line_number", [False, True])
def test_yfcc4k_without_a_header(tmp_path, line_number):
    def line(number: int) -> str:
        fields = [f"{9000 + number}", "hash", f"{number % 3}@N02", "nick", "taken", "uploaded", "camera", 'a "title',
                  "text", "tags", "1.5" if number else "", "139.7", "35.6", "16", "page"]
        return "\t".join([str(number)] * line_number + fields)

    (tmp_path / "img").mkdir()
    for number in range(4):
        (tmp_path / "img" / f"{9000 + number}.jpg").touch()
    (tmp_path / "yfcc4k.txt").write_text("\n".join(map(line, range(4))) + "\n")
    rows = reader.read(BenchmarkConfig(name="YFCC4k", labels=str(tmp_path / "yfcc4k.txt"),
                                           images=str(tmp_path / "img"), rows=4), "Where?")
    assert [(row.id, row.truth, row.labels) for row in rows[:2]] == [
        ("9000", LatLon(35.6, 139.7), {"author": "0@N02"}), ("9001", LatLon(35.6, 139.7), {"author": "1@N02"})]


def test_yfcc26k_is_read_as_geoestimation_published_it(tmp_path):
    """Photos lie in folders by the first digits of their ids; the table has the columns of im2gps3k_places365.csv."""
    photos = [f"{number:02x}/{number:02x}a7{number:02x}.jpg" for number in range(3)]
    for photo in photos:
        (tmp_path / "img" / photo).parent.mkdir(parents=True)
        (tmp_path / "img" / photo).write_bytes(photo.encode())
    (tmp_path / "yfcc25600_places365.csv").write_text(
        "IMG_ID,LAT,LON,S3_Label,S16_Label,S365_Label,Prob_indoor,Prob_natural,Prob_urban\n"
        + "".join(f"{photo},48.{number},2.3,1,2,3,0.1,0.7,0.2\n" for number, photo in enumerate(photos)))
    where = {"labels": str(tmp_path / "yfcc25600_places365.csv"), "images": str(tmp_path / "img")}
    rows = reader.read(BenchmarkConfig("YFCC26k", rows=3, **where), "Where?")
    assert [row.truth for row in rows] == [LatLon(48.0, 2.3), LatLon(48.1, 2.3), LatLon(48.2, 2.3)]
    assert rows[1].image == tmp_path / "img" / photos[1] and rows[1].labels == {"scene": "natural", "indoor": "outdoor"}
    with pytest.raises(UserError, match="3 rows, and YFCC26k has 25,600 .yfcc25600_places365.csv as published"):
        reader.read(BenchmarkConfig("YFCC26k", **where), "Where?")


def test_greval_bench_is_read_from_upstreams_tree(tmp_path, monkeypatch):
    folder = tmp_path / "benchmark" / "bench_data"
    (folder / "imgs").mkdir(parents=True)
    rows = [{"sample_id": f"s{n}", "image_path": f"images/{n}.jpg", "gt_cot": "Snow.", "gt_lat": 60.0, "gt_lon": 25.0}
            for n in range(3)]
    rows[1] |= {"scene": "natural", "indoor": "outdoor"}
    rows[2] |= {"indicators": [{"kind": "climate", "text": "snow"}]}  # a page marks them
    for n in range(3):
        (folder / "imgs" / f"{n}.jpg").touch()
    (folder / "GREval-Bench.json").write_text(json.dumps(rows))
    monkeypatch.chdir(tmp_path)
    read = reader.read(BenchmarkConfig(name="GREval-Bench", rows=3), "Where?")
    assert [row.id for row in read] == ["s0", "s1", "s2"] and read[0].image.name == "0.jpg"
    assert [row.labels for row in read] == [{}, {"scene": "natural", "indoor": "outdoor"},
                                             {"indicators": [{"kind": "climate", "text": "snow"}]}]
    with pytest.raises(UserError, match=r"3 rows, and GREval-Bench has 3,000 \(GRE"):
        reader.read(BenchmarkConfig(name="GREval-Bench"), "Where?")


@pytest.mark.parametrize("rows, header, message", [
    ([["a.jpg", "48.86"]], ["id", "latitude"], "no column for lon in the header 'id,latitude'.*lon: LON or lng"),
    ([["a.jpg", "48.86", "x"]], ["id", "lat", "lon"], "line 2: longitude is 'x', not a number"),
    ([["a.jpg", "48.86", "nan"]], ["id", "lat", "lon"], "line 2: longitude is 'nan', not a number"),
    ([["a.jpg", "95", "170"]], ["id", "lat", "lon"], "line 2: latitude 95.0, longitude 170.0 is no place"),
    ([["a.jpg", "48.86"]], ["id", "lat", "lon"], "line 2: more or fewer fields"),
    ([], ["id", "lat", "lon"], "no row under the header")])
def test_a_table_that_cannot_be_read_is_refused(tmp_path, rows, header, message):
    with pytest.raises(UserError, match=message):
        reader.read(config(written(tmp_path, rows, header), "csv"), "Where?")


def test_two_pictures_for_one_id_are_refused(tmp_path):
    folder = written(tmp_path, [["a", "1", "2"]], ["id", "lat", "lon"])
    (folder / "img" / "a.jpg").touch()
    (folder / "img" / "sub").mkdir()
    (folder / "img" / "sub" / "a.png").touch()
    with pytest.raises(UserError, match="'a' may be .*a.jpg or .*a.png|'a' may be .*a.png or .*a.jpg"):
        reader.read(config(folder, "csv"), "Where?")


def test_a_slash_may_have_become_an_underscore(tmp_path):
    folder = written(tmp_path, [["0a_1b_7.jpg", "48.86", "2.35"]], ["IMG_ID", "LAT", "LON"])
    table = folder / "label" / "table.csv"
    table.write_text(table.read_text().replace("0a_1b_7", "0a/1b/7"))
    (row,) = reader.read(config(folder, "csv"), "Where?")
    assert row.id == "0a/1b/7.jpg" and row.image.name == "0a_1b_7.jpg"


def test_where_files_are_looked_for(tmp_path, whole, monkeypatch):
    with pytest.raises(UserError, match="no such benchmark; did you mean 'Im2GPS3k'"):
        reader.files(BenchmarkConfig(name="im2gps3k"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="eval/eval_data/GWS15k/test/label: not there. GWS15k: bring your own copy"):
        reader.files(BenchmarkConfig(name="GWS15k"))
    (whole / "label" / "other.csv").touch()
    with pytest.raises(UserError, match="holds 2 tables .other.csv, table.csv.: name the right one"):
        reader.files(config(whole))
    (whole / "label" / "other.csv").unlink()


def test_a_set_of_unknown_size_asks_for_the_number(tmp_path):
    folder = written(tmp_path, [["a.jpg", "48.86", "2.35"]], ["id", "lat", "lon"])
    with pytest.raises(UserError, match="how many rows it has is not known.*has 1. Write benchmark.rows=1"):
        reader.read(config(folder, "Google_StreetView"), "Where?")
    assert len(reader.read(config(folder, "Google_StreetView", rows=1), "Where?")) == 1


@pytest.mark.parametrize("name", reader.known())
def test_every_benchmark_says_what_it_is(name):
    entry = reader.known()[name]
    assert entry.keys() == {"rows", "rows_source", "licence", "get", "images", "labels"}
    assert entry["rows"] is None or entry["rows"] > 0
    assert all(entry[key] for key in ("rows_source", "licence", "get", "images", "labels"))


def test_labels_are_written_into_the_lines_of_predictions(tmp_path):
    row = Prediction("a", "here", "a.jpg", 1.0, 2.0, "text", None, None, True)
    predictions.append(tmp_path / "p.jsonl", [row], {"a": {"author": "7", "gt_country": "France"}})
    line = json.loads((tmp_path / "p.jsonl").read_text())
    assert (line["author"], line["gt_country"], line["id"]) == ("7", "France", "a")
    assert predictions.read(tmp_path / "p.jsonl") == [row]


def test_a_tree_as_large_as_osv5m_is_looked_through_once(tmp_path, monkeypatch):
    calls = []
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda *folder, **how: calls.append(folder) or walk(*folder, **how))
    reader.read(config(written(tmp_path, im2gps3k_rows(50)), rows=50), "Where?")
    assert len(calls) == 1


def table(folder: Path, content: str | bytes, name: str = "table.csv", photos: tuple[str, ...] = ("a.jpg",)) -> Path:
    """The same tree around a table as somebody wrote it."""
    (folder / "img").mkdir(parents=True)
    (folder / "label").mkdir()
    (folder / "label" / name).write_bytes(content.encode() if isinstance(content, str) else content)
    for photo in photos:
        (folder / "img" / photo).parent.mkdir(exist_ok=True)
        (folder / "img" / photo).touch()
    return folder


@pytest.mark.parametrize("content, name", [
    ("id;latitude;longitude;city\na.jpg;48.86;2.35;Paris, 4e\n", "table.csv"),
    ("id;latitude;longitude;city\r\na.jpg;48,86;2,35;Paris, 4e\r\n", "table.csv"),  # Excel's, in much of Europe
    ("id|latitude|longitude|city\na.jpg|48.86|2.35|Paris, 4e\n", "table.csv"),
    ("id\tlatitude\tlongitude\tcity\na.jpg\t48.86\t2.35\tParis, 4e\n", "table.tsv"),
    ("image_path,latitude,longitude,city\nimages/a.jpg,48.86,2.35,\"Paris, 4e\"\n", "table.csv")])
def test_what_separates_the_columns(tmp_path, content, name):
    (row,) = reader.read(config(table(tmp_path, content, name), "csv"), "Where?")
    assert (row.truth, row.labels, row.image.name) == (LatLon(48.86, 2.35), {"gt_city": "Paris, 4e"}, "a.jpg")


def test_a_table_in_parquet(tmp_path):
    from pyarrow import Table, parquet

    folder = table(tmp_path, b"", "table.parquet", ("7.jpg",))
    parquet.write_table(Table.from_pylist([{"id": 7, "latitude": 48.86, "longitude": 2.35, "city": None}]),
                        folder / "label" / "table.parquet")
    (row,) = reader.read(config(folder, "csv"), "Where?")
    assert (row.id, row.truth, row.labels, row.image.name) == ("7", LatLon(48.86, 2.35), {}, "7.jpg")


@pytest.mark.parametrize("content, names", [
    ("id,image,latitude,longitude\n0,a.jpg,48.86,2.35\n1,b.jpg,40,3\n", ["a.jpg", "b.jpg"]),
    ("image_id,filename,latitude,longitude\n8,b.jpg,48.86,2.35\n9,a.jpg,40,3\n", ["b.jpg", "a.jpg"]),
    ("IMG_ID,image,LAT,LON\na.jpg,https://host/1,48.86,2.35\nb.jpg,https://host/2,40,3\n", ["a.jpg", "b.jpg"])])
def test_an_id_is_no_photo_where_another_column_names_it(tmp_path, content, names):
    folder = table(tmp_path, content, photos=("a.jpg", "b.jpg"))
    rows = reader.read(config(folder, "csv"), "Where?")
    assert [row.image.name for row in rows] == names
    assert [row.id for row in rows] == [line.split(",")[0] for line in content.split("\n")[1:3]]


def test_a_photo_that_no_column_names_is_said_as_the_table_says_it(tmp_path):
    folder = table(tmp_path, "id,image,latitude,longitude\n0,c.jpg,48.86,2.35\n")
    with pytest.raises(UserError, match="1 of 1 photos are missing below .*, the first is 'c.jpg'"):
        reader.read(config(folder, "csv"), "Where?")


def test_no_photo_was_taken_at_0_0(tmp_path):
    with pytest.raises(UserError, match="table.csv, line 2: 0, 0 is what tools write where no place is known"):
        reader.read(config(table(tmp_path, "id,latitude,longitude\na.jpg,0,0.0\n"), "csv"), "Where?")


HEAD = "id,latitude,longitude,Prob_indoor,Prob_natural,Prob_urban\n"


@pytest.mark.parametrize("content, labels", [
    (HEAD + "a.jpg,48.86,2.35,,0.2,0.1\n", {}), (HEAD + "a.jpg,48.86,2.35,0.1,nan,0.2\n", {}),
    (HEAD + "a.jpg,48.86,2.35,0.1,0.7,0.2\n", {"scene": "natural", "indoor": "outdoor"}),
    (HEAD.lower() + "a.jpg,48.86,2.35,0.8,0.1,0.1\n", {"scene": "indoor", "indoor": "indoor"}),
    (HEAD.upper() + "a.jpg,48.86,2.35,0.1,0.1,0.8\n", {"scene": "urban", "indoor": "outdoor"}),
    (HEAD.replace(",Prob_urban", "") + "a.jpg,48.86,2.35,0.1,0.1\n", {})])
def test_scenes_are_those_whose_probabilities_are_there(tmp_path, content, labels):
    (row,) = reader.read(config(table(tmp_path, content), "csv"), "Where?")
    assert row.labels == labels


def test_a_probability_that_is_no_number_is_named(tmp_path):
    folder = table(tmp_path, HEAD + "a.jpg,48.86,2.35,high,0.2,0.1\n")
    with pytest.raises(UserError, match="table.csv, line 2: Prob_indoor is 'high', not a number. .*leave the columns"):
        reader.read(config(folder, "csv"), "Where?")


def test_one_typo_is_no_swap_and_its_row_is_named(tmp_path):
    rows = [[f"{n}.jpg", lat, lon] for n, (lat, lon) in enumerate(
        [(48.86, 2.35), (52.52, 13.4), (41.9, 12.5), (148.85, 2.3), (47.4, 8.5), (50.1, 14.4), (59.3, 18.1)])]
    folder = written(tmp_path, rows, ["id", "lat", "lon"])
    for keys in ({}, {"swapped": "exchange"}):
        with pytest.raises(UserError, match="line 5: latitude 148.85, longitude 2.3 is no place" if not keys else
                           "are not swapped"):
            reader.read(config(folder, "csv", **keys), "Where?")


def test_one_photo_under_two_ids_is_told(tmp_path, capsys):
    folder = written(tmp_path, [["0", "1", "2"], ["0.jpg", "1", "2"], ["b.jpg", "3", "4"]], ["id", "lat", "lon"])
    (folder / "img" / "0").unlink()
    for name, content in (("0.jpg", b"same"), ("b.jpg", b"else")):
        (folder / "img" / name).write_bytes(content)
    assert len(reader.read(config(folder, "csv"), "Where?")) == 3
    assert "table.csv: 1 photos stand there under several ids, the first as 0, 0.jpg: each" in capsys.readouterr().err
    (folder / "img" / "c.jpg").write_bytes(b"else")  # another file, the same bytes
    (folder / "label" / "table.csv").write_text("id,lat,lon\n0,1,2\nb,3,4\nc,5,6\n")
    reader.read(config(folder, "csv"), "Where?")
    assert "1 photos stand there under several ids, the first as b, c" in capsys.readouterr().err


def test_a_yfcc_row_without_a_coordinate_is_named(tmp_path):
    def line(number: int) -> str:
        between = "nick taken uploaded camera title text tags 1.5".split()
        lon = "" if number == 17 else "139.7"
        return "\t".join([f"{9000 + number}", "hash", "1@N02", *between, lon, "35.6", "16", "page"])

    (tmp_path / "img").mkdir()
    (tmp_path / "yfcc4k.txt").write_text("\n".join(map(line, range(40))))
    with pytest.raises(UserError, match="line 18: longitude is '', not a number in decimal degrees. Repair the row"):
        reader.read(BenchmarkConfig("YFCC4k", str(tmp_path / "yfcc4k.txt"), str(tmp_path / "img"), rows=40), "Where?")


@pytest.mark.parametrize("id", ["a/b/0", "./a/b/0.jpg", "img/a/b/0.jpg", "0", "a/b/0.jpg"])
def test_photos_are_found_as_tables_name_them(tmp_path, id):
    folder = written(tmp_path, [["x.jpg", "1", "2"]], ["id", "lat", "lon"])
    (folder / "img" / "a" / "b").mkdir(parents=True)
    (folder / "img" / "a" / "b" / "0.jpg").touch()
    (folder / "label" / "table.csv").write_text(f"id,lat,lon\n{id},1,2\n")
    (row,) = reader.read(config(folder, "csv"), "Where?")
    assert row.image == (folder / "img/a/b/0.jpg").resolve()


def test_linked_folders_of_photos_are_looked_into_and_circles_end(tmp_path):
    folder = written(tmp_path / "set", [["0.jpg", "1", "2"]], ["id", "lat", "lon"])
    (tmp_path / "elsewhere").mkdir()
    (folder / "img" / "0.jpg").rename(tmp_path / "elsewhere" / "0.jpg")
    (folder / "img" / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "img" / "back").symlink_to(folder / "img")
    (row,) = reader.read(config(folder, "csv"), "Where?")
    assert row.image == (tmp_path / "elsewhere" / "0.jpg").resolve()


@pytest.mark.parametrize("said, label", [("True", "indoor"), ("0", "outdoor"), ("1.0", "indoor"), ("no", "outdoor"),
                                         ("indoor", "indoor"), ("", None)])
def test_indoor_however_it_is_written(tmp_path, said, label):
    folder = written(tmp_path, [["0.jpg", "1", "2", said]], ["id", "lat", "lon", "indoor"])
    assert reader.read(config(folder, "csv"), "Where?")[0].labels.get("indoor") == label
