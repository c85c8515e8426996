"""LoRA (Hu et al. 2021): a trained low-rank adapter beside frozen weights, merged into them when a stage is handed on.

The model keeps its class: peft puts a layer around each adapted one. With the adapter off it is the policy the stage
started from, so that RL needs no second model as its reference.
"""
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from gre.config import UserError, check_least, option

TEXT_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass
class LoraConfig:
    """The adapter; without one all weights are trained."""

    r: int = option(0, "rank of the adapter; 0: none")
    alpha: float = option(32.0, "the adapter's output is multiplied by alpha / r")

    def __post_init__(self):
        check_least("model.lora.", self, {"r": 0, "alpha": 0})


def adapt(model: PreTrainedModel, config: LoraConfig, seed: int) -> None:
    """Freeze `model` and put a trainable adapter, in float32, beside every linear layer of its text part.
    It starts as zero; `seed` draws the other factor. There is no dropout: in RL it would make the policy that learns
    another one than the policy that sampled. Raises UserError under ZeRO-3."""
    from peft import LoraConfig as PeftConfig

    if is_deepspeed_zero3_enabled():
        raise UserError("an adapter is not trained under ZeRO-3: set train.deepspeed=configs/deepspeed/zero2.json, "
                        "which splits what is trained, or model.lora.r=0")
    layers = rf"model\.language_model\..*\.({'|'.join(TEXT_LAYERS)})"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.add_adapter(PeftConfig(r=config.r, lora_alpha=config.alpha, target_modules=layers))
    for parameter in model.parameters():
        if parameter.requires_grad:  # peft makes it in the type of the weights beside it
            parameter.data = parameter.data.float()


def adapted(model: PreTrainedModel) -> bool:
    """Whether `model` carries an adapter."""
    return getattr(model, "_hf_peft_config_loaded", False)


@contextmanager
def off(model: PreTrainedModel) -> Iterator[None]:
    """The model without its adapter while the block runs."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()


def load(model: PreTrainedModel, checkpoint: str | Path) -> None:
    """Put a checkpoint's adapter into the one `model` carries. Raises UserError when a weight is missing, too
    many or of another rank."""
    from peft import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

    weights = {name.removeprefix("base_model.model."): weight
               for name, weight in load_peft_weights(str(checkpoint), device="cpu").items()}
    held = get_peft_model_state_dict(model)
    if differing := sorted(name for name in weights.keys() | held.keys() if name not in weights or name not in held
                           or weights[name].shape != held[name].shape):
        raise UserError(f"{checkpoint} does not hold the adapter that model.lora describes: {differing[:4]}")
    set_peft_model_state_dict(model, weights)


@torch.no_grad()
def merge(model: PreTrainedModel) -> None:
    """Add the adapter to the weights and take it away: an ordinary model again. Raises ValueError when a weight is not
    finite."""
    from peft.tuners.lora import LoraLayer

    for name, layer in [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]:
        layer.merge(safe_merge=True)
        model.set_submodule(name, layer.base_layer)
    model._hf_peft_config_loaded = False  # save_pretrained would write the adapter alone
    del model.peft_config
