"""Predicting a benchmark with the real command: what a plain model must be told, what is recorded, what is refused."""
import json
from pathlib import Path

import pytest
from PIL import Image

from eval import predict
from eval.answering.rows import read_prompt
from eval.benchmarks.reader import BenchmarkConfig
from gre.config import UserError


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Path:
    """Three photos in upstream's tree, with authors and countries."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "img").mkdir()
    (folder / "label").mkdir()
    for number in range(3):
        Image.new("RGB", (56, 56), (number * 80, 0, 0)).save(folder / "img" / f"{number}.jpg")
    (folder / "label" / "test.csv").write_text("IMG_ID,AUTHOR,LAT,LON,country\n0.jpg,ann,48.86,2.35,France\n"
                                               "1.jpg,ann,-33.86,151.21,Australia\n2.jpg,bob,48.86,2.35,nan\n")
    return folder


def config(model: Path, bench: Path, out: Path, rows: int | None = 3, **keys) -> predict.Config:
    where = BenchmarkConfig("Im2GPS3k", str(bench / "label"), str(bench / "img"), rows)
    return predict.Config(model=str(model), benchmark=where, out=str(out), max_new_tokens=4, **keys)


TOLD = {"prompt": "Where is this?", "min_pixels": 28 * 28, "max_pixels": 56 * 56}


def test_a_benchmark_is_answered_with_its_labels_and_its_record(plain_model, bench, tmp_path):
    out = tmp_path / "p.jsonl"
    rows = predict.run(config(plain_model, bench, out, **TOLD))
    assert [(row.id, row.image, row.gt_lon) for row in rows] == [
        ("0.jpg", "0.jpg", 2.35), ("1.jpg", "1.jpg", 151.21), ("2.jpg", "2.jpg", 2.35)]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line.get("author"), line.get("gt_country")) for line in lines] == [
        ("ann", "France"), ("ann", "Australia"), ("bob", None)]
    recorded = json.loads(out.with_suffix(".json").read_text())
    assert recorded["question"]["from"] == "prompt=" and recorded["question"]["untrained_rows"] is None
    assert recorded["question"]["texts"] == [{"text": "Where is this?", "rows": 3}]
    assert recorded["pixel_budget"]["max_pixels"] == 56 * 56
    assert recorded["benchmark"] == {
        "name": "Im2GPS3k", "expected_rows": 2997, "accepted_rows": 3, "swapped": "refuse",
        "rows_source": recorded["benchmark"]["rows_source"]}
    with pytest.raises(UserError, match="predicted with another question"):
        predict.run(config(plain_model, bench, out, **TOLD | {"prompt": "Where was this?"}))


def test_a_prompt_may_stand_in_a_file(plain_model, bench, tmp_path):
    (tmp_path / "prompt.txt").write_text("Where is this?\n")
    out = tmp_path / "p.jsonl"
    predict.run(config(plain_model, bench, out, **TOLD | {"prompt": f"@{tmp_path / 'prompt.txt'}"}))
    assert json.loads(out.with_suffix(".json").read_text())["question"]["texts"] == [
        {"text": "Where is this?", "rows": 3}]
    with pytest.raises(UserError, match="name a text file after the @"):
        read_prompt("@nowhere.txt")


@pytest.mark.parametrize("left_out", TOLD)
def test_a_plain_model_must_be_told_prompt_and_budget(plain_model, bench, tmp_path, left_out):
    keys = {key: value for key, value in TOLD.items() if key != left_out}
    with pytest.raises(UserError, match="has no manifest .*write prompt=… min_pixels=… max_pixels=…"):
        predict.run(config(plain_model, bench, tmp_path / "p.jsonl", **keys))


def test_a_smaller_benchmark_is_refused_before_a_model_is_asked(plain_model, bench, tmp_path):
    with pytest.raises(UserError, match="3 rows, and Im2GPS3k has 2,997"):
        predict.run(config(plain_model, bench, tmp_path / "p.jsonl", rows=None, **TOLD))
    assert not (tmp_path / "p.jsonl").exists()


@pytest.mark.parametrize("keys, message", [
    ({"data": "rows.jsonl"}, "either data=FILE or benchmark.name=NAME"),
    ({"benchmark": BenchmarkConfig()}, "either data=FILE or benchmark.name=NAME"),
    ({"data": "rows.jsonl", "benchmark": BenchmarkConfig()}, "prompt= is for benchmarks"),
    ({"image_root": "here"}, "image_root= is for data=FILE")])
def test_settings_that_do_not_go_together(plain_model, bench, tmp_path, keys, message):
    with pytest.raises(UserError, match=message):
        predict.run(predict.Config(**{**vars(config(plain_model, bench, tmp_path / "p.jsonl", **TOLD)), **keys}))
