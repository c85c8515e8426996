"""A whole RL step of stage 3 (photos, rollout, rewards, passes, update, weight sync): ours against TRL's GRPOTrainer.

    python -m bench.step [shapes=[tiny,G8]] [sides=[ours,vllm,trl]] [rounds=5] [--json FILE] [key=value …]

ours samples with transformers' generate, vllm with vLLM in the process, TRL with its own generate (use_vllm=False);
every side is its real trainer, called with max_steps=1. Equal work is forced: the end token is banned on all sides, so
that every one samples to the length of the longest completion, is timed at it, and is then handed the completions to
learn from: those ours drew in its first step, cut to lengths as ragged as real ones (which vLLM, unlike generate, would
have stopped at). Every round starts from the same weights; when losses or gradient norms differ by more than 1e-4 no
ratio is printed. TRL leaves the old policy's pass out, and so do we; advantages are not divided by their spread, and
TRL's correction of the KL's gradient, which we do not make, is off. A random model earns nothing, so the text's length
is paid besides format and distance. device=cuda: in bfloat16; G8 has 6 of Qwen2.5-VL-3B's 36 layers, since each side's
trainer keeps an optimizer.
"""
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from bench import measure
from bench.step_sides import SIDES, Job, Outcome, Work, works
from bench.stopwatch import PARTS
from gre.config import UserError, option
from gre.models.shapes import PATCHES_PER_TOKEN
from gre.training import rl


@dataclass
class Config:
    """What is measured."""

    shapes: list[str] = option([], f"some of {', '.join(works('cpu'))}; empty: all")
    sides: list[str] = option(["ours", "vllm", "trl"], "who takes part; ours must")
    rounds: int = option(5, "interleaved rounds, after one that is not counted")
    threads: int = option(1, "threads; with one, seconds are CPU time, with more, wall time")
    device: str = option("cpu", measure.DEVICE)
    json: str = option("", "file for the results, keyed by shape")


def run(config: Config) -> None:
    """Measure every shape, and write after each."""
    known = works(config.device)
    if unknown := [name for name in config.shapes if name not in known]:
        raise UserError(f"shapes holds {unknown[0]}: write some of {', '.join(known)}")
    if unknown := [name for name in config.sides if name not in SIDES]:
        raise UserError(f"sides holds {unknown[0]}: write some of {', '.join(SIDES)}")
    torch.set_num_threads(config.threads)
    results = {}
    for name in config.shapes or list(known):
        def save(result: dict, name=name) -> None:  # after every round, since a round is long
            results[name] = {**result, **measure.origin("bench.step", config.device)}
            measure.write(config.json, results)

        save(compare(config, known[name], save))
        print(name, json.dumps(results[name], indent=2), table(results[name]["parts"]), sep="\n", flush=True)


def compare(config: Config, work: Work, save: Callable[[dict], None] = lambda result: None) -> dict:
    """Seconds, by part too, and ratios; `save` is given those of the rounds so far. Raises UserError when the sides do
    not compute the same."""
    return measure.compared(config.device, config.rounds, partial(_compare, config, work, save))


def _compare(config: Config, work: Work, save: Callable[[dict], None], bf16: bool, rounds: int) -> dict:
    now = measure.clock(config.device, config.threads)
    # A process starts vLLM once, and on CUDA its kernels want bfloat16.
    names = [name for name in config.sides if name != "vllm" or bf16 or config.device == "cpu"]
    found = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        job = Job(work, Path(folder), now, config.device, bf16)
        sides = {name: SIDES[name](job) for name in names}
        start = {name: weight.to("cpu", copy=True) for name, weight in job.policy.state_dict().items()}
        prompt = rl.encode(job.processor, job.rows[0])
        about = {"prompts": work.prompts, "prompts_a_micro_batch": work.at_a_time, "completions": work.generations,
                 "sampled_tokens": work.longest,
                 "completion_tokens": round(statistics.mean(map(statistics.mean, work.drawn)), 1),
                 "prompt_tokens": len(prompt.input_ids),
                 "visual_tokens": len(prompt.pixel_values) // PATCHES_PER_TOKEN,
                 "attention": {name: side.attention for name, side in sides.items()},
                 "parameters": sum(weight.numel() for weight in job.policy.parameters())}

        def turn(name: str) -> None:
            job.policy.load_state_dict(start)
            sides[name].select()

        def after(outcomes: dict[str, Outcome]) -> None:
            check(outcomes, bf16)
            for name, outcome in outcomes.items():
                found[name].append(outcome.seconds)
            if len(found["ours"]) > 1:
                save({**summary(found), **about})

        measure.interleave({name: side.step for name, side in sides.items()}, rounds + 1, now, turn, after)
    return {**summary(found), **about}


def summary(found: dict[str, list[dict[str, float]]]) -> dict:
    """Seconds of every round but the first, medians by part, and ratios."""
    counted = {name: values[1:] for name, values in found.items()}
    seconds = {name: [round(sum(one.values()), 3) for one in values] for name, values in counted.items()}
    result = {"seconds": seconds, "parts": {name: {part: round(statistics.median(one[part] for one in values), 3)
                                                   for part in PARTS} for name, values in counted.items()}}
    for name in (name for name in ("ours", "vllm") if name in seconds and "trl" in seconds):
        spread = measure.ratio(seconds["trl"], seconds[name])
        key = "ratio_vs_trl" if name == "ours" else "ratio_vs_trl_with_vllm"
        result |= {key: spread["median"], f"{key}_spread": [spread["min"], spread["max"]]}
    return result


def check(outcomes: dict[str, Outcome], bf16: bool) -> None:
    """Raise UserError unless all sides computed the same as ours."""
    ours = outcomes["ours"]
    for name, peer in outcomes.items():
        measure.check_equal("the loss", ours.loss, peer.loss, name, bf16)
        measure.check_equal("the norm of the gradient, relative to ours,", 1.0, peer.grad_norm / ours.grad_norm, name,
                            bf16)


def table(parts: dict[str, dict[str, float]]) -> str:
    """Seconds by part as Markdown."""
    rows = [f"| {name} | " + " | ".join(f"{seconds[part]:.2f}" for part in PARTS) + f" | {sum(seconds.values()):.2f} |"
            for name, seconds in parts.items()]
    return "\n".join(["| | " + " | ".join(PARTS) + " | sum |", "|---|" + "---:|" * (len(PARTS) + 1), *rows])


if __name__ == "__main__":
    measure.main(run, Config, __doc__)
