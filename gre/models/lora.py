"""LoRA (Hu et al. 2021): a trained low-rank adapter beside frozen weights.

The model keeps its class: peft puts a layer around each adapted one. With the adapter off it is the policy the stage
started from, the adapters of earlier stages included (`gre.models.adapter`), so that RL needs no second model as its
reference. What is handed on joins all of them: their ranks add up, and no weight is rounded.
"""
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from gre.config import UserError, check_least, option
from gre.models.adapter import LAYERS, PREFIX, A, Adapted, B

OWN = "default"  # peft's name of the adapter that is trained


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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.add_adapter(PeftConfig(r=config.r, lora_alpha=config.alpha, target_modules=LAYERS))
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
def weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """(PEFT's name, factor) of all that stands beside the weights of `model`: the adapter it was loaded with, joined
    with the one it trains. Both factors are scaled; their type is that they are trained in."""
    from peft.tuners.lora import LoraLayer

    for name, layer in model.named_modules():
        if name.endswith(".base_layer"):
            continue  # seen with the layer around it
        if isinstance(layer, LoraLayer):
            lora_a, lora_b = layer.lora_A[OWN].weight, layer.scaling[OWN] * layer.lora_B[OWN].weight
            if isinstance(layer.base_layer, Adapted):
                before = layer.base_layer
                lora_a, lora_b = torch.cat([before.lora_a, lora_a]), torch.cat([before.lora_b, lora_b], 1)
        elif isinstance(layer, Adapted):
            lora_a, lora_b = layer.lora_a, layer.lora_b
        else:
            continue
        yield f"{PREFIX}{name}{A}", lora_a.detach()
        yield f"{PREFIX}{name}{B}", lora_b.detach()


@torch.no_grad()
def merge(model: PreTrainedModel) -> float:
    """Add the adapter that `model` was loaded with to its weights, in float32, round the sum to their type and take the
    adapter away: an ordinary model. Returns what rounding did to the change, relative to it: 0 in float32, 1 when it
    is as large as the change itself."""
    rounded, changed = 0.0, 0.0
    for layer in [module for module in model.modules() if isinstance(module, Adapted)]:
        change = layer.lora_b @ layer.lora_a
        whole = layer.weight.float() + change
        layer.weight.copy_(whole)
        rounded += float((layer.weight.float() - whole).square().sum())
        changed += float(change.square().sum())
        layer.__class__ = nn.Linear
        del layer.lora_a, layer.lora_b
    return (rounded / changed) ** 0.5 if changed else 0.0
