"""The sides of a bench: one optimisation step (old policy, reference, update) on the same weights, three ways.

Every side has a `name`, `select` (what it needs of the shared model), `passes`, which gives the old and the reference
log-probabilities of every scored token, and `backward`, which adds the step's gradient and gives its loss. `step` does
all of it. A micro-batch is one group on every side.
"""
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.utils import is_flash_attn_2_available

from bench import measure
from bench.plan_memory import BASE
from bench.workload import BETA, Workload, make_advantages, make_groups, make_models
from gre.models.attention import shared_prefix
from gre.models.packing import Group
from gre.models.vlm import load_processor
from gre.rollout.generate import TransformersRollout
from gre.training.arguments import TrainConfig, training_arguments
from gre.training.groups import PassBatch
from gre.training.grpo import GRPOConfig, GRPOTrainer

LEARNING_RATE = 1e-6
CLIP_EPSILON = 0.2


class Job:
    """What the sides share: models, optimizer, rollouts and what they earned."""

    def __init__(self, workload: Workload, device: str, folder: Path, checkpointing: bool = False, bf16: bool = False):
        self.workload, self.device, self.folder, self.checkpointing = workload, device, folder, checkpointing
        self.bf16 = bf16
        self.policy, self.reference = make_models(workload, device)
        self.optimizer = torch.optim.AdamW(self.policy.parameters(), lr=LEARNING_RATE, weight_decay=0.0,
                                           fused=device == "cuda")  # the other takes a copy of its state
        self.groups, self.advantages = make_groups(workload, self.policy), make_advantages(workload)
        self.tokens = sum(map(sum, workload.lengths()))
        if checkpointing:
            self.policy.gradient_checkpointing_enable({"use_reentrant": False})

    def autocast(self):
        """bfloat16 over float32 weights, or float32."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bf16)


@dataclass(frozen=True)
class Outcome:
    """What must be equal between sides: log-probabilities (N,) by token, the loss and the gradient's norm."""

    old: Tensor
    reference: Tensor
    loss: float
    grad_norm: float


class Side:
    """One way to make the step."""

    name: str
    attention = "sdpa"

    def __init__(self, job: Job):
        self.job = job

    def select(self) -> None:
        """Put this side's attention into the shared models."""
        for model in (self.job.policy, self.job.reference):
            model.set_attn_implementation({"text_config": self.attention})

    def step(self, learn: bool = True) -> Outcome:
        """The whole step; without `learn` the weights stay as they are."""
        job = self.job
        with torch.no_grad(), job.autocast():
            old, reference = self.passes()
        loss = self.backward(old, reference)
        norm = torch.nn.utils.clip_grad_norm_(job.policy.parameters(), 1.0)
        if learn:
            job.optimizer.step()
        job.optimizer.zero_grad(set_to_none=True)
        return Outcome(self.flat(old), self.flat(reference), loss, norm.item())

    def passes(self) -> tuple[list[Tensor], list[Tensor]]:
        raise NotImplementedError

    def backward(self, old: list[Tensor], reference: list[Tensor]) -> float:
        raise NotImplementedError

    def flat(self, values: list[Tensor]) -> Tensor:
        raise NotImplementedError


class Ours(Side):
    """gre's GRPOTrainer: its own passes and its own compute_loss."""

    name = "ours"
    attention = shared_prefix.NAME

    def __init__(self, job: Job):
        super().__init__(job)
        work = job.workload
        args = training_arguments(TrainConfig(max_steps=1, per_device_batch_size=1,
                                              gradient_accumulation_steps=work.groups, bf16=job.bf16),
                                  job.folder / "ours", 0, job.checkpointing, on_cpu=job.device == "cpu")
        shared_prefix.install(job.policy)
        shared_prefix.install(job.reference)
        self.trainer = GRPOTrainer(
            job.policy, args, rows=[SimpleNamespace(id=str(i)) for i in range(work.groups)], encode=None, rewards={},
            rollout=TransformersRollout(1, 0, torch.zeros(work.shape.vocab, dtype=torch.bool), 2 * work.length),
            tokenizer=None, reference=job.reference, samples=job.folder / "samples.jsonl",
            grpo=GRPOConfig(num_generations=work.generations, beta=BETA, clip_epsilon=CLIP_EPSILON))

    def passes(self):
        both = (self.job.policy, self.job.reference)
        return tuple([self.trainer._log_probs(model, [group]) for group in self.job.groups] for model in both)

    def backward(self, old, reference):
        total = 0.0
        for number, group in enumerate(self.job.groups):
            batch = PassBatch([], [group], self.job.advantages[number].to(self.job.device), old[number],
                               old[number], reference[number])
            with self.job.autocast():
                loss = self.trainer.compute_loss(self.job.policy, {"batch": batch}, num_items_in_batch=self.job.tokens)
            loss.backward()
            total += loss.item()
        return total

    def flat(self, values):
        return torch.cat(values)


