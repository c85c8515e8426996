"""Groups -> log-probs and entropies: the one forward pass for SFT, policy, old policy, reference and judge.

Works on a plain model and on one wrapped by DDP, DeepSpeed, PEFT or torch.compile, as long as `attention.install`
was called. Only scored positions meet the output head.
"""
from dataclasses import dataclass

import torch
from torch import LongTensor, Tensor, nn
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from gre.models.attention.shared_prefix import LAYOUT_ARGUMENT, NAME
from gre.models.features import GIVEN
from gre.models.packing import Group, PackedRow, pack

CHUNK_ENTRIES = 2**24  # 64 MiB of float32: 110 tokens of a vocabulary of 152,000


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
    """Log-probability of every scored token under softmax(logits / temperature), banned (V,) tokens left out.

    Raises ValueError if a scored token is itself banned: a sampler that obeyed the mask cannot have made it.
    """
    row, logits = _forward(model, groups)
    if banned is not None:
        banned = banned.to(logits.device)
        if banned[row.labels].any():
            at = int(banned[row.labels].nonzero()[0])
            raise ValueError(f"group {int(row.group[at])}, completion {int(row.completion[at])}: token "
                             f"{int(row.labels[at])} is banned and cannot be scored; was it sampled with this mask?")
    log_probs, entropies = _TokenScores.apply(logits, row.labels, banned, temperature)
    return Scores(log_probs, entropies, row.group, row.completion)


def packed_logits(model: nn.Module, groups: list[Group]) -> Tensor:
    """Float32 logits (N, V) that predict each scored token, in the order group, completion, position."""
    return _forward(model, groups)[1].float()


class _TokenScores(torch.autograd.Function):
    """Logits (N, V) and labels (N,) -> log-probs and entropies (N,), a few rows at a time, forward and backward.

    Between the two only the logits are kept, in the model's own type: with a vocabulary of 152,000 the float32
    softmaxes that autograd would keep take several times the memory of the logits.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, labels: LongTensor, banned: Tensor | None, temperature: float):
        ctx.save_for_backward(logits, labels, banned)
        ctx.temperature = temperature
        log_probs, entropies = (torch.empty(len(labels), device=logits.device) for _ in range(2))
        for rows in _chunks(logits):
            log_softmax = _log_softmax(logits[rows], banned, temperature)
            log_probs[rows] = log_softmax.gather(1, labels[rows, None])[:, 0]
            entropies[rows] = torch.special.entr(log_softmax.exp_()).sum(-1)
        ctx.mark_non_differentiable(entropies)
        return log_probs, entropies

    @staticmethod
    def backward(ctx, grad: Tensor, _):
        logits, labels, banned = ctx.saved_tensors
        grads = torch.empty_like(logits)
        for rows in _chunks(logits):
            towards = _log_softmax(logits[rows], banned, ctx.temperature).exp_().neg_()  # one-hot - softmax
            towards.scatter_add_(1, labels[rows, None], torch.ones_like(towards[:, :1]))
            grads[rows] = (towards * (grad[rows, None] / ctx.temperature)).to(grads.dtype)
        return grads, None, None, None


def _log_softmax(logits: Tensor, banned: Tensor | None, temperature: float) -> Tensor:
    """In float32, banned tokens left out."""
    logits = logits.float() / temperature
    return (logits if banned is None else logits.masked_fill(banned, -torch.inf)).log_softmax(-1)


def _chunks(logits: Tensor) -> list[slice]:
    """Rows of (N, V), so many at a time that a chunk has about CHUNK_ENTRIES entries."""
    size = max(1, CHUNK_ENTRIES // logits.shape[1])
    return [slice(start, start + size) for start in range(0, len(logits), size)]


def _forward(model: nn.Module, groups: list[Group]) -> tuple[PackedRow, Tensor]:
    base = _base(model)
    reserved = torch.tensor([getattr(base.config, name) for name in ("image_token_id", "video_token_id")
                             if hasattr(base.config, name)])
    for number, group in enumerate(groups):
        for completion in group.completions:
            if torch.isin(completion, reserved).any():
                raise ValueError(f"group {number}: a completion holds a image token; ban special tokens in sampling "
                                 "and split them in text")
    row = pack(groups, getattr(base, "get_rope_index", None)).to(base.device)
    logits = model(input_ids=row.input_ids, position_ids=row.position_ids, **_pictures(groups, row), **_mask(row),
                   logits_to_keep=row.keep, use_cache=False, **{LAYOUT_ARGUMENT: row.layout}).logits[0]  # (N, V)
    return row, logits


def _pictures(groups: list[Group], row: PackedRow) -> dict:
    """The photos as pixels, or as the features that an earlier pass has left."""
    features = [group.prompt.features for group in groups]
    if any(each is None for each in features):
        grid = {} if row.image_grid_thw is None else {"image_grid_thw": row.image_grid_thw}
        return {"pixel_values": row.pixel_values, **grid}
    first, *deeper = zip(*features, strict=True)
    if row.image_grid_thw is None:
        first = torch.cat(first)
    return {GIVEN: {"image": BaseModelOutputWithDeepstackFeatures(pooler_output=first, deepstack_features=deeper)}}


def _mask(row: PackedRow) -> dict:
    """The layout is the mask. Where transformers would look into plain positions for sequences that were packed, and
    make a mask (T, T) of them, it is told that there is one already."""
    return {"attention_mask": {"full_attention": None}} if row.position_ids.dim() == 2 else {}


def _base(model: nn.Module) -> nn.Module:
    """The module under all wrappers that knows positions and image tokens."""
    base = next((module for module in model.modules() if hasattr(module, "get_placeholder_mask")), None)
    if base is None:
        raise TypeError(f"{type(model).__name__} holds no vision-language model with get_placeholder_mask")
    if base.config.text_config._attn_implementation != NAME:
        raise ValueError("the model must use shared-prefix attention: "
                         "call gre.models.attention.shared_prefix.install(model)")
    return base
