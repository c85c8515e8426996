"""docs/rewards.md against the code: its table, its picture and its recipe."""
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from gre.geo.point import LatLon
from gre.rewards.answers import Answers
from gre.rewards.gps import SHAPES, DistanceConfig, distance_reward, gps_reward
from gre.training.grpo import GRPOConfig
from stages.stage3 import GPSConfig
from tests.helpers.grpo import trainer_of
from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")
TABLES = [[[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:2] == "| "]
          for table in PAGE.split("\n\n") if table.startswith("| ")]
RECIPE = re.search(r"```python\n(.*?)```", PAGE, re.S)[1]


def test_the_table_is_what_the_code_pays():
    head, *rows = TABLES[0]
    distances_km = [float(cell.removesuffix(" km")) for cell in head[1:-1]]
    assert distances_km == [1, 25, 200, 750, 2500]
    thetas = [[float(theta) for theta in row[0].split(",")] for row in rows]
    assert [theta for one in thetas[:-1] for theta in one] == [1, 25, 200, 750, 2500]
    assert thetas[-1] == GPSConfig().thetas_km
    for theta, row in zip(thetas, rows, strict=True):
        assert row[1:-1] == [f"{gps_reward(km, theta):.4f}" for km in distances_km]
        assert float(row[-1]) == gps_reward(None, theta)


def test_the_table_of_shapes_is_what_the_code_pays():
    head, *rows = TABLES[1]
    assert [row[0] for row in rows] == list(SHAPES)
    for shape, *paid in rows:
        config = DistanceConfig(shape=shape)
        distances_km = [float(cell.removesuffix(" km")) for cell in head[1:-1]]
        assert paid == [*(f"{distance_reward(km, config):.4f}" for km in distances_km), "0"]
        assert distance_reward(None, config) == 0


@pytest.mark.parametrize("claim, value", [
    ("0.538 at d = θ", gps_reward(25, [25])), ("0.0007 at 8 θ", gps_reward(200, [25])),
    ("to within 0.005", gps_reward(1, [2500]) - gps_reward(25, [2500])),
    ("from 1 km to 25 km it loses 0.016", distance_reward(1, DistanceConfig("geoscore"))
     - distance_reward(25, DistanceConfig("geoscore"))),
    ("25 km to 1 km is 0.13", gps_reward(1, GPSConfig().thetas_km) - gps_reward(25, GPSConfig().thetas_km))])
def test_numbers_in_the_text(claim, value):
    said = re.search(r"0\.\d+", claim)[0]
    assert claim in PAGE.replace("\n", " ") and f"{value:.{len(said) - 2}f}" == said


def test_the_picture_is_drawn_from_this_code():
    spec = importlib.util.spec_from_file_location("draw_rewards", ROOT / "scripts" / "draw_rewards.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.FILE.read_text(encoding="utf-8") == script.draw()


@dataclass
class Row:
    id: str
    image: Path
    truth: LatLon


def test_the_recipe_works(tiny_vlm, tmp_path):
    """The reward of the page, as it stands there, by hand and in a step of training."""
    made = {}
    exec(RECIPE, made)
    rows = []
    for i in range(4):
        Image.new("RGB", (56, 56), (60 * i, 99, 200)).save(tmp_path / f"{i}.png")
        rows.append(Row(f"seed:{i}", tmp_path / f"{i}.png", LatLon(0.0, 10.0)))
    texts = ["<answer>0, 10.0</answer>", "<answer>0, 11.0</answer>", "<answer>?</answer>"]  # 0, 111.2 km, none
    assert made["thresholds_rewards"]([Answers(rows[0], texts, [True] * 3)]) == [[1.0, 3 / 5, 0.0]]
    trainer_of(tiny_vlm, rows, tmp_path, reference=False, grpo=GRPOConfig(num_generations=3, beta=0.0),
               rewards={"thresholds": made["thresholds_rewards"]}).train()
    assert "reward/thresholds" in json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
