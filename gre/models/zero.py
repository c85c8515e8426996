"""DeepSpeed's ZeRO-3 splits every weight over the ranks: how a model is loaded whole beside it, and made whole for a
while.

Reference and judge are whole on every rank, in the trained weights' own type: at 7B in bfloat16 each takes 15 of 80 GiB
where an eighth would take 2, and for that its passes wait for no other rank. A split judge could hang: a rank asks it
about its readable completions, and how many there are differs from rank to rank.
"""
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn
from transformers import Trainer
from transformers.integrations import deepspeed as integration


@contextmanager
def put_away() -> Iterator[None]:
    """Hide DeepSpeed's config from transformers, which splits every model that is loaded while it can see one."""
    held = integration._hf_deepspeed_config_weak_ref  # there is a public setter, and no getter
    config = held and held()
    integration.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if config is not None:
            integration.set_hf_deepspeed_config(config)


def takes_part_in_saving(trainer: Trainer) -> bool:
    """Whether this process has a part in gathering a trainer's weights: under ZeRO-3 all have, else the first alone."""
    return integration.is_deepspeed_zero3_enabled() or trainer.is_world_process_zero()


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """All weights of `model` on every rank while the block runs, and no talk between ranks in it, however many forward
    passes each makes. Every rank must enter. A model that is not split is left as it is.

    Raises ValueError for the module inside a ZeRO-3 engine: only the engine can give its weights back.
    """
    parameters = [parameter for parameter in model.parameters() if hasattr(parameter, "ds_id")]
    if not parameters:
        yield
        return
    from deepspeed.runtime.zero import GatheredParameters

    offload = getattr(getattr(model, "optimizer", None), "parameter_offload", None)
    if offload is None:
        raise ValueError("a split model is made whole through its DeepSpeed engine: pass the engine, not its module")
    with ExitStack() as gathered:
        for parameter in parameters:  # one by one: gathered at once they would need twice the memory while they arrive
            gathered.enter_context(GatheredParameters([parameter]))
        for hook in offload.forward_hooks + offload.backward_hooks:  # they would split a layer again after its pass
            hook.remove()
        offload.forward_hooks, offload.backward_hooks = [], []
        try:
            yield
        finally:
            offload._register_deepspeed_module(offload.module)  # as deepspeed's own unwrap_model_for_generation does
