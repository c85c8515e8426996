"""Rewards against numbers worked out by hand."""
import math
import subprocess
import sys

import pytest

from gre.rewards.curriculum import CurriculumConfig
from gre.rewards.format import format_reward
from gre.rewards.gps import SHAPES, DistanceConfig, distance_reward, gps_reward
from stages.stage3 import GPSConfig

GOOD = "<think>A red post box.</think><answer>51.51, -0.13</answer>"


@pytest.mark.parametrize("text", [GOOD, f"  {GOOD}\n", GOOD.replace("k><a", "k>\n<a"),
                                  "<think>two\nlines</think><answer>no answer</answer>"])
def test_format_kept(text):
    assert format_reward(text, finished=True) == 1.0
    assert format_reward(text, finished=False) == 0.0


@pytest.mark.parametrize("text", [
    "", "51.51, -0.13", "<think>x</think>", "<answer>1, 2</answer>", f"Sure! {GOOD}", f"{GOOD} Done.", GOOD + GOOD,
    "<answer>1, 2</answer><think>x</think>", "<think></think><answer>1, 2</answer>",
    "<think> </think><answer>1</answer>",
    "<think>x</think><answer> </answer>", "<think>x</think>and<answer>1, 2</answer>",
    "<think>a<think>b</think></think><answer>1, 2</answer>", "<think>x</think><answer>1</answer><answer>2</answer>",
    "<think>x<answer>1</answer></think><answer>2</answer>", "<THINK>x</THINK><answer>1, 2</answer>", GOOD[:-1]])
def test_format_broken(text):
    assert format_reward(text, finished=True) == 0.0


def test_gps_by_hand():
    assert gps_reward(0.0, [25]) == 1.0
    assert gps_reward(25.0, [25]) == pytest.approx(2 / (1 + math.e))  # 0.538
    assert gps_reward(200.0, [25]) == pytest.approx(2 / (1 + math.exp(8)))  # 0.0007
    assert gps_reward(25.0, [25, 250]) == pytest.approx((2 / (1 + math.e) + 2 / (1 + math.exp(0.1))) / 2)
    assert gps_reward(None, [25]) == 0.0


def test_gps_never_overflows_and_never_rises():
    """Upstream's e^(d / theta) ends the run at 709.8 theta."""
    rewards = [gps_reward(distance_km, [25]) for distance_km in range(0, 20016, 5)]
    assert rewards[-1] == 0.0 and all(a >= b for a, b in zip(rewards, rewards[1:], strict=False))


@pytest.mark.parametrize("shape, distance_km, reward", [
    ("exponential", 0, 1.0), ("exponential", 200, 1 / math.e), ("exponential", 20015, 0.0),
    ("exponential", 400, 1 / math.e**2),
    ("piecewise", 0, 1.0), ("piecewise", 1, 1.0), ("piecewise", 13, 0.9), ("piecewise", 25, 0.8),
    ("piecewise", 112.5, 0.7), ("piecewise", 200, 0.6), ("piecewise", 475, 0.5), ("piecewise", 750, 0.4),
    ("piecewise", 1625, 0.3), ("piecewise", 2500, 0.2), ("piecewise", 11257.5, 0.1), ("piecewise", 20015, 0.0),
    ("piecewise", 20015.2, 0.0),
    ("geoscore", 0, 1.0), ("geoscore", 1492.7, 1 / math.e), ("geoscore", 2985.4, 1 / math.e**2),
    ("logistic", 25, (2 / (1 + math.e) + 2 / (1 + math.exp(1 / 8)) + 2 / (1 + math.exp(1 / 30))
                      + 2 / (1 + math.exp(1 / 100))) / 4)])
def test_shapes_by_hand(shape, distance_km, reward):
    assert distance_reward(distance_km, DistanceConfig(shape)) == pytest.approx(reward, abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_ever_rises_and_no_answer_earns_nothing(shape):
    rewards = [distance_reward(distance_km, DistanceConfig(shape)) for distance_km in range(0, 20016, 5)]
    assert rewards[0] == 1.0 and all(a >= b >= 0 for a, b in zip(rewards, rewards[1:], strict=False))
    assert distance_reward(None, DistanceConfig(shape)) == 0.0


def test_a_shape_nobody_knows_is_refused_and_so_is_a_curriculum_without_a_theta():
    with pytest.raises(ValueError, match="gps.shape is 'linear': write logistic, exponential"):
        DistanceConfig("linear")
    with pytest.raises(ValueError, match="gps.shape is geoscore"):
        GPSConfig("geoscore", curriculum=CurriculumConfig([2500.0, 25.0]))


@pytest.mark.parametrize("thetas_km", [[], [0], [-1], [25, math.inf], [math.nan]])
def test_gps_refuses_thetas_that_are_no_distance(thetas_km):
    with pytest.raises(ValueError, match="thetas_km"):
        gps_reward(1.0, thetas_km)


def test_rewards_pull_in_no_torch():
    code = "import sys, gre.rewards.format, gre.rewards.gps; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
