"""GRPO on transformers' Trainer, with the group as the unit: one prompt with its G completions.

A step, in order
    1. the rows of the step are chosen             training.sampler, through `_get_train_sampler`
    2. each becomes a prompt, photo and all        `_Prompts`, when it is due
    3. all micro-batches are fetched together      `get_batch_samples`
    4. G completions of every prompt are sampled   `_generate`, by a rollout engine (gre.rollout)
    5. every reward is asked, once for the step    `_reward`, one function a reward (gre.rewards)
    6. rewards become advantages within a group    `_roll_out`, by training.loss.advantages
    7. groups are rebalanced over processes and packed into forward passes, with the log-probabilities of the old policy
       and of the reference                        `_roll_out` and `_pass`
    8. loss and gradient of every pass             `compute_loss`, on training.loss.grpo_loss
    9. the optimizer's step, the log, the checkpoint: Trainer's own

The loss is divided by the tokens of the whole step, over micro-batches and processes: how a step is cut changes
nothing. Old policy, reference and update go through one scoring function (gre.models.scoring).

Departures from the paper, which trains with VLM-R1: a prompt is forwarded once per group; the loss is averaged over
tokens, not first over each completion (`grpo.normalize: sequence` does that); the std has a floor.
"""
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import TrainingArguments

from gre.config import check_least, option
from gre.models import features, lora
from gre.models.packing import Group, Prompt
from gre.models.scoring import score
from gre.rewards.answers import Answers, Reward
from gre.rollout.completion import Completion, Rollout
from gre.training.arguments import check_weights
from gre.training.groups import PassBatch, Rolled
from gre.training.loss import (
    IMPORTANCE_CAP,
    NORMALIZATIONS,
    advantages,
    grpo_loss,
    importance_weights,
    kl,
    token_weights,
)
from gre.training.sampler import EvenSampler, StepSampler
from gre.training.trainer import broken
from gre.training.trainer.balance import balanced
from gre.training.trainer.passes import PackedTrainer, forwarded_tokens
from gre.training.watching.metrics import Meter, StepClock
from gre.training.watching.samples import Samples


@dataclass
class GRPOConfig:
    """The group and the loss."""

    num_generations: int = option(8, "completions of each prompt: the group")
    beta: float = option(0.04, "weight of the KL to the policy the stage started from; 0: no reference is loaded")
    clip_epsilon: float = option(0.2, "the ratio to the sampling policy counts within 1 ± this")
    scale_by_std: bool = option(True, "divide advantages by max(std of the group's rewards, 0.05)")
    normalize: str = option("token", "token: every token of a step weighs the same; sequence: every completion")
    num_iterations: int = option(1, "updates made on each step's completions")

    def __post_init__(self):
        check_least("grpo.", self, {"num_generations": 2, "num_iterations": 1, "beta": 0, "clip_epsilon": 0})
        if self.normalize not in NORMALIZATIONS:
            raise ValueError(f"grpo.normalize is {self.normalize!r}: write {' or '.join(NORMALIZATIONS)}")


OnRollout = Callable[[int, list[Answers], dict[str, Tensor], Meter], None]  # step, answers, {name: (prompts, G)}, …


