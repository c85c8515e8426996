"""Greedy answers while training: what they are worth, what they leave alone, and which checkpoint they keep."""
import math
from types import SimpleNamespace

import pytest
import torch

from gre.config import UserError
from gre.data.records import SeedRow, write_seed
from gre.geo.point import LatLon
from gre.training.trainer import checkpoints
from gre.training.watching import validation
from gre.training.watching.validation import Validation, ValidationConfig, quality, validation_rows
from tests.helpers.resuming import KINDS, KillAt, Killed, lines, six_rows, weights_hash

PARIS = LatLon(48.86, 2.35)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return six_rows(tmp_path_factory.mktemp("imgs"))


@pytest.fixture
def photos(rows):
    return [SeedRow(row.id, row.image, "Where?", PARIS) for row in rows[:3]]


def trained(kind, tiny_vlm, rows, folder, photos, *callbacks, eval_every=2, **train):
    folder.mkdir(exist_ok=True)
    trainer = KINDS[kind](tiny_vlm, rows, folder, *callbacks, **train)
    settings = ValidationConfig(eval_every=eval_every, max_new_tokens=6)
    validation.add_validation(trainer, tiny_vlm[1], settings, photos)
    trainer.train_or_stop({}, checkpoints.newest(folder / "checkpoints", {}))
    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "grpo_twice"])
def test_it_changes_no_weight_and_no_line_of_the_training(tiny_vlm, rows, photos, tmp_path, kind):
    watched = trained(kind, tiny_vlm, rows, tmp_path / "watched", photos)
    alone = trained(kind, tiny_vlm, rows, tmp_path / "alone", photos, eval_every=0)
    assert weights_hash(watched) == weights_hash(alone)
    logs = lines(tmp_path / "watched" / "metrics.jsonl")
    measured = [log for log in logs if "eval/reward" in log]
    assert [log["step"] for log in measured] == [2, 4, 6]
    assert all(math.isfinite(log["eval/geoscore"]) and log["eval/truncated"] <= 1 for log in measured)
    assert [log for log in logs if log not in measured] == lines(tmp_path / "alone" / "metrics.jsonl")


@pytest.mark.slow
def test_the_best_checkpoint_stays_and_is_a_model(tiny_vlm, rows, photos, tmp_path, monkeypatch):
    """Rewards 3, 1, 2, 2: step 1 is kept beside the newest two, across a kill, and cleaned at the end."""
    monkeypatch.setattr(Validation, "measure", lambda self, model: {
        "eval/reward": {1: 3.0, 2: 1.0, 3: 2.0, 4: 2.0}[self.trainer.state.global_step]})
    settings = {"eval_every": 1, "max_steps": 4, "save_steps": 1}
    with pytest.raises(Killed):
        trained("sft", tiny_vlm, rows, tmp_path, photos, KillAt(3), **settings)
    trainer = trained("sft", tiny_vlm, rows, tmp_path, photos, **settings)
    folder = tmp_path / "checkpoints"
    assert [path.name for path in checkpoints.in_order(folder)] == ["checkpoint-1", "checkpoint-3", "checkpoint-4"]
    assert trainer.best_step == 1
    (folder / "lock").touch()
    checkpoints.clear(folder, tiny_vlm[1], trainer.best_step)
    assert [path.name for path in folder.iterdir()] == ["checkpoint-1"]
    left = {path.name for path in (folder / "checkpoint-1").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= left
    assert not {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "complete.json"} & left


def test_quality_by_hand(photos):
    spot = "<think>a</think><answer>48.86, 2.35</answer>"
    assert quality(spot, True, photos[0]) == (5000.0, 2.0)
    assert quality(spot, False, photos[0]) == (5000.0, 1.0)  # cut at the limit: no format
    assert quality("<think>a</think><answer>no</answer>", True, photos[0]) == (0.0, 1.0)
    score, reward = quality("51.5074, -0.1278", True, photos[0])  # London, 343.1 km
    assert score == pytest.approx(5000 * math.exp(-343.1 / 1492.7), abs=1) and reward == pytest.approx(score / 5000)


def test_the_slice_is_fixed_and_needs_a_file(rows, tmp_path, monkeypatch):
    image = tmp_path / "imgs" / "0.png"
    image.parent.mkdir()
    image.write_bytes(rows[0].image.read_bytes())
    write_seed(tmp_path / "v.jsonl", [SeedRow("", image, f"Where {i}?", PARIS) for i in range(9)])
    monkeypatch.setattr(validation, "NUM_PHOTOS", 4)
    config = ValidationConfig(eval_every=5, data=str(tmp_path / "v.jsonl"))
    chosen = [row.instruction for row in validation_rows(config)]
    assert len(set(chosen)) == 4 and chosen == [row.instruction for row in validation_rows(config)]
    assert validation_rows(ValidationConfig()) == []
    with pytest.raises(UserError, match="set validation.data"):
        validation_rows(ValidationConfig(eval_every=5))


def test_processes_share_the_photos_and_keep_pace(photos, tiny_vlm, monkeypatch):
    """Three photos on two processes: both make two calls of one answer, and the photo asked twice counts once."""
    monkeypatch.setattr(validation, "BATCH_SIZE", 1)
    monkeypatch.setattr(validation, "quality", lambda text, finished, row: (int(row.id[-1]), 0.0))
    seen = []
    for process in range(2):
        accelerator = SimpleNamespace(process_index=process, num_processes=2, device="cpu", autocast=torch.no_grad,
                                      reduce=lambda sums, reduction: seen.append(sums.tolist()) or sums)
        trainer = SimpleNamespace(accelerator=accelerator, border=1, model=tiny_vlm[0])
        watcher = Validation(trainer, tiny_vlm[1], ValidationConfig(eval_every=1, max_new_tokens=2),
                             photos)
        watcher.measure(tiny_vlm[0])
    assert [sums[0] for sums in seen] == [0 + 2, 1] and [sums[3] for sums in seen] == [2, 1]


def test_an_evaluation_waits_for_a_border(tiny_vlm, photos):
    trainer = SimpleNamespace(border=4, model=tiny_vlm[0])
    assert [Validation(trainer, tiny_vlm[1], ValidationConfig(eval_every=every), photos).every
            for every in (3, 4, 5)] == [4, 4, 8]