class Rows(Side):
    """What both peers are given: every completion behind its prompt, padded to the group's longest."""

    def __init__(self, job: Job):
        super().__init__(job)
        self.attention = padded_attention(job.device, job.bf16)
        self.batches = [self._batch(group, advantage)
                        for group, advantage in zip(job.groups, job.advantages, strict=True)]

    def _batch(self, group: Group, advantages: Tensor) -> dict[str, Tensor]:
        prompt, count = group.prompt, len(group.completions)
        longest = max(len(one) for one in group.completions)
        completions = torch.stack([pad(one, (0, longest - len(one))) for one in group.completions])
        mask = torch.arange(longest) < torch.tensor([len(one) for one in group.completions])[:, None]
        ids = prompt.input_ids.expand(count, -1)
        kinds = prompt.mm_token_type_ids.expand(count, -1)
        batch = {"prompt_ids": ids, "prompt_mask": torch.ones_like(ids), "completion_ids": completions,
                 "completion_mask": mask.long(), "advantages": advantages,
                 "mm_token_type_ids": torch.cat([kinds, torch.zeros_like(completions)], 1),
                 "pixel_values": prompt.pixel_values.repeat(count, 1),
                 "image_grid_thw": prompt.image_grid_thw.repeat(count, 1)}
        return {name: value.to(self.job.device) for name, value in batch.items()}

    def log_probs(self, model, batch: dict[str, Tensor]) -> Tensor:
        """(G, longest), of padding anything."""
        raise NotImplementedError

    def passes(self):
        both = (self.job.policy, self.job.reference)
        return tuple([self.log_probs(model, batch) for batch in self.batches] for model in both)

    def flat(self, values):
        return torch.cat([value[batch["completion_mask"].bool()]
                          for value, batch in zip(values, self.batches, strict=True)])


class Plain(Rows):
    """Padded rows through transformers alone, as VLM-R1 forwards them."""

    name = "plain"
    # padded mask: the mask is handed on, as VLM-R1 does. causal: it is not, since padding on the right is seen by no
    # token that counts, and SDPA may leave out what lies above the diagonal. Head at every position or where scored.
    SETTINGS = {"padded mask, head everywhere": (True, False), "padded mask, head where scored": (True, True),
                "causal, head everywhere": (False, False), "causal, head where scored": (False, True)}

    def __init__(self, job: Job):
        super().__init__(job)
        self.setting = "causal, head where scored"

    def log_probs(self, model, batch: dict[str, Tensor]) -> Tensor:
        with_mask, only_scored = self.SETTINGS[self.setting]
        labels = batch["completion_ids"]
        width = labels.shape[1]
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1) if with_mask else None
        logits = model(input_ids=torch.cat([batch["prompt_ids"], labels], 1), attention_mask=mask, use_cache=False,
                       logits_to_keep=width + 1 if only_scored else 0, mm_token_type_ids=batch["mm_token_type_ids"],
                       pixel_values=batch["pixel_values"], image_grid_thw=batch["image_grid_thw"]).logits
        rows = zip(logits[:, -width - 1:-1], labels, strict=True)
        return torch.stack([row.float().log_softmax(-1).gather(1, label[:, None])[:, 0] for row, label in rows])

    def backward(self, old, reference):
        total = 0.0
        for batch, before, other in zip(self.batches, old, reference, strict=True):
            with self.job.autocast():
                now = self.log_probs(self.job.policy, batch)
            ratio, advantage = (now - before).exp(), batch["advantages"][:, None]
            gain = torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP_EPSILON, 1 + CLIP_EPSILON) * advantage)
            loss = -gain + BETA * ((other - now).exp() - (other - now) - 1)
            loss = (loss * batch["completion_mask"]).sum() / self.job.tokens
            loss.backward()
            total += loss.item()
        return total


