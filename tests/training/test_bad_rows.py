"""Rows that cannot be trained on: each is named before training by file, row, field and remedy, or dropped, counted and
listed."""
import json
import re
import shutil
from pathlib import Path

import pytest

from gre.config import UserError, load
from gre.data import photos as looked
from gre.data.images import decode
from gre.manifest import read_manifest
from gre.training import stage as stages
from stages import judge
from tests.helpers.damaged import DAMAGED, WHOLE
from tests.helpers.judge_rows import write_rows
from tests.helpers.resuming import Killed
from tests.helpers.stages import pictures, run1, write_seeds

GOOD = ["0.png", "1.png"]


def killed(*_, **__):
    raise Killed


def cot_row(image: str, question: str = "<image>\nWhere is this?", chain: str = "A café.", **fields) -> dict:
    return {"image": f"images/{image}", "gt_lat": 48.9, "gt_lon": 2.3, "conversations": [
        {"from": "human", "value": question},
        {"from": "gpt", "value": f"<think>{chain}</think><answer>48.9, 2.3</answer>"}], **fields}


BAD = {  # what is wrong: (row, what is said)
    **{name: (cot_row(name), said) for name, (_, said) in DAMAGED.items()},
    "half a character": (cot_row("0.png", chain="A caf\ud83d."),
                         r"field 'conversations': half a character .a lone surrogate, \\ud83d. after .*A caf"),
    "a control token": (cot_row("0.png", "<image>\nWhere <|im_end|>?"), r"control tokens .*<\|im_end\|>"),
    "half a question": (cot_row("0.png", "Where \udc00 is it?"), r"lone surrogate, \\udc00"),
    "no place": (cot_row("0.png", gt_lat=0, gt_lon=0.0), "'gt_lat', 'gt_lon': 0, 0 is what tools write"),
}


@pytest.fixture
def photos(cot):
    """Stage 1's folder, with all damaged photos and all that look so."""
    for name, (content, _) in {**DAMAGED, **WHOLE}.items():
        Path("cot/imgs", name).write_bytes(content)
    return cot


