"""A model's weights one at a time, whole and under the names of a plain transformers model, for an inference engine.

Under ZeRO-3 a weight is gathered when it is due and let go before the next one: a second full copy never exists.
"""
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gre.models import lora


@torch.no_grad()
def full_weights(model: nn.Module, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """(name, whole tensor) of every weight in the order of `named_parameters`; one that is tied comes under each name.

    model: may be wrapped (DDP, DeepSpeed). dtype: what the tensors are cast to; without a cast or a gathering a tensor
    is the weight itself, to be read and not kept. Gathering is a collective operation: all processes go through the
    weights together and to the end.
    """
    for name, parameter in unwrapped(model).named_parameters(remove_duplicate=False):
        parted = hasattr(parameter, "ds_id")  # by ZeRO-3
        with _gathered([parameter]) if parted else nullcontext():
            yield name, parameter.detach().to(dtype, copy=parted)


def trained_weights(model: nn.Module, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """What an inference engine must be sent of a model that is trained: `full_weights`, or the adapter alone, in the
    type it is trained in, beside the frozen weights the engine has."""
    base = unwrapped(model)
    return lora.weights(base) if lora.adapted(base) else full_weights(model, dtype)


def unwrapped(model: nn.Module) -> PreTrainedModel:
    """The transformers model under DDP, DeepSpeed and PEFT."""
    return next(module for module in model.modules() if isinstance(module, PreTrainedModel))


def _gathered(parameters: list[nn.Parameter]):
    import deepspeed  # it is slow to import, and here only for a model that it has parted

    return deepspeed.zero.GatheredParameters(parameters)
