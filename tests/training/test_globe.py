"""GLOBE's stage from its rows to its manifest: weights, rows that cannot be rewarded, the reward model and its gate."""
import copy
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from gre import manifest
from gre.config import UserError, load
from gre.data.records import DataConfig, SeedRow, read_reason
from gre.geo.point import LatLon
from gre.judge.photos import write_photos
from gre.models.attention import shared_prefix
from gre.models.packing import Group
from gre.models.vlm import encode_response
from gre.rewards.answers import Answers
from gre.rollout.completion import Completion
from gre.rollout.generate import TransformersRollout
from gre.training import rl
from gre.training.grpo import GRPOConfig
from gre.training.watching import validation
from gre.training.watching.validation import quality
from stages import globe, stage1
from tests.helpers.grpo import trainer_of
from tests.helpers.judge_rows import picture
from tests.helpers.llm_endpoint import Endpoint
from tests.helpers.paths import ROOT
from tests.helpers.reason_rows import write_reason
from tests.helpers.resuming import lines
from tests.helpers.reward_server import RewardModel, settings_of
from tests.helpers.stages import write_stage
from tests.helpers.taught import teach

ALL = ("format", "place", "grounding", "localizability", "gps")
AT = {"gt_lat": 48.86, "gt_lon": 2.35}
KEYS = ["output_dir=run/globe", "model_name_or_path=base", "data.path=data/reason.jsonl", "train.max_steps=2",
        "train.learning_rate=1e-3", "train.per_device_batch_size=2", "grpo.num_generations=2",
        "rollout.max_new_tokens=6"]
TOWER = "<think>A sign and a red tower.</think><answer>country: France\ncity: Paris</answer>"
BUS = "<think>A sign and a bus.</think><answer>country: Peru\ncity: Lima</answer>"
HASTY = """
import runpy
from openai import _base_client
_base_client.MAX_RETRY_DELAY = 0.01
runpy.run_module("stages.globe", run_name="__main__", alter_sys=True)
"""  # the stage as it is, but for the half minute between its tries


@pytest.fixture(scope="module")
def vlm():
    from gre.tiny.model import build

    return build(["yes", "no", TOWER, BUS] * 200, hidden=64, layers=2, vocabulary=400)


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


