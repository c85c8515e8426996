"""Guards and curriculum decide on the numbers of all processes: two processes see what one sees."""
import json

import pytest

from gre.geo.point import LatLon, distance_km
from gre.rewards.gps import gps_reward
from tests.helpers import ranks_agree


@pytest.mark.slow
def test_two_processes_see_what_one_sees(ranks_agree_folder, tmp_path):
    first, second = [json.loads((ranks_agree_folder / f"{rank}.json").read_text()) for rank in range(2)]
    alone = ranks_agree.numbers(ranks_agree.groups())
    assert first["numbers"] == second["numbers"] == alone
    km = [distance_km(LatLon(0, 0), LatLon(0, lon)) for lon in (0.1, 9.0, 0.2, 30.0, 0.3, 0.4, 90.0)]
    assert alone["sums"] == pytest.approx([sum(gps_reward(d, [2500]) for d in km), 8, 2, 4])
    assert alone["theta_km"] == 200  # a mean reward of 0.65; the second process alone has 0.51 and would stay
    assert alone["completions"]["rank_correlation_groups"] == 2  # the third has ties, the last one answer
    assert alone["completions"]["unreadable"] == 0.125
    true, false, neither = [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]
    whole = ranks_agree.verdicts(tmp_path)
    assert whole["found"] == dict.fromkeys(("greedy", "sampled"), [true, false, neither, true, false])
    assert first["verdicts"]["found"] == second["verdicts"]["found"] == whole["found"]
    assert whole["asked"] == [[0, 1], [2, 3], [4], [0], [1], [2], [3], [4]]  # two completions at a time
    assert first["verdicts"]["asked"] == [[0, 2], [4], [0], [2], [4]]
    assert second["verdicts"]["asked"] == [[1, 3], [0], [1], [3], [0]]           # row 0 to keep pace
