"""Stages 2 and 3 from their configs to their manifests, with a random model: what is read, refused and written."""
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gre import manifest
from gre.config import ConfigError, UserError, load
from gre.geo.point import LatLon
from gre.judge.photos import PHOTOS
from gre.judge.reward import judge_rewards
from gre.rewards import answers
from gre.rewards.answers import Answers
from gre.rewards.gps import gps_rewards
from stages import stage2
from tests.helpers.stages import KEYS, run2, run3, write_judge

pytestmark = pytest.mark.slow
PARIS, NOWHERE = "<think>a</think><answer>48.86, 2.35</answer>", "<think>a</think><answer>somewhere</answer>"


def test_one_stage_hands_on_to_the_next(workplace):
    run2()
    assert {path.name for path in (workplace / "run/stage2").iterdir()} == {
        "config.yaml", "metrics.jsonl", "samples.jsonl", "alarms.jsonl", "checkpoints", "model", "manifest.json"}
    record = manifest.verify_parent("run/stage2", {"stage2"}).manifest
    assert record["parent"]["stage"] == "stage1" and record["metrics"]["judge"]["auc_on_policy"] == 0.8
    assert record["instructions"]["texts"] == [{"text": "Where is this?", "rows": 4}]
    run3()
    record = manifest.verify_parent("run/stage3", {"stage3"}).manifest
    assert record["parent"]["sha256"] == manifest.verify_parent("run/stage2", {"stage2"}).sha256
    lines = [json.loads(line) for line in (workplace / "run/stage3/metrics.jsonl").read_text().splitlines()]
    assert {"reward", "reward/format", "reward/gps", "kl"} <= lines[0].keys()
    assert lines[0]["kl"] == 0  # the reference is the parent
    assert lines[1]["kl"] > 0 or lines[0]["grad_norm"] == 0


def test_a_judge_measured_on_another_distribution_is_refused(workplace):
    with pytest.raises(UserError, match=r"distribution, with policy.temperature=1 \(rollout.temperature is 0.9"):
        run2("rollout.temperature=0.9")
    with pytest.raises(UserError, match=r"policy.max_new_tokens=6 \(rollout.max_new_tokens is 7\)"):
        run2("rollout.max_new_tokens=7")


def test_the_same_seed_gives_the_same_policy(workplace):
    run2()
    first = manifest.verify_parent("run/stage2", {"stage2"}).sha256
    torch.manual_seed(123)
    run2("output_dir=run/again")
    assert manifest.verify_parent("run/again", {"stage2"}).sha256 == first


def test_kept_pictures_give_the_same_policy(workplace):
    """Judge and policy share a picture's record; a second run reads what the first has kept."""
    run2()
    for stage in ("first", "second"):
        run2(f"output_dir=run/{stage}", "data.cache_gib=0.1")
    shas = [manifest.verify_parent(f"run/{stage}", {"stage2"}).sha256 for stage in ("stage2", "first", "second")]
    assert shas[1:] == shas[:1] * 2
    assert len(list((workplace / "run" / "pictures").glob("*.npz"))) == 4


def test_what_is_refused_before_training(workplace, vlm):
    with pytest.raises(UserError, match="AUC on stage 1's own completions is 0.800, below judge.min_auc=0.85"):
        run2("judge.min_auc=0.85")
    with pytest.raises(UserError, match="no judge is given"):
        stage2.run(load(stage2.Config, ["output_dir=run/stage2", "model_name_or_path=run/stage1", *KEYS]))
    with pytest.raises(UserError, match="is a stage1 checkpoint"):
        run2("judge.model_name_or_path=run/stage1")
    with pytest.raises(UserError, match="is a stage1 checkpoint"):
        run3("model_name_or_path=run/stage1")
    with pytest.raises(UserError, match="model.max_length=20"):
        run2("model.max_length=20")
    with pytest.raises(ConfigError, match="rollout.engine"):
        run2("rollout.engine=tgi")
    with pytest.raises(ConfigError, match="thetas_km"):
        run3("gps.thetas_km=[0]")
    assert not (workplace / "run" / "stage2").exists()


