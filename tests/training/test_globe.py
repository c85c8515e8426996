"""GLOBE's stage from its rows to its manifest: weights, rows that cannot be rewarded, the reward model and its gate."""
import json
from pathlib import Path

import pytest

from gre import manifest
from gre.config import UserError, load
from gre.data.records import SeedRow
from gre.geo.point import LatLon
from gre.judge.model import Judge
from gre.judge.photos import write_photos
from gre.rewards import localizability
from gre.rewards.answers import Answers
from gre.training.grpo import GRPOConfig
from gre.training.trainer import checkpoints
from gre.training.watching import validation
from gre.training.watching.validation import quality
from stages import globe, stage1
from tests.helpers.grpo import trainer_of
from tests.helpers.judge_rows import picture
from tests.helpers.reason_rows import write_reason
from tests.helpers.resuming import Killed
from tests.helpers.stages import write_stage

ALL = ("format", "place", "grounding", "localizability", "gps")
AT = {"gt_lat": 48.86, "gt_lon": 2.35}
KEYS = ["output_dir=run/globe", "model_name_or_path=base", "data.path=data/reason.jsonl", "train.max_steps=2",
        "train.learning_rate=1e-3", "train.per_device_batch_size=2", "grpo.num_generations=2",
        "rollout.max_new_tokens=6"]


@pytest.fixture(scope="module")
def vlm():
    from gre.tiny.model import build

    return build(["yes", "no", "country: city: <think> </think><answer> </answer>"] * 200, hidden=64, layers=2,
                 vocabulary=400)


@pytest.fixture
def here(vlm, tmp_path, monkeypatch) -> Path:
    """The current folder, with base and run/localizability, which saw one photo of its own."""
    monkeypatch.chdir(tmp_path)
    for part in vlm:
        part.save_pretrained("base")
    picture((1, 2, 3)).save("seen.png")
    photos = write_photos(manifest.begin("run/localizability"), ["seen.png"])
    write_stage(vlm, "localizability", {"auc": 0.9, "calibration_error": 0.1, "n": 40, "photos_sha256": photos})
    return tmp_path


def run(*keys: str) -> None:
    globe.run(load(globe.Config, [*KEYS, *keys]))


@pytest.mark.slow
def test_all_rewards_train_together_and_are_weighed(here):
    write_reason(here / "data", 6, **AT)
    run("weights.localizability=0.5", "weights.gps=0.25", "judge.model_name_or_path=run/localizability")
    logs = [json.loads(line) for line in Path("run/globe/metrics.jsonl").read_text().splitlines()]
    steps = [log for log in logs if "reward" in log]
    weights = {"format": 1, "place": 1, "grounding": 0.5, "localizability": 0.5, "gps": 0.25}
    assert len(steps) == 2 and all({f"reward/{name}" for name in ALL} <= log.keys() for log in steps)
    for log in steps:
        assert log["reward"] == pytest.approx(sum(weight * log[f"reward/{name}"] for name, weight in weights.items()))
        assert "place/country_and_city" in log
    made = json.loads(Path("run/globe/manifest.json").read_text())
    assert made["stage"] == "globe" and made["metrics"]["judge"]["auc"] == 0.9
    assert made["metrics"]["gazetteer"]["min_population"] == 15000
    assert made["made_of"]["weights.gps"] == 0.25 and "rewards.gps" in made["made_of"]
    assert made["instructions"]["texts"][0]["text"].startswith("You are a geolocation expert.")


@pytest.mark.slow
def test_rows_without_coordinates_are_rewarded_by_name(here):
    write_reason(here / "data", 4)
    run()
    log = json.loads(Path("run/globe/metrics.jsonl").read_text().splitlines()[0])
    assert {name for name in log if name.startswith("reward/") and not name.endswith("_std")} == {
        "reward/format", "reward/place", "reward/grounding"}


