"""One readable line a step on the terminal."""
import json
import re
from pathlib import Path

import pytest

from gre.training.watching.terminal import line
from tests.helpers.stages import run1, run3, write_stage


def test_lines_by_hand():
    logs = {"loss": 0.53219, "grad_norm": 1.25, "learning_rate": 1e-5, "epoch": 0.1, "seconds": 3.14}
    assert line(logs, 12, 300) == (
        "step 12/300  loss 0.5322  norm 1.25  lr 1e-05  3.14 s")
    assert line({"loss": 1e-9, "grad_norm": 0.2, "learning_rate": 1e-6, "reward": 1.234, "reward_std": 0.3,
                 "reward/format": 0.95, "reward/format_std": 0.1, "reward/gps": 0.284, "kl": 0.0012, "length": 312.25,
                 "truncated": 0.02, "zero_spread": 0.5, "seconds": 41.26}, 3, 40) == (
        "step 3/40  reward 1.234 (format 0.95, gps 0.284)  kl 0.0012  length 312.2  truncated 2%  lr 1e-06  41.3 s")
    assert line({"eval/geoscore": 3120.4, "eval/reward": 1.52, "eval/truncated": 0.0}, 50, 300) == (
        "step 50/300 validation  geoscore 3120  reward 1.52  truncated 0%")
    assert line({"train_runtime": 133.4, "train_loss": 0.5219, "train_steps_per_second": 2.2}, 300, 300) == (
        "trained 300 steps in 2:13 min, mean loss 0.5219")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["stage1", "stage3"])
def test_a_run_shows_a_line_a_step_and_the_file_has_the_rest(request, vlm, capfd, stage):
    if stage == "stage1":
        request.getfixturevalue("cot")
        run1()
    else:
        request.getfixturevalue("workplace")
        write_stage(vlm, "stage2", {})
        run3()
    printed = capfd.readouterr().out
    number = r"(loss|reward) [\d.e-]+"
    assert re.search(rf"^step 1/2  {number}.*  [\d.e-]+ s$", printed, re.MULTILINE), printed
    assert re.search(r"^trained 2 steps in 0:0\d min, mean loss", printed, re.MULTILINE) and "{'loss'" not in printed
    logs = [json.loads(text) for text in Path(f"run/{stage}/metrics.jsonl").read_text().splitlines()]
    assert len(logs) == 3 and {"loss", "grad_norm", "epoch"} <= logs[0].keys()
