"""What a rollout is: completions of prompts by the policy that is trained, whichever engine samples them."""
from dataclasses import dataclass
from typing import Protocol

from torch import LongTensor, Tensor, nn

from gre.models.packing import Prompt


@dataclass(frozen=True, eq=False)
class Completion:
    """token_ids (L,), the end token included; finished: False when cut at the limit; log_probs (L,): of each token
    under the distribution it was drawn from, temperature and ban mask applied."""
    token_ids: LongTensor
    finished: bool
    log_probs: Tensor


class Rollout(Protocol):
    """engine, version: its name and release, for logs and manifests. exact: it samples with the very weights that are
    trained, so that the loss takes no importance weights (rounding differences are ignored). banned (V,): tokens never
    drawn. max_new_tokens: limit, end token included. batch_size: completions at a time."""

    engine: str
    version: str
    exact: bool
    banned: Tensor
    max_new_tokens: int
    temperature: float
    batch_size: int

    def generate(self, model: nn.Module, prompts: list[Prompt], num_generations: int, keys: list[int], *, seed: int,
                 step: int, greedy: bool = False) -> list[list[Completion]]:
        """num_generations completions of each prompt, in order; model may be wrapped (DDP, DeepSpeed, PEFT).

        keys: one number >= 0 per prompt, the "group" of (seed, step, group, completion), on which alone a completion's
        randomness depends: a row's place in its data set. greedy: the likeliest token that is not banned, at every
        position. Raises FloatingPointError when the model's numbers are not finite.
        """