@pytest.mark.slow
@pytest.mark.parametrize("stage", [stage1, globe])
def test_validation_measures_to_the_city_that_is_named(here, monkeypatch, stage):
    write_reason(here / "data", 4)
    picture((9, 9, 9)).save("new.png")
    Path("new.jsonl").write_text(json.dumps({"image": "new.png", "instructions": "Where?", **AT}))
    says = "<think>a</think><answer>country: France\ncity: Paris</answer>"
    monkeypatch.setattr(validation, "quality", lambda text, *more: quality(says, *more))
    keys = [key for key in KEYS if stage is globe or not key.startswith(("grpo.", "rollout."))]
    stage.run(load(stage.Config, [*keys, "validation.eval_every=2", "validation.data=new.jsonl"]))
    logs = map(json.loads, Path("run/globe/metrics.jsonl").read_text().splitlines())
    (measured,) = [log["eval/geoscore"] for log in logs if "eval/geoscore" in log]
    assert 4900 < measured < 5000  # the gazetteer's Paris is 0.7 km from there


@pytest.mark.parametrize("fields, keys, why", [
    ({}, ["weights.gps=1"], "row 1: it has no gt_lat, gt_lon, which the distance reward measures"),
    ({"__#solution": "Paris"}, [], "row 1: field '__#solution': expected <country>"),
    ({"entities": []}, [], "lists entities, and the grounding reward is made of them"),
    ({"entities": ["sign"]}, [], "field 'entities': expected a list of objects with text"),
    ({"localizability": "perhaps"}, [], "field 'localizability': expected one of true, yes, high"),
    ({}, ["weights.localizability=1", "judge.model_name_or_path=base"], "base is a plain model"),
    ({}, ["weights.place=0", "weights.grounding=0", "weights.format=0"], "weights are all 0"),
    ({}, ["weights.place=-1"], "weights.place is -1")])
def test_what_cannot_be_rewarded_is_refused_before_training(here, fields, keys, why):
    write_reason(here / "data", 2, **fields)
    with pytest.raises((UserError, ValueError), match=why):
        globe.read(load(globe.Config, [*KEYS, *keys]))


def test_a_row_without_a_name_may_be_left_out(here):
    path = write_reason(here / "data", 3)
    lines = path.read_text().splitlines()
    nameless = {name: value for name, value in json.loads(lines[1]).items() if name != "__#solution"}
    path.write_text("\n".join([lines[0], json.dumps(nameless), lines[2]]))
    with pytest.raises(UserError, match="row 2: it names no country"):
        globe.read(load(globe.Config, KEYS))
    rows = globe.read(load(globe.Config, [*KEYS, "data.on_bad_row=drop", "data.dropped_list=dropped.txt"]))[1]
    assert [row.id for row in rows] == ["reason:1", "reason:3"]
    assert "row 2: it names no country" in Path("dropped.txt").read_text()


def test_a_photo_the_reward_model_has_seen_is_refused(here, capsys):
    write_reason(here / "data", 3)
    keys = [*KEYS, "weights.localizability=1", "judge.model_name_or_path=run/localizability"]
    assert len(globe.read(load(globe.Config, keys))[1]) == 3
    assert "1 of 3 pictures are marked unlocalizable" in capsys.readouterr().out
    (here / "data/imgs/1.png").write_bytes((here / "seen.png").read_bytes())
    with pytest.raises(UserError, match="trained on the photo of row reason:2"):
        globe.read(load(globe.Config, keys))


@pytest.mark.slow
def test_a_reward_model_that_falls_short_is_refused(here, vlm):
    write_reason(here / "data", 3)
    photos = write_photos(manifest.begin("run/localizability"), ["seen.png"])
    write_stage(vlm, "localizability", {"auc": 0.6, "calibration_error": 0.1, "n": 40, "photos_sha256": photos})
    with pytest.raises(UserError, match="AUC on held-out rows is 0.600, below judge.min_auc"):
        run("weights.localizability=1", "judge.model_name_or_path=run/localizability")
    with pytest.raises(UserError, match="no judge is given.*stages/localizability.py"):
        run("weights.localizability=1")


