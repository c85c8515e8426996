"""Tokens and FLOPs of one optimizer step over all GPUs. Pure arithmetic; loads no torch.

A multiply and an add are two FLOPs; matrix products and attention count, the rest is left out. A backward pass costs
two forward passes, one where the weights are frozen, checkpointing one more.
"""
from dataclasses import dataclass

from gre.models.shapes import PATCHES_PER_TOKEN, Shape
from gre.plan.memory import Batch, Job


@dataclass(frozen=True)
class Work:
    """prompts, tokens (forwarded by the policy in one pass) and scored tokens of a step; flops by part."""

    prompts: int
    tokens: int
    scored_tokens: int
    flops: dict[str, float]


def work(job: Job) -> Work:
    """The step of `job`, its batches over all micro-batches and ranks."""
    times, batch = job.accumulation * job.engine.ranks, job.micro_batch or job.batch
    once = forward_flops(job.shape, batch) * times
    passes = (2 if job.engine.adapter else 3) + (1 if job.checkpointing else 0)  # frozen weights want no gradients
    flops = {"rollout": once if job.sampled else 0.0,  # the prompts once, then token after token
             "judge": forward_flops(job.judge_shape or job.shape, batch) * times if job.judge else 0.0,
             "reference": once if job.reference is not None else 0.0, "update": once * passes}
    return Work(batch.prompts * times, batch.tokens * times, batch.scored_tokens * times,
                {name: count for name, count in flops.items() if count})


def forward_flops(shape: Shape, batch: Batch) -> float:
    """One forward pass of a packed row."""
    pairs = batch.prompts * (_causal(batch.prompt - 1) + batch.completions * (
        batch.length * (batch.prompt - 1) + _causal(batch.length)))
    text = 2 * shape.layers * shape.layer_parameters * batch.tokens + 4 * shape.layers * shape.query_width * pairs
    return _vision(shape, batch) + text + 2 * shape.embedding_parameters * batch.scored_tokens


def _vision(shape: Shape, batch: Batch) -> float:
    patches = batch.prompts * batch.patches
    windows = shape.vision_depth - shape.vision_full_attention
    seen = patches * (windows * min(shape.window_tokens, batch.patches) + shape.vision_full_attention * batch.patches)
    merged = PATCHES_PER_TOKEN * shape.vision_hidden
    mergers = (1 + shape.deepstack) * merged * (merged + shape.hidden)
    blocks = 2 * (shape.vision_parameters - mergers - shape.vision_positions * shape.vision_hidden) * patches
    return blocks + 2 * mergers * patches / PATCHES_PER_TOKEN + 4 * shape.vision_hidden * seen


def _causal(length: int) -> float:
    return length * (length + 1) / 2
