"""The sides of bench.step: the real trainers, ours and TRL's, on one job, with a stopwatch in their methods."""
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.plan_memory import BASE, random_model
from bench.sides import CLIP_EPSILON, LEARNING_RATE, padded_attention
from bench.stopwatch import Stopwatch
from bench.workload import BETA, NOISE, SMALL, THREE
from gre.config import UserError
from gre.geo.point import LatLon
from gre.models.attention import shared_prefix
from gre.models.shapes import Shape
from gre.models.tower import processor_settings
from gre.models.vlm import SIDE_PIXELS, banned_tokens, end_token_id, load_model, load_processor
from gre.rewards.answers import Answers
from gre.rewards.format import format_reward
from gre.rollout.completion import Completion, Rollout
from gre.rollout.generate import TransformersRollout
from gre.rollout.vllm.engine import Engine, VLLMRollout
from gre.tiny import world
from gre.training import rl
from gre.training.arguments import TrainConfig, training_arguments
from gre.training.grpo import GRPOConfig, GRPOTrainer
from stages import stage3

THETAS_KM = stage3.GPSConfig().thetas_km


@dataclass(frozen=True)
class Work:
    """A step: so many prompts, at_a_time of them a micro-batch, G completions each, of `lengths`: {tokens: how often}.

    shape: of a random model and photos of `side` pixels; None: the tiny base and photos of the tiny world.
    """

    shape: Shape | None
    prompts: int
    at_a_time: int
    lengths: Mapping[int, int]
    generations: int = 8
    side: int = 0
    instruction: str = world.INSTRUCTION

    @property
    def drawn(self) -> list[list[int]]:
        """Tokens of every completion of every row: evenly over `lengths`, in an order that is always the same."""
        count = self.prompts * self.generations
        known = np.repeat(list(self.lengths), list(self.lengths.values()))
        lengths = np.quantile(known, (np.arange(count) + 0.5) / count, method="inverted_cdf")
        return np.random.default_rng(0).permutation(lengths).reshape(self.prompts, self.generations).tolist()

    @property
    def longest(self) -> int:
        """Tokens that every side samples of every completion."""
        return max(map(max, self.drawn))


# What stages 2 and 3 of two quickstarts have drawn; three of the 816 did not come to an end.
TINY_LENGTHS = {34: 1, 46: 1, 48: 1, 51: 1, 52: 5, 53: 20, 54: 73, 55: 156, 56: 167, 57: 196, 58: 55, 59: 122, 60: 7,
                62: 1, 63: 5, 65: 1, 67: 1, 95: 1, 96: 2}
EVEN = dict.fromkeys(range(60, 181), 1)  # as in bench.update
# vLLM's attention on a CPU has no heads of 48: as wide as bench.update's G8, in 9 heads of 64.
SHAPES = {
    "tiny": Work(None, 36, 36, TINY_LENGTHS),
    "G8": Work(replace(SMALL, heads=9, kv_heads=3), 2, 1, EVEN, side=504,
               instruction=" ".join(["Where was this photo taken?"] * 6)),
}


def works(device: str) -> dict[str, Work]:
    """The steps of a device, by name."""
    return {**SHAPES, "G8": replace(SHAPES["G8"], shape=replace(THREE, layers=6))} if device == "cuda" else SHAPES


@dataclass(frozen=True)
class Outcome:
    """A step's loss, the norm of its gradient, and its seconds by part."""

    loss: float
    grad_norm: float
    seconds: dict[str, float]


@dataclass
class Job:
    """What the sides share. bf16: autocast, and vLLM's type. recorded: the completions of every row, once drawn."""

    work: Work
    folder: Path
    now: Callable[[], float]
    device: str = "cpu"
    bf16: bool = False
    recorded: dict[int, list[Completion]] = field(default_factory=dict)

    def __post_init__(self):
        work, most = self.work, (self.work.side or 1280 * SIDE_PIXELS) ** 2
        self.processor = load_processor(BASE, SIDE_PIXELS**2, most) if work.shape else load_processor(BASE)
        torch.manual_seed(0)
        self.policy, self.reference = ((random_model(work.shape, self.device) if work.shape else
                                        load_model(BASE).to(self.device)) for _ in range(2))
        self.reference.load_state_dict(self.policy.state_dict())
        self.reference.eval().requires_grad_(False)
        with torch.no_grad():
            for weight in self.reference.parameters():  # a KL that is not 0 makes every log-probability count
                weight.mul_(1 + NOISE * torch.randn_like(weight))
        self.rows = pictures(work, self.folder)
        tokenizer = self.processor.tokenizer
        self.end = end_token_id(tokenizer)
        self.banned = banned_tokens(tokenizer, self.policy.config.text_config.vocab_size)
        self.banned[self.end] = True

    def rewards(self) -> dict[str, Callable[[str, int], float]]:
        """Of a text about a row, by name."""
        def gps(text: str, row: int) -> float:
            return stage3.gps_rewards(THETAS_KM, [Answers(self.rows[row], [text], [True])])[0][0]

        return {"format": lambda text, _: format_reward(text, True), "gps": gps,
                "length": lambda text, _: len(text) % 7 / 7}

    def check_length(self, completions: list) -> None:
        """Every completion must be sampled to the same length."""
        if set(map(len, completions)) != {self.work.longest}:
            raise UserError(f"completions of {sorted(set(map(len, completions)))} tokens, not {self.work.longest}: the "
                            "sides would not do the same work")