class GRPOTrainer(PackedTrainer):
    """Maximises the sum of `rewards`, which are named by the stage, each times its weight (1 where none is given).

    rows: what `encode` turns into a Prompt when it is due; rewards see them. reference: the policy the stage started
    from, frozen, or `model` itself, which without its adapter is that policy; None when beta is 0. samples: the file
    that gets one group of every step. on_rollout: called on every process once a step's completions are rewarded and
    before anything is learned from them; it may stop the run. labels: one per row, when every step shall hold as many
    True as False ones.
    """

    def __init__(self, model, args: TrainingArguments, *, rows: Sequence[Any], encode: Callable[[Any], Prompt],
                 rewards: dict[str, Reward], rollout: Rollout, tokenizer, reference, grpo: GRPOConfig,
                 samples: Path, on_rollout: OnRollout | None = None, labels: Sequence[bool] | None = None,
                 weights: Mapping[str, float] = MappingProxyType({}), **kwargs):
        check_weights(model, args)
        if (reference is None) != (grpo.beta == 0):
            raise ValueError("a reference is needed exactly when grpo.beta is not 0")
        self.rows, self.rewards, self.rollout, self.tokenizer, self.grpo = rows, rewards, rollout, tokenizer, grpo
        self.samples, self.on_rollout, self.labels, self.meter = Samples(samples), on_rollout, labels, Meter()
        self.weights = weights
        super().__init__(model=model, args=args, train_dataset=_Prompts(rows, encode),
                         data_collator=lambda items: {name: [item[name] for item in items] for name in items[0]},
                         **kwargs)
        if reference is not None and reference is not model:
            reference.eval().requires_grad_(False).to(args.device)
        self.reference, self.one_tower = reference, features.shared(model, reference)
        self.add_callback(StepClock(self.meter))
        self.stateful |= {"meter": self.meter, "samples": self.samples}
        self.cut_only_every(grpo.num_iterations)

    def _get_train_sampler(self, train_dataset=None) -> StepSampler:
        prompts = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        if self.labels is not None:
            return EvenSampler(self.labels, prompts, self.grpo.num_iterations, self.args.seed)
        return StepSampler(len(self.rows), prompts, self.grpo.num_iterations, self.args.seed)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The micro-batches of one optimizer step, answered and rewarded, and the global count the loss is divided by.

        With num_iterations above 1 the following steps get the same micro-batches again.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return [], None
        if not self._step[0] or self.state.global_step % self.grpo.num_iterations == 0:
            self._step = self._roll_out(batches, device)
        return self._step

    def _roll_out(self, batches: list[dict], device) -> tuple[list[dict], Tensor]:
        """Rollout, rewards, advantages, old and reference log-probs of all prompts of a step."""
        rows = [row for batch in batches for row in batch["row"]]
        prompts = [prompt for batch in batches for prompt in batch["prompt"]]
        with self.meter.clock("seconds/rollout"), self._sampling_context():
            groups = self._generate(prompts, rows)
        rolled = [Rolled(self.rows[row], prompt, group, [self._text(one) for one in group])
                  for row, prompt, group in zip(rows, prompts, groups, strict=True)]
        answers = [each.answers for each in rolled]
        rewards = {}                                                                     # (prompts, G) each
        with self.meter.clock("seconds/rewards"):
            for name in self.rewards:
                rewards[name] = self._reward(name, answers, rolled)
        total = torch.stack([self.weights.get(name, 1.0) * values for name, values in rewards.items()]).sum(0)
        member = torch.arange(len(rows)).repeat_interleave(self.grpo.num_generations)
        advantage = advantages(total.flatten(), member, self.grpo.scale_by_std).view_as(total)
        for each, values in zip(rolled, advantage, strict=True):
            each.advantages = values
        with self.meter.clock("seconds/exchange"):  # the step's first collective: with the wait for the slowest
            own = iter(rolled)
            dealt = balanced(self.accelerator, [list(islice(own, len(batch["row"]))) for batch in batches],
                             lambda each: forwarded_tokens(each.group))
        self._measure(groups, rewards, total)
        if self.is_world_process_zero():
            self.samples.write(self.state.global_step + 1, rolled[0])
        if self.on_rollout is not None:
            self.on_rollout(self.state.global_step + 1, answers, rewards, self.meter)

        with self.meter.clock("seconds/passes"):
            micro_batches = [[{"batch": self._pass([batch[i] for i in held], device)}
                              for held in self.cut([each.group for each in batch])] for batch in dealt]
        tokens = sum(len(one.token_ids) for group in groups for one in group)
        local = tokens if self.grpo.normalize == "token" else total.numel()
        return micro_batches, self.accelerator.gather(torch.tensor([local], device=device)).sum()

    def _sampling_context(self):
        """Autocast for the model that is trained; an engine has weights of its own type, and compiles what it sees."""
        return self.accelerator.autocast() if self.rollout.exact else nullcontext()

    def _generate(self, prompts: list[Prompt], rows: list[int]) -> list[list[Completion]]:
        """The step's completions of these rows, given by their numbers."""
        try:
            return self.rollout.generate(self.model_wrapped, prompts, self.grpo.num_generations, rows,
                                         seed=self.args.seed, step=self.state.global_step // self.grpo.num_iterations)
        except FloatingPointError as error:
            broken.stop(self.args, self.state.global_step + 1, str(error),
                          [broken.fields(self.rows[row]) for row in rows], prompts)

    def _text(self, completion: Completion) -> str:
        return self.tokenizer.decode(completion.token_ids, skip_special_tokens=True)

    def _reward(self, name: str, answers: list[Answers], rolled: list[Rolled]) -> Tensor:
        """A reward (prompts, G), also left with its rows; one that is not finite stops the run."""
        values = torch.tensor(self.rewards[name](answers), dtype=torch.float32)
        if values.shape != (len(answers), self.grpo.num_generations):
            raise ValueError(f"the reward {name!r} must give one number per completion, "
                             f"{(len(answers), self.grpo.num_generations)}, and gave {tuple(values.shape)}: {values}")
        for each, own in zip(rolled, values, strict=True):
            each.rewards[name] = own
        bad = ~values.isfinite()
        if bad.any():
            broken.stop(self.args, self.state.global_step + 1,
                          f"the reward {name!r} is not finite for {bad.sum()} of {bad.numel()} completions",
                          [each.record() for each in rolled], [each.prompt for each in rolled],
                          culprits={each.row.id for each, own in zip(rolled, bad, strict=True) if own.any()},
                          remedy="repair what that reward is made of")
        return values

    def _pass(self, rolled: list[Rolled], device) -> PassBatch:
        """The pass that holds these of a step's prompts."""
        groups = [each.group for each in rolled]
        made = PassBatch(
            rolled=rolled, groups=groups, advantages=torch.cat([each.advantages for each in rolled]).to(device),
            sampled=torch.cat([one.log_probs for each in rolled for one in each.completions]).to(device),
            old=self._log_probs(self.model, groups) if self.grpo.num_iterations > 1 else None,
            reference=self._reference_log_probs(groups))
        for name in ("sampled", "old", "reference"):
            values = getattr(made, name)
            if values is not None and not values.isfinite().all():
                self.halt(f"{(~values.isfinite()).sum()} of {len(values)} {name} log-probabilities are not finite",
                          [{"batch": made}])
        return made

    @torch.no_grad()
    def _log_probs(self, model, groups: list[Group]) -> Tensor:
        first = self.one_tower and any(group.prompt.features is None for group in groups)
        with self.accelerator.autocast(), features.kept(model, groups) if first else nullcontext():
            return score(model, groups, temperature=self.rollout.temperature, banned=self.rollout.banned).log_probs

    def _reference_log_probs(self, groups: list[Group]) -> Tensor | None:
        if self.reference is None:
            return None
        with lora.off(self.model) if self.reference is self.model else nullcontext():
            return self._log_probs(self.reference, groups)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """This pass's part of the step's loss. Processes' gradients are averaged, hence the factor."""
        batch: PassBatch = inputs["batch"]
        scores = score(model, batch.groups, temperature=self.rollout.temperature, banned=self.rollout.banned)
        old = scores.log_probs.detach() if batch.old is None else batch.old
        weights = token_weights(scores.completion, self.grpo.normalize, int(num_items_in_batch))
        importance = None
        if not self.rollout.exact:
            importance = importance_weights(old, batch.sampled, IMPORTANCE_CAP)
            self.meter.add("importance", importance)
            self.meter.add("importance_cut", importance == IMPORTANCE_CAP)
        loss = grpo_loss(scores.log_probs, old, batch.advantages[scores.completion], weights,
                         clip_epsilon=self.grpo.clip_epsilon, beta=self.grpo.beta, reference_log_probs=batch.reference,
                         importance=importance)
        if not (scores.log_probs.isfinite().all() & loss.isfinite()):
            bad = ~scores.log_probs.isfinite()
            self.halt(f"the loss is {loss.item()}, and {bad.sum()} of {len(bad)} log-probabilities are not finite",
                      [inputs], {batch.rolled[group].row.id for group in scores.group[bad].tolist()},
                      log_probs=scores.log_probs)
        ratio = (scores.log_probs.detach() - old).exp()
        self.meter.add("ratio", ratio)
        self.meter.add("clipped", (ratio - 1).abs() > self.grpo.clip_epsilon)
        self.meter.add("entropy", scores.entropies)
        self.meter.add("sampling_gap", (old - batch.sampled).abs())
        if batch.reference is not None:
            self.meter.add("kl", kl(scores.log_probs.detach(), batch.reference))
        return loss * self.accelerator.num_processes

    def log(self, logs, start_time=None):
        """Trainer's numbers and ours."""
        super().log({**logs, **self.meter.flush(self.accelerator)} if "loss" in logs else logs, start_time)

    def _measure(self, groups: list[list[Completion]], rewards: dict[str, Tensor], total: Tensor) -> None:
        self.meter.add("reward", total)
        self.meter.add("reward_std", total.std(1))
        for name, values in rewards.items():
            self.meter.add(f"reward/{name}", values)
            self.meter.add(f"reward/{name}_std", values.std(1))  # within the group: what advantages are made of
        self.meter.add("zero_spread", total.amax(1) - total.amin(1) < 1e-6)
        completions = [one for group in groups for one in group]
        self.meter.add("length", torch.tensor([len(one.token_ids) for one in completions]))
        self.meter.add("truncated", torch.tensor([not one.finished for one in completions]))

    def halt(self, what: str, passes: list[dict], culprits: Collection[str] = (), **tensors: Tensor) -> NoReturn:
        """See `PackedTrainer`."""
        batches = [each["batch"] for each in passes]
        for name in ("advantages", "sampled", "old", "reference"):
            if getattr(batches[0], name) is not None:
                tensors[name] = torch.cat([getattr(batch, name) for batch in batches])
        rolled = [each for batch in batches for each in batch.rolled]
        broken.stop(self.args, self.state.global_step + 1, what, [each.record() for each in rolled],
                      [each.prompt for each in rolled], tensors, culprits)


class _Prompts(Dataset):
    """Row numbers, and prompts that are encoded, photo and all, when they are fetched."""

    def __init__(self, rows: Sequence[Any], encode: Callable[[Any], Prompt]):
        self.rows, self.encode = rows, encode

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"row": row, "prompt": self.encode(self.rows[row])}
