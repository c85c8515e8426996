"""Jobs on two processes: one pair, started by torchrun, runs all of them one after the other, because its start takes
longer than most of them.

A job is a module of this folder with `main(folder)`, which both processes run. If it has `prepare(folder)`, that is run
once before they start. What each process prints lies in FOLDER/said-RANK.txt.
"""
import contextlib
import importlib
import os
import subprocess
import sys
from pathlib import Path

from accelerate.state import AcceleratorState

from gre.leave import leave
from tests.helpers.paths import ROOT


def torchrun(module: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run a module of this folder on two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--module",
               f"tests.helpers.{module}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})


def compile_less() -> None:
    """Call it before DeepSpeed starts: on CPUs it would compile for a minute what only its inference uses."""
    from deepspeed import ops

    ops.__compatible_ops__["deepspeed_shm_comm"] = False


def run_jobs(folder: Path, jobs: list[str]) -> dict[str, Path]:
    """{job: its folder}, once all have run."""
    for job in jobs:
        (folder / job).mkdir()
        module = importlib.import_module(f"tests.helpers.{job}")
        if hasattr(module, "prepare"):
            module.prepare(folder / job)
    done = torchrun("two_ranks", folder, *jobs)
    assert done.returncode == 0, done.stderr[-5000:]
    return {job: folder / job for job in jobs}


def said(folder: Path) -> str:
    """What both processes printed in a job."""
    return "".join((folder / f"said-{rank}.txt").read_text() for rank in range(2))


def forget_engine() -> None:
    """After a job: the next one may have another engine, or none."""
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)


def main(folder: Path, jobs: list[str]) -> None:
    for job in jobs:
        with open(folder / job / f"said-{os.environ['RANK']}.txt", "w") as file, contextlib.redirect_stdout(file):
            importlib.import_module(f"tests.helpers.{job}").main(folder / job)
        forget_engine()
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
