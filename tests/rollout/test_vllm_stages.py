"""A stage of RL whose rollouts are vLLM's, from its config to its manifest."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gre import manifest
from gre.config import UserError
from gre.rollout import engines
from tests.helpers.paths import ROOT, TINY_BASE
from tests.helpers.stages import KEYS, pictures, write_stage, write_workplace
from tests.helpers.two_ranks import torchrun


def test_the_engine_is_chosen_and_never_fallen_back_from(monkeypatch):
    monkeypatch.setattr(engines.torch.cuda, "is_available", lambda: False)
    assert engines.choose_engine("auto") == engines.choose_engine("transformers") == "transformers"
    monkeypatch.setattr(engines, "find_spec", lambda name: object())
    assert engines.choose_engine("vllm") == "vllm"
    monkeypatch.setattr(engines.torch.cuda, "is_available", lambda: True)
    assert engines.choose_engine("auto") == "vllm" and engines.choose_engine("transformers") == "transformers"
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert engines.choose_engine("auto") == "transformers"
    with pytest.raises(UserError, match="rollout.engine=vllm, and vLLM is not installed"):
        engines.choose_engine("vllm")


@pytest.mark.slow
def test_a_stage_on_vllm_is_resumed_to_the_same_model(wide_vlm, tmp_path, monkeypatch):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    monkeypatch.chdir(tmp_path)
    write_workplace(wide_vlm, pictures())
    write_stage(wide_vlm, "stage2", {})
    keys = [*KEYS, "model_name_or_path=run/stage2", "train.max_steps=3", "train.save_steps=1", "rollout.engine=vllm",
            "grpo.num_generations=4", "rollout.kv_cache_gib=0.1", "model.max_length=256"]
    done = subprocess.run([sys.executable, "-m", "tests.helpers.vllm_stage", *keys], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-3000:]
    models = json.loads(done.stdout.splitlines()[-1])
    assert models["whole"] == models["resumed"] != manifest.read_manifest(Path("run/stage2"))["model_sha256"]
    assert done.stdout.count("rollouts: vLLM") == 1
    assert "resuming from run/resumed/checkpoints/checkpoint-1" in done.stdout
    rollout = manifest.read_manifest(Path("run/stage3"))["metrics"]["rollout"]
    assert rollout["engine"] == "vllm" and rollout["version"]
    logs = [json.loads(line) for line in Path("run/stage3/metrics.jsonl").read_text().splitlines()][:3]
    assert all(0 <= log["sampling_gap"] < 1e-4 and abs(log["importance"] - 1) < 1e-4 for log in logs)
    assert len({log["loss"] for log in logs}) == 3  # it learns, and samples from what it has learned


@pytest.mark.slow
def test_two_processes_under_zero_3_sample_from_the_same_policy(tmp_path):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    done = torchrun("vllm_ranks", tmp_path, TINY_BASE)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["parted"] > 0 and max(first["gaps"] + second["gaps"]) < 1e-4
    assert first["words"] == second["words"]                # seeds come from the row, not from the rank
    assert first["words"][0] != first["words"][1]           # the second time from what was learned
