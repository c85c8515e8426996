"""Every shipped config is built against the Config of its stage, and opens with the command that runs it."""
import importlib
import json
import re

import pytest

from gre import config
from tests.helpers.paths import ROOT

GPUS = 8  # what GRE trained on
BUILDER = ROOT / "configs" / "greval" / "builder.yaml"
FILES = sorted(set((ROOT / "configs").rglob("*.yaml")) - {BUILDER})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_it_is_built_and_opens_with_its_command(path):
    name = path.relative_to(ROOT).as_posix()
    stage = path.stem
    settings = config.load(importlib.import_module(f"stages.{stage}").Config, [str(path)])
    assert settings.train.max_steps > 0 or settings.train.num_train_epochs > 0
    first = path.read_text(encoding="utf-8").splitlines()[0]
    command = re.fullmatch(r"# bash (scripts/train/\w+\.sh) (\S+)( [\w.]+=\S+)*", first)
    assert command, f"{name} opens with {first!r}"
    assert command[1] == f"scripts/train/{stage}.sh" and (ROOT / command[1]).exists() and command[2] == name


def test_every_folder_has_every_stage():
    folders = {path.parent for path in FILES}
    assert {folder.name for folder in folders} >= {"gre7b", "gre3b_lora", "tiny"}
    for folder in folders:
        assert {path.stem for path in folder.glob("*.yaml")} == {
            "stage1", "judge", "stage2", "stage2_verdict", "stage3"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_killed_run_has_a_checkpoint_to_go_on_from(path):
    train = config.load(importlib.import_module(f"stages.{path.stem}").Config, [str(path)]).train
    assert 0 < train.save_steps <= 50


def test_the_published_values_are_there():
    built = {stage: config.load(importlib.import_module(f"stages.{stage}").Config,
                                [str(ROOT / "configs" / "gre7b" / f"{stage}.yaml")])
             for stage in ("stage1", "stage2", "stage3")}
    sft = built["stage1"].train
    assert (sft.learning_rate, sft.num_train_epochs) == (1e-5, 1)
    assert sft.per_device_batch_size * sft.gradient_accumulation_steps * GPUS == 128
    verdict = config.load(importlib.import_module("stages.stage2_verdict").Config,
                          [str(ROOT / "configs" / "gre7b" / "stage2_verdict.yaml")])
    assert (verdict.train, verdict.grpo) == (built["stage2"].train, built["stage2"].grpo)
    for stage in ("stage2", "stage3"):
        settings = built[stage]
        assert (settings.grpo.num_generations, settings.grpo.beta, settings.seed) == (8, 0.04, 42)
        assert settings.rollout.max_new_tokens == 2048
        assert settings.train.per_device_batch_size * settings.train.gradient_accumulation_steps * GPUS == 16
        assert json.loads((ROOT / settings.train.deepspeed).read_text())["zero_optimization"]["stage"] == 3
        assert settings.train.bf16 and settings.model.gradient_checkpointing


@pytest.mark.parametrize("path", sorted((ROOT / "configs/deepspeed").glob("*.json")), ids=lambda path: path.name)
def test_deepspeed_leaves_torchs_linear_alone(path):
    """Else ZeRO-3 replaces it in the whole process, for reference, judge and vLLM too, which then round once more."""
    zero = json.loads(path.read_text(encoding="utf-8"))["zero_optimization"]
    assert zero["stage"] < 3 or zero["memory_efficient_linear"] is False
