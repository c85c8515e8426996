"""One optimisation step of GRPO (old policy, reference, update): ours, plain padded rows, and TRL's GRPOTrainer.

    python -m bench.update [shapes=[G8,G16,GRE_G8]] [rounds=5] [--json FILE] [key=value …]

Same weights, rollouts, optimizer, dtype and checkpointing, one group a micro-batch on every side. Every round starts
all sides from the same weights, and when their losses, log-probabilities or gradient norms differ by more than 1e-4 no
ratio is printed. device=cuda: bfloat16, half of Qwen2.5-VL-3B's layers for 80 GB (G8_3B, G16_3B: all, for 141 GB).
limit: FLOPs of the peer's forwarded tokens, padding included, over FLOPs of ours. Memory is the peak of one step in a
fresh process, with the loaded models and above them.
"""
import json
import statistics
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from bench import measure
from bench.sides import SIDES, Job, Plain, peak, same
from bench.workload import Workload, packed_flops, padded_flops, workloads
from gre.config import UserError, option


@dataclass
class Config:
    """What is measured."""

    shapes: list[str] = option(["G8", "G16"], "names of bench/workload.py")
    sides: list[str] = option(["ours", "plain", "trl"], "who takes part; without ours there is no ratio")
    rounds: int = option(5, "interleaved rounds")
    memory: bool = option(True, "measure peak memory as well, a fresh process a side")
    checkpointing: bool | None = option(None, "gradient checkpointing, on all sides; null: on CUDA")
    threads: int = option(1, "threads; with one, seconds are CPU time, with more, wall time")
    device: str = option("cpu", measure.DEVICE)
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
    if config.checkpointing is None:
        config.checkpointing = config.device == "cuda"
    if config.peak_of:
        print(json.dumps(peak(config.peak_of, known[config.shapes[0]], config.device, config.checkpointing)))
        return
    results = {}
    for name in config.shapes:
        print(f"{name}: {known[name]}", flush=True)
        taken = memory(config, name) if config.memory else {}  # first: a GPU must have room for those processes
        results[name] = {**compare(config, name), **taken, **measure.origin("bench.update", config.device)}
        measure.write(config.json, results)
        print(json.dumps(results[name], indent=2), flush=True)


def compare(config: Config, name: str) -> dict:
    """Seconds and ratios of a shape. Raises UserError when the sides do not compute the same."""
    workload = workloads(config.device)[name]
    return measure.compared(config.device, config.rounds, partial(_compare, config, workload))


def _compare(config: Config, workload: Workload, bf16: bool, rounds: int) -> dict:
    now = measure.clock(config.device, config.threads)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(workload, config.device, Path(folder), bool(config.checkpointing), bf16)
        sides = {side: SIDES[side](job) for side in config.sides}
        tried = best_setting(sides["plain"], now) if "plain" in sides else {}
        start = {name: weight.to("cpu", copy=True) for name, weight in job.policy.state_dict().items()}

        def turn(side: str) -> None:
            job.policy.load_state_dict(start)
            sides[side].select()

        seconds = measure.interleave({side: sides[side].step for side in sides}, rounds, now, turn,
                                     partial(same, bf16=bf16), cold=int(bf16))
        attention = {side: sides[side].attention for side in sides}
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
                     "plain_settings_seconds_a_pass": tried, "attention": attention,
                     "parameters": workload.shape.parameters}


def best_setting(plain: Plain, now) -> dict[str, float]:
    """Give the plain side the setting whose pass over one group was fastest; seconds of all."""
    plain.select()
    seconds = {}
    with torch.no_grad(), plain.job.autocast():
        for setting in [plain.setting, *plain.SETTINGS]:  # the first pass of a process is slow
            plain.setting, start = setting, now()
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
