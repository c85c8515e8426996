"""Answers of a model: every row once, resumed, in shards, and refused where settings or rows do not fit."""
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from eval import predict
from eval.answering.rows import place_names
from gre.answering.engines import Said
from gre.config import UserError
from gre.data.records import DataConfig, read_seed
from tests.helpers.run_data import PLACES


def config(model: Path, data: Path, out: Path, **keys) -> predict.Config:
    return predict.Config(model=str(model), data=str(data / "test/test.jsonl"), out=str(out), max_new_tokens=4,
                          batch_size=4, places=str(data / "truth.jsonl"), max_pixels=56 * 56, **keys)


def test_predict_answers_every_row_and_goes_on_where_it_stopped(plain_model, data, tmp_path):
    out = tmp_path / "p" / "base.jsonl"
    rows = predict.run(config(plain_model, data, out))
    assert [row.id for row in rows] == [f"test:{number}" for number in range(1, 7)]
    assert [row.place for row in rows] == [*PLACES, *PLACES]
    assert rows[0].image == "imgs/0.png" and (rows[0].gt_lat, rows[0].gt_lon) == (48.86, 2.35)
    assert set(asdict(rows[0])) == {"id", "place", "image", "gt_lat", "gt_lon", "text", "lat", "lon", "finished"}

    whole = out.read_text()
    kept = whole.splitlines(keepends=True)
    kept[0] = kept[0].replace('"text": "', '"text": "kept ')
    out.write_text("".join(kept[:2]) + kept[2][:20])
    assert predict.run(config(plain_model, data, out))[0].text.startswith("kept ")
    assert out.read_text().splitlines(keepends=True)[1:] == whole.splitlines(keepends=True)[1:]


def test_predict_does_not_mix_settings_in_one_file(plain_model, data, tmp_path):
    out = tmp_path / "p.jsonl"
    predict.run(config(plain_model, data, out))
    with pytest.raises(UserError, match="predicted with another pictures"):
        predict.run(config(plain_model, data, out, pictures="blank"))


def test_controls_show_other_pictures(plain_model, data, tmp_path, monkeypatch):
    shown = {}

    def answer(instructions, images, keys):
        shown.setdefault(pictures, []).extend(image.getpixel((0, 0)) for image in images)
        return [[Said("", True)]] * len(images)

    monkeypatch.setattr(predict, "answerer", lambda *_: answer)
    for pictures in predict.PICTURES:
        predict.run(config(plain_model, data, tmp_path / f"{pictures}.jsonl", pictures=pictures))
    own = [(40 * number, 0, 90) for number in range(6)]
    assert shown["own"] == own and shown["blank"] == [(128, 128, 128)] * 6
    assert sorted(shown["swapped"]) == own
    assert all(own.index(pixel) % 3 != number % 3 for number, pixel in enumerate(shown["swapped"]))


@pytest.mark.parametrize("keys, message", [
    ({"pictures": "none"}, "own, blank, swapped"), ({"dtype": "int8"}, "bfloat16")])
def test_predict_refuses_unknown_settings(plain_model, data, tmp_path, keys, message):
    with pytest.raises(UserError, match=message):
        predict.run(config(plain_model, data, tmp_path / "p.jsonl", **keys))


@pytest.mark.parametrize("out, message", [
    (".", "is a folder: name a file in it"), ("test.jsonl", "would be written over .*test.jsonl, which is read"),
    ("places.jsonl", r"keeps its settings in .*places.json, which is a file of another kind"),
    ("notes.jsonl", "is there already, and no .*notes.json says how it was predicted"),
    ("rows.predicted", r"would be written over .*rows.json, which is read")])
def test_predictions_are_written_over_nothing_else(plain_model, data, tmp_path, out, message):
    """The settings lie in NAME.json beside NAME.jsonl, where a data file of that name would have been lost."""
    for name, content in (("test.jsonl", None), ("rows.json", None), ("places.json", "[]"), ("notes.jsonl", "mine\n")):
        (tmp_path / name).write_text(content or (data / "test/test.jsonl").read_text())
    shutil.copytree(data / "test" / "imgs", tmp_path / "imgs")
    read = tmp_path / ("rows.json" if out == "rows.predicted" else "test.jsonl")
    before = {path: path.read_bytes() for path in tmp_path.glob("*.json*")}
    with pytest.raises(UserError, match=message):
        predict.run(predict.Config(model=str(plain_model), data=str(read), out=str(tmp_path / out), max_new_tokens=4,
                                   max_pixels=56 * 56))
    assert {path: path.read_bytes() for path in tmp_path.glob("*.json*")} == before


@pytest.mark.parametrize("size", [0, -2])
def test_a_batch_without_photos_is_refused(plain_model, data, tmp_path, size):
    """-2 answered nothing, wrote an empty file and ended well."""
    with pytest.raises(UserError, match=f"batch_size is {size}: it must be at least 1"):
        predict.run(replace(config(plain_model, data, tmp_path / "p.jsonl"), batch_size=size))