def test_a_judge_is_no_reward_model_of_localizability(here, vlm):
    write_reason(here / "data", 3)
    photos = write_photos(manifest.begin("run/judge"), ["seen.png"])
    write_stage(vlm, "judge", {"auc": 0.9, "auc_on_policy": 0.9, "photos_sha256": photos})
    with pytest.raises(UserError, match="judge"):
        globe.read(load(globe.Config, [*KEYS, "weights.localizability=1", "judge.model_name_or_path=run/judge"]))


@pytest.mark.slow
def test_a_reward_model_that_dies_and_a_kill_cost_no_step_and_record_no_zero(here, monkeypatch):
    """The reward model fails at the third step; then the process is killed while it saves its last checkpoint. What it
    comes to is the model of an uninterrupted run."""
    write_reason(here / "data", 6)
    keys = ["weights.localizability=1", "judge.model_name_or_path=run/localizability", "train.max_steps=5"]
    monkeypatch.setattr(localizability, "split_completion", lambda text: (text, None))  # random text has no chain
    run(*keys, "output_dir=whole/x")
    asked, p_true = [], Judge.p_true

    def dies(judge, prompts, chains, *rest, **others):
        asked.append(chains)
        if len(asked) == 3:
            raise UserError("the reward model is gone")
        return p_true(judge, prompts, chains, *rest, **others)

    with monkeypatch.context() as patch, pytest.raises(UserError, match="is gone"):
        patch.setattr(Judge, "p_true", dies)
        run(*keys, "output_dir=killed/x", "train.save_steps=2")
    assert len(asked) == 3 and not Path("killed/x/manifest.json").exists()
    logs = [json.loads(line) for line in Path("killed/x/metrics.jsonl").read_text().splitlines()]
    assert [log["step"] for log in logs] == [1, 2] and all(log["reward/localizability"] > 0 for log in logs)
    complete = checkpoints.complete

    def killed(folder, step, *rest):
        if step == 4:
            raise Killed
        complete(folder, step, *rest)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoints, "complete", killed)
        run(*keys, "output_dir=killed/x", "train.save_steps=2")
    run(*keys, "output_dir=killed/x", "train.save_steps=2")
    whole, resumed = (manifest.read_manifest(Path(name, "x")) for name in ("whole", "killed"))
    assert resumed["model_sha256"] == whole["model_sha256"]
    assert resumed["metrics"]["train_loss"] == whole["metrics"]["train_loss"]


@pytest.mark.slow
def test_weights_reach_the_advantages_and_not_the_logs(tiny_vlm, tmp_path):
    """Two rewards that contradict each other: with weights 1 and 3 the second decides."""
    rows = []
    for i in range(2):
        picture((60 * i, 99, 200)).save(tmp_path / f"{i}.png")
        rows.append(SeedRow(f"seed:{i}", tmp_path / f"{i}.png", "Where is this?", LatLon(0.0, 10.0)))

    def rising(groups: list[Answers]) -> list[list[float]]:
        return [[0.0, 1.0] for _ in groups]

    def falling(groups: list[Answers]) -> list[list[float]]:
        return [[1.0, 0.0] for _ in groups]

    seen = []
    trainer = trainer_of(tiny_vlm, rows, tmp_path, reference=False, grpo=GRPOConfig(num_generations=2, beta=0.0),
                         gradient_accumulation_steps=1, rewards={"rising": rising, "falling": falling})
    trainer.weights = {"falling": 3.0}
    packed = trainer._pass
    trainer._pass = lambda rolled, device: seen.extend(each.advantages for each in rolled) or packed(rolled, device)
    trainer.train()
    assert all(first > 0 > second for first, second in seen)
    log = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert log["reward"] == 2.0 and log["reward/rising"] == log["reward/falling"] == 0.5
