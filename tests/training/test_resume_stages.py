"""Each stage, killed while it saves and again while it hands on, comes to the model of an uninterrupted one."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gre import manifest
from gre.config import UserError, load
from gre.training import stage as training_stage
from gre.training.trainer import checkpoints
from stages import judge, stage1, stage2, stage3
from tests.helpers.judge_rows import write_rows
from tests.helpers.paths import ROOT
from tests.helpers.resuming import Killed
from tests.helpers.stages import KEYS, pictures, write_cot, write_stage

pytestmark = pytest.mark.slow
LONG = ["train.max_steps=5", "train.save_steps=2", "train.learning_rate=1e-3", "train.per_device_batch_size=2"]
COMMANDS = {
    "stage1": (stage1, ["model_name_or_path=base", "data.path=cot/cot.json", *LONG]),
    "judge": (judge, ["model_name_or_path=base", "data.path=judged/judge.json", "held_out_share=0.3", *LONG]),
    "stage2": (stage2, ["model_name_or_path=run/stage1", "judge.model_name_or_path=run/judge", *KEYS, *LONG]),
    "stage3": (stage3, ["model_name_or_path=run/stage2", "grpo.num_iterations=2", *KEYS, *LONG]),
}


@pytest.fixture
def data(workplace, vlm):
    """What the four stages read, beside the fixture's own."""
    write_stage(vlm, "stage2", {})
    write_rows(workplace / "judged", 20)
    write_cot(pictures())
    return workplace


def run(stage, output_dir, *keys):
    module, own = COMMANDS[stage]
    module.run(load(module.Config, [*own, f"output_dir={output_dir}", *keys]))


def killed(*_, **__):
    raise Killed


@pytest.mark.parametrize("stage", COMMANDS)
def test_killed_in_a_save_and_in_the_hand_over(data, monkeypatch, capsys, stage):
    run(stage, "whole/x", "train.save_steps=0")
    complete = checkpoints.complete
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoints, "complete", lambda folder, step, *rest: (
            killed() if step == 4 else complete(folder, step, *rest)))
        run(stage, "killed/x")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(*((judge, "measure") if stage == "judge" else (training_stage, "save_model")), killed)
        run(stage, "killed/x")
    assert not Path("killed/x/manifest.json").exists()
    with pytest.raises(UserError, match=r"train.learning_rate \(0.001 there, 0.002 here\)"):
        run(stage, "killed/x", "train.learning_rate=2e-3")
    run(stage, "killed/x")
    assert "resuming from killed/x/checkpoints/checkpoint-5" in capsys.readouterr().out
    whole, resumed = (manifest.read_manifest(Path(name, "x")) for name in ("whole", "killed"))
    assert resumed["model_sha256"] == whole["model_sha256"]
    for name in ("steps", "train_loss", "last_loss"):
        assert resumed["metrics"][name] == whole["metrics"][name]
    assert list(Path("killed/x/checkpoints").iterdir()) == []


def test_a_process_that_is_killed_and_one_that_is_told_to_stop(data):
    """kill -9, then SIGTERM, of real processes that others prepare pictures for, sent to their group as torchrun does;
    the third comes to the end."""
    keys = ["train.max_steps=40"]
    run("stage1", "whole/x", *keys)
    command = [sys.executable, "-m", "stages.stage1", *COMMANDS["stage1"][1], "output_dir=killed/x", *keys,
               "train.dataloader_num_workers=2"]

    def stopped(number, step):
        with open("log", "a") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True,
                                     env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"})
        while not (done := checkpoints.in_order(Path("killed/x/checkpoints"))) or checkpoints.step_of(done[-1]) < step:
            assert child.poll() is None, Path("log").read_text()
            time.sleep(0.002)
        os.killpg(child.pid, number)
        return child.wait()

    assert stopped(signal.SIGKILL, 6) == -signal.SIGKILL
    assert stopped(signal.SIGTERM, 12) == 143
    assert "the same command resumes from there" in Path("log").read_text()
    run("stage1", "killed/x", *keys)
    assert (manifest.read_manifest(Path("killed/x"))["model_sha256"]
            == manifest.read_manifest(Path("whole/x"))["model_sha256"])
    logged = [json.loads(line)["step"] for line in Path("killed/x/metrics.jsonl").read_text().splitlines()]
    assert logged == [*range(1, 41), 40]
