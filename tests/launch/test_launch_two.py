"""Stage 1 of the tiny base on two real processes, started by its script: the numbers of one, and one manifest."""
import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.stages import pictures, write_cot


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path, monkeypatch):
    house = tmp_path / "house"
    shutil.copytree(ROOT / "scripts/train", house / "scripts/train")  # not a link: stage.sh installs where it lies
    (house / "environment.sh").write_text("")
    (house / ".venv/bin").mkdir(parents=True)
    python = house / ".venv/bin/python"
    python.write_text(f'#!/usr/bin/env bash\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    write_cot(pictures(), ["", "x", "xx", "xxx"])

    def losses(processes: int) -> list[float]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        environment |= {"NPROC": str(processes), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
                        "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        subprocess.run(["bash", str(house / "scripts/train/stage1.sh"), str(ROOT / "configs/tiny/stage1.yaml"),
                        f"model_name_or_path={ROOT / 'gre/tiny/base'}", "data.path=cot/cot.json",
                        f"output_dir=run{processes}", "train.max_steps=2", "train.warmup_steps=0",
                        "train.logging_steps=1", f"train.per_device_batch_size={4 // processes}"],
                       cwd=tmp_path, env=environment, check=True)
        assert json.loads((tmp_path / f"run{processes}/manifest.json").read_text())["metrics"]["steps"] == 2
        lines = [json.loads(line) for line in (tmp_path / f"run{processes}/metrics.jsonl").read_text().splitlines()]
        return [line["loss"] for line in lines if "loss" in line]

    one, two = losses(1), losses(2)
    assert len(one) == 2 and two == pytest.approx(one, rel=1e-4)  # logged losses are rounded to four digits
