"""A data file's card: every kind of file, its numbers by hand; damaged photos are found, whole ones decoded once."""
import json
from pathlib import Path

import pytest

from data_prep.card import cells, centre
from data_prep.inspect import __main__ as inspect
from data_prep.inspect.__main__ import Config, Data, arguments, run
from gre.config import UserError, main
from gre.data import photos
from gre.data.records import DataConfig, read_seed
from gre.geo.point import LatLon, distance_km
from gre.training.data import usable_rows
from tests.helpers.photos import folder, jpeg

SAID = "<think>A red door. So it is {}.</think><answer>{}</answer>"


def cot(image: str, answer: str, lat: float, lon: float) -> dict:
    return {"image": image, "conversations": [{"from": "human", "value": "<image>\nWhere?"},
                                              {"from": "gpt", "value": SAID.format("x", answer)}],
            "gt_lat": lat, "gt_lon": lon}


def judged(image: str, answer: str, label: str) -> dict:
    return {"image": image, "conversations": [{"from": "human", "value": "Right?"}, {"from": "gpt", "value": label}],
            "predicted_cot": "A red door.", "predicted_answer": answer, "gt_lat": 48.0, "gt_lon": 2.0}


def seed(image: str, lat: float = 48.0, lon: float = 2.0) -> dict:
    return {"image": image, "instructions": "Where?", "gt_lat": lat, "gt_lon": lon}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return folder(tmp_path, {f"imgs/{n}.jpg": jpeg(n) for n in range(4)})


def written(rows: list) -> dict:
    Path("rows.json").write_text(json.dumps(rows))
    run(Config(Data("rows.json")))
    return json.loads(Path("rows.card.json").read_text())


def reason(image: str, country: str, entities: list[str], word: str | None = None, **more) -> dict:
    return {"images": [image], "response": "A wall. So there.", "entities": [{"text": one} for one in entities],
            "__#solution": f"<country>{country}</country><city>x</city>",
            **({"localizability": word} if word else {}), **more}


@pytest.mark.slow
def test_mp16_reason_by_hand(here, capsys):
    """Published rows have no coordinates: they are counted by the country they name."""
    card = written([reason("imgs/0.jpg", "Peru", ["wall", "palm"], "high", gt_lat=-12.0, gt_lon=-77.0),
                    reason("imgs/1.jpg", "Peru", ["wall"], "low"), reason("imgs/2.jpg", "Chile", [])])
    assert (card["kind"], card["rows"], card["usable"]) == ("reason", 3, 3)
    assert card["countries"] == {"PE": 1} and card["named"] == {"Chile": 1, "Peru": 2} and card["entities"] == 2
    assert card["localizable"] == {"localizable": 1, "not localizable": 1, "not said": 1}
    assert card["chain_characters"] == {"median": 17.0} and card["median_km"] == {}
    text = capsys.readouterr().out
    assert "3 rows name 2 places and list 2 different entities" in text and "\nwall       2" in text
    with pytest.raises(UserError, match="1 of 1 rows cannot be used, the first is row 1: field 'entities'"):
        written([{**reason("imgs/3.jpg", "Peru", []), "entities": "wall"}])


@pytest.mark.slow
def test_mp16_reason_with_its_photos_inside(here):
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pylist([
        reason({"bytes": jpeg(0), "path": "a.jpg"}, "Peru", ["wall"]),
        reason({"bytes": b"no photo", "path": "b.jpg"}, "Peru", ["wall"])]), "train.parquet")
    with pytest.raises(UserError, match="1 of 2 rows cannot be used, the first is row 2: .*cannot be read as a photo"):
        run(Config(Data("train.parquet")))
    assert json.loads(Path("train.card.json").read_text())["usable"] == 1
    assert len(photos.known_whole(photos.beside("train.parquet"))) == 1


