"""Run by torchrun on two processes (tests/test_zero.py): are rotary frequencies those of a model that is not split?

    torchrun … tests/zero_positions.py MODEL FOLDER GOOD.json ROUNDING.json
"""
import sys
from pathlib import Path

import deepspeed
import torch

from gre.config import UserError
from gre.models.vlm import load_model
from gre.training.arguments import TrainConfig, training_arguments
from tests.two_ranks import leave


def frequencies(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Of text and vision tower, by name."""
    return {name.removeprefix("module."): buffer for name, buffer in model.named_buffers() if "inv_freq" in name}


def same(model: torch.nn.Module, alone: torch.nn.Module) -> str:
    ours, theirs = frequencies(model), frequencies(alone)
    assert ours.keys() == theirs.keys() and len(ours) >= 2
    return "exact" if all(torch.equal(ours[name].float(), theirs[name]) for name in ours) else "rounded"


def main(base: str, folder: Path, good: str, rounding: str) -> None:
    args = training_arguments(TrainConfig(deepspeed=good, bf16=True), folder, seed=0)
    alone, split = load_model(base, torch.bfloat16), load_model(base, torch.bfloat16, to_train=True)
    built = same(split, alone)
    settings = {name: value for name, value in args.hf_deepspeed_config.config.items() if name != "optimizer"}
    engine, *_ = deepspeed.initialize(
        model=split, optimizer=torch.optim.AdamW(split.parameters()),
        config={**settings, "train_batch_size": 2, "train_micro_batch_size_per_gpu": 1,
                "gradient_accumulation_steps": 1, "zero_allow_untested_optimizer": True,
                "zero_optimization": {"stage": 3}, "gradient_clipping": 1.0})
    print(f"built: {built}, in the engine: {same(engine, alone)}", flush=True)
    args = training_arguments(TrainConfig(deepspeed=rounding, bf16=True), folder, seed=0)
    try:
        load_model(base, torch.bfloat16, to_train=True)
    except UserError as error:
        print(f"refused: {error}", flush=True)
    del args  # transformers looks for its DeepSpeed config as long as somebody holds it


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    leave()
