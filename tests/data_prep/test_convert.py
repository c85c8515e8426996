"""python -m data_prep.convert: there and back a row is what it was, and what is left out is said."""
import json
from pathlib import Path

import pytest

from data_prep import convert
from data_prep.convert import Config
from data_prep.inspect.__main__ import Data
from gre.config import UserError
from gre.data.records import DataConfig, read_cot, read_reason, read_seed, read_taught
from gre.text.prompts import COT_INSTRUCTION
from tests.helpers.photos import folder, jpeg

LIMA = "<country>Peru</country><city>Lima</city>"


def cot(number: int, question: str = f"<image>\n{COT_INSTRUCTION}", answer: str = "-12.0464, -77.0428", **more) -> dict:
    return {"image": f"images/{number}.jpg", "conversations": [
        {"from": "human", "value": question},
        {"from": "gpt", "value": f"<think> A wall. So Lima, Peru.\n</think><answer>{answer}</answer>"}],
        "gt_lat": -12.0464, "gt_lon": -77.0428, **more}


COTS = [cot(0), cot(1, "<image>\nWhere?", "12.1° S, 77° W", source="o3", answer_of=None),
        cot(2, answer="country: France\ncity: Paris"), cot(3, "Where?")]
REASONS = [
    {"images": ["imgs/0.jpg"], "response": "Palms.", "__#solution": LIMA, "entities": [{"text": "palm"}]},
    {"images": ["imgs/1.jpg"], "response": "Palms.", "__#solution": "<country>USA</country><city>NYC</city>",
     "entities": [], "localizability": "high", "gt_lat": 40.7, "gt_lon": -74.1, "instructions": "Which city?"},
    {"images": ["imgs/2.jpg"], "response": "Palms.", "__#solution": LIMA, "gt_lat": -12.046, "gt_lon": -77.043,
     "author": "x"}]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return folder(tmp_path, {f"imgs/{n}.jpg": jpeg(n) for n in range(4)})


def converted(rows: list[dict], there: str, back: str) -> tuple[list[dict], list[dict]]:
    """(rows on the other side, rows that came back), each through its own folder."""
    Path("rows.json").write_text(json.dumps(rows))
    convert.run(Config(Data("rows.json"), there, "there/rows.jsonl"))
    convert.run(Config(Data("there/rows.jsonl"), back, "back/rows.json"))
    return ([json.loads(line) for line in Path("there/rows.jsonl").read_text().splitlines()],
            json.loads(Path("back/rows.json").read_text()))


def test_cot_there_and_back(here, capsys):
    there, back = converted(COTS, "reason", "cot")
    assert back == COTS
    assert there[0] == {"images": ["imgs/0.jpg"], "response": " A wall. So Lima, Peru.\n", "__#solution": LIMA,
                        "gt_lat": -12.0464, "gt_lon": -77.0428}
    assert there[1]["gre30k"] == {"question": "<image>\nWhere?", "answer": "12.1° S, 77° W",
                                  "columns": {"source": "o3", "answer_of": None}}
    assert there[2]["__#solution"] == "<country>France</country><city>Paris</city>"  # what it answers, right or wrong
    assert [row.image.read_bytes() for row in read_cot(DataConfig("back/rows.json"))] == [jpeg(n) for n in range(4)]
    assert read_taught(DataConfig("there/rows.jsonl"))[0].response.endswith("country: Peru\ncity: Lima</answer>")
    assert "4 rows written, 0 left out" in capsys.readouterr().out
    kept = json.loads(Path("there/rows.card.json").read_text())["counts"]
    assert (kept["kept\tquestion"], kept["kept\tanswer"], kept["kept\tsource"]) == (2, 2, 1)


def test_reason_there_and_back(here):
    there, back = converted(REASONS, "cot", "reason")
    assert back == REASONS
    rows = read_cot(DataConfig("there/rows.jsonl"))
    assert rows[0].instruction == COT_INSTRUCTION and rows[0].truth.lat_deg == pytest.approx(-12.04, abs=0.02)
    assert there[0]["mp16_reason"] == {"entities": [{"text": "palm"}], "gt": "city centre"}
    assert rows[1].response == "<think>Palms.</think><answer>40.7000, -74.1000</answer>"
    assert there[1]["mp16_reason"]["__#solution"] == "<country>USA</country><city>NYC</city>"
    assert read_taught(DataConfig("there/rows.jsonl"))[0].response == rows[0].response  # it is taken for GRE30K-CoT


def test_seed_there_and_back_and_reason_by_way_of_it(here):
    seeds = [{"image": f"images/{n}.jpg", "instructions": "<image>\nWhere?", "gt_lat": 48.85, "gt_lon": 2.35, "tag": n}
             for n in range(2)]
    there, back = converted(seeds, "reason", "seed")
    assert back == seeds and there[0]["__#solution"] == "<country>France</country><city>Paris</city>"
    assert read_reason(DataConfig("there/rows.jsonl"))[0].response == ""
    there, back = converted(REASONS, "seed", "reason")
    assert back == REASONS and len(read_seed(DataConfig("there/rows.jsonl"))) == 3
    assert [row["response"] for row in back] == ["Palms."] * 3


def test_what_cannot_go_over_is_listed(here):
    formless = cot(3)
    formless["conversations"][1]["value"] = "True"
    rows = [cot(0), formless, cot(1, answer="city: Springfield, country: United States"), cot(9)]
    Path("rows.json").write_text(json.dumps(rows))
    convert.run(Config(Data("rows.json"), "reason", "out/rows.jsonl"))
    dropped = [json.loads(line) for line in Path("out/rows.dropped.jsonl").read_text().splitlines()]
    assert [one["row"] for one in dropped] == [2, 3, 4]
    assert "is not <think>" in dropped[0]["why"] and "no one city is called" in dropped[1]["why"]
    assert "no file" in dropped[2]["why"] and len(Path("out/rows.jsonl").read_text().splitlines()) == 1
    assert "1 rows written, 3 left out" in Path("out/rows.card.txt").read_text()
    Path("rows.json").write_text(json.dumps([{**REASONS[0], "response": ""}]))
    convert.run(Config(Data("rows.json"), "cot", "out/rows.json"))
    assert "no response to learn from" in Path("out/rows.card.txt").read_text()


def test_parquet_with_its_photos_becomes_gre30k(here):
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pylist([{**row, "images": [{"bytes": jpeg(n), "path": f"{n}.jpg"}]}
                                           for n, row in enumerate(REASONS)]), "train.parquet")
    convert.run(Config(Data("train.parquet"), "cot", "gre/rows.json"))
    assert [row.image.read_bytes() for row in read_cot(DataConfig("gre/rows.json"))] == [jpeg(n) for n in range(3)]


@pytest.mark.parametrize("rows, to, fault", [
    (COTS[:1], "cot", "is GRE30K-CoT, and to=cot takes MP16-Reason"),
    ([{**COTS[0], "predicted_cot": "a", "predicted_answer": "b"}], "reason", "takes GRE30K-CoT or GRE30K-Seed")])
def test_files_that_have_no_place_there_are_refused(here, rows, to, fault):
    Path("rows.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=fault):
        convert.run(Config(Data("rows.json"), to, "out.json"))
    with pytest.raises(UserError, match="is the file that is read"):
        convert.run(Config(Data("rows.json"), to, "rows.json"))
    with pytest.raises(ValueError, match="write reason, cot, seed"):
        Config(Data("rows.json"), "judge", "out.json")
