"""The code for GPUs executed on a pretended one: every stage of the shipped configs at full size, without a GPU.

    python -m bench.pretended_cuda [CASE …] [--json FILE]

Real trainers make real steps, forward and backward, on tensors that have shapes and no numbers (bench.pretended). Of
every case: peak_gib, bytes alive at most, beside planned_gib, what gre.plan says of the same parts; and reads, where in
a pass, and how often, Python waits for a value of the GPU. A tensor left on the CPU is an error.

DeepSpeed is not pretended: under ZeRO-3 (gre7b) a pass is made over whole weights and gradients in bfloat16, without
master weights, optimizer and communication, and the planner is asked for just that. What Trainer does alone
(gre3b_lora) is whole: two steps, optimizer included.
"""
from bench.pretended import device

if __name__ == "__main__":
    device.start_again()

# ruff: noqa: E402
import argparse
import gc
import json
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from bench.plan_memory import BASE, random_model
from gre.judge.model import Judge
from gre.models import adapter, lora, patches
from gre.models.attention import varlen
from gre.models.packing import Group, Prompt
from gre.models.shapes import PATCHES_PER_TOKEN, Shape
from gre.models.vlm import freeze_vision, load_processor
from gre.plan.memory import CONTEXT_BYTES, FRAGMENTATION, GIB, Engine, Job, moments, parts
from gre.plan.recipe import job, read_recipe
from gre.provenance import commit
from gre.rollout.completion import Completion
from gre.training import grpo, sft
from gre.training.arguments import TrainConfig, training_arguments
from gre.training.grpo import GRPOConfig, GRPOTrainer
from gre.training.sft import SFTTrainer
from gre.training.trainer.passes import PackedTrainer

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("stage1", "judge", "stage2", "stage2_verdict", "stage3")
ACCUMULATION = 2  # the second pass meets the gradients of the first, as in every shipped config
RANK = 32         # of an adapter, as in configs/gre3b_lora


@dataclass(frozen=True)
class Case:
    """A pass of one process. job: its shape, weights and batch; a Job with completions sampled is one of RL.

    judged: the rewards ask a judge. iterations: updates on a step's completions; above 1 the old policy is scored too.
    scored_last: of a completion the last token alone meets the head. capability: of the GPU.
    """

    job: Job
    judged: bool = False
    iterations: int = 1
    scored_last: bool = False
    capability: tuple[int, int] = (9, 0)

    @property
    def sharded(self) -> bool:
        """Whether DeepSpeed holds the weights."""
        return self.job.engine.zero is not None


def shipped() -> dict[str, Case]:
    """Every stage of the shipped configs for GPUs, by its name."""
    return {f"{recipe}/{stage}": _of_stage(ROOT / "configs" / recipe / f"{stage}.yaml")
            for recipe in ("gre7b", "gre3b_lora") for stage in STAGES}


def _of_stage(file: Path) -> Case:
    recipe, stage = read_recipe([str(file)]), file.stem
    planned = job(recipe, stage, file, gpus=8 if recipe.train.deepspeed else 1)
    if recipe.train.deepspeed:
        planned = replace(planned, engine=Engine(zero=0, bf16=recipe.train.bf16, bucket=0), served=0.0)
    return Case(replace(planned, accumulation=ACCUMULATION, micro_batch=None), judged=planned.judge > 0,
                iterations=recipe.grpo.num_iterations, scored_last=stage == "judge")


def planned_bytes(planned: Job) -> float:
    """The planner's peak of loss, backward pass and step, without what is not pretended: CUDA's own, the allocator's
    waste, and of DeepSpeed master weights, optimizer and the bucket that gradients are reduced in."""
    size, times = parts(planned), moments(planned)
    peak = max(times[name] for name in ("loss", "backward", *([] if planned.engine.zero is not None
                                                             else ["optimizer step"])))
    peak = (peak - CONTEXT_BYTES) / (1 + FRAGMENTATION)
    if planned.engine.zero is None:
        return peak
    bucket = planned.engine.weight_bytes * planned.shape.embedding_parameters
    return peak - size["master weights and optimizer"] - bucket


def measure(case: Case) -> dict:
    """What is found of a case. Raises RuntimeError when a tensor is left on the CPU."""
    varlen._chosen.cache_clear()
    device.turn_on(case.capability)
    gc.collect()  # the case before
    started, before = time.perf_counter(), device.Live.now
    with device.Mode(), tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(case, Path(folder))
        device.Live.peak = device.Live.now  # a model is made in float32 first
        if case.sharded:  # what `train` would do first
            if case.job.checkpointing:
                trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
            _pass(trainer)
            trainer.model.zero_grad()
            device.Live.peak = device.Live.now
            _pass(trainer, ACCUMULATION)
        else:
            trainer.train()
        peak = device.Live.peak
        trainer.model.zero_grad()
        device.reads.clear()
        _pass(trainer)
    trained = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    return {"peak_gib": round((peak - before) / GIB, 3), "planned_gib": round(planned_bytes(case.job) / GIB, 3),
            "reads": dict(sorted(device.reads.items())),
            "without_gradient": sum(weight.grad is None or weight.grad.device.type != "cuda" for weight in trained),
            "seconds": round(time.perf_counter() - started, 1)}


def _pass(trainer: PackedTrainer, micro_batches: int = 1) -> None:
    """Forward and backward pass of these micro-batches, as `train` makes them; of RL with all that goes before."""
    trainer.state.max_steps = trainer.state.global_step + 1
    batches, count = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), micro_batches, trainer.args.device)
    for batch in batches:
        trainer.training_step(trainer.model_wrapped, batch, count)


