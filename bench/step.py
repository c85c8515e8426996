"""A whole RL step of stage 3 (pictures, rollout, rewards, passes, update, weight sync): ours against TRL's GRPOTrainer.

    python -m bench.step [shapes=[tiny,G8]] [sides=[ours,vllm,trl]] [rounds=5] [--json FILE] [key=value …]

ours samples with transformers' generate, vllm with vLLM in the process, TRL with its own generate (use_vllm=False);
every side is its real trainer, called with max_steps=1. Equal work is forced: the end token is banned on all sides, so
that every one samples to the length of the longest completion, is timed at it, and is then handed the completions to
learn from: those ours drew in its first step, cut to lengths as ragged as real ones (which vLLM, unlike generate, would
have stopped at). Every round starts from the same weights; when losses or gradient norms differ by more than 1e-4 no
ratio is printed. TRL leaves the old policy's pass out, and so do we; advantages are not divided by their spread, and
TRL's correction of the KL's gradient, which we do not make, is off. A random model earns nothing, so the text's length
is paid besides format and distance.
"""
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import measure
from bench.step_sides import SHAPES, SIDES, Job, Outcome, Work
from bench.stopwatch import PARTS
from gre.config import UserError, option
from gre.models.shapes import PATCHES_PER_TOKEN
from gre.training import rl


@dataclass
class Config:
    """What is measured."""

    shapes: list[str] = option([], f"some of {', '.join(SHAPES)}; empty: all")
    sides: list[str] = option(["ours", "vllm", "trl"], "who takes part; ours must")
    rounds: int = option(5, "interleaved rounds, after one that is not counted")
    threads: int = option(1, "threads; with one, seconds are CPU time, with more, wall time")
    json: str = option("", "file for the results, keyed by shape")


def run(config: Config) -> None:
    """Measure every shape, and write after each."""
    if unknown := [name for name in config.shapes if name not in SHAPES]:
        raise UserError(f"shapes holds {unknown[0]}: write some of {', '.join(SHAPES)}")
    if unknown := [name for name in config.sides if name not in SIDES]:
        raise UserError(f"sides holds {unknown[0]}: write some of {', '.join(SIDES)}")
    torch.set_num_threads(config.threads)
    results = {}
    for name in config.shapes or list(SHAPES):
        def save(result: dict, name=name) -> None:  # after every round, since a round is long
            results[name] = {**result, **measure.origin("bench.step")}
            measure.write(config.json, results)

        save(compare(config, SHAPES[name], save))
        print(name, json.dumps(results[name], indent=2), table(results[name]["parts"]), sep="\n", flush=True)


def compare(config: Config, work: Work, save: Callable[[dict], None] = lambda result: None) -> dict:
    """Seconds, by part too, and ratios; `save` is given those of the rounds so far. Raises UserError when the sides do
    not compute the same."""
    now, found = measure.clock("cpu", config.threads), {name: [] for name in config.sides}
    with tempfile.TemporaryDirectory() as folder:
        job = Job(work, Path(folder), now)
        sides = {name: SIDES[name](job) for name in config.sides}
        start = {name: weight.clone() for name, weight in job.policy.state_dict().items()}
        prompt = rl.encode(job.processor, job.rows[0])
        about = {"prompts": work.prompts, "prompts_a_micro_batch": work.at_a_time, "completions": work.generations,
                 "sampled_tokens": work.longest,
                 "completion_tokens": round(statistics.mean(map(statistics.mean, work.drawn)), 1),
                 "prompt_tokens": len(prompt.input_ids),
                 "visual_tokens": len(prompt.pixel_values) // PATCHES_PER_TOKEN,
                 "parameters": sum(weight.numel() for weight in job.policy.parameters())}

        def turn(name: str) -> None:
            job.policy.load_state_dict(start)
            sides[name].select()

        def after(outcomes: dict[str, Outcome]) -> None:
            check(outcomes)
            for name, outcome in outcomes.items():
                found[name].append(outcome.seconds)
            if len(found["ours"]) > 1:
                save({**summary(found), **about})

        measure.interleave({name: side.step for name, side in sides.items()}, config.rounds + 1, now, turn, after)
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


def check(outcomes: dict[str, Outcome]) -> None:
    """Raise UserError unless all sides computed the same as ours."""
    ours = outcomes["ours"]
    for name, peer in outcomes.items():
        measure.check_equal("the loss", ours.loss, peer.loss, name)
        measure.check_equal("the norm of the gradient, relative to ours,", 1.0, peer.grad_norm / ours.grad_norm, name)


def table(parts: dict[str, dict[str, float]]) -> str:
    """Seconds by part as Markdown."""
    rows = [f"| {name} | " + " | ".join(f"{seconds[part]:.2f}" for part in PARTS) + f" | {sum(seconds.values()):.2f} |"
            for name, seconds in parts.items()]
    return "\n".join(["| | " + " | ".join(PARTS) + " | sum |", "|---|" + "---:|" * (len(PARTS) + 1), *rows])


if __name__ == "__main__":
    measure.main(run, Config, __doc__)
