"""What a trained stage is asked: what it was trained on, by the real stages and the real evaluation script."""
# ruff: noqa: F811 some fixtures are of another file
import csv
import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from eval import compare, predict, predictions, score
from eval.benchmarks.reader import BenchmarkConfig
from eval.scoring import peers
from gre.answering import question
from gre.config import UserError, load
from gre.text import instructions
from gre.text.prompts import JUDGE_INSTRUCTION
from stages import stage1
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow
UNUSUAL = "In which street of which town stood the photographer?"
PLACES = [(48.86, 2.35), (-33.86, 151.21), (35.68, 139.69)]


@pytest.fixture(scope="module")
def workplace(tiny_vlm, tmp_path_factory):
    """base, three photos, rows that ask UNUSUAL as CoT and as Seed, a CSV of the same photos; stage 1 trained on it."""
    folder = tmp_path_factory.mktemp("question")
    for part in tiny_vlm:
        part.save_pretrained(folder / "base")
    (folder / "imgs").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cot, seed, table = [], [], ["image,latitude,longitude"]
        for i, (lat, lon) in enumerate(PLACES):
            Image.new("RGB", (56, 56), (80 * i, 99, 200)).save(f"imgs/{i}.png")
            at = {"image": f"images/{i}.png", "gt_lat": lat, "gt_lon": lon}
            cot.append({**at, "conversations": [{"from": "human", "value": f"<image>\n{UNUSUAL}"}, {
                "from": "gpt", "value": f"<think>The sign is French.</think><answer>{lat}, {lon}</answer>"}]})
            seed.append(json.dumps({**at, "instructions": UNUSUAL}))
            table.append(f"{i}.png,{lat},{lon}")
        Path("cot.json").write_text(json.dumps(cot))
        Path("seed.jsonl").write_text("\n".join(seed) + "\n")
        Path("photos.csv").write_text("\n".join(table) + "\n")
        train("run/stage1", "cot.json")
        yield folder


def train(output_dir: str, data: str) -> None:
    stage1.run(load(stage1.Config, [f"output_dir={output_dir}", "model_name_or_path=base", f"data.path={data}",
                                    "train.max_steps=2", "train.learning_rate=1e-3"]))


def script(name: str, model: str, out: str, *keys: str) -> dict:
    """Run one of scripts/eval as a user does; returns what stands beside the predictions."""
    done = subprocess.run(["bash", f"{ROOT}/scripts/eval/{name}", model, "benchmark.labels=photos.csv",
                           "benchmark.images=imgs", f"out={out}", "max_new_tokens=8", *keys],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(Path(out).with_suffix(".json").read_text())


def texts(path: str) -> list[str]:
    return [row.text for row in predictions.read(path)]


def bench(model: str, out: str, **keys) -> predict.Config:
    return predict.Config(model=model, benchmark=BenchmarkConfig("csv", "photos.csv", "imgs"), out=out,
                          max_new_tokens=8, **keys)


def rows(model: str, out: str, data: str = "seed.jsonl") -> dict:
    predict.run(predict.Config(model=model, data=data, out=out, max_new_tokens=8))
    return json.loads(Path(out).with_suffix(".json").read_text())["question"]


def test_a_benchmark_asks_what_the_stage_was_trained_on(workplace):
    trained_on = instructions.record([UNUSUAL] * 3)
    assert trained_on["texts"] == [{"text": UNUSUAL, "rows": 3}]
    made = script("eval_img2gps3k.sh", "run/stage1", "out/own.jsonl", "benchmark.rows=3")
    assert made["question"] == {"from": "manifest", **trained_on, "untrained_rows": 0, "trained_on": trained_on}
    assert rows("run/stage1", "out/rows.jsonl") == {**made["question"], "from": "data="}
    assert texts("out/own.jsonl") == texts("out/rows.jsonl")

    other = script("eval_img2gps3k.sh", "run/stage1", "out/other.jsonl", "benchmark.rows=3", "prompt=Where?")
    assert other["question"] == {"from": "prompt=", **instructions.record(["Where?"] * 3), "untrained_rows": 3,
                                 "trained_on": trained_on}
    asked = peers.rows([compare.read(f"out/{name}.scores.json") for name in ("own", "other")])
    assert f"; asked '{UNUSUAL}' (as in its manifest); greedy" in asked[0][7]
    assert f"; asked 'Where?' (chosen by prompt=), and trained on '{UNUSUAL}'; greedy" in asked[1][7]
    assert "asked &#x27;Where?&#x27; (chosen by prompt=)" in Path("out/other.html").read_text()


def test_any_table_scores_as_the_rows_of_data_do(workplace, capsys):
    """The same photos, once as rows and once as a CSV by the script: the same answers and the same numbers."""
    script("eval_csv.sh", "run/stage1", "out/table.jsonl")
    rows("run/stage1", "out/same.jsonl")
    by_script = json.loads(Path("out/table.scores.json").read_text())
    by_rows = score.run(score.Config("out/same.jsonl", out="out/same.scores.json"))
    assert "asked" in capsys.readouterr().out
    assert texts("out/table.jsonl") == texts("out/same.jsonl") and by_script["all"] == by_rows["all"]


def test_rows_that_ask_something_else_are_told_and_recorded(workplace, capsys):
    lines = [json.loads(line) for line in Path("seed.jsonl").read_text().splitlines()]
    Path("mixed.jsonl").write_text("".join(json.dumps({**line, "instructions": text}) + "\n" for line, text in zip(
        lines, [UNUSUAL, "Name the city. " + "x" * 60, "Name the city. " + "x" * 60])))
    made = rows("run/stage1", "out/mixed.jsonl", "mixed.jsonl")
    assert made["untrained_rows"] == 2 and made["trained_on"]["texts"] == [{"text": UNUSUAL, "rows": 3}]
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("WARNING")]
    assert warning == ("WARNING: 2 of 3 rows of mixed.jsonl ask what run/stage1 was not trained on: "
                       f"'Name the city. {'x' * 45}…'; it was trained on '{UNUSUAL}'")
    rows("run/stage1", "out/quiet.jsonl")
    assert "WARNING" not in capsys.readouterr().err
    assert rows("base", "out/base.jsonl")["untrained_rows"] is None