def _put_beside(model) -> None:
    """An adapter of an earlier stage."""
    for name, layer in list(model.named_modules()):
        if re.fullmatch(adapter.LAYERS, name):
            adapter.put_beside(layer, torch.zeros(RANK, layer.in_features), torch.zeros(layer.out_features, RANK))


def _trainer(case: Case, folder: Path) -> PackedTrainer:
    planned, batch = case.job, case.job.batch
    model = _model(planned.shape, planned.engine.low)
    if planned.engine.frozen_adapter:
        _put_beside(model)
    if planned.engine.adapter:
        lora.adapt(model, lora.LoraConfig(r=RANK), seed=0)
    elif planned.frozen_vision:
        freeze_vision(model)
    settings = TrainConfig(max_steps=2, per_device_batch_size=batch.prompts, gradient_accumulation_steps=ACCUMULATION,
                           bf16=planned.engine.bf16 and not case.sharded)
    args = training_arguments(settings, folder / "run", seed=0, gradient_checkpointing=planned.checkpointing)
    if case.sharded:  # DeepSpeed's master weights are not there
        sft.check_weights = grpo.check_weights = lambda model, args: None
    rows = [SimpleNamespace(id=str(i)) for i in range(2 * ACCUMULATION * batch.prompts)]
    prompt = _prompt(case, model.config)
    if not planned.sampled:
        scored = [torch.arange(batch.length) == batch.length - 1] if case.scored_last else None
        group = Group(prompt, [_tokens(batch.length)], scored)
        return SFTTrainer(model, args, rows, lambda row: group)
    processor = load_processor(BASE)
    reference = None
    if planned.reference is not None:
        reference = model if planned.engine.adapter else _model(planned.shape, planned.engine.low)
    return GRPOTrainer(
        model, args, rows=rows, encode=lambda row: prompt,
        rewards={"reward": _reward(case, processor)}, rollout=Prescribed(planned.shape.vocab, batch.length),
        tokenizer=processor.tokenizer, reference=reference,
        grpo=GRPOConfig(num_generations=batch.completions, beta=0.04 if reference is not None else 0.0,
                        num_iterations=case.iterations), samples=folder / "samples.jsonl")


def _model(shape: Shape, low: bool) -> nn.Module:
    """As `load_model` gives it, on the pretended GPU."""
    model = random_model(shape, "cuda")
    if low:
        model = model.to(torch.bfloat16)
    patches.install(model)
    return model


def _prompt(case: Case, config) -> Prompt:
    """A photo of the batch's patches and text around it."""
    visual = case.job.batch.patches // PATCHES_PER_TOKEN
    height = next(side for side in range(isqrt(visual), 0, -1) if visual % side == 0)
    ids = torch.cat([_tokens(20), torch.tensor([config.vision_start_token_id]),
                     torch.full((visual,), config.image_token_id), torch.tensor([config.vision_end_token_id]),
                     _tokens(case.job.batch.prompt - visual - 22)])
    values = torch.zeros(case.job.batch.patches, case.job.shape.patch_values)
    return Prompt(ids, (ids == config.image_token_id).long(), values,
                  torch.tensor([[1, 2 * height, 2 * visual // height]]))


def _tokens(count: int) -> torch.Tensor:
    return torch.full((count,), 300)


def _reward(case: Case, processor) -> Callable:
    """A judge's verdicts on the texts, or none."""
    if not case.judged:
        return lambda groups: [[float(i % 2) for i in range(len(group.texts))] for group in groups]
    judge = Judge(_model(case.job.judge_shape or case.job.shape, case.job.engine.low).eval(), processor)

    def reward(groups):
        for group in groups:
            verdicts = judge.p_true([_prompt(case, judge.model.config)], [group.texts])
        return [verdicts.p_true.tolist()] * len(groups)

    return reward


@dataclass(frozen=True)
class Prescribed:
    """A rollout engine of its own weights, as vLLM is one: full-length completions."""

    vocab: int
    max_new_tokens: int
    engine, version, exact, temperature, batch_size = "prescribed", "", False, 1.0, 64

    @property
    def banned(self) -> torch.Tensor:
        return torch.arange(self.vocab) < 4

    def generate(self, model, prompts, num_generations, keys, *, seed, step, greedy=False):
        """See `gre.rollout.completion.Rollout`."""
        one = Completion(_tokens(self.max_new_tokens), True, torch.zeros(self.max_new_tokens))
        return [[one] * num_generations for _ in prompts]


def main(argv: list[str] | None = None) -> None:
    """Measure the cases named, or all, and write what was found."""
    cases, parser = shipped(), argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(cases))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(argv)
    if unknown := set(given.cases) - cases.keys():
        parser.error(f"there is no case {', '.join(sorted(unknown))}: they are {', '.join(cases)}")
    found, code = {}, commit()
    for name in given.cases or cases:
        found[name] = measure(cases[name])
        print(f"{name}: {found[name]['peak_gib']:.2f} GiB, planned {found[name]['planned_gib']:.2f}; "
              f"{sum(found[name]['reads'].values())} reads; {found[name]['seconds']:.0f} s", flush=True)
        if given.json:
            given.json.write_text(json.dumps({"command": "python -m bench.pretended_cuda --json FILE", "commit": code,
                                                "cases": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
