"""For stage.sh: refuse, before torch is loaded and many processes start, what would stop each of them.

    python scripts/train/ready.py STAGE GPUS LOCAL GPU_GIB [CONFIG] [key=value …]

GPUS: processes in all; LOCAL: on this machine; GPU_GIB: memory of its smallest GPU, 0 to leave memory unchecked.
"""
import os
import sys
from pathlib import Path

from gre.config import UserError, config_files
from gre.errors import one_message
from gre.training.inputs import check_inputs, read_inputs


def check(stage: str, gpus: int, local: int, gpu_gib: float, argv: list[str]) -> None:
    """Raise UserError when something to read, or memory, is missing."""
    check_inputs(read_inputs(argv))
    if gpu_gib:
        check_memory(stage, gpus, local, gpu_gib, argv)


def check_memory(stage: str, gpus: int, local: int, gpu_gib: float, argv: list[str]) -> None:
    """Raise UserError when the planner finds that the longest rows do not fit, on a GPU or in the machine."""
    from gre.plan import recipe as recipes  # loads torch, which takes seconds
    from gre.plan.memory import GIB, host_bytes, peak

    file = Path(config_files(argv)[0])
    job = recipes.job(recipes.read_recipe(argv), stage, file, gpus)
    moment, size = peak(job)
    if size > gpu_gib * GIB:
        raise UserError(f"{size / GIB:.1f} GiB are needed in the {moment} and a GPU has {gpu_gib:.1f}: see python -m "
                        f"gre.plan {file} gpus={gpus} gpu_gib={gpu_gib:.0f}, or start it anyway with CHECK_MEMORY=no")
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if host_bytes(job) * local > here:
        raise UserError(f"offloading needs {host_bytes(job) * local / GIB:.0f} GiB of this machine's memory and it has "
                        f"{here / GIB:.0f}: use more machines, or a DeepSpeed config without offload")


if __name__ == "__main__":
    name, processes, processes_here, gib, *arguments = sys.argv[1:]
    with one_message():
        check(name, int(processes), int(processes_here), float(gib), arguments)
