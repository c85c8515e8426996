"""One optimisation step of GRPO (old policy, reference, update): ours, plain padded rows, and TRL's GRPOTrainer.

    python -m bench.update [shapes=[G8,G16,GRE_G8]] [rounds=5] [--json FILE] [key=value …]

Same weights, rollouts, optimizer, dtype, attention and checkpointing, one group a micro-batch on every side. Every
round starts all sides from the same weights, and when their losses, log-probabilities or gradient norms differ by more
than 1e-4 no ratio is printed. limit: FLOPs of the peer's forwarded tokens, padding included, over FLOPs of ours.
Memory is the peak of one step in a fresh process, with the loaded models and above them.
"""
import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import measure
from bench.sides import SIDES, Job, Plain, peak, same
from bench.workload import packed_flops, padded_flops, workloads
from gre.config import UserError, option


@dataclass
class Config:
    """What is measured."""

    shapes: list[str] = option([], "names of bench/workload.py; empty: all of this device")
    sides: list[str] = option(["ours", "plain", "trl"], "who takes part; without ours there is no ratio")
    rounds: int = option(5, "interleaved rounds")
    memory: bool = option(True, "measure peak memory as well, a fresh process a side")
    checkpointing: bool = option(False, "gradient checkpointing, on all sides")
    threads: int = option(1, "threads; with one, seconds are CPU time, with more, wall time")
    device: str = option("cpu", "cpu or cuda")
    json: str = option("", "file for the results, keyed by shape")
    peak_of: str = option("", "only measure this side's peak memory, in this process: what the command itself calls")


def run(config: Config) -> None:
    """Measure every shape, and write after each."""
    known = workloads(config.device)
    if unknown := [name for name in config.shapes if name not in known]:
        raise UserError(f"shapes holds {unknown[0]}: write some of {', '.join(known)}")
    if unknown := [name for name in config.sides if name not in SIDES]:
        raise UserError(f"sides holds {unknown[0]}: write some of {', '.join(SIDES)}")
    torch.set_num_threads(config.threads)
    if config.peak_of:
        print(json.dumps(peak(config.peak_of, known[config.shapes[0]], config.device, config.checkpointing)))
        return
    results = {}
    for name in config.shapes or list(known):
        print(f"{name}: {known[name]}", flush=True)
        results[name] = {**compare(config, name), **(memory(config, name) if config.memory else {}),
                         **measure.origin("bench.update")}
        measure.write(config.json, results)
        print(json.dumps(results[name], indent=2), flush=True)


def compare(config: Config, name: str) -> dict:
    """Seconds and ratios of a shape. Raises UserError when the sides do not compute the same."""
    workload, now = workloads(config.device)[name], measure.clock(config.device, config.threads)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(workload, config.device, Path(folder), config.checkpointing)
        sides = {side: SIDES[side](job) for side in config.sides}
        tried = best_setting(sides["plain"], now) if "plain" in sides else {}
        start = {name: weight.clone() for name, weight in job.policy.state_dict().items()}

        def turn(side: str) -> None:
            job.policy.load_state_dict(start)
            sides[side].select()

        seconds = measure.interleave({side: sides[side].step for side in sides}, config.rounds, now, turn, same)
    tokens = (workload.shape, workload.patches, workload.prompt, workload.lengths())
    ours = packed_flops(*tokens)
    result = {"seconds": {side: [round(one, 3) for one in values] for side, values in seconds.items()}}
    for peer in [side for side in ("trl", "plain") if side in seconds and "ours" in seconds]:
        spread = measure.ratio(seconds[peer], seconds["ours"])
        result |= {f"ratio_vs_{peer}": spread["median"], f"ratio_vs_{peer}_spread": [spread["min"], spread["max"]]}
    flops = 5 * ours  # old, reference, forward, and a backward pass of two
    if "ours" in seconds:
        result["our_gflops_per_second"] = round(flops / statistics.median(seconds["ours"]) / 1e9, 1)
    return result | {"limit": round(padded_flops(*tokens) / ours, 3), "our_tflop": round(flops / 1e12, 3),
                     "plain_settings_seconds_a_pass": tried, "parameters": workload.shape.parameters}


def best_setting(plain: Plain, now) -> dict[str, float]:
    """Give the plain side the setting whose pass over one group was fastest; seconds of all."""
    plain.select()
    seconds = {}
    for setting in plain.SETTINGS:
        plain.setting = setting
        with torch.no_grad(), plain.job.autocast():
            start = now()
            plain.log_probs(plain.job.policy, plain.batches[0])
            seconds[setting] = round(now() - start, 3)
    plain.setting = min(seconds, key=seconds.get)
    return seconds


def memory(config: Config, name: str) -> dict:
    """Peaks of every side, and ours over the smaller peer's, above the loaded models."""
    peaks = {}
    for side in config.sides:
        arguments = [f"{key}={getattr(config, key)}" for key in ("checkpointing", "threads", "device")]
        peaks[side] = measure.peak_memory(["bench.update", f"shapes=[{name}]", f"peak_of={side}", *arguments])
        print(f"memory of {side}: {peaks[side]}", flush=True)
    result = {"memory_mib": peaks}
    if "ours" in peaks and len(peaks) > 1:
        for key, kind in (("memory_ratio", "above_models"), ("memory_ratio_with_models", "with_models")):
            result[key] = round(peaks["ours"][kind] / min(peaks[s][kind] for s in peaks if s != "ours"), 3)
    return result


if __name__ == "__main__":
    measure.main(run, Config, __doc__)