def test_a_model_answers_in_the_type_its_weights_have_on_disk(plain_model, data, tmp_path):
    """bfloat16 as it was saved, or float32 where that is asked for; the predictions' settings say which."""
    folder = tmp_path / "low"
    shutil.copytree(plain_model, folder)
    AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    for keys, wanted in (({}, "bfloat16"), ({"dtype": "float32"}, "float32")):
        predict.run(config(folder, data, tmp_path / f"{wanted}.jsonl", **keys))
        assert json.loads((tmp_path / f"{wanted}.json").read_text())["dtype"] == wanted
    predict.run(config(plain_model, data, tmp_path / "stored.jsonl"))
    assert json.loads((tmp_path / "stored.json").read_text())["dtype"] == "float32"
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "dtype": "float16"}))
    with pytest.raises(UserError, match="says float16 for the type of its weights: write dtype=float32 or"):
        predict.run(config(folder, data, tmp_path / "half.jsonl"))


def test_places_must_cover_every_picture(data, tmp_path):
    rows = read_seed(DataConfig(path=str(data / "test/test.jsonl")))
    assert place_names(rows, "")[0] == "48.86, 2.35"
    (data / "some.jsonl").write_text((data / "truth.jsonl").read_text().replace("test/imgs/0.png", "test/imgs/9.png"))
    with pytest.raises(UserError, match="names no place for 1 photos, the first is row test:1"):
        place_names(rows, str(data / "some.jsonl"))


def company(*_):
    """An answerer that names the pictures of the batch: one that is answered in other company reads differently."""
    def answer(instructions, images, keys):
        return [[Said(f"<answer>{[image.getpixel((0, 0))[0] for image in images]} {at}</answer>", True)]
                for at in range(len(images))]
    return answer


@pytest.mark.slow
@pytest.mark.parametrize("answerer", [None, company], ids=["model", "company"])
def test_resume_and_shards_write_what_one_run_writes(plain_model, data, tmp_path, monkeypatch, answerer):
    if answerer:
        monkeypatch.setattr(predict, "answerer", answerer)

    def run(name: str, **keys) -> Path:
        predict.run(replace(config(plain_model, data, tmp_path / f"{name}.jsonl"), batch_size=4, **keys))
        return tmp_path / f"{name}.jsonl"

    one = run("one").read_bytes()
    assert len(set(one.splitlines())) == 6

    resumed = run("resumed")
    for cut in (1, 300, len(one) - 30, len(one)):  # inside the first, a middle and the last row, and between rows
        resumed.write_bytes(one[:cut])
        assert run("resumed").read_bytes() == one

    for mine in (2, 0, 1):  # 6 rows are 2 batches of 4: the third shard has nothing to do
        run("shared", shard=f"{mine}/3")
    assert (tmp_path / "shared.2of3.jsonl").read_bytes() == b""
    part = tmp_path / "shared.0of3.jsonl"
    part.write_bytes(part.read_bytes()[:500])
    run("shared", shard="0/3")
    answers = predict.answerer
    monkeypatch.setattr(predict, "answerer", None)  # joining asks no model
    assert run("shared").read_bytes() == one
    assert (tmp_path / "shared.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    monkeypatch.setattr(predict, "answerer", answers)


@pytest.mark.parametrize("break_it, message", [
    (lambda folder: (folder / "p.1of2.jsonl").unlink(), "there is no .*p.1of2.jsonl: run shard=1/2 first"),
    (lambda folder: (folder / "p.0of2.jsonl").write_text('{"id'), "p.0of2.jsonl ends in half a row: run shard=0/2"),
    (lambda folder: (folder / "p.0of2.jsonl").write_text(""), "lack 4 of 6 rows, the first is test:1: run each shard"),
    (lambda folder: (folder / "p.0of3.jsonl").write_text(""), "shared out in more than one way"),
    (lambda folder: (folder / "p.0of2.json").write_text("{}"), "p.0of2.jsonl was predicted with another model"),
])
def test_shards_that_make_no_whole_are_not_joined(plain_model, data, tmp_path, monkeypatch, break_it, message):
    monkeypatch.setattr(predict, "answerer", company)
    settings = config(plain_model, data, tmp_path / "p.jsonl")
    for mine in (0, 1):
        predict.run(replace(settings, shard=f"{mine}/2"))
    break_it(tmp_path)
    with pytest.raises(UserError, match=message):
        predict.run(settings)
    assert not (tmp_path / "p.jsonl").exists()


@pytest.mark.parametrize("shard", ["2/2", "1", "a/b", "-1/2", "0/0"])
def test_a_shard_is_one_of_n(plain_model, data, tmp_path, shard):
    with pytest.raises(UserError, match="write i/n with i from 0"):
        predict.run(config(plain_model, data, tmp_path / "p.jsonl", shard=shard))


def test_shards_of_different_batch_sizes_do_not_mix(plain_model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "answerer", company)
    settings = config(plain_model, data, tmp_path / "p.jsonl", shard="0/2")
    predict.run(settings)
    with pytest.raises(UserError, match="predicted with another batch_size"):
        predict.run(replace(settings, batch_size=2))
