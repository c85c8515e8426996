"""Every shipped config is built against the Config of its stage, and opens with the command that runs it."""
import importlib
import json
import re
from pathlib import Path

import pytest
import yaml

from data_prep import fetch, recipe
from experiments import geor
from gre import config
from gre.training.inputs import stage_of
from tests.helpers.paths import ROOT

GPUS = 8  # what GRE trained on
BUILDER = ROOT / "configs" / "greval" / "builder.yaml"
DATA = ROOT / "configs" / "data"  # of data_prep.recipe: tests/data_prep/test_gre30k.py
FILES = sorted(set((ROOT / "configs").rglob("*.yaml")) - {BUILDER} - set(DATA.glob("*.yaml")))
GRE = {"stage1", "judge", "stage2", "stage2_verdict", "stage3"}
GLOBE = {"stage1", "localizability", "globe", "globe_one", "globe_three", "globe_three_readme"}


def built(path):
    """A config, as its stage reads it: the one its name begins with."""
    return config.load(importlib.import_module(f"stages.{stage_of(str(path))}").Config, [str(path)])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_it_is_built_and_opens_with_its_command(path):
    name = path.relative_to(ROOT).as_posix()
    stage = stage_of(str(path))
    settings = built(path)
    assert settings.train.max_steps > 0 or settings.train.num_train_epochs > 0
    first = path.read_text(encoding="utf-8").splitlines()[0]
    command = re.fullmatch(r"# bash (scripts/train/\w+\.sh) (\S+)( [\w.]+=\S+)*", first)
    assert command, f"{name} opens with {first!r}"
    assert command[1] == f"scripts/train/{stage}.sh" and (ROOT / command[1]).exists() and command[2] == name


def test_every_folder_has_every_stage():
    folders = {path.parent for path in FILES}
    held = {folder: {path.stem for path in FILES if path.parent == folder} for folder in folders}
    assert {folder.name: stems for folder, stems in held.items()} == {
        "gre7b": GRE, "gre3b_lora": GRE, "globe7b": GLOBE, "geor7b": {"stage1", "stage3"},
        "tiny": GRE | {"stage1_globe", "localizability", "globe", "globe_one", "globe_three", "stage1_geor",
                       "geor"}}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_killed_run_has_a_checkpoint_to_go_on_from(path):
    train = built(path).train
    assert 0 < train.save_steps <= 50


def test_the_published_values_are_there():
    stages = {stage: config.load(importlib.import_module(f"stages.{stage}").Config,
                                 [str(ROOT / "configs" / "gre7b" / f"{stage}.yaml")])
              for stage in ("stage1", "stage2", "stage3")}
    sft = stages["stage1"].train
    assert (sft.learning_rate, sft.num_train_epochs) == (1e-5, 1)
    assert sft.per_device_batch_size * sft.gradient_accumulation_steps * GPUS == 128
    verdict = config.load(importlib.import_module("stages.stage2_verdict").Config,
                          [str(ROOT / "configs" / "gre7b" / "stage2_verdict.yaml")])
    assert (verdict.train, verdict.grpo) == (stages["stage2"].train, stages["stage2"].grpo)
    for stage in ("stage2", "stage3"):
        settings = stages[stage]
        assert (settings.grpo.num_generations, settings.grpo.beta, settings.seed) == (8, 0.04, 42)
        assert settings.rollout.max_new_tokens == 2048
        assert settings.train.per_device_batch_size * settings.train.gradient_accumulation_steps * GPUS == 16
        assert json.loads((ROOT / settings.train.deepspeed).read_text())["zero_optimization"]["stage"] == 3
        assert settings.train.bf16 and settings.model.gradient_checkpointing


