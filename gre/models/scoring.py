"""Groups -> log-probs and entropies: the one forward pass for SFT, policy, old policy, reference and judge.

Works on a plain model and on one wrapped by DDP, DeepSpeed, PEFT or torch.compile, as long as `attention.install`
was called. Only scored positions meet the output head.
"""
from dataclasses import dataclass

import torch
from torch import LongTensor, Tensor, nn

from gre.models.attention import LAYOUT_ARGUMENT, NAME
from gre.models.packing import Group, PackedRow, pack


@dataclass(frozen=True)
class Scores:
    """One entry per scored token, in the order group, completion, position.

    log_probs (N,), with gradient; entropies (N,) in nats, without; group (N,): index into the groups given;
    completion (N,): index counted over all completions of all groups.
    """
    log_probs: Tensor
    entropies: Tensor
    group: LongTensor
    completion: LongTensor


def score(model: nn.Module, groups: list[Group], *, temperature: float = 1.0, banned: Tensor | None = None) -> Scores:
    """Log-probability of every scored token under softmax(logits / temperature), banned (V,) words left out.

    Raises ValueError if a scored token is itself banned: a sampler that obeyed the mask cannot have made it.
    """
    row, logits = _forward(model, groups)
    logits = logits.float() / temperature
    if banned is not None:
        banned = banned.to(logits.device)
        if banned[row.labels].any():
            at = int(banned[row.labels].nonzero()[0])
            raise ValueError(f"group {int(row.group[at])}, completion {int(row.completion[at])}: token "
                             f"{int(row.labels[at])} is banned and cannot be scored; was it sampled with this mask?")
        logits = logits.masked_fill(banned, -torch.inf)
    log_softmax = logits.log_softmax(-1)                                                 # (N, V)
    log_probs = log_softmax.gather(1, row.labels[:, None])[:, 0]
    entropies = torch.special.entr(log_softmax.detach().exp()).sum(-1)
    return Scores(log_probs, entropies, row.group, row.completion)


def packed_logits(model: nn.Module, groups: list[Group]) -> Tensor:
    """Float32 logits (N, V) that predict each scored token, in the order group, completion, position."""
    return _forward(model, groups)[1].float()


def _forward(model: nn.Module, groups: list[Group]) -> tuple[PackedRow, Tensor]:
    base = _base(model)
    for number, group in enumerate(groups):
        for completion in group.completions:
            if ((completion == base.config.image_token_id) | (completion == base.config.video_token_id)).any():
                raise ValueError(f"group {number}: a completion holds a picture token; ban special tokens in sampling "
                                 "and split them in text")
    row = pack(groups, base.get_rope_index).to(base.device)
    logits = model(input_ids=row.input_ids, position_ids=row.position_ids, pixel_values=row.pixel_values,
                   image_grid_thw=row.image_grid_thw, logits_to_keep=row.keep, use_cache=False,
                   **{LAYOUT_ARGUMENT: row.layout}).logits[0]                            # (N, V)
    return row, logits


def _base(model: nn.Module) -> nn.Module:
    """The module under all wrappers that knows positions and picture tokens."""
    base = next((module for module in model.modules() if hasattr(module, "get_rope_index")), None)
    if base is None:
        raise TypeError(f"{type(model).__name__} holds no vision-language model with get_rope_index")
    if base.config.text_config._attn_implementation != NAME:
        raise ValueError("the model must use shared-prefix attention: call gre.models.attention.install(model)")
    return base
