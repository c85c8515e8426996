"""Photos meet a vision tower that is not trained once a step: what its first pass over them makes of them is kept
with their prompts, and `score` hands it to the text model in the passes that follow."""
import inspect
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from gre.models.packing import Group
from gre.models.weights import unwrapped

GIVEN = "mm_encoder_outputs"  # the model's argument for features in place of pixels


def shared(model: nn.Module, reference: nn.Module | None) -> bool:
    """Whether the vision towers of a policy and of the reference it started from make the same of a photo, and can
    be spared: the policy's is not trained, both are of one type, and transformers takes features (5.17 does not)."""
    towers = [unwrapped(each).model.visual for each in (model, reference) if each is not None]
    return (GIVEN in inspect.signature(unwrapped(model).forward).parameters
            and not any(parameter.requires_grad for parameter in towers[0].parameters())
            and len({tower.dtype for tower in towers}) == 1)


@contextmanager
def kept(model: nn.Module, groups: list[Group]) -> Iterator[None]:
    """While it lasts, one forward pass of these groups leaves each prompt's features, each (V, width), with it, on the
    model's device and without a gradient: the tower's output, then what Qwen3-VL adds in its first text layers
    (DeepStack). V: the prompt's visual tokens; width: the text model's."""
    visual = [int((group.prompt.mm_token_type_ids != 0).sum()) for group in groups]

    def keep(module, arguments, output):
        made = [output.pooler_output, *(getattr(output, "deepstack_features", None) or [])]
        for group, *features in zip(groups, *(each.detach().split(visual) for each in made), strict=True):
            group.prompt.features = tuple(features)

    hook = unwrapped(model).model.visual.register_forward_hook(keep)
    try:
        yield
    finally:
        hook.remove()
