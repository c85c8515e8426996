"""Supervised fine-tuning through the same packed forward pass as RL: a row is a group with one completion."""
from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn

import torch
from datasets import Dataset
from torch import Tensor
from transformers import TrainingArguments

from gre.models.packing import Group
from gre.models.scoring import score
from gre.training.arguments import check_weights
from gre.training.trainer import broken
from gre.training.trainer.balance import balanced
from gre.training.trainer.passes import PackedTrainer, forwarded_tokens


class SFTTrainer(PackedTrainer):
    """Minimises the mean negative log-probability of the scored tokens of a whole optimiser step.

    rows: what is trained on, with an `id`; encode: row -> Group, called when the row is due, never before.
    The mean is over the tokens of all micro-batches and ranks: neither accumulation nor ranks change the gradient.
    """

    def __init__(self, model, args: TrainingArguments, rows: Sequence[Any], encode: Callable[[Any], Group], **kwargs):
        check_weights(model, args)
        self.rows = rows
        super().__init__(model=model, args=args, train_dataset=lazy_dataset(rows, encode), data_collator=collate,
                         **kwargs)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The micro-batches of one optimiser step and the number of tokens scored in it, over all ranks."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        tokens = sum(scored_tokens(group) for batch in batches for group in batch["groups"])
        pairs = [list(zip(batch["ids"], batch["groups"], strict=True)) for batch in batches]
        passes = [self._passes(batch) for batch in balanced(self.accelerator, pairs,
                                                            lambda pair: forwarded_tokens(pair[1]))]
        self._step = passes, self.accelerator.gather(torch.tensor([tokens], device=device)).sum()
        return self._step

    def _passes(self, pairs: list[tuple[str, Group]]) -> list[dict]:
        return [{"ids": [pairs[i][0] for i in held], "groups": [pairs[i][1] for i in held]}
                for held in self.cut([group for _, group in pairs])]

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Minus the log-probabilities of this pass over the tokens of the step; ranks average."""
        scores = score(model, inputs["groups"])
        loss = -scores.log_probs.sum() / num_items_in_batch * self.accelerator.num_processes
        if not torch.isfinite(loss):
            bad = ~scores.log_probs.isfinite()
            self.halt(f"the loss is {loss.item()}, and {bad.sum()} of {len(bad)} log-probabilities are not finite",
                      [inputs], {inputs["ids"][group] for group in scores.group[bad].tolist()},
                      log_probs=scores.log_probs)
        return loss

    def halt(self, what: str, passes: list[dict], culprits: Collection[str] = (), **tensors: Tensor) -> NoReturn:
        """See `PackedTrainer`."""
        rows = {row.id: row for row in self.rows}
        pairs = [pair for each in passes for pair in zip(each["ids"], each["groups"], strict=True)]
        broken.stop(self.args, self.state.global_step + 1, what,
                      [{**broken.fields(rows[row_id]), "token_ids": group.completions[0]} for row_id, group in pairs],
                      [group.prompt for _, group in pairs], tensors, culprits)


def lazy_dataset(rows: Sequence[Any], encode: Callable[[Any], Group]) -> Dataset:
    """A dataset whose photos are decoded and encoded when a row is fetched."""

    def fetch(batch: dict) -> dict:
        return {"id": [rows[i].id for i in batch["row"]], "group": [encode(rows[i]) for i in batch["row"]]}

    dataset = Dataset.from_list([{"row": i} for i in range(len(rows))])
    dataset.set_transform(fetch)
    return dataset


def collate(items: list[dict]) -> dict:
    """Rows of one micro-batch, unpadded."""
    return {"ids": [item["id"] for item in items], "groups": [item["group"] for item in items]}


def scored_tokens(group: Group) -> int:
    """How many completion tokens of a group count."""
    if group.scored is None:
        return sum(len(completion) for completion in group.completions)
    return int(sum(mask.sum() for mask in group.scored))