def test_a_judge_measured_where_nothing_was_readable_is_told_as_such(workplace):
    """Its manifest holds auc_on_policy: null; it was measured, and measuring it again would not help."""
    path = workplace / "run/judge/manifest.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "metrics": {**record["metrics"], "auc_on_policy": None}}))
    with pytest.raises(UserError, match="AUC on stage 1's own completions has no meaning.*Name a better stage 1"):
        run2()


def test_a_judge_of_another_policy_is_measured_on_this_one(workplace, vlm):
    """The random policy gives no readable answer: nothing can be measured, and RL does not start."""
    write_judge(vlm, "another")
    with pytest.raises(UserError, match="cannot be measured on the completions of run/stage1"):
        run2()


def test_photos_the_judge_saw_are_refused_or_dropped(workplace, vlm, capsys):
    sha256 = manifest.verify_parent("run/stage1", {"stage1"}).sha256
    shutil.copy("seed/imgs/2.png", "renamed.png")  # a photo is its content
    write_judge(vlm, sha256, saw="renamed.png")
    with pytest.raises(UserError, match=r"photo of row seed:3 \(2.png\); it has seen those of 1 of 4 rows"):
        run2()
    run2("data.on_bad_row=drop", "data.dropped_list=dropped.txt")
    assert "dropped 1 bad rows, kept 3\n  row 3: the judge has seen its photo" in capsys.readouterr().err
    assert Path("dropped.txt").read_text() == "seed/seed.jsonl, row 3: the judge has seen its photo\n"
    assert manifest.read_manifest(workplace / "run/stage2")["metrics"]["rows"] == 3
    (workplace / "run/judge" / PHOTOS).write_text("[]\n")
    with pytest.raises(UserError, match="photos.json of the judge run/judge is not the one of its manifest"):
        run2()
    (workplace / "run/judge" / PHOTOS).unlink()
    with pytest.raises(UserError, match=r"\(no photos.json\).*judge.accept_seen_photos=true"):
        run2()
    run2("judge.accept_seen_photos=true", "output_dir=run/all")
    assert manifest.read_manifest(workplace / "run/all")["metrics"]["rows"] == 4


def test_rollouts_are_watched_and_the_curriculum_steps_down(workplace, monkeypatch, capsys):
    run2()
    monkeypatch.setattr(answers, "distance_km", lambda text, truth: 100.0 * (len(text) % 3))
    run3("gps.curriculum.levels_km=[2500, 750, 200]", "gps.curriculum.window=2",
         "gps.curriculum.min_spread_share=0", "train.max_steps=5")
    lines = [json.loads(line) for line in (workplace / "run/stage3/metrics.jsonl").read_text().splitlines()]
    assert [line["theta_km"] for line in lines if "theta_km" in line] == [2500, 2500, 750, 750, 200]
    assert "step 2: the next step is paid at theta = 750 km" in capsys.readouterr().out
    assert {"distance_km/mean", "distance_km/median", "unreadable", "distinct_answers", "think_characters"} <= (
        lines[0].keys() & json.loads((workplace / "run/stage2/metrics.jsonl").read_text().splitlines()[0]).keys())
    assert lines[0]["unreadable"] == 1 and lines[0]["distance_km/median"] == 20015
    alarms = [json.loads(line) for line in (workplace / "run/stage3/alarms.jsonl").read_text().splitlines()]
    assert (1, "unreadable") in {(alarm["step"], alarm["name"]) for alarm in alarms}


def test_judge_reward_asks_only_about_readable_answers():
    asked = []

    def p_true(indices):
        asked.extend(indices)
        return [0.25, 0.75]

    assert judge_rewards([NOWHERE, PARIS, "", PARIS], p_true) == [0.0, 0.25, 0.0, 0.75]
    assert asked == [1, 3]
    assert judge_rewards([NOWHERE], p_true) == [0.0] and asked == [1, 3]
    with pytest.raises(ConnectionError):
        judge_rewards([PARIS], lambda indices: (_ for _ in ()).throw(ConnectionError()))


def test_gps_rewards_by_hand():
    row = SimpleNamespace(truth=LatLon(48.86, 2.35))
    rewards = gps_rewards([25.0], [Answers(row, [PARIS, NOWHERE], [True, True])])
    assert rewards == [[1.0, 0.0]]
