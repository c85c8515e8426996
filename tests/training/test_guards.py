"""Alarms ring once, a gamed judge stops the run, and both go on after a resume as if nothing had happened."""
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from gre.config import UserError
from gre.geo.point import LatLon
from gre.judge.guard import JudgeGuard
from gre.training.grpo import GRPOConfig
from gre.training.watching.alarms import BASELINE_LOGS, Alarms
from gre.training.watching.completions import CompletionNumbers
from stages import stage2
from tests.helpers.grpo import trainer_of


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def logged(alarms, *values, name="zero_spread", first=1):
    for step, value in enumerate(values, start=first):
        alarms.on_log(None, SimpleNamespace(global_step=step), None, logs={"loss": 1.0, name: value})


@pytest.fixture
def alarms(tmp_path):
    made = Alarms(tmp_path / "run" / "alarms.jsonl")
    made.on_train_begin(None, SimpleNamespace(is_world_process_zero=True, global_step=0), None)
    return made


def test_an_alarm_rings_when_a_number_leaves_its_range_and_when_it_does_so_again(alarms, capsys):
    logged(alarms, 0.5, 0.9, 0.95, 0.8, 0.81)
    assert [(alarm["step"], alarm["name"], alarm["value"]) for alarm in lines(alarms.path)] == [
        (2, "zero_spread", 0.9), (5, "zero_spread", 0.81)]
    assert "ALARM, step 2: zero_spread is 0.9: most groups" in capsys.readouterr().out
    logged(alarms, 0.3, 0.005, name="entropy")
    assert lines(alarms.path)[-1]["name"] == "entropy"


def test_lengths_are_compared_with_those_at_the_start(alarms):
    logged(alarms, *[100.0] * BASELINE_LOGS, 150.0, 199.0, 201.0, 49.0, name="think_characters")
    assert [alarm["value"] for alarm in lines(alarms.path)] == [201]  # it did not come back in between


def test_resumed_alarms_neither_forget_nor_repeat(alarms, tmp_path):
    logged(alarms, 0.5, 0.9)
    logged(alarms, *[100.0] * (BASELINE_LOGS - 1), name="think_characters")
    resumed = Alarms(alarms.path)
    resumed.load_state_dict(json.loads(json.dumps(alarms.state_dict())))
    resumed.on_train_begin(None, SimpleNamespace(is_world_process_zero=True, global_step=9), None)
    logged(resumed, 0.95, first=10)
    logged(resumed, 120.0, 210.0, first=10, name="think_characters")  # the start: nine times 100 and 120
    assert [(alarm["step"], alarm["name"]) for alarm in lines(alarms.path)] == [(2, "zero_spread"),
                                                                              (11, "think_characters")]


def numbers(correlation, groups=10):
    return {"rank_correlation": correlation, "rank_correlation_groups": groups, "p_true": 0.5,
            "distance_km/median": 100.0, "think_characters": 50.0}


def test_the_judge_is_guarded_by_a_mean_over_the_groups_of_the_last_steps(tmp_path):
    guard = JudgeGuard(0.1, 3, tmp_path / "alarms.jsonl")
    guard.observe(1, numbers(0.3))
    guard.observe(2, numbers(-0.5))
    assert guard.mean() == (pytest.approx(-0.1), 20)  # too few steps to stop
    guard.observe(3, {"distance_km/median": 1.0})  # no group could be ranked: no step of the window
    guard.observe(4, numbers(0.5, groups=40))
    assert guard.mean() == (pytest.approx(0.3), 60)
    with pytest.raises(UserError, match=r"step 5: over 3 steps and 140 groups .* -0.214 .*step 2 to 5: P\(True\)"):
        guard.observe(5, numbers(-0.5, groups=90))  # (-5 + 20 - 45) / 140
    alarm, = lines(tmp_path / "alarms.jsonl")
    assert alarm["name"] == "rank_correlation" and alarm["value"] == pytest.approx(-30 / 140)


def test_a_resumed_guard_stops_at_the_same_step(tmp_path):
    def steps_until_stopped(guard, values, first):
        for step, value in enumerate(values, start=first):
            try:
                guard.observe(step, numbers(value))
            except UserError:
                return step
        return None

    values = [0.4, 0.2, -0.1, 0.1, -0.2, -0.3]
    whole = JudgeGuard(0.0, 3, tmp_path / "alarms.jsonl")
    assert steps_until_stopped(whole, values, 1) == 5  # (-0.1 + 0.1 - 0.2) / 3; before it (0.2 - 0.1 + 0.1) / 3
    broken, resumed = JudgeGuard(0.0, 3, tmp_path / "alarms.jsonl"), JudgeGuard(0.0, 3, tmp_path / "alarms.jsonl")
    assert steps_until_stopped(broken, values[:3], 1) is None
    resumed.load_state_dict(json.loads(json.dumps(broken.state_dict())))
    assert steps_until_stopped(resumed, values[3:], 4) == 5


@dataclass
class Row:
    id: str
    image: Path
    truth: LatLon


@pytest.mark.slow
def test_a_policy_that_games_its_judge_is_stopped(tiny_vlm, tmp_path):
    """The planted judge likes long chains. The policy writes digits that mean nothing; a real judge would like the
    nearer ones, this one likes what is longer, and the run ends with a diagnosis."""
    rows = []
    for i in range(4):
        Image.new("RGB", (56, 56), (60 * i, 99, 200)).save(tmp_path / f"{i}.png")
        rows.append(Row(f"seed:{i}", tmp_path / f"{i}.png", LatLon(0.1, 0.1)))

    def run(judge, folder):
        folder.mkdir()
        guard = JudgeGuard(0.05, 4, folder / "alarms.jsonl")
        trainer = trainer_of(tiny_vlm, rows, folder, reference=False, max_steps=6, per_device_batch_size=4,
                             gradient_accumulation_steps=1, grpo=GRPOConfig(num_generations=8, beta=0.0),
                             rewards={"judge": judge})
        trainer.on_rollout = partial(stage2.on_rollout, CompletionNumbers({}), guard)
        trainer._text = lambda completion: answer(completion.token_ids)
        trainer.train()
        return trainer.state.global_step

    def gamed(groups):
        return [[len(text) / 100 for text in group.texts] for group in groups]

    def honest(groups):
        return [[1 - len(text) / 100 for text in group.texts] for group in groups]

    with pytest.raises(UserError, match=r"step 4: over 4 steps and \d+ groups .* correlation of -\d.*samples.json"):
        run(gamed, tmp_path / "gamed")
    alarm, = lines(tmp_path / "gamed" / "alarms.jsonl")
    assert (alarm["step"], alarm["name"]) == (4, "rank_correlation") and alarm["value"] < -0.9
    assert len(lines(tmp_path / "gamed" / "metrics.jsonl")) == 3  # nothing is learned from the fourth
    assert run(honest, tmp_path / "honest") == 6
    assert lines(tmp_path / "honest" / "metrics.jsonl")[0]["rank_correlation"] > 0.9


def answer(token_ids):
    """A completion whose chain grows and whose answer goes astray with the number of different tokens sampled."""
    different = len(set(token_ids.tolist()))
    return f"<think>{'and so on ' * different}</think><answer>{10 * different + 1}, 0.1</answer>"