def test_several_questions_are_listed_and_one_must_be_chosen(workplace):
    cot = json.loads(Path("cot.json").read_text())
    cot[0]["conversations"][0]["value"] = "<image>\nWhich city is this?"
    Path("two.json").write_text(json.dumps(cot))
    train("run/two", "two.json")
    with pytest.raises(UserError) as refused:
        predict.run(bench("run/two", "out/two.jsonl"))
    assert str(refused.value) == (
        "run/two was trained on 2 questions: choose the one to ask with prompt='…' or prompt=@FILE. They are\n"
        f"  '{UNUSUAL}' (2 rows)\n  'Which city is this?' (1 rows)")
    predict.run(bench("run/two", "out/two.jsonl", prompt="Which city is this?"))
    made = json.loads(Path("out/two.json").read_text())["question"]
    assert made["from"] == "prompt=" and made["untrained_rows"] == 0


def test_a_stage_that_does_not_say_must_be_told(workplace):
    manifest = Path("run/stage1/manifest.json")
    whole = manifest.read_text()
    message = "run/stage1 does not say what it was trained on .*write prompt=…"
    try:
        manifest.write_text(json.dumps({key: value for key, value in json.loads(whole).items()
                                        if key != "instructions"}))
        with pytest.raises(UserError, match=message):  # one of an earlier version
            predict.run(bench("run/stage1", "out/old.jsonl"))
        manifest.unlink()
        with pytest.raises(UserError, match=message):
            predict.run(bench("run/stage1", "out/old.jsonl", accept_parent="any"))
        predict.run(bench("run/stage1", "out/old.jsonl", accept_parent="any", prompt=UNUSUAL))
    finally:
        manifest.write_text(whole)
    assert texts("out/old.jsonl") == [row.text for row in predict.run(bench("run/stage1", "out/new.jsonl"))]
    assert json.loads(Path("out/old.json").read_text())["question"]["trained_on"] is None


def test_a_policy_trained_on_verdicts_has_no_question_about_places():
    trained_on = instructions.record([JUDGE_INSTRUCTION] * 5)
    with pytest.raises(UserError, match="run/stage2 was trained to say True or False .*no question about places"):
        question.choose("", "run/stage2", trained_on)
    assert question.choose("Where?", "run/stage2", trained_on) == ("Where?", "prompt=")


def test_more_questions_than_a_manifest_lists():
    """20 questions, question i in 20 - i rows: 16 are listed, the sha256 is of all."""
    asked = [f"Question {i:02}?" for i in range(20) for _ in range(20 - i)]
    known = instructions.record(asked)
    assert known["distinct"] == 20 and [one["rows"] for one in known["texts"]] == list(range(20, 4, -1))
    assert instructions.outside(set(asked), known) == []  # the very same questions
    assert instructions.outside(["Question 19?", "Question 00?"], known) == ["Question 19?"]
    with pytest.raises(UserError, match=r"trained on 20 questions(?s:.*)'Question 15\?' \(5 rows\)\n  and 4 more$"):
        question.choose("", "m", known)


def test_the_tiny_worlds_test_split_is_a_benchmark_too(tmp_path):
    """World's test.csv holds the pictures and truths of test.jsonl in its order: what a script scores is what the
    quickstart scores."""
    from eval.benchmarks import reader
    from gre.data.records import DataConfig, read_seed
    from gre.tiny import world

    world.write(world.Config(str(tmp_path), cot=1, judge=2, seed_photos=1, validation=1, test=2, test_new_places=1))
    for split in ("test", "test_new_places"):
        folder = tmp_path / split
        as_rows = read_seed(DataConfig(str(folder / f"{split}.jsonl")))
        as_table = reader.read(BenchmarkConfig("csv", str(folder / f"{split}.csv"), str(folder / "imgs")), "?")
        assert [(row.image, row.truth) for row in as_table] == [(row.image.resolve(), row.truth) for row in as_rows]
        with open(folder / f"{split}.csv") as table:
            assert next(csv.reader(table)) == ["image", "latitude", "longitude"]
    assert asdict(world.Config(""))["test"] == 5
