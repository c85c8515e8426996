"""The theta curriculum: a trace worked out by hand, and a resumed one that goes on as if nothing had happened."""
import json

import pytest

from gre.config import ConfigError, load
from gre.rewards.curriculum import Curriculum, CurriculumConfig, Step, has_spread
from stages import stage3

CONFIG = CurriculumConfig(levels_km=[200.0, 25.0, 1.0], window=2)


def step(reward, spread):
    """A step of ten groups of ten completions: mean reward, share of groups with spread at the next theta."""
    return Step(100 * reward, 100, round(10 * spread), 10)


def test_a_trace_by_hand():
    curriculum = Curriculum(CONFIG)
    seen = []
    for reward, spread in [(0.9, 0.9),   # window not full
                           (0.2, 0.9),   # mean 0.55 < 0.6
                           (0.9, 0.1),   # mean 0.55 again: the first 0.9 has left the window
                           (0.9, 0.1),   # mean 0.9, but spread 0.1 < 0.3: 25 km would be silent
                           (0.7, 0.5),   # mean 0.8, spread 0.3: refined, the window is emptied
                           (0.9, 0.9),   # one step at 25 km: not full
                           (0.3, 0.9),   # mean 0.6 is enough: refined
                           (0.0, 0.0), (0.0, 0.0), (1.0, 1.0), (1.0, 1.0)]:  # the last level: it stays, and never rises
        seen.append((curriculum.theta_km, curriculum.observe(step(reward, spread))))
    assert seen == [(200, False), (200, False), (200, False), (200, False), (200, True), (25, False), (25, True),
                    (1, False), (1, False), (1, False), (1, False)]
    assert curriculum.next_theta_km is None


def test_the_sums_of_a_step_by_hand():
    """Distances 0 and 30 km: at 200 km 1 and 0.925, at 25 km 1 and 0.463. No answer earns 0 at every theta."""
    groups = [[0.0, 30.0], [30.0, 30.0], [None, None], [5000.0, None]]
    sums = Step.of(groups, 200.0, 25.0)
    assert sums == Step(pytest.approx(1 + 3 * 0.92514, abs=1e-4), 8, 1, 4)
    assert Step.of(groups, 1.0, None) == Step(pytest.approx(1.0), 8, 0, 4)
    assert has_spread([0.0, 2.6], 25.0) and not has_spread([0.0, 2.4], 25.0)  # 1 - tanh(2.5 / 50) = 0.95


@pytest.mark.parametrize("at", range(1, 6))
def test_resumed_anywhere_it_steps_down_at_the_same_steps(at):
    """Window 3 and steps that all pass: down after the third and the sixth. A forgotten window would delay one."""
    config = CurriculumConfig(levels_km=[200.0, 25.0, 1.0], window=3)
    broken, resumed = Curriculum(config), Curriculum(config)
    down = [broken.observe(step(0.9, 0.9)) for _ in range(at)]
    resumed.load_state_dict(json.loads(json.dumps(broken.state_dict())))
    down += [resumed.observe(step(0.9, 0.9)) for _ in range(at, 7)]
    assert down == [False, False, True, False, False, True, False] and resumed.theta_km == 1


def test_other_levels_do_not_take_the_checkpoint():
    with pytest.raises(ValueError, match="level 2, gps.curriculum.levels_km has 1"):
        Curriculum(CurriculumConfig(levels_km=[25.0])).load_state_dict({"level": 2, "steps": []})


def test_config():
    keys = ["output_dir=x", "model_name_or_path=y"]
    default = load(stage3.Config, keys).gps.curriculum
    assert default.levels_km == []  # no curriculum
    assert (default.window, default.min_reward, default.min_spread_share) == (50, 0.6, 0.3)
    for wrong in ("levels_km=[25, 200]", "levels_km=[25, 0]", "window=0"):
        with pytest.raises(ConfigError, match="levels_km|window|thetas_km"):
            load(stage3.Config, [*keys, f"gps.curriculum.{wrong}"])
