"""The shapes a group takes in a step: rolled out, then part of a forward and backward pass."""
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gre.models.packing import Group, Prompt
from gre.rewards.answers import Answers
from gre.rollout.completion import Completion
from gre.training.trainer import broken


@dataclass
class Rolled:
    """A row of a step with its prompt and completions, their texts, and what has become known of them since: rewards
    (G,) by name, and advantages (G,)."""

    row: Any
    prompt: Prompt
    completions: list[Completion]
    texts: list[str]
    rewards: dict[str, Tensor] = field(default_factory=dict)
    advantages: Tensor | None = None

    @property
    def answers(self) -> Answers:
        """What rewards are given of it."""
        return Answers(self.row, self.texts, [one.finished for one in self.completions])

    @property
    def group(self) -> Group:
        """What is forwarded."""
        return Group(self.prompt, [one.token_ids for one in self.completions])

    def record(self) -> dict:
        """What the file says of it."""
        return {**broken.fields(self.row), "completions": [
            {"text": text, "finished": one.finished, "token_ids": one.token_ids, "log_probs": one.log_probs,
             "rewards": {name: values[i] for name, values in self.rewards.items()}}
            for i, (text, one) in enumerate(zip(self.texts, self.completions, strict=True))]}


@dataclass(frozen=True)
class PassBatch:
    """What one forward and backward pass needs: n completions, N tokens. A class of its own, because Trainer moves
    and, under DeepSpeed, rounds to bfloat16 every tensor it finds in a batch.

    groups: what is forwarded of `rolled`. advantages (n,). sampled (N,): log-probs as drawn;
    old (N,): as the policy gave them before the first update, None when there is only one; reference (N,): None without
    a KL.
    """

    rolled: list[Rolled]
    groups: list[Group]
    advantages: Tensor
    sampled: Tensor
    old: Tensor | None
    reference: Tensor | None
