"""What dealing a step's groups anew to its processes is worth: cost of its passes, left where they were over dealt.

    python -m bench.balance [groups=64] [rounds=3] [--json FILE]

measured: passes (old policy, reference, update) of unlike groups, photos of 81 to 324 visual tokens and 8 completions
of 30 to 180 tokens, are timed one group at a time, on one process. by_flops_7b: FLOPs of Qwen2.5-VL-7B for photos of
324 to 1,280 and completions of 40 to 1,024. Steps of W processes are drawn from these groups, dealt by tokens as the
trainer does, and cost as their seconds or FLOPs say: under ZeRO, whose passes are meetings of all, the sum over
micro-batches of the slowest process; under DDP, which meets once, the slowest process's sum. limit: left over what even
processes would take. Two processes of this machine then exchange groups with photos of 1,280 visual tokens, for what
dealing costs: gloo on a CPU, pickling included.
"""
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from tqdm import tqdm

from bench import measure
from bench.scaling import BASE
from bench.sides import Job, Ours
from bench.workload import make_groups, make_models, packed_flops
from gre.config import option
from gre.models.packing import Group
from gre.models.shapes import PATCHES_PER_TOKEN, PUBLISHED
from gre.training.trainer.balance import deal, exchange
from gre.training.trainer.passes import forwarded_tokens

STEPS = {"W8": (8, [1, 1]), "W8_two_a_pass": (8, [2, 2]), "W64": (64, [1, 1]), "W64_two_a_pass": (64, [2, 2])}
DRAWN = 300  # steps of each
LARGE = replace(BASE, grid=(64, 80), groups=8)  # groups whose photos take 23 MiB each as pixels
Dealt = list[list[list[int]]]  # [micro-batch][process] -> groups


@dataclass
class Config:
    """What is measured."""

    groups: int = option(64, "groups that are timed; steps are drawn from them")
    rounds: int = option(3, "times each is timed; the median counts")
    json: str = option("", "file for the result, keyed by processes and groups a pass")
    exchange: bool = option(False, "only exchange photos, as one of two processes: what the command itself calls")


def run(config: Config) -> None:
    """Time the groups, draw steps from them, and time an exchange."""
    torch.set_num_threads(1)
    if config.exchange:
        exchange_seconds()
        return
    groups = {"measured": timed_groups(config), "by_flops_7b": counted_groups(config)}
    results = {name: {kind: lasting(*both, *step) for kind, both in groups.items()} for name, step in STEPS.items()}
    results["groups"] = {kind: {"cost_and_tokens_correlate": round(float(np.corrcoef(tokens, costs)[0, 1]), 3),
                                "tokens": tokens, "cost": [round(cost, 3) for cost in costs]}
                         for kind, (tokens, costs) in groups.items()}
    results["exchange"] = two_processes()
    measure.write(config.json, {**results, "origin": measure.origin("bench.balance")})
    print(json.dumps({name: result for name, result in results.items() if name != "groups"}, indent=2))


def timed_groups(config: Config) -> tuple[list[int], list[float]]:
    """Forwarded tokens and seconds of every group."""
    now, drawn = measure.clock("cpu", 1), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(replace(BASE, groups=1), "cpu", Path(folder))
        groups, side = [unlike(job.policy, drawn) for _ in range(config.groups)], Ours(job)
        side.select()

        seconds = [[] for _ in groups]
        for _ in range(config.rounds):
            for job.groups, measured in zip([[group] for group in groups], tqdm(seconds)):
                start = now()
                side.step(learn=False)
                measured.append(now() - start)
    return [forwarded_tokens(group) for group in groups], [statistics.median(measured) for measured in seconds]


def counted_groups(config: Config) -> tuple[list[int], list[float]]:
    """Forwarded tokens of groups at GRE's size, and TFLOP of a pass of Qwen2.5-VL-7B over each."""
    drawn, shape, tokens, flops = np.random.default_rng(0), PUBLISHED["Qwen/Qwen2.5-VL-7B-Instruct"], [], []
    for _ in range(config.groups):
        visual = int(drawn.integers(324, 1281))
        lengths = ragged(drawn, 330, 40, 1024)
        tokens.append(visual + 149 + int(lengths.sum()))
        flops.append(packed_flops(shape, visual * PATCHES_PER_TOKEN, visual + 150, [lengths.tolist()]) / 1e12)
    return tokens, flops


def ragged(drawn: np.random.Generator, median: int, least: int, most: int) -> np.ndarray:
    """Tokens of a group's completions."""
    return np.clip(drawn.lognormal(np.log(median), 0.5, BASE.generations), least, most).astype(int)


def unlike(model, drawn: np.random.Generator) -> Group:
    """A group with a photo of another shape, and completions of other lengths."""
    height, width = (2 * int(drawn.integers(9, 19)) for _ in range(2))
    prompt = make_groups(replace(BASE, grid=(height, width), groups=1), model)[0].prompt
    return Group(prompt, [torch.from_numpy(drawn.integers(20, BASE.shape.vocab, length))
                          for length in ragged(drawn, 70, 30, 180)])


def lasting(tokens: list[int], costs: list[float], processes: int, sizes: list[int]) -> dict:
    """Ratios of left over dealt, and over even, in all drawn steps; tokens decide, costs count."""
    n, drawn = sum(sizes), np.random.default_rng(0)
    ends = np.cumsum([0, *sizes])
    left = [[list(range(rank * n + start, rank * n + end)) for rank in range(processes)]
            for start, end in zip(ends, ends[1:])]
    sums = {"zero": np.zeros(3), "ddp": np.zeros(3)}
    for _ in range(DRAWN):
        held = drawn.integers(0, len(tokens), processes * n)
        own = [costs[i] for i in held]
        dealt = deal([tokens[i] for i in held], sizes, processes)
        for name, lasts in (("zero", by_pass), ("ddp", by_step)):
            sums[name] += [lasts(left, own), lasts(dealt, own), sum(own) / processes]
    return {name: {"left_over_dealt": round(before / after, 3), "limit": round(before / even, 3)}
            for name, (before, after, even) in sums.items()}


def by_pass(dealt: Dealt, costs: list[float]) -> float:
    """All processes meet after every micro-batch."""
    return sum(max(sum(costs[place] for place in part) for part in batch) for batch in dealt)


def by_step(dealt: Dealt, costs: list[float]) -> float:
    """All processes meet at the end of the step."""
    return max(sum(costs[place] for part in parts for place in part) for parts in zip(*dealt, strict=True))


def two_processes() -> dict:
    """What two processes print that exchange all they have."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m",
               "bench.balance", "exchange=true"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def exchange_seconds() -> None:
    """Print the wall seconds of five exchanges, each of eight groups either way, and their MiB."""
    accelerator, seconds = Accelerator(cpu=True), []
    groups = make_groups(LARGE, make_models(LARGE, "cpu")[0])
    for _ in range(5):
        accelerator.wait_for_everyone()
        start = time.perf_counter()
        exchange(accelerator, [[] if to == accelerator.process_index else groups for to in range(2)])
        seconds.append(round(time.perf_counter() - start, 3))
    size = sum(group.prompt.pixel_values.nbytes for group in groups) / 2**20
    if accelerator.is_main_process:
        print(json.dumps({"groups_each_way": len(groups), "mib_each_way": round(size),
                          "wall_seconds": sorted(seconds)}), flush=True)
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    measure.main(run, Config, __doc__)
