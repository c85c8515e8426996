"""GLOBE's arms: every command is one its stage takes, all see the same samples, and answers by name are scored."""
import json
from dataclasses import asdict
from pathlib import Path

from eval.predictions import Prediction
from experiments import globe as arms
from gre.config import load
from stages import globe, localizability, stage1

STAGES = {"stage1": stage1, "globe": globe, "localizability": localizability}


def test_every_arm_is_a_command_its_stage_takes(tmp_path):
    made = arms.arms(tmp_path, 7, 300)
    assert tuple(made) == arms.TRAINED and {arm for pair in arms.PAIRS for arm in pair} < set(made)
    for arm, (*_, last) in made.items():
        config = load(STAGES[Path(last[1]).stem].Config, last[2:])
        assert config.output_dir == str(tmp_path / "globe" / arm) and config.seed == 7
        assert arm == "names" or config.model_name_or_path == str(tmp_path / "globe" / "names")


def test_the_arms_of_rl_differ_in_their_rewards_alone(tmp_path):
    configs = {arm: asdict(load(globe.Config, arms.arms(tmp_path, 7, 300)[arm][-1][2:])) for arm in arms.RL}
    paid = {arm: {name for name, weight in config.pop("weights").items() if weight} for arm, config in configs.items()}
    assert paid == {"one": {"format", "place"}, "two": {"format", "place", "grounding"},
                    "three": {"format", "place", "grounding", "localizability"}}
    for config in configs.values():
        del config["output_dir"], config["judge"]
    assert configs["one"] == configs["two"] == configs["three"]


def test_the_peers_get_as_many_samples(tmp_path):
    made = arms.arms(tmp_path, 7, 300)
    config = load(stage1.Config, made["continued"][-1][2:])
    assert config.train.max_steps * config.train.per_device_batch_size == 40 * 36 * 8
    assert {"num_photos=1440", "num_generations=8"} <= set(made["rejection"][0])


def test_answers_by_name_are_scored(tmp_path):
    (tmp_path / "truth.jsonl").write_text("".join(json.dumps({
        "image": f"test/imgs/{name}.png", "city": "Paris", "country": "France",
        "entities": ["palm", "car", "blue tower"]}) + "\n" for name in "abc"))
    said = {"a": "<think>Plants: palm. A car, a blue tower.</think><answer>country: France\ncity: Paris</answer>",
            "b": "<think>Plants: palm. A car, a blue tower.</think><answer>country: France\ncity: Lyon</answer>",
            "c": "<think>No palm.</think><answer>country: Peru\ncity: Lima</answer>"}
    rows = [Prediction(name, "Paris", f"imgs/{name}.png", 48.85, 2.35, text, None, None, True)
            for name, text in said.items()]
    found = arms.scores(rows, tmp_path)
    assert found["country"] == [1.0, 1.0, 0.0] and found["city"] == [1.0, 0.0, 0.0]
    assert found["grounding"] == [1.0, 1.0, 0.0]
    near, farther, farthest = found["geoscore"]
    assert near > 4900 and 3600 < farther < 3900 and farthest < 10  # 392 km to Lyon: 5000 e^(-392 / 1492.7) = 3846
