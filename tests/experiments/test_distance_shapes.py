"""Every arm is a command stage 3 takes, and all see the same samples."""
from experiments import distance_shapes
from gre.config import load
from gre.rewards.gps import SHAPES
from stages import stage3


def test_the_arms_differ_in_their_shape_alone(tmp_path):
    made = distance_shapes.commands(tmp_path, 7)
    configs = {shape: load(stage3.Config, command[2:]) for shape, command in made.items()}
    assert tuple(configs) == SHAPES
    for shape, config in configs.items():
        assert config.gps.shape == shape and config.output_dir == str(tmp_path / "distance_shapes" / shape)
        config.gps.shape, config.output_dir = "logistic", ""
    assert all(config == configs["logistic"] for config in configs.values())
