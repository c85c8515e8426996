"""What both sides of a bench work on: a random model, prompts with photos, ragged completions, and their FLOPs."""
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bench.plan_memory import random_model
from gre.models.packing import Group, Prompt
from gre.models.shapes import PATCHES_PER_TOKEN, PUBLISHED, Shape
from gre.plan.memory import Batch
from gre.plan.work import forward_flops

SMALL = Shape(576, 1536, 7, 12, 2, 4000, True, 384, 144, 8, 1)  # 29 million weights, Qwen2.5-VL-7B's proportions
NARROW = Shape(288, 768, 7, 6, 2, 4000, True, 192, 72, 8, 1)    # half as wide
BETA = 0.04
NOISE = 0.02  # of the reference's weights, relative: a KL that is not 0 makes the loss depend on every log-probability


@dataclass(frozen=True)
class Workload:
    """A model's shape and `groups` groups: V visual and T text tokens a prompt, G completions of L tokens on average.

    Lengths are even over L/2 … 3L/2. grid: a photo's patches, height and width; V is a quarter of them.
    """

    shape: Shape
    grid: tuple[int, int]
    text: int
    length: int
    generations: int
    groups: int = 2

    @property
    def visual(self) -> int:
        return self.patches // PATCHES_PER_TOKEN

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def prompt(self) -> int:
        """P: visual and text tokens."""
        return self.visual + self.text

    def lengths(self) -> list[list[int]]:
        """Tokens of every completion of every group, the same at every call."""
        low, high = self.length // 2, self.length + self.length // 2
        drawn = np.random.default_rng(0).integers(low, high + 1, (self.groups, self.generations))
        return [[int(length) for length in row] for row in drawn]


ON_CPU = {
    "G8": Workload(SMALL, (36, 36), 60, 120, 8),
    "G16": Workload(SMALL, (36, 36), 60, 120, 16),
    "GRE_G8": Workload(NARROW, (50, 80), 150, 400, 8),
    "G8_narrow": Workload(NARROW, (36, 36), 60, 120, 8),
    "G16_narrow": Workload(NARROW, (36, 36), 60, 120, 16),
}
THREE = PUBLISHED["Qwen/Qwen2.5-VL-3B-Instruct"]
HALF = replace(THREE, layers=18)  # policy, reference, gradient and AdamW in float32: 47 GB instead of 75
ON_CUDA = {
    "G8": Workload(HALF, (50, 80), 150, 400, 8),
    "G16": Workload(HALF, (50, 80), 150, 400, 16),
    "G8_3B": Workload(THREE, (50, 80), 150, 400, 8),
    "G16_3B": Workload(THREE, (50, 80), 150, 400, 16),
}


def workloads(device: str) -> dict[str, Workload]:
    """The shapes of a bench, by name."""
    return ON_CUDA if device == "cuda" else ON_CPU


def make_models(workload: Workload, device: str):
    """(policy, reference): random float32 weights, the reference's a little off."""
    torch.manual_seed(0)
    policy = random_model(workload.shape, device).train()
    torch.manual_seed(0)
    reference = random_model(workload.shape, device).eval().requires_grad_(False)
    with torch.no_grad():
        for weight in reference.parameters():
            weight.mul_(1 + NOISE * torch.randn_like(weight))
    return policy, reference


def make_groups(workload: Workload, model) -> list[Group]:
    """Groups on the CPU: every prompt another photo."""
    return [Group(_prompt(workload, number, model.config), [_words(length, number * 1000 + i, workload)
                                                            for i, length in enumerate(lengths)])
            for number, lengths in enumerate(workload.lengths())]


def make_advantages(workload: Workload) -> Tensor:
    """(groups, G), of mean 0 and spread 1 in every group."""
    drawn = torch.randn(workload.groups, workload.generations, generator=torch.Generator().manual_seed(0))
    return (drawn - drawn.mean(1, keepdim=True)) / drawn.std(1, keepdim=True)


def packed_flops(shape: Shape, patches: int, prompt: int, lengths: list[list[int]], scored: int | None = None) -> float:
    """One forward pass of all groups with each prompt once.

    lengths: forwarded tokens of every completion of every group. scored: those of a completion that meet the head;
    None: all.
    """
    alone = forward_flops(shape, Batch(1, prompt, patches, 0, 0, 0))
    tails = [forward_flops(shape, Batch(1, prompt, patches, 1, length, length if scored is None else scored)) - alone
             for row in lengths for length in row]
    return len(lengths) * alone + sum(tails)


def padded_flops(shape: Shape, patches: int, prompt: int, lengths: list[list[int]],
                 scored: int | None = None) -> float:
    """The same with a row for every completion, padded to its group's longest: prompt and completion, all G times.

    scored: positions of a row that meet the head; None: as many as the longest completion has. `Batch` leaves out a
    prompt's last token, which a plain row forwards as well.
    """
    return sum(len(row) * forward_flops(shape, Batch(1, prompt + 1, patches, 1, max(row),
                                                     max(row) if scored is None else scored)) for row in lengths)


def _prompt(workload: Workload, number: int, config) -> Prompt:
    generator = torch.Generator().manual_seed(number)
    words = _words(workload.text - 2, number, workload)
    ids = torch.cat([torch.tensor([config.vision_start_token_id]),
                     torch.full((workload.visual,), config.image_token_id),
                     torch.tensor([config.vision_end_token_id]), words])
    return Prompt(ids, (ids == config.image_token_id).long(),
                  torch.randn(workload.patches, workload.shape.patch_values, generator=generator),
                  torch.tensor([[1, *workload.grid]]))


def _words(count: int, seed: int, workload: Workload) -> Tensor:
    """Ordinary words: control tokens have the lowest numbers."""
    return torch.randint(20, workload.shape.vocab, (count,), generator=torch.Generator().manual_seed(seed))