class TRL(Rows):
    """TRL's GRPOTrainer: its _get_per_token_logps_and_entropies and its compute_loss, on inputs as it prepares them.

    TRL leaves the old policy's pass out by default, and so do we; here both make it. On a CPU its head scores every
    position of a row, on CUDA those of the completion.
    """

    name = "trl"

    def __init__(self, job: Job):
        from trl import GRPOConfig as TRLConfig
        from trl import GRPOTrainer as TRLTrainer
        from trl.trainer.utils import add_fused_lm_head

        super().__init__(job)
        work = job.workload
        args = TRLConfig(str(job.folder / "trl"), per_device_train_batch_size=work.generations,
                         gradient_accumulation_steps=work.groups, num_generations=work.generations, beta=0.0,
                         epsilon=CLIP_EPSILON, loss_type="dapo", use_bias_correction_kl=False,  # we have no such one
                         temperature=1.0, bf16=job.bf16,
                         use_cpu=job.device == "cpu", gradient_checkpointing=job.checkpointing, report_to=[],
                         max_completion_length=2 * work.length)
        self.trainer = TRLTrainer(job.policy, reward_funcs=lambda completions, **_: [0.0] * len(completions), args=args,
                                  train_dataset=_one_row(), processing_class=load_processor(BASE))
        # Built without a reference, which it would read from a folder; this is what its constructor does to one.
        add_fused_lm_head(job.reference, temperature=1.0)
        self.trainer.ref_model, self.trainer.beta = job.reference, BETA
        self.trainer.current_gradient_accumulation_steps = work.groups

    def log_probs(self, model, batch: dict[str, Tensor]) -> Tensor:
        return self.trainer._get_per_token_logps_and_entropies(
            model, torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1), batch["completion_ids"].shape[1],
            num_images=[1] * len(batch["advantages"]),
            **{name: batch[name] for name in ("pixel_values", "image_grid_thw", "mm_token_type_ids")})[0]

    def backward(self, old, reference):
        total = 0.0
        for batch, before, other in zip(self.batches, old, reference, strict=True):
            inputs = {**batch, "old_per_token_logps": before, "ref_per_token_logps": other,
                      "num_images": [1] * len(batch["advantages"]), "num_items_in_batch": torch.tensor(self.job.tokens)}
            with self.job.autocast():
                loss = self.trainer.compute_loss(self.job.policy, inputs)
            loss.backward()
            total += loss.item()
        return total


SIDES: dict[str, Callable[[Job], Side]] = {side.name: side for side in (Ours, Plain, TRL)}


def padded_attention(device: str, bf16: bool) -> str:
    """The peers' attention among text, by transformers' name: the fastest there is for padded rows."""
    return "flash_attention_2" if device == "cuda" and bf16 and is_flash_attn_2_available() else "sdpa"


def same(outcomes: dict[str, Outcome], bf16: bool = False) -> None:
    """Raise UserError unless all sides computed the same as the first. Log-probabilities: their largest gap; in
    bfloat16, where one rounding in thousands is large, the root of the mean square."""
    (first, ours), *others = outcomes.items()
    for name, peer in others:
        measure.check_equal(f"the loss of {first}", ours.loss, peer.loss, name, bf16)
        measure.check_equal(f"the norm of the gradient, relative to {first}'s,", 1.0, peer.grad_norm / ours.grad_norm,
                            name, bf16)
        for which in ("old", "reference"):
            gaps = (getattr(ours, which) - getattr(peer, which)).abs()
            apart = (gaps.square().mean().sqrt() if bf16 else gaps.max()).item()
            measure.check_equal(f"the gap of {which} log-probabilities to {first}", 0.0, apart, name, bf16)


def peak(side: str, workload: Workload, device: str, checkpointing: bool = False) -> dict[str, float]:
    """MiB of one step of one side, in this process, which has done nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        watch = measure.Peak(device)
        one = SIDES[side](Job(workload, device, Path(folder), checkpointing, bf16=device == "cuda"))
        one.select()
        loaded = watch.now()
        watch.reset()
        one.step()
        return {"with_models": round(watch.peak() - watch.start, 1), "above_models": round(watch.peak() - loaded, 1)}


def _one_row():
    from datasets import Dataset

    return Dataset.from_list([{"prompt": "where?"}])