def pictures(work: Work, folder: Path) -> list[SimpleNamespace]:
    """Rows of stage 3."""
    if work.shape is None:
        photos = world.Planet(world.Config(out=str(folder))).photos("gre_seed", 1)
        found = [(photo.image, photo.truth) for photo in photos]
    else:
        generator, found = np.random.default_rng(0), []
        for number in range(work.prompts):
            small = generator.integers(0, 255, (30, 30, 3), dtype=np.uint8)
            found.append((folder / f"{number}.png", LatLon(48.9, 2.4)))
            Image.fromarray(small).resize((work.side, work.side), Image.Resampling.BICUBIC).save(found[-1][0])
    return [SimpleNamespace(id=str(number), image=image, instruction=work.instruction, truth=truth)
            for number, (image, truth) in enumerate(found[:work.prompts])]


class Replayed:
    """A rollout that samples, and then hands out what was recorded: the first tokens of what was sampled first, as many
    as were drawn for each completion. Nothing is banned where its tokens are scored,
    since TRL bans nothing there."""

    exact = True

    def __init__(self, inner: Rollout, job: Job):
        self.inner, self.job, self.banned = inner, job, torch.zeros_like(job.banned)

    def __getattr__(self, name: str):
        return getattr(self.inner, name)

    def generate(self, model, prompts, num_generations, keys, **kwargs) -> list[list[Completion]]:
        """See `Rollout`."""
        groups = self.inner.generate(model, prompts, num_generations, keys, **kwargs)
        self.job.check_length([one.token_ids for group in groups for one in group])
        for key, group in zip(keys, groups, strict=True):
            self.job.recorded.setdefault(key, [
                replace(one, token_ids=one.token_ids[:length], log_probs=one.log_probs[:length])
                for one, length in zip(group, self.job.work.drawn[key], strict=True)])
        return [self.job.recorded[key] for key in keys]


class Side:
    """A trainer that makes the step. trainer: with a stopwatch in its methods."""

    attention: str
    trainer: Any

    def __init__(self, job: Job):
        self.job, self.watch = job, Stopwatch(job.now)

    def select(self) -> None:
        """Put this side's attention into the shared models."""
        for model in (self.job.policy, self.job.reference):
            model.set_attn_implementation({"text_config": self.attention})

    def step(self) -> Outcome:
        """One optimizer step. What no other part has is the update: the trainer's loop, backward passes, optimizer."""
        with self.watch.part("update"):
            self.trainer.train()
        logged = next(log for log in self.trainer.state.log_history if "loss" in log)
        return Outcome(logged["loss"], float(logged["grad_norm"]), self.watch.take())


