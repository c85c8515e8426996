"""Stage 1 of the tiny base on two real processes, started by its script: the numbers of one, and one manifest. A copy
of the stage elsewhere is started the same way, and stops at Ctrl-C and at SIGTERM where it can be resumed."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gre.config import load
from gre.training.trainer.checkpoints import in_order, step_of
from stages import stage1
from tests.helpers.paths import ROOT, TINY_BASE
from tests.helpers.shell import end_left
from tests.helpers.stages import pictures, write_cot

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")} | {
    "NPROC": "2", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def house(tmp_path, monkeypatch):
    """The scripts, which install nothing here, and rows beside them."""
    house = tmp_path / "house"
    shutil.copytree(ROOT / "scripts/train", house / "scripts/train")  # not a link: stage.sh installs where it lies
    (house / "environment.sh").write_text("")
    (house / ".venv/bin").mkdir(parents=True)
    python = house / ".venv/bin/python"
    python.write_text(f'#!/usr/bin/env bash\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    write_cot(pictures(), ["", "x", "xx", "xxx"])
    yield house
    end_left()


def keys(output_dir: str, batch_size: int, steps: int) -> list[str]:
    return [str(ROOT / "configs/tiny/stage1.yaml"), f"model_name_or_path={TINY_BASE}", "data.path=cot/cot.json",
            f"output_dir={output_dir}", f"train.max_steps={steps}", "train.warmup_steps=0", "train.logging_steps=1",
            f"train.per_device_batch_size={batch_size}"]


def logged(output_dir: str) -> list[dict]:
    path = Path(output_dir, "metrics.jsonl")
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [line for line in (json.loads(text) for text in lines if text.endswith("\n")) if "loss" in line]


@pytest.mark.slow
def test_two_processes_train_what_one_does(house):
    subprocess.run(["bash", str(house / "scripts/train/stage1.sh"), *keys("two", 2, 2)], env=ENVIRONMENT, check=True)
    stage1.run(load(stage1.Config, keys("one", 4, 2)))
    one, two = ([line["loss"] for line in logged(name)] for name in ("one", "two"))
    assert json.loads(Path("two/manifest.json").read_text())["metrics"]["steps"] == 2
    assert len(one) == 2 and two == pytest.approx(one, rel=1e-4)  # logged losses are rounded to four digits


@pytest.mark.slow
def test_a_copied_stage_is_told_twice_and_resumes(house):
    Path("mine").mkdir()
    Path("mine/stage.py").write_text("import beside\n" + (ROOT / "stages/stage1.py").read_text())
    Path("mine/beside.py").write_text("")

    def start() -> subprocess.Popen:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        with open("said", "w") as said:
            process = subprocess.Popen(["bash", str(house / "scripts/train/run.sh"), "mine/stage.py",
                                        *keys("cut", 2, 60)], env=ENVIRONMENT, stdout=said, stderr=said)
        signal.signal(signal.SIGINT, before)
        Path("started").write_text(str(process.pid))
        return process

    steps = 0
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = start()
        while len(logged("cut")) <= steps:
            assert process.poll() is None, Path("said").read_text()
            time.sleep(0.02)
        process.send_signal(number)
        said = (process.wait(), Path("said").read_text())
        assert said[0] == status, said[1]
        steps = len(logged("cut"))
        assert 0 < steps < 60 and step_of(in_order(Path("cut/checkpoints"))[-1]) == steps
        assert said[1].count(f"stopped at step {steps}; the same command resumes from there") == 1
        assert "Traceback" not in said[1] and "signal" not in said[1]
    assert "resuming from cut/checkpoints/checkpoint-" in said[1]
    assert [line["step"] for line in logged("cut")] == list(range(1, steps + 1))
