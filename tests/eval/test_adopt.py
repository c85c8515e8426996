"""Published predictions imported and scored by one command."""
import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from eval import adopt, compare, predictions
from eval.adopt import ColumnsConfig
from eval.benchmarks.reader import BenchmarkConfig
from gre.config import UserError, load
from tests.helpers.paths import ROOT

TRUTHS = [(48.86, 2.35), (52.52, 13.4), (-33.87, 151.21), (35.68, 139.69), (40.71, -74.01)]
SAID = [(48.86, 2.35), (52.0, 13.4), (-33.87, 151.21), ("", ""), (51.5, -0.12)]  # right, 58 km, right, none, far
PUBLISHED = ["", "id", "gt_lat", "predicted_lat", "gt_long", "predicted_long"]  # as pandas writes it


def rows() -> list[list]:
    return [[at, f"photo{at}.jpg", gt[0], said[0], gt[1], said[1]] for at, (gt, said) in enumerate(zip(TRUTHS, SAID))]


def table(path: Path, lines: list[list], delimiter: str = ",") -> str:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(lines)
    return str(path)


def im2gps(folder: Path, lines: list[list]) -> BenchmarkConfig:
    """A benchmark's table, without any photo."""
    folder.mkdir()
    table(folder / "list.csv", [["IMG_ID", "AUTHOR", "LAT", "LON", "country"], *lines])
    return BenchmarkConfig("Im2GPS3k", str(folder / "list.csv"), rows=len(lines))


BENCH = [[f"photo{at}.jpg", f"a{at}", *gt, "X"] for at, gt in enumerate(TRUTHS)]


def run(path: str, tmp_path: Path, **keys) -> dict:
    return adopt.run(adopt.Config(path, str(tmp_path / "p.jsonl"), **keys))


@pytest.mark.slow
def test_a_published_file_is_imported_and_scored_by_one_command(tmp_path):
    path = table(tmp_path / "published.csv", [PUBLISHED, *rows(), ["", "", "", "", "", ""]])
    shown = subprocess.run([sys.executable, "-m", "eval.adopt", path, f"out={tmp_path / 'p.jsonl'}",
                            f"scores={tmp_path / 'new' / 's.json'}"], capture_output=True, text=True, cwd=ROOT)
    assert shown.returncode == 0, shown.stderr
    assert "5 rows of" in shown.stdout and "line 7, without an id: totals" in shown.stdout
    assert "n 5, unparsed 1 (0 refused; 0 cut off)" in shown.stdout and "within 1 km      40.0 %" in shown.stdout
    scores = json.loads((tmp_path / "new" / "s.json").read_text())
    value = {name: one["value"] for name, one in scores["all"]["predictions"].items()}
    assert [value[f"within_{km}_km"] for km in (1, 25, 200, 750, 2500)] == [0.4, 0.4, 0.6, 0.6, 0.6]
    first, *_, fourth, _ = predictions.read(tmp_path / "p.jsonl")
    assert (first.id, first.answer, first.text) == ("photo0.jpg", TRUTHS[0], "48.86, 2.35") and fourth.answer is None


@pytest.mark.parametrize("totals", ["mean", "Average", "overall", ""])
def test_a_last_line_of_totals_is_told_and_left_out(tmp_path, capsys, totals):
    made = run(table(tmp_path / "t.csv", [PUBLISHED, *rows(), ["", totals, 1, 2, 3, 4]]), tmp_path)
    assert made["n"] == 5 and f"line 7, {totals or 'without an id'}: totals" in capsys.readouterr().out
    assert "line 7" in json.loads((tmp_path / "p.json").read_text())["adopted"]["left_out"]


def test_totals_with_a_heading_of_their_own_are_left_out(tmp_path, capsys):
    """As GeoEstimation's results end (results/im2gps3k of github.com/TIBHannover/GeoEstimation)."""
    head = ["img_id", "gt_lat", "predicted_lat", "gt_long", "predicted_long", "great_circle_distance"]
    totals = [[], ["street acc (1km)", "city acc (25km)", "region acc (200km)", "country acc (750km)",
                   "continent acc (2500km)", "mean deviation (km)"], [0.105, 0.28, 0.366, 0.497, 0.66, 3223.12]]
    made = run(table(tmp_path / "t.csv", [head, *([*row[1:], 1.0] for row in rows()), *totals]), tmp_path)
    assert made["n"] == 5
    assert "line 8, street acc (1km): totals; " in capsys.readouterr().out
    with pytest.raises(UserError, match="line 6: lat, lon are 'x'"):  # one word is no heading
        adopt.run(adopt.Config(table(tmp_path / "u.csv", [head, *([*row[1:], 1.0] for row in rows()[:4]),
                                                          ["a", 1, "x", 2, 3, 1]]), str(tmp_path / "u.jsonl")))


