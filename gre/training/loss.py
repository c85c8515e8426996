"""GRPO's arithmetic: advantages of a group, the clipped policy loss, the KL penalty. Pure functions of tensors.

Shapes: n completions, N scored tokens (all completions one after the other).
"""
import torch
from torch import LongTensor, Tensor

STD_FLOOR = 0.05  # below it, noise of 0.01 in the rewards of equal misses would become full-size advantages
NORMALIZATIONS = ("token", "sequence")
IMPORTANCE_CAP = 2.0  # largest importance weight of a token that another engine has sampled


def advantages(rewards: Tensor, group: LongTensor, scale_by_std: bool, floor: float = STD_FLOOR) -> Tensor:
    """How much better each completion is than its group's mean: rewards (n,), group (n,) -> (n,).

    scale_by_std divides by max(std, floor), with the sample standard deviation (n - 1) of the group; a group of one
    has advantage 0.
    """
    _, member = group.unique(return_inverse=True)
    count = member.bincount().to(rewards.dtype)
    sums = torch.zeros_like(count).index_add_(0, member, rewards)
    centered = rewards - (sums / count)[member]
    if not scale_by_std:
        return centered
    squares = torch.zeros_like(count).index_add_(0, member, centered**2)
    std = (squares / (count - 1).clamp(min=1)).sqrt()
    return centered / std.clamp(min=floor)[member]


def token_weights(completion: LongTensor, normalize: str, total: int) -> Tensor:
    """The share of each token in the loss, (N,); `completion` (N,) says which completion a token belongs to.

    normalize "token": 1 / total, all tokens alike. "sequence": all completions alike, 1 / (its length * total).
    total: tokens or completions of the whole optimizer step, over all micro-batches and processes, so that the sum
    over micro-batches does not depend on how the step was cut.
    """
    if normalize not in NORMALIZATIONS:
        raise ValueError(f"normalize is {normalize!r}, known are {NORMALIZATIONS}")
    if normalize == "token":
        return torch.full(completion.shape, 1 / total, device=completion.device)
    return 1 / (completion.bincount()[completion] * total)


def grpo_loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, weights: Tensor, *, clip_epsilon: float,
              beta: float, reference_log_probs: Tensor | None = None, importance: Tensor | None = None) -> Tensor:
    """Weighted sum over tokens of -min(ratio A, clip(ratio, 1 ± clip_epsilon) A) + beta KL; all inputs (N,).

    ratio = pi / pi_old; `advantages` hold each token's completion's advantage; `weights` come from `token_weights`.
    reference_log_probs are needed only when beta is not 0. importance, from `importance_weights`, multiplies the first
    term, where another engine than the trainer's model has sampled.
    """
    ratio = (log_probs - old_log_probs).exp()
    clipped = ratio.clamp(1 - clip_epsilon, 1 + clip_epsilon)
    loss = -torch.minimum(ratio * advantages, clipped * advantages)
    if importance is not None:
        loss = loss * importance
    if beta != 0:
        loss = loss + beta * kl(log_probs, reference_log_probs)
    return (loss * weights).sum()


def importance_weights(old_log_probs: Tensor, sampled_log_probs: Tensor, cap: float) -> Tensor:
    """min(pi_old / pi_sampled, cap) of every token (N,): makes up for a sampler whose probabilities are not quite the
    trainer's; truncated, since a few large ratios would rule the step (Yao et al. 2025)."""
    return (old_log_probs - sampled_log_probs).exp().clamp(max=cap)


def kl(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """Per token, an unbiased and never negative estimate of KL(policy || reference) from the policy's own samples:
    r - log r - 1 with r = reference / policy (Schulman's k3)."""
    log_ratio = reference_log_probs - log_probs
    return log_ratio.exp() - log_ratio - 1