class Ours(Side):
    """gre's GRPOTrainer as stage 3 builds it."""

    attention = shared_prefix.NAME

    def __init__(self, job: Job):
        super().__init__(job)
        work, rollout = job.work, self.rollout()
        train = TrainConfig(max_steps=1, learning_rate=LEARNING_RATE, warmup_steps=0,
                            per_device_batch_size=work.at_a_time,
                            gradient_accumulation_steps=work.prompts // work.at_a_time, bf16=job.bf16)
        args = training_arguments(train, job.folder / type(self).__name__, 0, on_cpu=job.device == "cpu")
        for model in (job.policy, job.reference):
            shared_prefix.install(model)

        def rewards(reward: Callable[[str, int], float], groups: list[Answers]) -> list[list[float]]:
            return [[reward(text, int(group.row.id)) for text in group.texts] for group in groups]

        self.trainer = GRPOTrainer(
            job.policy, args, rows=job.rows, encode=partial(rl.encode, job.processor), rollout=Replayed(rollout, job),
            rewards={name: partial(rewards, reward) for name, reward in job.rewards().items()},
            tokenizer=job.processor.tokenizer, reference=job.reference, samples=job.folder / "samples.jsonl",
            grpo=GRPOConfig(num_generations=work.generations, beta=BETA, clip_epsilon=CLIP_EPSILON,
                            scale_by_std=False))
        for method, part in (("get_batch_samples", "preparation"), ("_generate", "rollout"), ("_reward", "rewards"),
                             ("_log_probs", "passes")):
            self.watch.watch(self.trainer, method, part)

    def rollout(self) -> Rollout:
        """What samples."""
        job = self.job
        return TransformersRollout(job.end, job.processor.tokenizer.pad_token_id, job.banned, job.work.longest)


class OursWithVLLM(Ours):
    """The same, with vLLM's engine in the process; sending it the weights is the part `sync`."""

    def rollout(self):
        job, folder = self.job, self.job.folder / "served"
        job.policy.save_pretrained(folder)
        job.processor.save_pretrained(folder)
        engine = Engine(folder, processor_settings(job.processor), job.banned, max_length=1024,
                        dtype=torch.bfloat16 if job.bf16 else torch.float32,
                        sequences=job.work.prompts * job.work.generations, kv_cache_gib=0.5)
        self.watch.watch(engine, "_send", "sync")
        return VLLMRollout(engine, job.end, job.banned, max_new_tokens=job.work.longest)


class TRL(Side):
    """TRL's GRPOTrainer with its own generate."""

    def __init__(self, job: Job):
        from datasets import Dataset
        from datasets import Image as ImageColumn
        from trl import GRPOConfig as TRLConfig
        from trl import GRPOTrainer as TRLTrainer
        from trl.trainer.utils import add_fused_lm_head

        super().__init__(job)
        self.attention = padded_attention(job.device, job.bf16)
        work = job.work
        dataset = Dataset.from_list([
            {"prompt": [{"role": "user", "content": row.instruction}], "image": str(row.image), "row": number}
            for number, row in enumerate(job.rows)]).cast_column("image", ImageColumn())
        args = TRLConfig(
            str(job.folder / "trl"), max_steps=1, use_cpu=job.device == "cpu", bf16=job.bf16,
            gradient_checkpointing=False, report_to=[], save_strategy="no", logging_steps=1,
            learning_rate=LEARNING_RATE, num_generations=work.generations,
            per_device_train_batch_size=work.at_a_time * work.generations, beta=0.0, epsilon=CLIP_EPSILON,
            gradient_accumulation_steps=work.prompts // work.at_a_time, loss_type="dapo", scale_rewards="none",
            use_bias_correction_kl=False, temperature=1.0, max_completion_length=work.longest,
            generation_kwargs={"suppress_tokens": job.banned.nonzero()[:, 0].tolist()})

        def named(name: str, reward: Callable[[str, int], float]):
            def rewards(completions, row, **_) -> list[float]:
                return [reward(one[0]["content"], number) for one, number in zip(completions, row, strict=True)]

            rewards.__name__ = name
            return rewards

        rewards = [named(name, reward) for name, reward in job.rewards().items()]
        self.trainer = TRLTrainer(job.policy, reward_funcs=rewards, args=args, train_dataset=dataset,
                                  processing_class=job.processor)
        add_fused_lm_head(job.reference, temperature=1.0)  # what its constructor does to a reference it reads
        self.trainer.ref_model, self.trainer.beta = job.reference, BETA
        self._replay()
        for method, part in (("get_batch_samples", "preparation"), ("_generate", "preparation"),
                             ("_generate_and_score_completions", "preparation"), ("_generate_single_turn", "rollout"),
                             ("_calculate_rewards", "rewards"), ("_get_per_token_logps_and_entropies", lambda: (
                                 "update" if torch.is_grad_enabled() else "passes"))):
            self.watch.watch(self.trainer, method, part)

    def _replay(self) -> None:
        """Let it sample, and hand it what was recorded of the same rows."""
        score, generate, asked = (self.trainer._generate_and_score_completions, self.trainer._generate_single_turn, [])

        def remember(inputs):
            asked[:] = [one["row"] for one in inputs]
            return score(inputs)

        def replay(prompt_ids, *args, **kwargs):
            completions, log_probs = generate(prompt_ids, *args, **kwargs)
            self.job.check_length(completions)
            drawn = {row: iter(self.job.recorded[row]) for row in asked}
            return [next(drawn[row]).token_ids.tolist() for row in asked], log_probs

        self.trainer._generate_and_score_completions, self.trainer._generate_single_turn = remember, replay


SIDES = {"ours": Ours, "vllm": OursWithVLLM, "trl": TRL}
