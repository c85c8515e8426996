"""Seconds of sides that take turns, memory of a side in a process of its own, and where a result came from."""
import gc
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import torch

from bench.plan_memory import MALLOC, status
from gre import config, provenance
from gre.config import UserError

TOLERANCE = 1e-4
TOLERANCE_BF16 = 2e-2  # its numbers have 8 binary digits
DEVICE = "cpu, or cuda: a published model's proportions, in bfloat16 once the sides agreed in float32"


def clock(device: str, threads: int) -> Callable[[], float]:
    """A clock in seconds. One thread on a CPU: the process's own CPU time, of which other programs take nothing."""
    if device == "cuda":
        return lambda: torch.cuda.synchronize() or time.perf_counter()
    return time.process_time if threads == 1 else time.perf_counter


def interleave(sides: dict[str, Callable[[], object]], rounds: int, now: Callable[[], float],
               between: Callable[[str], None] = lambda name: None,
               after_round: Callable[[dict[str, object]], None] = lambda results: None,
               cold: int = 0) -> dict[str, list[float]]:
    """Seconds of every side in every round; a round begins with another side than the one before.

    between: called before a side's turn, with its name, and not timed. after_round: given what the sides returned.
    cold: rounds before those, in which a GPU's kernels are built and its memory is taken; not in the seconds.
    """
    names, seconds = list(sides), {name: [] for name in sides}
    for number in range(cold + rounds):
        results = {}
        for name in names[number % len(names):] + names[:number % len(names)]:
            between(name)
            start = now()
            results[name] = sides[name]()
            seconds[name].append(now() - start)
        after_round(results)
        print(f"round {number + 1}: " + ", ".join(f"{name} {seconds[name][-1]:.2f} s" for name in names), flush=True)
    return {name: values[cold:] for name, values in seconds.items()}


def compared(device: str, rounds: int, compare: Callable[[bool, int], dict]) -> dict:
    """compare(bf16, rounds) of a device: on CUDA in bfloat16, after a round in float32, where the sides must agree as
    closely as on a CPU."""
    if device not in ("cpu", "cuda"):
        raise UserError(f"device is {device}: write cpu or cuda")
    if device == "cuda":
        compare(False, 1)
        release()
    result = compare(device == "cuda", rounds)
    release()
    return result


def release() -> None:
    """Give memory back that nobody uses: trainers are in cycles, and torch keeps what it took of a GPU."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def ratio(peer: list[float], ours: list[float]) -> dict[str, float]:
    """Median, smallest and largest of peer / ours over the rounds."""
    pairs = [theirs / own for theirs, own in zip(peer, ours, strict=True)]
    return {"median": round(statistics.median(pairs), 3), "min": round(min(pairs), 3), "max": round(max(pairs), 3)}


def check_equal(what: str, ours: float, peer: float, name: str, bf16: bool = False) -> None:
    """Raise UserError when two sides did not compute the same: a ratio of their seconds would mean nothing."""
    tolerance = TOLERANCE_BF16 if bf16 else TOLERANCE
    if not abs(ours - peer) <= tolerance:  # not "> tolerance": NaN must stop too
        raise UserError(f"{what} is {ours:.6f} on our side and {peer:.6f} by {name}, further apart than {tolerance}: "
                        "the sides do not compute the same, so no ratio is given")


def peak_memory(arguments: Iterable[str]) -> dict:
    """What `python -m arguments` prints as its last line, a JSON object, in a fresh process.

    malloc there gives memory back at once, so that the resident size follows what is alive.
    """
    result = subprocess.run([sys.executable, "-m", *arguments], env={**os.environ, **MALLOC, "OMP_NUM_THREADS": "1"},
                            stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


class Peak:
    """Peak memory in MiB since it was made or reset: resident size on a CPU, allocated by torch on CUDA."""

    def __init__(self, device: str):
        self.device = device
        self.start = self.now()

    def now(self) -> float:
        """MiB held at this moment."""
        return (torch.cuda.memory_allocated() if self.device == "cuda" else status("VmRSS")) / 2**20

    def reset(self) -> None:
        """Forget the peak so far; it starts from what is held now."""
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew

    def peak(self) -> float:
        """MiB at the highest moment since `reset`."""
        return (torch.cuda.max_memory_allocated() if self.device == "cuda" else status("VmHWM")) / 2**20


@cache
def origin(module: str, device: str = "cpu") -> dict[str, object]:
    """The command, commit, versions and machine behind a result. Asked once: a result written over an older one makes
    the checkout differ from its commit."""
    return {"command": shlex.join(["python", "-m", module, *(text for text in sys.argv[1:])]),
            "commit": provenance.commit(), "versions": provenance.versions(), "threads": torch.get_num_threads(),
            "processor": torch.cuda.get_device_name() if device == "cuda" else _processor()}


def write(path: str, results: dict) -> None:
    """Results as JSON, keyed by shape, replaced whole; nothing is written without a path."""
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        provenance.write_atomically(Path(path), json.dumps(results, indent=2) + "\n")


def main(run: Callable, config_class: type, doc: str) -> None:
    """A bench's command line: that of every command here, and `--json FILE` for json=FILE."""
    argv = sys.argv[1:]
    if "--json" in argv[:-1]:
        at = argv.index("--json")
        argv[at:at + 2] = [f"json={argv[at + 1]}"]
    config.main(run, config_class, doc, argv=argv)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
