"""Rows that a benchmark shares: found in any data file, and left out of a clean one."""
import json
from pathlib import Path

import pytest

from data_prep.contamination import Config, run
from data_prep.inspect.__main__ import Data
from data_prep.leaks import authors, photo_ids
from eval.benchmarks.reader import BenchmarkConfig
from gre.config import UserError
from tests.helpers.photos import folder, jpeg, table

FLICKR = "97344248_30a4521091_32_77325609@N00.jpg"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path, {"bench/img/" + FLICKR: jpeg(100), "bench/img/b.jpg": jpeg(101),
                      "imgs/a.jpg": jpeg(0), "imgs/near.jpg": jpeg(101, 45, 0.5), "imgs/4f_a0_97344248.jpg": jpeg(2),
                      "imgs/b.jpg": jpeg(3), "imgs/cut.jpg": jpeg(4)[:800]})
    table(tmp_path / "bench/t.csv", ["IMG_ID", "LAT", "LON"], [[FLICKR, 48.0, 2.0], ["b.jpg", 10.0, 20.0]])
    rows = [{"image": f"images/{name}.jpg", "instructions": "Where?", "gt_lat": 10.0 + n, "gt_lon": 20.0}
            for n, name in enumerate(("a", "near", "4f_a0_97344248", "b", "cut", "gone"))]
    (tmp_path / "seed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "seed.json").write_text(json.dumps(rows))
    return tmp_path


BENCH = [BenchmarkConfig(name="csv", labels="bench/t.csv", images="bench/img")]


@pytest.mark.parametrize("name", ["seed.jsonl", "seed.json"])
def test_what_is_shared_is_found_and_left_out_on_request(here, name, capsys):
    run(Config(Data(name), BENCH, 1.0, "out", ["picture", "id"], f"clean.{name}"))
    found = [json.loads(line) for line in Path("out/contaminated.jsonl").read_text().splitlines()]
    assert [(line["row"], line["leaks"]) for line in found] == [
        (1, ["place t.csv b.jpg"]), (2, ["picture t.csv b.jpg"]), (3, [f"id t.csv {FLICKR}"])]
    text = Path(f"clean.{name}").read_text()
    kept = [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)
    assert [row["image"] for row in kept] == ["images/a.jpg", "images/b.jpg", "images/cut.jpg", "images/gone.jpg"]
    said = capsys.readouterr().out
    assert "6 rows, 3 share something" in said and "row 5: " in said and "cut.jpg: cannot be read" in said
    run(Config(Data(name), BENCH, 1.0, "out", ["picture", "id"], f"clean.{name}"))
    assert "was finished before" in capsys.readouterr().out


def test_a_sidecar_says_what_file_names_do_not(here):
    Path("sidecar.jsonl").write_text(json.dumps({"image": "images/a.jpg", "id": "x", "author": "",
                                                 "url": "https://flickr.com/photos/77325609@N00/97344248/"}) + "\n")
    run(Config(Data("seed.jsonl"), BENCH, None, "out"))
    first = json.loads(Path("out/contaminated.jsonl").read_text().splitlines()[0])
    assert first["leaks"] == [f"id t.csv {FLICKR}", f"author t.csv {FLICKR}"]


def test_a_benchmark_without_its_photos_is_said(here, capsys):
    run(Config(Data("seed.jsonl"), [BenchmarkConfig(name="csv", labels="bench/t.csv")], None, "out"))
    assert "Pictures of t.csv are not here and were not compared" in capsys.readouterr().out


@pytest.mark.parametrize("keys, said", [
    ({"drop": ["id"]}, "go together"), ({"drop": ["x"], "clean": "c"}, "drop names"),
    ({"drop": ["id"], "clean": "/x/c.json"}, "name a file in the folder")])
def test_what_is_refused(keys, said):
    with pytest.raises(ValueError, match=said):
        Config(Data("a.json"), [], None, "out", **keys)


def test_a_photo_found_damaged_in_the_benchmark_stops(here):
    Path("bench/img/b.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(UserError, match="b.jpg: cannot be read as a photo"):
        run(Config(Data("seed.jsonl"), BENCH, None, "out"))


@pytest.mark.parametrize("name, ids, people", [
    (FLICKR, {"97344248"}, {"77325609@N00"}), ("4f_a0_3963216890.jpg", {"3963216890"}, set()),
    ("4f/a0/3963216890", {"3963216890"}, set()), ("imgs/4f/a0/3963216890.JPG", {"3963216890"}, set()),
    ("3963216890", {"3963216890"}, set()), ("IMG_0001.jpg", set(), set()), ("17.jpg", set(), set()),
    ("https://www.flickr.com/photos/77325609@N00/97344248/", {"97344248"}, {"77325609@N00"}),
    ("https://host/123456789012", set(), set()), ("0123456789abcdef.jpg", {"0123456789abcdef"}, set()),
    ("Eiffel tower.jpg", set(), set())])
def test_ids_and_authors_in_names(name, ids, people):
    assert (photo_ids(name), authors(name)) == (ids, people)
