"""Photos meet a vision tower that is not trained once a step: what its first pass over them makes of them is kept
with their prompts, and `score` hands it to the text model in the passes that follow."""
import inspect
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from gre.models import tower
from gre.models.packing import Group
from gre.models.weights import unwrapped

GIVEN = "mm_encoder_outputs"  # the model's argument for features in place of pixels


def shared(model: nn.Module, reference: nn.Module | None) -> bool:
    """Whether the vision towers of a policy and of the reference it started from make the same of a photo, and can
    be spared: the policy's is not trained, both are of one type, and transformers takes features (5.17 does not)."""
    towers = [tower.modules(unwrapped(each)) for each in (model, reference) if each is not None]
    return (GIVEN in inspect.signature(unwrapped(model).forward).parameters
            and not any(parameter.requires_grad for part in towers[0] for parameter in part.parameters())
            and len({parts[0].dtype for parts in towers}) == 1)


@contextmanager
def kept(model: nn.Module, groups: list[Group]) -> Iterator[None]:
    """While it lasts, one forward pass of these groups leaves each prompt's features, each (V, width) or (tiles, tokens
    of a tile, width), with it, on the model's device and without a gradient: the tower's output, then what Qwen3-VL
    adds in its first text layers (DeepStack). V: the prompt's visual tokens; width: the text model's."""
    patches = [len(group.prompt.pixel_values) for group in groups]

    def keep(module, arguments, output):
        pooled = getattr(output, "pooler_output", output)  # of Qwen's tower, or of InternVL's projector
        made = [pooled, *(getattr(output, "deepstack_features", None) or [])]
        parts = [count * len(pooled) // sum(patches) for count in patches]
        for group, *features in zip(groups, *(each.detach().split(parts) for each in made), strict=True):
            group.prompt.features = tuple(features)

    hook = tower.modules(unwrapped(model))[-1].register_forward_hook(keep)
    try:
        yield
    finally:
        hook.remove()