def test_the_benchmark_s_rows_truths_and_authors_count(tmp_path):
    config = im2gps(tmp_path / "bench", BENCH)
    plain = [["image", "lat", "lng"], *([Path(row[1]).stem, row[3], row[5]] for row in reversed(rows()))]
    made = run(table(tmp_path / "t.csv", plain), tmp_path, benchmark=config)
    assert made["clusters"]["by"] == {"author": 5} and made["all"]["predictions"]["within_200_km"]["value"] == 0.6
    assert [row.id for row in predictions.read(tmp_path / "p.jsonl")] == [row[0] for row in BENCH]
    line = json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0])
    assert line["gt_country"] == "X" and line["image"] == "photo0.jpg"
    Path(tmp_path / "s.json").write_text(json.dumps({**made, "files": {"predictions": {
        **made["files"]["predictions"], "from_scores": "p.jsonl"}}}))
    compare.run(compare.Config([str(tmp_path / "s.json")], str(tmp_path / "t.md")))
    shown = (tmp_path / "t.md").read_text()
    assert "| **ours: p** (5 of 2,997 rows: not comparable) |" in shown and "| GRE-7B |" in shown


@pytest.mark.parametrize("change, message", [
    (lambda lines: lines[:-1], "1 of the benchmark's 5 rows are not there, the first is photo4.jpg"),
    (lambda lines: [*lines, ["x.jpg", 1, 2]], r"1 rows are not the benchmark's, the first is x.jpg \(.*line 7\)"),
    (lambda lines: [*lines, lines[-1]], "1 ids come more than once, the first is 'photo4'")])
def test_rows_that_are_not_the_benchmark_s_are_refused(tmp_path, change, message):
    lines = change([["id", "lat", "lon"], *([row[1], row[3], row[5]] for row in rows())])
    with pytest.raises(UserError, match=message):
        run(table(tmp_path / "t.csv", lines), tmp_path, benchmark=im2gps(tmp_path / "bench", BENCH))
    assert not (tmp_path / "p.jsonl").exists()


def test_truths_that_are_not_the_benchmark_s_are_refused(tmp_path):
    other = [[*row[:2], row[2] + 0.01, *row[3:]] for row in rows()]
    config = im2gps(tmp_path / "bench", BENCH)
    with pytest.raises(UserError, match="line 2: the truth is another than the benchmark's, as of 5 rows"):
        run(table(tmp_path / "t.csv", [PUBLISHED, *other]), tmp_path, benchmark=config)
    near = [[*row[:2], row[2] + 0.001, *row[3:]] for row in rows()]
    assert run(table(tmp_path / "t.csv", [PUBLISHED, *near]), tmp_path, benchmark=config)["n"] == 5


@pytest.mark.parametrize("header, delimiter", [
    (["IMG_ID", "lat", "pred_lat", "lon", "pred_lon"], "\t"), (["image", "LAT", "lat_pred", "LON", "lon_pred"], ";"),
    (["filename", "true_lat", "latitude", "true_lng", "longitude"], ",")])
def test_usual_names_of_columns_are_found(tmp_path, header, delimiter):
    path = table(tmp_path / ("t.tsv" if delimiter == "\t" else "t.csv"), [header, *(row[1:] for row in rows())],
                 delimiter)
    assert run(path, tmp_path)["all"]["predictions"]["within_200_km"]["value"] == 0.6


def test_parquet_and_named_columns(tmp_path):
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "t.parquet"
    columns = list(zip(*(row[1:] for row in rows()[:3])))
    pandas.DataFrame(dict(zip(["who", "a", "b", "c", "d"], columns))).to_parquet(path)
    made = run(str(path), tmp_path, columns=ColumnsConfig(id="who", gt_lat="a", lat="b", gt_lon="c", lon="d"))
    assert made["all"]["predictions"]["within_1_km"]["value"] == 2 / 3


@pytest.mark.parametrize("lines, keys, message", [
    ([["id", "lat"], ["a", 1]], {}, "no column for lon, gt_lat, gt_lon among id, lat: name them, such as columns.lon="),
    ([["id", "lat", "lon"], ["a", 1, 2]], {}, "no column for gt_lat, gt_lon .*or name the benchmark"),
    ([PUBLISHED, *rows()], {"columns": ColumnsConfig(lat="predicted_latt")}, "did you mean 'predicted_lat'"),
    ([PUBLISHED, [0, "a", 1, 95, 2, 3]], {}, "line 2: lat, lon are '95', '3' .latitude 95"),
    ([PUBLISHED, [0, "a", 1, "x", 2, 3]], {}, "line 2: lat, lon are 'x', '3'"),
    ([PUBLISHED, [0, "a", 1, "", 2, 3]], {}, "line 2: lat, lon are '', '3'"),
    ([PUBLISHED, [0, "a", "", 1, "", 3]], {}, "line 2: no truth"), ([PUBLISHED], {}, "no row under the header")])
def test_what_cannot_be_imported_is_named(tmp_path, lines, keys, message):
    with pytest.raises(UserError, match=message):
        run(table(tmp_path / "t.csv", lines), tmp_path, **keys)


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "p.jsonl").touch()
    with pytest.raises(UserError, match="name a .jsonl file that is not there yet"):
        run(table(tmp_path / "t.csv", [PUBLISHED, *rows()]), tmp_path)
    config = load(adopt.Config, adopt.arguments(["a.CSV", "out=b.jsonl", "columns.lat=x"]))
    assert (config.table, config.out, config.columns.lat) == ("a.CSV", "b.jsonl", "x")
