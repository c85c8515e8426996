"""Greedy answers while training: what they are worth, what they leave alone, and which checkpoint they keep."""
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from gre import manifest
from gre.config import ConfigError, UserError
from gre.data.records import SeedRow, write_seed
from gre.geo.point import LatLon
from gre.models.vlm import load_model
from gre.training.trainer import checkpoints
from gre.training.watching import validation
from gre.training.watching.validation import Validation, ValidationConfig, quality, validation_rows
from tests.helpers.resuming import KINDS, KillAt, Killed, lines, six_rows, weights_hash
from tests.helpers.stages import pictures, run1, write_cot

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
    trainer.train_or_stop({}, checkpoints.newest(folder / "checkpoints", {})[0])
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
def test_the_best_checkpoint_stays_beside_the_newest(tiny_vlm, rows, photos, tmp_path, rewards):
    """Rewards 3, 1, 2, 2: step 1 is kept beside the newest two, across a kill."""
    settings = {"eval_every": 1, "max_steps": 4, "save_steps": 1}
    with pytest.raises(Killed):
        trained("sft", tiny_vlm, rows, tmp_path, photos, KillAt(3), **settings)
    trainer = trained("sft", tiny_vlm, rows, tmp_path, photos, **settings)
    folder = tmp_path / "checkpoints"
    assert [path.name for path in checkpoints.in_order(folder)] == ["checkpoint-1", "checkpoint-3", "checkpoint-4"]
    assert trainer.best_step == 1


@pytest.fixture
def rewards(monkeypatch):
    monkeypatch.setattr(Validation, "measure", lambda self, model: {
        "eval/reward": {1: 3.0, 2: 1.0, 3: 2.0, 4: 2.0}[self.trainer.state.global_step]})


@pytest.mark.slow
@pytest.mark.parametrize("lora", ["model.lora.r=0", "model.lora.r=2"])
def test_the_best_on_validation_is_a_folder_like_the_stages(workplace, rewards, lora):
    """`best/` equals `model/` of the same run that ends at the best step, and of one that hands the best on."""
    write_cot(pictures())
    keys = ["validation.eval_every=1", "validation.data=seed/seed.jsonl", "validation.max_new_tokens=4", lora,
            "train.lr_scheduler_type=constant", "train.warmup_steps=0", "model.max_pixels=6272"]
    run1("output_dir=last/x", "train.max_steps=4", *keys)
    run1("output_dir=best/x", "train.max_steps=4", "handoff=best", *keys)
    run1("output_dir=short/x", "train.max_steps=1", *keys)
    kept = manifest.verify_parent("last/x/best", {"stage1"})
    assert kept.verified and kept.pixel_budget.max_pixels == 6272
    assert kept.manifest["metrics"]["steps"] == 1 and kept.manifest["metrics"]["eval/reward"] == 3.0
    assert manifest.read_manifest(Path("last/x"))["metrics"]["steps"] == 4
    assert not Path("best/x/best").exists() and not Path("short/x/best").exists()
    handed = manifest.read_manifest(Path("best/x"))
    assert handed["metrics"]["steps"] == 1 and handed["metrics"]["eval/reward"] == 3.0
    short = load_model("short/x/model").state_dict()
    for folder in ("last/x/best/model", "best/x/model"):
        for name, weight in load_model(folder).state_dict().items():
            assert torch.equal(weight, short[name]), (folder, name)
    assert not list(Path("last/x/checkpoints").iterdir())


@pytest.mark.slow
def test_photos_that_are_trained_on_are_told(workplace, capsys):
    write_cot(pictures(3))
    keys = ["validation.eval_every=2", "validation.data=seed/seed.jsonl", "validation.max_new_tokens=4"]
    run1("output_dir=known/x", *keys)  # three of the four photos have the same content
    assert "warning: 3 of the 4 photos of validation.data are trained on" in capsys.readouterr().err
    shutil.copytree("seed", "other")
    for path in Path("other/imgs").iterdir():
        Image.new("RGB", (56, 56), (9, 9, 9)).save(path)
    run1("output_dir=new/x", *keys, "validation.data=other/seed.jsonl")
    assert "are trained on" not in capsys.readouterr().err


def test_the_best_needs_a_validation(workplace):
    with pytest.raises(ConfigError, match="handoff=best needs validation.eval_every above 0"):
        run1("handoff=best")


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
    chosen = [row.instruction for row in validation_rows(config, "stop")]
    assert len(set(chosen)) == 4 and chosen == [row.instruction for row in validation_rows(config, "stop")]
    assert validation_rows(ValidationConfig(), "stop") == []
    with pytest.raises(UserError, match="set validation.data"):
        validation_rows(ValidationConfig(eval_every=5), "stop")


def test_processes_share_the_photos_and_keep_pace(photos, tiny_vlm, monkeypatch):
    """Three photos on two processes: both make two calls of one answer, and the photo asked twice counts once."""
    monkeypatch.setattr(validation, "BATCH_SIZE", 1)
    monkeypatch.setattr(validation, "quality", lambda text, finished, row, distance: (int(row.id[-1]), 0.0))
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
