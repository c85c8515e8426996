"""A model's weights one at a time, whole and under the names of a plain transformers model, for an inference engine.

Under ZeRO-3 a weight is gathered when it is due and let go before the next one, and a LoRA module's own weight is
merged with its adapter on the way: a second full copy never exists.
"""
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

ADAPTER = ".lora_"  # what peft calls the parameters it adds


@torch.no_grad()
def full_weights(model: nn.Module, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """(name, whole tensor) of every weight in the order of `named_parameters`; one that is tied comes under each name.

    model: may be wrapped (DDP, DeepSpeed, PEFT's plain LoRA). dtype: what the tensors are cast to; without a cast or a
    gathering a tensor is the weight itself, to be read and not kept. Gathering is a collective operation: all processes
    go through the weights together and to the end.
    """
    base = unwrapped(model)
    adapted = {f"{name}.base_layer.weight": module for name, module in base.named_modules()
               if hasattr(module, "get_delta_weight")}
    for name, parameter in base.named_parameters(remove_duplicate=False):
        if ADAPTER in name:
            continue
        module = adapted.get(name)
        needed = [parameter] if module is None else list(module.parameters())
        parted = any(hasattr(each, "ds_id") for each in needed)  # by ZeRO-3
        with _gathered(needed) if parted else nullcontext():
            whole = parameter.detach()
            if module is not None:
                whole = sum((module.get_delta_weight(adapter) for adapter in module.active_adapters), whole)
            whole = whole.to(dtype, copy=parted)
        yield name.replace(".base_layer.", "."), whole


def unwrapped(model: nn.Module) -> PreTrainedModel:
    """The transformers model under DDP, DeepSpeed and PEFT."""
    return next(module for module in model.modules() if isinstance(module, PreTrainedModel))


def _gathered(parameters: list[nn.Parameter]):
    import deepspeed  # it is slow to import, and here only for a model that it has parted

    return deepspeed.zero.GatheredParameters(parameters)