def test_globes_published_values_are_there():
    """Values of the released scripts; 6 GPUs train there, 8 in SFT and reward model."""
    folder = ROOT / "configs" / "globe7b"
    weights = {name: tuple(vars(built(folder / f"{name}.yaml").weights)[reward] for reward in (
        "place", "localizability", "grounding", "format", "gps")) for name in GLOBE if name.startswith("globe")}
    assert weights == {"globe_one": (1, 0, 0, 1, 0), "globe": (1, 0, 0.5, 1, 0), "globe_three": (1, 0.5, 0.2, 1, 0),
                       "globe_three_readme": (1, 0.2, 0.5, 1, 0)}
    for name in weights:
        settings = built(folder / f"{name}.yaml")
        assert (settings.train.learning_rate, settings.train.num_train_epochs, settings.train.warmup_steps) == (
            1e-6, 1, 0.01)
        assert (settings.grpo.num_generations, settings.grpo.beta, settings.rollout.temperature) == (16, 0.001, 1.0)
        assert settings.rollout.max_new_tokens == 1024 and settings.place.alpha == 0.8 and not settings.model.lora.r
        prompts = settings.train.per_device_batch_size * settings.train.gradient_accumulation_steps * 6
        assert prompts * 16 == 8 * 2 * 6 and settings.train.bf16
        assert json.loads((ROOT / settings.train.deepspeed).read_text())["zero_optimization"]["stage"] == 3
    model = built(folder / "localizability.yaml")
    assert (model.model.lora.r, model.model.lora.alpha, model.model.freeze_vision) == (16, 64, True)
    assert (model.train.learning_rate, model.train.num_train_epochs, model.train.warmup_steps) == (1e-4, 2, 0.05)
    assert model.train.per_device_batch_size * model.train.gradient_accumulation_steps * GPUS == 128
    assert model.model.max_pixels == 1_003_520 and model.model.max_length == 2048
    sft = built(folder / "stage1.yaml")
    assert (sft.train.learning_rate, sft.train.num_train_epochs, sft.train.warmup_steps) == (1e-5, 2, 0.05)
    assert sft.train.per_device_batch_size * sft.train.gradient_accumulation_steps * GPUS == 64
    assert sft.model.freeze_vision and sft.model.max_pixels == 1_003_520


@pytest.mark.parametrize("name, keys, readers", [
    ("mp16_reason", ["seeds.table=t", "distil.teachers=[{model: m}]"], sorted(GLOBE)),
    ("regions", ["seeds.table=t"], ["stage1"])])
def test_what_the_factory_writes_is_what_is_read(name, keys, readers, capsys):
    recipe.main([str(DATA / f"{name}.yaml"), *keys, "--dry-run"])
    written = re.split(r"[\s,]+", capsys.readouterr().out)
    folder = ROOT / "configs" / {"mp16_reason": "globe7b", "regions": "geor7b"}[name]
    for reader in readers:
        assert built(folder / f"{reader}.yaml").data.path in written
        assert f"configs/data/{name}.yaml" in (folder / f"{reader}.yaml").read_text(encoding="utf-8").splitlines()[1]


def test_what_is_fetched_lies_apart_from_what_is_made_and_is_named_in_full():
    made = {yaml.safe_load(path.read_text(encoding="utf-8"))["out"] for path in DATA.glob("*.yaml")}
    assert made == {"dataset/gre30k", "dataset/regions", "dataset/mp16_reason"}
    assert fetch.Config("gre30k").out == "dataset/published/gre30k"
    assert fetch.Config("qwen2.5-vl-7b").out == "models/qwen2.5-vl-7b"
    given = f"data.path={fetch.Config('mp16-reason').out}/FILE"
    for name in GLOBE - {"localizability"}:  # whose rows are not published
        assert given in (ROOT / "configs/globe7b" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[2]
    assert given in (ROOT / "docs/data.md").read_text(encoding="utf-8")


def test_geor_s_tiny_stage_1_reads_what_its_experiment_writes():
    assert Path(built(ROOT / "configs/tiny/stage1_geor.yaml").data.path) == geor.regions(Path("runs/quickstart/data"))


@pytest.mark.parametrize("path", sorted((ROOT / "configs/deepspeed").glob("*.json")), ids=lambda path: path.name)
def test_deepspeed_leaves_torchs_linear_alone(path):
    """Else ZeRO-3 replaces it in the whole process, for reference, judge and vLLM too, which then round once more."""
    zero = json.loads(path.read_text(encoding="utf-8"))["zero_optimization"]
    assert zero["stage"] < 3 or zero["memory_efficient_linear"] is False
