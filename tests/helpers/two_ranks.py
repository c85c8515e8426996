"""What tests on two processes share: their start by torchrun, and their end."""
import os
import subprocess
import sys

from accelerate import PartialState

from tests.helpers.paths import ROOT


def torchrun(script: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run a script of this folder on two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
               f"{ROOT}/tests/helpers/{script}.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})


def leave() -> None:
    """Called by such a script at its end: a process that just ends may abort while the other still talks to it."""
    state = PartialState(cpu=True)
    state.wait_for_everyone()
    state.destroy_process_group()