@pytest.mark.slow  # visual tokens come from transformers, which takes seconds
def test_cot_by_hand(here, capsys):
    card = written([cot("images/0.jpg", "48.0, 2.0", 48.0, 2.0), cot("images/1.jpg", "49.0, 2.0", 48.0, 2.0),
                    cot("images/2.jpg", "somewhere", 48.0, 2.0), cot("images/3.jpg", "-33.9, 151.2", -33.9, 151.2)])
    assert (card["kind"], card["rows"], card["usable"], card["unreadable_answers"]) == ("cot", 4, 4, 1)
    assert card["countries"] == {"AU": 1, "FR": 3} and card["median_km"] == {"all": 0.0}
    assert card["worst"][0][0] == "rows:3" and "no answer can be read in '<think>A red" in card["worst"][0][1]
    assert card["worst"][1] == ["rows:2", "the answer lies 111 km from 48.0000, 2.0000, the truth"]
    assert card["chain_characters"] == {"median": 23.0}
    text = capsys.readouterr().out
    assert "tokens   63      63    63    63" in text  # 256 x 192 pixels are 9 x 7 squares of 28 after rounding
    assert "1 of 4 responses would earn no format" not in text and "1 have no readable answer" in text
    page = Path("rows.card.html").read_text()
    assert page.count("<img alt='photo' src='data:image/jpeg") == 4 and "<script" not in page


def test_judge_seed_and_bench(here, capsys):
    card = written([judged("images/0.jpg", "48.0, 2.0", "True"), judged("images/1.jpg", "58.0, 2.0", "False")])
    assert card["labels"] == {"True": 1, "False": 1} and card["median_km"] == {
        "True": 0.0, "False": pytest.approx(distance_km(LatLon(48, 2), LatLon(58, 2)))}
    assert written([seed("images/0.jpg"), seed("images/1.jpg")])["kind"] == "seed"
    assert written([{"sample_id": "a", "image_path": "images/0.jpg", "gt_cot": "Snow.", "gt_lat": 60, "gt_lon": 25}]
                   )["kind"] == "bench"
    with pytest.raises(UserError, match="its rows are none of GRE30K-CoT"):
        written([{"a": 1}])


def test_damaged_photos_and_bad_rows_are_found_before_training(here, capsys):
    folder(here, {"imgs/cut.jpg": jpeg(5)[:900]})
    Path("seed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [
        seed("images/0.jpg"), seed("images/cut.jpg"), seed("images/gone.jpg"), seed("images/1.jpg", 95.0)]) + "{\n")
    with pytest.raises(SystemExit) as ended:
        main(run, Config, argv=arguments(["seed.jsonl"]))
    said = capsys.readouterr()
    assert ended.value.code == 2 and "4 of 5 rows cannot be used, the first is row 3: field 'image'" in said.err
    card = json.loads(Path("seed.card.json").read_text())
    assert card["faults"] == {"field 'image'": 1, "fields 'gt_lat', 'gt_lon'": 1, "row": 1, "photo": 1}
    assert {row for row, _ in card["worst"][:4]} == {"row 2", "row 3", "row 4", "row 5"}
    assert "cut.jpg: cannot be read as a photo" in dict(card["worst"])["row 2"]


def test_a_stage_decodes_no_photo_again_that_was_inspected(here, monkeypatch):
    Path("seed.jsonl").write_text("".join(json.dumps(seed(f"images/{n}.jpg")) + "\n" for n in range(4)))
    run(Config(Data("seed.jsonl")))
    decoded = []
    monkeypatch.setattr(photos, "decode", lambda content, path: decoded.append(path))
    data = DataConfig("seed.jsonl")
    assert len(usable_rows(read_seed(data), data, lambda row: 1, None, here / "run" / "whole_photos.json")) == 4
    run(Config(Data("seed.jsonl")))
    assert decoded == []


def test_a_streamed_file_has_the_card_of_one_read_whole(here, monkeypatch):
    rows = [seed(f"images/{n % 4}.jpg", n / 10, n) for n in range(1, 90)]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("a.json").write_text(json.dumps(rows))
    monkeypatch.setattr(inspect, "AT_ONCE", 7)
    cards = []
    for name in ("a.jsonl", "a.json"):
        run(Config(Data(name), out=name + ".out"))
        cards.append(json.loads(Path(f"{name}.out/a.card.json").read_text()) | {"sha256": ""})
    assert cards[0] == cards[1] and cards[0]["rows"] == 89


def test_cells_are_of_equal_area_and_their_centres_lie_in_them():
    import numpy as np

    rng = np.random.default_rng(0)
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, 400_000))), rng.uniform(-180, 180, 400_000)
    counts = np.bincount(cells(lat, lon), minlength=4050)
    assert len(counts) == 4050 and abs(counts - 400_000 / 4050).max() < 60  # six standard deviations
    assert [int(cells(*map(np.array, zip(centre(cell))))[0]) for cell in (0, 17, 2024, 4049)] == [0, 17, 2024, 4049]
    assert cells(np.array([90.0, -90.0]), np.array([180.0, -180.0])).tolist() == [4049, 0]