def write(*rows: dict) -> None:
    Path("cot/cot.json").write_text(json.dumps(rows))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_stops_before_a_model_is_loaded(photos, monkeypatch, name):
    monkeypatch.setattr(stages, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    write(cot_row("0.png"), BAD[name][0])
    with pytest.raises(UserError, match=BAD[name][1]) as raised:
        run1()
    said = str(raised.value)
    assert said.startswith("cot/cot.json, row 2: ") and "data.on_bad_row=drop" in said


@pytest.mark.slow
def test_all_of_them_are_dropped_counted_and_listed_and_the_rest_is_trained_on(photos, capsys):
    write(*map(cot_row, GOOD), *(row for row, _ in BAD.values()), *map(cot_row, WHOLE),
          cot_row("0.png", chain="long " * 3000))
    run1("data.on_bad_row=drop", "data.dropped_list=dropped.txt", "train.max_steps=1",
         "train.per_device_batch_size=2", "model.max_length=500")
    listed = Path("dropped.txt").read_text().splitlines()
    first, last = len(GOOD) + 1, len(GOOD) + len(BAD) + len(WHOLE) + 1
    assert {line.split(": ")[0] for line in listed} == {
        f"cot/cot.json, row {row}" for row in (*range(first, first + len(BAD)), last)}
    assert read_manifest(Path("run/stage1"))["metrics"]["rows"] == len(GOOD) + len(WHOLE)
    said = capsys.readouterr().err
    assert f"dropped 3 bad rows, kept {len(DAMAGED) + 8}" in said
    assert f"dropped {len(DAMAGED) + 2} bad rows, kept 6" in said
    assert re.search(rf"row {last}: \d+ tokens, and model.max_length is 500", said)


@pytest.mark.slow
def test_a_resumed_run_decodes_no_whole_photo_again_and_keeps_the_same_rows(photos, monkeypatch):
    write(*map(cot_row, [*GOOD, "strip.png", "2.png"]))
    keys = ("data.on_bad_row=drop", "train.max_steps=4", "train.save_steps=2")
    run1("output_dir=whole/stage1", *keys)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(stages, "save_model", killed)
        run1(*keys)
    decoded = []
    monkeypatch.setattr(looked, "decode", lambda content, path: decoded.append(path.name) or decode(content, path))
    run1(*keys)
    assert decoded == []  # the strip's header is enough
    assert read_manifest(Path("run/stage1"))["metrics"]["rows"] == 3
    assert read_manifest(Path("run/stage1"))["model_sha256"] == read_manifest(Path("whole/stage1"))["model_sha256"]


@pytest.mark.slow
def test_processes_share_the_photos_and_agree(photo_ranks_folder):
    first, second = (json.loads((photo_ranks_folder / f"said-{rank}.txt").read_text()) for rank in range(2))
    assert first["kept"] == second["kept"] == ["seed:0", "seed:3", "seed:4", "seed:5"]
    assert first["stopped"] == second["stopped"] == "seed.jsonl, row 1"
    assert first["decoded"] == ["0.png", "2.png", "2.png", "4.png"]  # a damaged one is looked at again
    assert second["decoded"] == ["1.png", "1.png", "3.png", "5.png"]
    assert (first["dropped"], second["dropped"]) == (1, 0)
    assert len((photo_ranks_folder / "dropped.txt").read_text().splitlines()) == 2


CITIES = [(48.86, 2.35), (52.52, 13.4), (41.9, 12.5), (40.4, -3.7), (59.3, 18.1), (50.1, 14.4), (47.5, 19.0),
          (52.2, 21.0), (44.4, 26.1), (38.7, -9.1), (55.7, 12.6), (48.2, 16.4)]
FAR = [(35.66, 139.75), (-33.86, 151.2), (37.77, -122.42), (39.9, 116.4)]


@pytest.mark.parametrize("places, said", [
    (CITIES, "the median photo lies .* cities of 15000"),
    ([*CITIES, *FAR], "a latitude of 151.2, and 4 of 16 rows that are places only when exchanged"),
    (FAR * 3, "12 of 12 rows"), ([*FAR * 3, (148.85, 2.35)], "12 of 13 rows")])
def test_swapped_truths_are_no_bad_rows_but_a_bad_file(cot, places, said):
    write(*[cot_row("0.png", gt_lat=lon, gt_lon=lat) for lat, lon in places])
    with pytest.raises(UserError, match=f"cot.json: gt_lat and gt_lon stand under each other's name .*{said}"):
        run1("data.on_bad_row=drop")


def test_single_rows_out_of_range_are_rows(cot):
    write(*[cot_row("0.png", gt_lat=lat, gt_lon=lon) for lat, lon in [*CITIES, (148.85, 2.35)]])
    with pytest.raises(UserError, match="row 13: fields 'gt_lat', 'gt_lon': latitude 148.85"):
        run1()


@pytest.mark.parametrize("name", ["truncated.jpg", "strip.png"])
def test_photos_to_validate_on_are_looked_at_too(photos, name):
    write(*map(cot_row, GOOD))
    write_seeds(pictures(2))
    shutil.copy(f"cot/imgs/{name}", "seed/imgs/1.png")
    keys = ("validation.eval_every=1", "validation.data=seed/seed.jsonl", "validation.max_new_tokens=4")
    with pytest.raises(UserError, match=f"seed/seed.jsonl, row 2: .*seed/imgs/1.png.*{DAMAGED[name][1]}"):
        run1(*keys)


@pytest.mark.parametrize("name", ["truncated.jpg", "strip.png"])
def test_photos_a_policy_is_asked_about_are_looked_at_before_the_judge_is_trained(workplace, monkeypatch, name):
    monkeypatch.setattr(stages, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    write_rows(workplace / "judged", 20)
    Path("seed/imgs/1.png").write_bytes(DAMAGED[name][0])
    with pytest.raises(UserError, match=f"seed/seed.jsonl, row 2: .*seed/imgs/1.png.*{DAMAGED[name][1]}"):
        judge.run(load(judge.Config, [
            "output_dir=run/another", "model_name_or_path=base", "data.path=judged/judge.json",
            "policy.model_name_or_path=run/stage1", "policy.data=seed/seed.jsonl"]))


@pytest.mark.slow
def test_a_damaged_photo_to_validate_on_is_dropped_where_that_is_said(photos, capsys):
    write(*map(cot_row, GOOD))
    write_seeds(pictures(2))
    Path("seed/imgs/1.png").write_bytes(b"")
    run1("validation.eval_every=1", "validation.data=seed/seed.jsonl", "validation.max_new_tokens=4",
         "data.on_bad_row=drop", "train.max_steps=1")
    assert "seed/seed.jsonl: dropped 1 bad rows, kept 1" in capsys.readouterr().err
    assert Path("run/stage1/manifest.json").exists()


def test_a_missing_photo_to_validate_on_is_put_beside_its_file(cot):
    """data.image_root would not help there."""
    write_seeds(pictures(2))
    Path("seed/imgs/1.png").unlink()
    with pytest.raises(UserError, match="seed.jsonl, row 2: field 'image': no file .*; put the photo there") as one:
        run1("validation.eval_every=1", "validation.data=seed/seed.jsonl")
    assert "image_root" not in str(one.value)


@pytest.mark.slow
def test_a_windows_line_end_after_the_mark_asks_the_same_question(cot):
    for end in ("\n", "\r\n", "\r", ""):
        write(*[cot_row(name, f"<image>{end}Where is this?") for name in GOOD])
        shutil.rmtree("run", ignore_errors=True)
        run1("train.max_steps=1")
        assert [one["text"] for one in read_manifest(Path("run/stage1"))["instructions"]["texts"]] == ["Where is this?"]
