"""What dealing a step's groups anew to its processes is worth: seconds of its passes, left where they were over dealt.

    python -m bench.balance [groups=64] [rounds=3] [--json FILE]

Passes (old policy, reference, update) of unlike groups, pictures of 81 to 324 visual tokens and 8 completions of 30 to
180 tokens, are timed one group at a time, on one process. Steps of W processes are then drawn from these groups, dealt
by tokens as the trainer does, and last as their seconds say: under ZeRO, whose passes are meetings of all, the sum over
micro-batches of the slowest process; under DDP, which meets once, the slowest process's sum. limit: left over what even
processes would take. Two processes of this machine then exchange groups with pictures of 1,280 visual tokens, for what
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
from bench.workload import make_groups, make_models
from gre.config import option
from gre.models.packing import Group
from gre.training.balance import deal, exchange
from gre.training.passes import forwarded_tokens

STEPS = {"W8": (8, [1, 1]), "W8_two_a_pass": (8, [2, 2]), "W64": (64, [1, 1]), "W64_two_a_pass": (64, [2, 2])}
DRAWN = 300  # steps of each
LARGE = replace(BASE, grid=(64, 80), groups=8)  # groups whose pictures take 24 MiB each as pixels
Dealt = list[list[list[int]]]  # [micro-batch][process] -> groups


@dataclass
class Config:
    """What is measured."""

    groups: int = option(64, "groups that are timed; steps are drawn from them")
    rounds: int = option(3, "times each is timed; the median counts")
    json: str = option("", "file for the result, keyed by processes and groups a pass")
    exchange: bool = option(False, "only exchange pictures, as one of two processes: what the command itself calls")


def run(config: Config) -> None:
    """Time the groups, draw steps from them, and time an exchange."""
    torch.set_num_threads(1)
    if config.exchange:
        exchange_seconds()
        return
    tokens, seconds = timed_groups(config)
    both = {"seconds_and_tokens_correlate": round(float(np.corrcoef(tokens, seconds)[0, 1]), 4),
            "seconds_a_group": [round(one, 3) for one in seconds], "tokens_a_group": tokens,
            "exchange": two_processes(), **measure.origin("bench.balance")}
    results = {name: {**lasting(tokens, seconds, *step), **both} for name, step in STEPS.items()}
    measure.write(config.json, results)
    print(json.dumps(results, indent=2))


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


def unlike(model, drawn: np.random.Generator) -> Group:
    """A group with a picture of another shape, and completions of other lengths."""
    height, width = (2 * int(drawn.integers(9, 19)) for _ in range(2))
    prompt = make_groups(replace(BASE, grid=(height, width), groups=1), model)[0].prompt
    lengths = np.clip(drawn.lognormal(np.log(70), 0.5, BASE.generations), 30, 180).astype(int)
    return Group(prompt, [torch.from_numpy(drawn.integers(20, BASE.shape.vocab, length)) for length in lengths])


def lasting(tokens: list[int], seconds: list[float], processes: int, sizes: list[int]) -> dict:
    """Ratios of left over dealt, and over even, in all drawn steps; tokens decide, seconds count."""
    n, drawn = sum(sizes), np.random.default_rng(0)
    ends = np.cumsum([0, *sizes])
    left = [[list(range(rank * n + start, rank * n + end)) for rank in range(processes)]
            for start, end in zip(ends, ends[1:])]
    sums = {"zero": np.zeros(3), "ddp": np.zeros(3)}
    for _ in range(DRAWN):
        held = drawn.integers(0, len(tokens), processes * n)
        own = [seconds[i] for i in held]
        dealt = deal([tokens[i] for i in held], sizes, processes)
        for name, lasts in (("zero", by_pass), ("ddp", by_step)):
            sums[name] += [lasts(left, own), lasts(dealt, own), sum(own) / processes]
    return {f"{name}_{key}": round(value, 3) for name, (left_s, dealt_s, even_s) in sums.items()
            for key, value in (("left_over_dealt", left_s / dealt_s), ("limit", left_s / even_s))}


def by_pass(dealt: Dealt, seconds: list[float]) -> float:
    """All processes meet after every micro-batch."""
    return sum(max(sum(seconds[place] for place in part) for part in batch) for batch in dealt)


def by_step(dealt: Dealt, seconds: list[float]) -> float:
    """All processes meet at the end of the step."""
    return max(sum(seconds[place] for part in parts for place in part) for parts in zip(*dealt))


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
