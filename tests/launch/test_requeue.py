"""A stage on two processes, started by the batch script: told by Slurm's signals, put back, and started again, it ends
with the weights of one that was left alone."""
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gre import manifest
from gre.training.trainer.checkpoints import MARKER, in_order, step_of
from tests.helpers.paths import ROOT
from tests.helpers.resuming import lines
from tests.helpers.shell import end_left, write
from tests.helpers.stages import KEYS, write_stage

SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
export SLURM_STEP_ID=0 SLURM_STEP_NUM_NODES=1 SLURM_STEP_NUM_TASKS=1 SLURM_NODEID=0 SLURM_STEP_NODELIST=here
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
if [ "$1" = show ]; then echo here; else echo "$*" >> scontrol.txt; fi
"""


@pytest.fixture
def house(workplace, vlm, monkeypatch):
    """A copy of the scripts that installs nothing, a finished stage 2, and stubs of srun and scontrol on the PATH."""
    write_stage(vlm, "stage2", {})
    for name in ("cluster", "train"):
        shutil.copytree(ROOT / "scripts" / name, f"house/scripts/{name}")
    shutil.copy(ROOT / "scripts" / "serve.py", "house/scripts")
    write(Path("house/environment.sh"), "")
    write(Path("house/.venv/bin/python"), f"""#!/usr/bin/env bash
case $1 in */ready.py) exit ;; esac  # looks ahead, as tests/launch/test_ready.py shows
exec {sys.executable} "${{@/#stages.stage3/tests.helpers.stage3_by_length}}"
""")
    write(Path("bin/srun"), SRUN)
    write(Path("bin/scontrol"), SCONTROL)
    Path("stage3.yaml").write_text("data:\n  path: seed/seed.jsonl\n")
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    for name, value in {"PATH": f"{workplace}/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "NPROC": "2",
                        "SLURM_JOB_ID": "77", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    yield workplace / "house"
    end_left()


def start(house, folder: Path) -> subprocess.Popen:
    """The job, as Slurm starts it."""
    job = subprocess.Popen(["bash", str(house / "scripts/cluster/stage.sbatch"), str(house), "stage3", "stage3.yaml",
                            f"output_dir={folder}", "model_name_or_path=run/stage2", *KEYS, "train.max_steps=12",
                            "grpo.num_iterations=2"])
    Path("started").write_text(str(job.pid))
    return job


def steps(folder: Path) -> int:
    """The steps a run has logged so far."""
    metrics = folder / "metrics.jsonl"
    return metrics.read_text().count('"loss"') if metrics.exists() else 0


def told(job: subprocess.Popen, folder: Path, number: signal.Signals, after_step: int) -> tuple[int, int]:
    """(status, step of its checkpoint) of a job that gets a signal when it has made a step after that one."""
    while steps(folder) <= after_step:
        assert job.poll() is None
        time.sleep(0.02)
    job.send_signal(number)
    status = job.wait()
    whole = [path for path in in_order(folder / "checkpoints") if (path / MARKER).exists()]
    assert not (folder / manifest.MANIFEST).exists() and steps(folder) == step_of(whole[-1])
    return status, step_of(whole[-1])


@pytest.mark.slow
def test_a_job_that_is_put_back_ends_as_one_left_alone(house):
    whole, cut = Path("run/whole"), Path("run/cut")
    assert start(house, whole).wait() == 0 and not Path("scontrol.txt").exists()
    status, first = told(start(house, cut), cut, signal.SIGUSR1, 0)
    assert status == 0 and Path("scontrol.txt").read_text() == "requeue 77\n"  # its time was nearly up
    status, second = told(start(house, cut), cut, signal.SIGTERM, first)
    assert status != 0 and Path("scontrol.txt").read_text() == "requeue 77\n"  # preempted: Slurm itself puts it back
    assert 0 < first < second < 12 and first % 2 == second % 2 == 0            # two updates share their completions
    assert start(house, cut).wait() == 0
    assert lines(cut / "metrics.jsonl") == lines(whole / "metrics.jsonl")
    assert (cut / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()
    sha256 = [manifest.read_manifest(folder)["model_sha256"] for folder in (whole, cut, Path("run/stage2"))]
    assert sha256[0] == sha256[1] != sha256[2]
