"""The committed base: the weights its recipe names, small enough for git, able to see and shipped like Qwen2.5-VL."""
import hashlib
import json
from pathlib import Path

import pytest

import gre.tiny

BASE = Path(gre.tiny.__file__).with_name("base")


def test_the_weights_are_those_of_the_recipe():
    weights, recipe = BASE / "model.safetensors", json.loads((BASE / "recipe.json").read_text())
    assert weights.stat().st_size <= 12 * 1000**2
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == recipe["model.safetensors sha256"]


def test_it_ships_the_repetition_penalty_that_rollouts_must_ignore():
    assert json.loads((BASE / "generation_config.json").read_text())["repetition_penalty"] == 1.05


@pytest.mark.slow
def test_it_sees_and_compares():
    from gre.models.vlm import load_model, load_processor
    from gre.tiny.pretrain import accuracy

    right = accuracy(load_model(BASE).eval(), load_processor(BASE), seed=99, pictures=100)
    assert right["flag"] >= 0.9 and right["building"] >= 0.85
    assert min(right[f"check {cues}"] for cues in range(1, 6)) >= 0.7  # half would be guessing
