"""For stage.sh: refuse, before many processes start, what would stop each of them.

    python scripts/train/ready.py STAGE GPUS LOCAL GPU_GIB [CONFIG] [key=value …]

GPUS: processes in all; LOCAL: on this machine; GPU_GIB: memory of its smallest GPU, 0 to leave memory unchecked.
"""
import importlib
import os
import sys
from pathlib import Path

from gre import config
from gre.config import UserError
from gre.manifest import MANIFEST
from gre.models.shapes import PUBLISHED
from gre.plan import recipe as recipes
from gre.plan.memory import GIB, host_bytes, peak


def check(stage: str, gpus: int, local: int, gpu_gib: float, argv: list[str]) -> None:
    """Raise UserError when data, parent, DeepSpeed config or memory are missing."""
    module = importlib.import_module(f"stages.{stage}")
    settings = config.load(module.Config, argv)
    check_paths(module.plan(settings)["reads"], settings.data.path)
    if settings.train.deepspeed and not config.shipped(settings.train.deepspeed).is_file():
        raise UserError(f"there is no DeepSpeed config {settings.train.deepspeed}: set train.deepspeed to a JSON file")
    if gpu_gib:
        check_memory(stage, gpus, local, gpu_gib, argv)


def check_paths(reads: list[str], data: str) -> None:
    """Raise UserError unless every file and folder a stage reads is there; a published base may still be fetched."""
    for path in reads:
        if Path(path).exists() or path in PUBLISHED:
            continue
        if path == data or Path(path).suffix in (".json", ".jsonl"):
            key = "data.path" if path == data else "the key that names it (--help lists them)"
            raise UserError(f"there is no data file {path}: put it there or set {key}")
        raise UserError(f"there is no model folder {path}: train that stage first or name another one "
                        f"(a finished stage holds {MANIFEST})")


def check_memory(stage: str, gpus: int, local: int, gpu_gib: float, argv: list[str]) -> None:
    """Raise UserError when the planner finds that the longest rows do not fit, on a GPU or in the machine."""
    file = Path(next(text for text in argv if text.endswith((".yaml", ".yml"))))
    known = config.keys(recipes.Recipe)
    own = [text for text in argv if text == str(file) or text.split("=")[0] in known]
    job = recipes.job(recipes.read_recipe(own), stage, file, gpus)
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
    try:
        check(name, int(processes), int(processes_here), float(gib), arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
