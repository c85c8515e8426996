"""A job of tests/helpers/zero_ranks.py: are rotary frequencies under ZeRO-3 those of a model that is not split?"""
from pathlib import Path

import deepspeed
import torch

from gre.config import UserError
from gre.models.vlm import load_model
from gre.training.arguments import TrainConfig, training_arguments


def frequencies(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Of text and vision tower, by name."""
    return {name.removeprefix("module."): buffer for name, buffer in model.named_buffers() if "inv_freq" in name}


def same(model: torch.nn.Module, alone: torch.nn.Module) -> str:
    ours, theirs = frequencies(model), frequencies(alone)
    assert ours.keys() == theirs.keys() and len(ours) >= 2
    return "exact" if all(torch.equal(ours[name].float(), theirs[name]) for name in ours) else "rounded"


def run(base: str, folder: str, good: str, rounding: str) -> None:
    """Say it of a model as it is built, of DeepSpeed's engine, and of a config that would round them."""
    args = training_arguments(TrainConfig(deepspeed=good, bf16=True), Path(folder), seed=0)
    alone, split = load_model(base, torch.bfloat16), load_model(base, torch.bfloat16, to_train=True)
    built = same(split, alone)
    engine, *_ = deepspeed.initialize(
        model=split, optimizer=torch.optim.AdamW(split.parameters()),
        config={**args.hf_deepspeed_config.config, "train_batch_size": 2, "train_micro_batch_size_per_gpu": 1,
                "gradient_accumulation_steps": 1, "zero_allow_untested_optimizer": True,
                "zero_optimization": {"stage": 3}, "gradient_clipping": 1.0})
    print(f"built: {built}, in the engine: {same(engine, alone)}", flush=True)
    args = training_arguments(TrainConfig(deepspeed=rounding, bf16=True), Path(folder), seed=0)
    try:
        load_model(base, torch.bfloat16, to_train=True)
    except UserError as error:
        print(f"refused: {error}", flush=True)
    del args  # transformers looks for its DeepSpeed config as long as somebody holds it
