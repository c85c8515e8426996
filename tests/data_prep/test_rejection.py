"""Rejection sampling: which completion becomes a row, and a run that is gone on with."""
import json
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from data_prep import rejection
from gre import manifest
from gre.config import UserError, load, save
from gre.data.records import DataConfig, SeedRow, read_cot
from gre.geo.places import gazetteer
from gre.geo.point import LatLon
from gre.rewards.place import MIN_POPULATION
from stages import stage1

NAMED = partial(gazetteer, MIN_POPULATION)
ROW = SeedRow("seed:1", Path("a.png"), "Where?", LatLon(0.0, 0.0))


def said(lon_deg):
    return f"<think>a</think><answer>0.0, {lon_deg}</answer>"


@pytest.mark.slow
def test_the_nearest_finished_well_formed_answer_is_the_row():
    nearest = [(said(3.0), True), (said(1.0), True), (said(1.0) + " ", True), (said(0.0), False), ("0.0, 0.0", True)]
    assert rejection.best_row(ROW, nearest, 750, NAMED()).response == said(1.0)  # 111 km; the first of equals


def test_an_answer_farther_than_the_limit_makes_no_row():
    assert rejection.best_row(ROW, [(said(1.0), True)], 111.1, NAMED()) is None  # a degree of the equator is 111.19 km
    assert rejection.best_row(ROW, [(said(1.0), True)], 111.2, NAMED()).truth == ROW.truth
    assert rejection.best_row(ROW, [("<think>a</think><answer>nowhere</answer>", True)], 20015, NAMED()) is None


def test_an_answer_by_name_is_as_far_as_its_city():
    texts = [f"<think>a</think><answer>country: {country}\ncity: {city}</answer>"
             for country, city in (("Ghana", "Accra"), ("São Tomé and Príncipe", "São Tomé"), ("Ghana", "nowhere"))]
    best = rejection.best_row(ROW, [(text, True) for text in texts], 20015, NAMED())
    assert best.response == texts[0]  # 620 km from (0, 0); São Tomé is 750 km


@pytest.fixture
def workplace(tiny_vlm, tmp_path, monkeypatch):
    """run/stage1, a random model, and three seed rows."""
    monkeypatch.chdir(tmp_path)
    for part in tiny_vlm:
        part.save_pretrained("base")
    folder = manifest.begin("run/stage1")
    save(stage1.Config(output_dir=str(folder), model_name_or_path="base"), folder / "config.yaml")
    for part in tiny_vlm:
        part.save_pretrained(folder / "model")
    manifest.finish(folder, stage="stage1", parent=manifest.verify_parent("base", {manifest.BASE}), data=[],
                   instructions=["Where is this?"], metrics={})
    (tmp_path / "seed" / "imgs").mkdir(parents=True)
    with open("seed/seed.jsonl", "w") as lines:
        for i in range(3):
            Image.new("RGB", (56, 56), (60 * i, 99, 200)).save(f"seed/imgs/{i}.png")
            lines.write(json.dumps({"image": f"images/{i}.png", "instructions": "Where is this?", "gt_lat": 48.9,
                                    "gt_lon": 2.4}) + "\n")


def sampled(**more):
    settings = {"model": "run/stage1", "data.path": "seed/seed.jsonl", "out": "seed/best.json", "num_generations": 2,
                "rollout.max_new_tokens": 4, "rollout.batch_size": 2, **more}
    config = load(rejection.Config, [f"{key}={value}" for key, value in settings.items()])
    with pytest.raises(UserError, match="none of .* photos has a completion within"):  # a random model knows nothing
        rejection.run(config)
    return (Path(config.out + ".samples.jsonl")).read_text().splitlines()


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_samples(workplace):
    whole, file = sampled(), Path("seed/best.json.samples.jsonl")
    assert [json.loads(line)["id"] for line in whole] == ["seed:1", "seed:2", "seed:3"]
    assert len({json.dumps(json.loads(line)["completions"]) for line in whole}) == 3  # each its own random numbers
    file.write_text(whole[0] + "\n" + whole[1][:20])  # killed while writing
    assert sampled() == whole
    file.write_text("".join(line.replace("seed:", "x:") + "\n" for line in whole))
    assert len(sampled()) == 6, "rows that are not there are sampled"


def test_samples_of_other_settings_are_refused(workplace):
    sampled()
    with pytest.raises(UserError, match="another model, data file or setting"):
        rejection.run(load(rejection.Config, ["model=run/stage1", "data.path=seed/seed.jsonl", "out=seed/best.json",
                                              "num_generations=3"]))
    sampled(within_km=1.0)  # what is chosen may change, what was sampled stays


def test_rows_are_written_in_the_form_stage_1_reads(workplace, monkeypatch):
    monkeypatch.setattr(rejection, "sample", lambda config, parent, rows, samples: {
        row.id: [("<think>a</think><answer>48.9, 2.4</answer>", True)] for row in rows.values()})
    rejection.run(load(rejection.Config, ["model=run/stage1", "data.path=seed/seed.jsonl", "out=seed/best.json",
                                          "num_photos=2"]))
    rows = read_cot(DataConfig("seed/best.json"))
    assert len(rows) == 2 and all(row.response == "<think>a</think><answer>48.9, 2.4</answer>" for row in rows)
    assert {row.image.name for row in rows} < {"0.png", "1.png", "2.png"}


def test_more_photos_than_there_are_is_refused(workplace):
    with pytest.raises(UserError, match="has 3 rows: ask for fewer"):
        rejection.run(load(rejection.Config, ["model=run/stage1", "data.path=seed/seed.jsonl", "out=seed/best.json",
                                              "num_photos=4"]))
