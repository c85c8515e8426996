"""Calibration of the spread of samples, risk by coverage, best of n and oracle of n: worked by hand."""
import json

import numpy as np
import pytest

from eval import score
from eval.scoring import samples
from gre.config import UserError
from gre.geo.point import LatLon
from tests.helpers.prediction_lines import line, write

ARC_KM = 111.19508  # a degree of a meridian


def row(number: int, *lats: float | None) -> dict:
    """A row whose truth is 48, 2 and whose samples lie on its meridian; the answer is their median."""
    said = sorted(lat for lat in lats if lat is not None)
    answer = said[len(said) // 2] if said else None
    return line(number, lat=answer, samples=[{"text": "x", "lat": lat, "lon": None if lat is None else 2.0,
                                              "finished": True} for lat in lats])


def test_samples_are_scored_by_the_command(tmp_path, capsys):
    # Sure and right; spread by 10 degrees, the second on the spot; all wrong by 30; one of three readable.
    rows = [row(0, 48.0, 48.0, 48.0), row(1, 58.0, 48.0, 68.0), row(2, 78.0, 78.0, 78.0), row(3, None, None, 48.0)]
    out = tmp_path / "s.json"
    made = score.run(score.Config(write(tmp_path / "p.jsonl", rows), draws=10, out=str(out)))["samples"]["predictions"]
    assert json.loads(out.read_text())["samples"]["predictions"] == made and (made["samples"], made["n"]) == (3, 4)
    spreads = [one["spread_km"] for one in made["calibration"]]
    assert spreads == pytest.approx([0, 0, 20 / 3 * ARC_KM, 20015], rel=1e-4)
    # Ranks of spread 1.5, 3, 1.5, 4 and of error (0, 10, 30, 0 degrees) 1.5, 3, 4, 1.5.
    assert made["rank_correlation"] == pytest.approx(np.corrcoef([1.5, 3, 1.5, 4], [1.5, 3, 4, 1.5])[0, 1])
    half = made["risk"][4]
    assert (half["covered"], half["n"], half["within_25_km"]) == (0.5, 2, 0.5)
    assert made["risk"][-1]["within_25_km"] == 2 / 4
    assert [one["first"] for one in made["best_of"]] == [1, 2, 3]
    first, _, third = made["best_of"]
    assert first["median"]["within_25_km"] == first["oracle"]["within_25_km"] == 1 / 4  # row 3's first is unread
    assert third["median"]["within_25_km"] == 2 / 4 and third["oracle"]["within_25_km"] == 3 / 4
    printed = capsys.readouterr().out
    assert "3 samples a photo; rank correlation of their spread and the error" in printed
    assert "first 3: median within 25 km 50.0 %" in printed and "the surest 50% (n 2)" in printed


def test_a_file_without_samples_has_no_such_block(tmp_path):
    assert score.run(score.Config(write(tmp_path / "p.jsonl", [line(1)]), draws=2))["samples"] == {}


def test_what_does_not_vary_has_no_correlation_and_other_counts_are_refused():
    here = LatLon(48, 2)
    assert samples.scored([here] * 2, [[here], [here]])["rank_correlation"] is None
    with pytest.raises(UserError, match="rows have 1 to 2 samples"):
        samples.scored([here] * 2, [[here], [here, here]])
    with pytest.raises(UserError, match="p row 1: samples cannot be used"):
        samples.points({"samples": [{"lat": 95.0, "lon": 2.0}]}, "p row 1")


@pytest.mark.slow
def test_a_spread_that_knows_the_error_is_seen():
    generator = np.random.default_rng(0)
    truths, rows = [LatLon(0, 0)] * 200, []
    for _ in range(200):
        unsure = generator.uniform(0.1, 10)
        rows.append([LatLon(*generator.normal(0, unsure, 2)) for _ in range(8)])
    made = samples.scored(truths, rows)
    assert made["rank_correlation"] > 0.6
    scores = [one["geoscore"] for one in made["risk"]]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1] + 500
    oracle = [one["oracle"]["geoscore"] for one in made["best_of"]]
    assert oracle == sorted(oracle) and made["best_of"][-1]["first"] == 8