def start(*arguments: str) -> subprocess.Popen:
    """A process of its own; what it says is added to the file log."""
    with open("log", "a") as log:
        return subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log, env={
            **os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
def test_all_rewards_of_written_completions_are_weighed_as_by_hand(here, vlm, monkeypatch):
    """A red tower and a bus, each told as a tower in Paris, at the very spot, and as a bus in France, cut off."""
    write_reason(here / "data", 2, **AT)
    end, tokenizer = vlm[1].tokenizer.eos_token_id, vlm[1].tokenizer
    whole = torch.tensor([*tokenizer(TOWER.replace("Paris", "Paris\n48.86, 2.35")).input_ids, end])
    cut = torch.tensor(tokenizer("<think>A sign and a bus.</think><answer>country: France").input_ids)
    group = [Completion(whole, True, torch.zeros(len(whole))), Completion(cut, False, torch.zeros(len(cut)))]
    monkeypatch.setattr(TransformersRollout, "generate", lambda *_, **__: [group, group])
    keys = ["weights.localizability=0.3", "weights.gps=0.25", "judge.model_name_or_path=run/localizability"]
    with Endpoint(RewardModel(Path("run/localizability/model"), {"vllm": "0.0"})) as served:
        run(*keys, f"judge.url={served.url.removesuffix('/v1')}")
    by_photo = {"0": [(1, 1, 1, 0.75, 1), (0, 0.2, 0, 0.25, 0)],  # red tower and, in both, a sign; in the order of ALL
                "1": [(1, 1, 0, 0.75, 1), (0, 0.2, 1, 0.25, 0)]}  # bus
    totals = [[2.975, 0.275], [2.475, 0.775]]                     # each times 1, 1, 0.5, 0.3, 0.25
    for sample in lines(Path("run/globe/samples.jsonl")):
        paid = by_photo[str(int(sample["id"].removeprefix("reason:")) - 1)][sample["text"].count("bus")]
        assert sample["rewards"] == pytest.approx(dict(zip(ALL, paid)), abs=1e-4)
    steps = [log for log in lines(Path("run/globe/metrics.jsonl")) if "reward" in log]
    assert len(steps) == 2
    for log in steps:
        assert [log[f"reward/{name}"] for name in ALL] == pytest.approx([0.5, 0.6, 0.5, 0.5, 0.5])
        assert log["reward"] == pytest.approx(sum(map(sum, totals)) / 4) == pytest.approx(1.625)
        assert log["reward_std"] == pytest.approx(sum(a - b for a, b in totals) / 2 / 2**0.5)
        assert log["place/country_and_city"] == 0.5
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


def test_rows_without_a_city_are_counted_with_what_they_can_earn(here, capsys):
    path = write_reason(here / "data", 3)
    lines = path.read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {"__#solution": "<country>Peru</country><city></city>"})
    path.write_text("\n".join(lines))
    assert len(globe.read(load(globe.Config, KEYS))[1]) == 3
    assert "1 of 3 rows name no city: the place reward pays at most 0.2 there" in capsys.readouterr().out
    with pytest.raises(UserError, match="row 2: it names no city, and with place.alpha=1"):
        globe.read(load(globe.Config, [*KEYS, "place.alpha=1"]))
    globe.read(load(globe.Config, [*KEYS, "weights.place=0"]))
    assert "no city" not in capsys.readouterr().out


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
@pytest.mark.timeout(900)  # five processes start one after another
def test_a_reward_model_that_dies_and_a_kill_cost_no_step_and_record_no_zero(here, vlm):
    """The reward model's server is killed while it is asked, then the stage itself: real processes, real signals. What
    the same command comes to is what an undisturbed one does, to the bit and to the line."""
    model, processor = copy.deepcopy(vlm[0]), vlm[1]
    shared_prefix.install(model)
    rows = read_reason(DataConfig(str(write_reason(here / "data", 6, instructions="Where?"))))
    says = [encode_response(processor, text) for text in (TOWER, BUS)]  # as likely as each other: a group has a spread
    teach(model, [Group(rl.encode(processor, row), says) for row in rows], 0.035, 1e-2)
    model.save_pretrained("base")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keys = [*KEYS, "rollout.max_new_tokens=64", "weights.localizability=1", "train.max_steps=8", "train.save_steps=2",
            "train.learning_rate=1e-4", "judge.model_name_or_path=run/localizability",
            f"judge.url=http://127.0.0.1:{port}"]
    settings = json.dumps(settings_of(load(globe.Config, keys)))

    @contextmanager
    def serve(*dies_at: str) -> Iterator[subprocess.Popen]:
        server = start("-m", "tests.helpers.reward_server", "run/localizability/model", settings, str(port), *dies_at)
        try:
            yield server
        finally:
            server.kill()
            server.wait()

    def train(folder: str) -> subprocess.Popen:
        return start("-c", HASTY, *keys, f"output_dir={folder}/x")

    def written(name: str) -> list[dict]:
        return lines(Path("killed/x", name))

    with serve():
        assert train("whole").wait() == 0, Path("log").read_text()
    with serve("10") as server:  # each step asks four questions
        assert train("killed").wait() == 2 and server.wait() == -signal.SIGKILL
    said = Path("log").read_text()
    assert f"a verdict: http://127.0.0.1:{port}/inference/v1/generate gave no answer in 8 tries" in said
    assert "Start the server again and run the same command: it resumes" in said and "Traceback" not in said
    assert not Path("killed/x/manifest.json").exists()
    assert [log["step"] for log in written("metrics.jsonl")] == [1, 2]
    assert [sample["step"] for sample in written("samples.jsonl")] == [1, 1, 2, 2]
    assert {sample["rewards"]["localizability"] for sample in written("samples.jsonl")} <= {0.25, 0.75}
    with serve():
        stage = train("killed")
        while written("metrics.jsonl")[-1]["step"] < 4:
            assert stage.poll() is None, Path("log").read_text()
            time.sleep(0.002)
        stage.kill()
        assert stage.wait() == -signal.SIGKILL and not Path("killed/x/manifest.json").exists()
        assert train("killed").wait() == 0, Path("log").read_text()
    whole, resumed = (manifest.read_manifest(Path(name, "x")) for name in ("whole", "killed"))
    assert resumed["model_sha256"] == whole["model_sha256"]
    assert any(sample["advantage"] for sample in written("samples.jsonl"))  # something was learned
    assert resumed["metrics"]["train_loss"] == whole["metrics"]["train_loss"]
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert written(name) == lines(Path("whole/x", name))


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
