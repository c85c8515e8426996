"""Stage 1 from the command line to the manifest, and the judge measured on its checkpoint."""
import json

import pytest
import torch

from gre import manifest
from gre.config import UserError
from gre.judge import photos
from gre.judge.quality import PolicyConfig
from gre.models.vlm import load_model, load_processor
from gre.training.data import TrainingData
from stages import judge, stage1
from tests.helpers.stages import run1 as run

pytestmark = pytest.mark.slow


def test_stage1_trains_and_hands_on(cot):
    run("model.freeze_vision=true", "train.bf16=true", "model.max_pixels=12544")
    folder = cot / "run" / "stage1"
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "metrics.jsonl", "checkpoints", "model",
                                                        "manifest.json"}
    parent = manifest.verify_parent("run/stage1", {"stage1"})
    assert parent.manifest["metrics"]["rows"] == 4 and parent.manifest["metrics"]["steps"] == 2
    assert parent.pixel_budget.max_pixels == 12544
    assert parent.instructions["texts"] == [{"text": "Where is this?", "rows": 4}]
    assert not list(folder.rglob("*.bin")) and not list(folder.rglob("*.pt"))
    trained, base = load_model(parent.model_dir), load_model("base")
    for (name, new), old in zip(trained.named_parameters(), base.parameters(), strict=True):
        assert new.dtype == torch.float32 and torch.equal(new, old) == ("visual" in name), name
    completions = sample(folder / "model")
    assert [len(row) for row in completions] == [4, 4]
    assert completions == sample(folder / "model")


def test_a_finished_stage_is_not_trained_away(cot, capsys):
    run()
    manifest = (cot / "run/stage1/manifest.json").read_text()
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run("train.save_steps=1")  # changes no weight
    assert ended.value.code == 0 and "finished: nothing is left to do" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"finished stage in run/stage1 belongs .*: seed \(0 there, 1 here\).*write"):
        run("seed=1")
    assert (cot / "run/stage1/manifest.json").read_text() == manifest


def sample(model_dir):
    """Four completions of two rows, as the judge's stage samples them."""
    rows = stage1.read_taught(TrainingData("cot/cot.json"))[:2]
    return judge.completions_of(PolicyConfig(max_new_tokens=8), load_model(model_dir), load_processor(model_dir), rows,
                                seed=0)[1]


def test_a_row_that_is_too_long_stops_the_run_before_it_begins(cot):
    with pytest.raises(UserError, match="cot:1 has .*model.max_length=20"):
        run("model.max_length=20")
    assert not (cot / "run").exists()


def test_a_stage1_checkpoint_is_no_base(cot):
    run()
    with pytest.raises(UserError, match="is a stage1 checkpoint.*starts from base"):
        run("output_dir=run/again", "model_name_or_path=run/stage1")
    run("output_dir=run/again", "model_name_or_path=run/stage1", "accept_parent=any")
    assert json.loads((cot / "run/again/manifest.json").read_text())["parent"]["verified"] is False


def test_photos_are_told_apart_by_content(cot):
    rows = stage1.read_taught(TrainingData("cot/cot.json"))
    assert len(photos.unseen(rows, rows[:3], 64, 0)) == 1
