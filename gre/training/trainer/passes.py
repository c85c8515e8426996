"""A micro-batch as one forward pass, or as several that hold no more tokens than a budget.

Photos and completions differ in length, so that a fixed number of groups a pass is sized for the longest and mostly
half empty. With a budget the groups of a micro-batch are packed into as few passes as hold them, evenly filled. All
processes make as many passes as the one that needs most, since a ZeRO-3 forward is a collective. A
micro-batch holds equally many groups on each, so that there is a group for every pass and none is empty.
"""
from collections.abc import Collection
from contextlib import nullcontext
from itertools import count
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor

from gre.models.packing import Group
from gre.training.trainer import broken
from gre.training.trainer.balance import spread
from gre.training.trainer.resumable import ResumableTrainer


class PackedTrainer(ResumableTrainer):
    """A trainer whose micro-batches are lists of forward passes, each an input of `compute_loss`.

    tokens_per_pass: the budget; 0: a micro-batch is one pass.
    """

    loss_is_scaled_for_ga = True  # compute_loss divides by a count over the whole step
    # What `get_batch_samples` gave last: micro-batches, and that count.
    _step: tuple[list[list[dict[str, Any]]], Tensor | None] = ([], None)

    def __init__(self, *args, tokens_per_pass: int = 0, **kwargs):
        super().__init__(*args, **kwargs)
        self.tokens_per_pass = tokens_per_pass

    def halt(self, what: str, passes: list[dict[str, Any]], culprits: Collection[str] = (),
             **tensors: Tensor) -> NoReturn:
        """End the run with these passes on disk. culprits: ids of rows to be named; tensors: what else is known."""
        raise NotImplementedError

    def cut(self, groups: list[Group]) -> list[list[int]]:
        """Which of a micro-batch's groups each of its passes holds, by their places; every process must call it."""
        if not self.tokens_per_pass:
            return [list(range(len(groups)))]
        tokens = [forwarded_tokens(group) for group in groups]
        return spread(tokens, most(self.accelerator, fewest_passes(tokens, self.tokens_per_pass)))

    def training_step(self, model, inputs: list[dict[str, Any]], num_items_in_batch=None) -> Tensor:
        """Trainer's on every pass; processes exchange gradients, and DeepSpeed makes its step, at the last."""
        ends_step, losses = self.accelerator.sync_gradients, []
        for number, each in enumerate(inputs, start=1):
            last = number == len(inputs)
            self.accelerator.gradient_state._set_sync_gradients(ends_step and last)
            with nullcontext() if last else self._without_exchange(model):
                losses.append(super().training_step(model, each, num_items_in_batch))
        return torch.stack(losses).sum()

    def floating_point_ops(self, inputs) -> int:
        """Unknown to Trainer for packed rows: it counts `input_ids`."""
        return 0

    def _get_grad_norm(self, model, grad_norm=None):
        """Trainer's, before the optimizer's step (DeepSpeed has made it by then); one that is not finite stops."""
        norm = super()._get_grad_norm(model, grad_norm)
        if broken.not_finite(norm):
            self.halt(f"the norm of the gradient is {float(norm)}",
                      [each for passes in self._step[0] for each in passes])
        return norm

    def _without_exchange(self, model):
        """DeepSpeed needs to be told nothing but where a step ends."""
        deepspeed = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        return nullcontext() if deepspeed else self.accelerator.no_sync(model)


def forwarded_tokens(group: Group) -> int:
    """Tokens of a group in a packed row: its prompt but the last token, and its completions."""
    return len(group.prompt.input_ids) - 1 + sum(len(completion) for completion in group.completions)


def fewest_passes(tokens: list[int], budget: int) -> int:
    """How many passes hold groups of so many tokens; one longer than the budget has a pass to itself."""
    return next(passes for passes in count(1) if all(
        len(held) < 2 or sum(tokens[i] for i in held) <= budget for held in spread(tokens, passes)))


def most(accelerator: Accelerator, number: int) -> int:
    """The largest of all processes' numbers."""
    return int(accelerator.gather(torch.tensor([number], device=accelerator.device)).max())

