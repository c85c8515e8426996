"""Every architecture a policy may have goes through the stages, from config to manifest, on random weights. That its
GRPO step is right is tested in tests/training/test_grpo.py."""
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

from gre import manifest
from gre.config import load
from stages import judge
from tests.helpers.judge_rows import write_rows
from tests.helpers.policies import POLICIES, make_policy
from tests.helpers.stages import pictures, run1, run2, write_cot, write_judge, write_seeds

pytestmark = pytest.mark.slow
TOWER = re.compile(r"\bvisual\b|vision_tower|multi_modal_projector")


def metrics(stage: str) -> list[dict]:
    return [json.loads(line) for line in Path(f"run/{stage}/metrics.jsonl").read_text().splitlines()]


def moved(before: str, after: str) -> tuple[set[str], set[str]]:
    """Names of the weights that differ between two model folders, and of those that do not."""
    old, new = (load_file(f"{folder}/model.safetensors") for folder in (before, after))
    assert old.keys() == new.keys()
    still = {name for name in old if old[name].equal(new[name])}
    return set(old) - still, still


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"qwen2_5_vl"}))
def test_it_goes_through_the_stages(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    policy = make_policy(name)
    for part in policy:
        part.save_pretrained("base")
    images = pictures(size=(64, 96))
    write_cot(images)
    write_seeds(images)

    run1("train.max_steps=3", "train.warmup_steps=0")
    losses = [line["loss"] for line in metrics("stage1")[:3]]
    assert losses[2] < losses[1] < losses[0]
    trained, still = moved("base", "run/stage1/model")
    assert not still and any(TOWER.search(weight) for weight in trained)

    write_rows(Path("judged"), 24)
    judge.run(load(judge.Config, ["output_dir=run/learned", "model_name_or_path=base", "data.path=judged/judge.json",
                                  "held_out_share=0.25", "train.max_steps=2", "train.per_device_batch_size=4",
                                  "train.learning_rate=1e-3"]))
    record = manifest.verify_parent("run/learned", {"judge"}).manifest["metrics"]
    assert 0 <= record["auc"] <= 1 and record["n"] + record["rows"] == 24
    assert not moved("base", "run/learned/model")[1]

    parent = manifest.verify_parent("run/stage1", {"stage1"})
    Image.new("RGB", (56, 56), (1, 2, 3)).save("seed/imgs/judged.png")
    write_judge(policy, parent.sha256)
    run2("train.max_steps=1", "model.freeze_vision=true")
    record = manifest.verify_parent("run/stage2", {"stage2"}).manifest
    assert record["parent"]["sha256"] == parent.sha256 and record["metrics"]["judge"]["auc"] == 0.9
    assert metrics("stage2")[0]["kl"] == 0
    assert not any(TOWER.search(weight) for weight in moved("run/stage1/model", "run/stage2/model")[0])
