"""What one stage hands to the next: complete, unaltered, of the right stage, and free of private paths."""
import hashlib
import json

import pytest

from eval import predict
from gre import manifest, provenance
from gre.config import UserError
from gre.models.vlm import load_processor


def save(vlm, folder, max_pixels=28 * 28 * 16):
    model, processor = vlm
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    load_processor(folder, 784, max_pixels).save_pretrained(folder)


@pytest.fixture
def stage1(tiny_vlm, tmp_path, monkeypatch):
    """A finished stage 1 whose parent is a plain folder."""
    monkeypatch.chdir(tmp_path)
    save(tiny_vlm, tmp_path / "base")
    folder = manifest.begin("run/stage1")
    save(tiny_vlm, folder / "model")
    (folder / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "rows.json").write_text("[]")
    manifest.finish(folder, stage="stage1", parent=manifest.verify_parent("base", {"base"}), data=["rows.json"],
                   instructions=["Where?", "Which city?", "Where?"], metrics={"loss": 1.5})
    return folder


def test_the_manifest_tells_where_the_model_comes_from(stage1, tmp_path):
    written = json.loads((stage1 / "manifest.json").read_text())
    assert written["stage"] == "stage1" and written["metrics"] == {"loss": 1.5}
    assert written["parent"] == {"path": "base", "stage": "base", "verified": True,
                                  "sha256": manifest.model_hash(tmp_path / "base")}
    assert written["data"] == [{"path": "rows.json", "sha256": provenance.file_hash("rows.json")}]
    assert written["instructions"] == {
        "distinct": 2, "sha256": hashlib.sha256(b'["Where?", "Which city?"]').hexdigest(),
        "texts": [{"text": "Where?", "rows": 2}, {"text": "Which city?", "rows": 1}]}
    assert written["pixel_budget"] == {"min_pixels": 784, "max_pixels": 12544}
    assert {"torch", "transformers", "python"} <= set(written["versions"]) and written["gre"] and written["commit"]
    assert str(tmp_path) not in json.dumps(written)
    assert not list(stage1.glob("*.partial"))


@pytest.mark.parametrize("path", ["run/stage1", "run/stage1/model"])
def test_a_finished_parent_is_taken(stage1, path):
    parent = manifest.verify_parent(path, {"stage1"})
    assert parent.stage == "stage1" and parent.verified and parent.model_dir == (stage1 / "model").absolute()
    assert manifest.child_budget(parent, None, None) == parent.pixel_budget


def test_refused_parents_and_the_key_that_takes_them(stage1):
    def refused(path, stages, message):
        with pytest.raises(UserError, match=message):
            manifest.verify_parent(path, stages)
        parent = manifest.verify_parent(path, stages, accept="any")
        assert not parent.verified and parent.record()["verified"] is False

    refused("run/stage1", {"stage2"}, "is a stage1 checkpoint.*starts from stage2.*accept_parent=any")
    refused("base", {"stage1"}, "plain model")
    weights = stage1 / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    refused("run/stage1", {"stage1"}, "altered")
    (stage1 / "manifest.json").unlink()
    refused("run/stage1", {"stage1"}, "unfinished")
    refused("run/stage1/model", {"stage1", "base"}, "unfinished")


def test_a_missing_parent_is_one_message(tmp_path):
    with pytest.raises(UserError, match="no model folder"):
        manifest.verify_parent(tmp_path / "nowhere", {"base"})
    with pytest.raises(UserError, match="holds no model"):
        manifest.verify_parent(tmp_path, {"base"})


def test_another_pixel_budget_than_the_parents_is_refused(stage1):
    parent = manifest.verify_parent("run/stage1", {"stage1"})
    with pytest.raises(UserError, match="max_pixels=12544"):
        manifest.child_budget(parent, None, 99999)
    assert manifest.child_budget(parent, None, 99999, accept="any").max_pixels == 99999
    assert manifest.child_budget(manifest.verify_parent("base", {"base"}), None, 99999).max_pixels == 99999


def test_evaluation_refuses_another_pixel_budget(stage1):
    (stage1.parent.parent / "rows.json").write_text("[]")
    with pytest.raises(UserError, match="max_pixels=12544"):
        predict.run(predict.Config(model=str(stage1), data="rows.json", out="predictions.jsonl", max_pixels=99999))


def test_starting_again_marks_the_stage_unfinished(stage1, capsys):
    manifest.begin(stage1)
    assert "replaces" in capsys.readouterr().out and not (stage1 / "manifest.json").exists()


@pytest.mark.parametrize("missing", ["model.safetensors", "chat_template.jinja", "generation_config.json",
                                     "tokenizer.json"])
def test_an_incomplete_model_is_never_handed_on(stage1, missing):
    (stage1 / "model" / missing).unlink()
    with pytest.raises(UserError):
        manifest.check_model(stage1 / "model")


def test_a_lost_weight_is_never_handed_on(stage1):
    from safetensors.torch import load_file, save_file

    weights = load_file(stage1 / "model" / "model.safetensors")
    weights.pop(next(name for name in weights if "mlp" in name))
    save_file(weights, stage1 / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="missing_keys"):
        manifest.check_model(stage1 / "model")


def test_a_metric_that_is_not_finite_is_never_handed_on(stage1):
    parent = manifest.verify_parent("base", {"base"})
    with pytest.raises(UserError, match="metrics.auc"):
        manifest.finish(stage1, stage="stage1", parent=parent, data=[], instructions=[],
                       metrics={"auc": float("nan")})
