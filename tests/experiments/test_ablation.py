"""The ablation's arms: every command is one its stage takes, and the planted judge's rows are about length alone."""
from pathlib import Path

import pytest

from experiments import ablation
from gre.config import load, save
from gre.data.records import JudgeRow
from gre.geo.point import LatLon
from stages import judge, stage1, stage2, stage2_verdict, stage3
from tests.helpers.paths import ROOT

STAGES = {"stage1": stage1, "judge": judge, "stage2": stage2, "stage2_verdict": stage2_verdict,
          "stage3": stage3}
CONFIGS = ROOT / "configs" / "tiny"


@pytest.fixture
def commands(tmp_path):
    for name in ("stage1", "stage3"):
        (tmp_path / name).mkdir()
        save(load(STAGES[name].Config, [str(CONFIGS / f"{name}.yaml")]), tmp_path / name / "config.yaml")
    return ablation.arms(tmp_path, 7)


def test_every_arm_is_a_command_its_stage_takes(commands, tmp_path):
    assert set(commands) == {*ablation.TRAINED, "gamed"}
    for name, (*_, last) in commands.items():
        config = load(STAGES[Path(last[1]).stem].Config, last[2:])
        assert config.output_dir == str(tmp_path / "ablation" / name) and config.seed == 7


def test_the_peers_get_as_many_samples_as_stage_3(commands):
    for name in ("continued", "continued_fast"):
        config = load(stage1.Config, commands[name][-1][2:])
        assert config.train.max_steps * config.train.per_device_batch_size == 40 * 36 * 8
    assert {"num_photos=1440", "num_generations=8"} <= set(commands["rejection"][0])


def test_pairs_are_of_arms_that_exist():
    assert {name for pair in ablation.PAIRS for name in pair} <= {"stage1", "stage2", "stage3", *ablation.TRAINED}


def test_the_planted_rows_are_true_as_they_are_long():
    rows = [JudgeRow(f"judge:{i}", Path("a.png"), "?", "Signs: red. Plants: palm. So Rome, Italy.", "41.9, 12.5",
                     True, LatLon(41.9, 12.5)) for i in range(3000)]
    labels = {k: [] for k in range(1, 13)}
    for row in ablation.length_rows(rows, 0):
        labels[row.chain.count(".")].append(row.label)
        assert "Signs: red. Plants: palm. So Rome, Italy. Signs: red. Plants: palm. So Rome, Italy. ".startswith(
            row.chain[:50])
    for k, said in labels.items():  # about 250 rows each: four standard errors are 0.13 at most
        assert abs(sum(said) / len(said) - k / 12) < 0.13
    assert all(labels[12])
