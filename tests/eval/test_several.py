"""More than two models with Holm over all pairs, and several seeds of one model: by hand and by the command."""
import json
from pathlib import Path

import numpy as np
import pytest

from eval import compare, score
from eval.scoring import columns, several
from gre.config import UserError
from tests.helpers.prediction_lines import line, write


@pytest.fixture
def three(tmp_path, monkeypatch) -> list[str]:
    """`a` is right on all of 8 photos, `b` on 7, `c` on none."""
    monkeypatch.chdir(tmp_path)
    made = []
    for name, right in (("a", 8), ("b", 7), ("c", 0)):
        write(Path(f"{name}.jsonl"), [line(i, lat=48.0 if i < right else 49.0) for i in range(8)])
        score.run(score.Config(f"{name}.jsonl", out=f"{name}_scores.json", draws=1000))
        made.append(f"{name}_scores.json")
    return made


def test_every_pair_is_tested_with_holm_over_all(three, capsys):
    compare.run(compare.Config(three, pairs=["within_1_km"], out="new/tests.json"))
    found = {(one["a"], one["b"]): one for one in json.loads(Path("new/tests.json").read_text())["pairs"]}
    # One difference: both signs of one throw, p 1. Eight of eight: 2/256; seven of seven: 2/128. Holm: times 3, 2, 1.
    assert {pair: one["p"] for pair, one in found.items()} == {("a", "b"): 1, ("a", "c"): 2 / 256, ("b", "c"): 2 / 128}
    assert [one["holm"] for one in found.values()] == [1, pytest.approx(3 * 2 / 256), pytest.approx(2 * 2 / 128)]
    assert found["a", "c"]["value"] == 1 and found["a", "b"]["value"] == 1 / 8
    assert "b minus c, within 1 km: +87.5 % [" in capsys.readouterr().out
    compare.run(compare.Config(three, pairs=["within_1_km", "geoscore"], out="t.json"))
    assert json.loads(Path("t.json").read_text())["pairs"][2]["holm"] == pytest.approx(6 * 2 / 256)  # six in the family


def test_seeds_have_a_mean_a_spread_and_an_interval_over_seeds_and_places(three, capsys):
    compare.run(compare.Config(three, seeds=True, out="t.json"))
    made = json.loads(Path("t.json").read_text())["seeds"]["within_1_km"]
    shares = [1, 7 / 8, 0]
    assert made["mean"] == pytest.approx(np.mean(shares)) and made["spread"] == pytest.approx(np.std(shares, ddof=1))
    alone = json.loads(Path("b_scores.json").read_text())["all"]["predictions"]["within_1_km"]
    assert made["low"] < alone["low"] and made["high"] == 1  # seeds that differ so much say little
    assert "3 seeds, within 1 km: 62.5 % [" in capsys.readouterr().out


def test_seeds_that_agree_leave_the_places(tmp_path):
    paths = [write(tmp_path / f"{name}.jsonl", [line(i, lat=48.0 + 10 * (i % 3)) for i in range(60)]) for name in "ab"]
    files = {path: columns.read(path) for path in paths}
    made = several.seeds(files, 2000, 0)["geoscore"]
    one = score.run(score.Config(paths[0], draws=2000))["all"]["predictions"]["geoscore"]
    assert made["spread"] == 0 and (made["low"], made["high"]) == pytest.approx((one["low"], one["high"]))


def test_seeds_without_a_hit_are_no_certainty(tmp_path):
    files = {name: columns.read(write(tmp_path / f"{name}.jsonl", [line(i, lat=None) for i in range(50)]))
             for name in "ab"}
    assert several.seeds(files, 100, 0)["within_1_km"]["high"] == pytest.approx(1 - 0.025 ** (1 / 50))


@pytest.mark.slow
def test_the_interval_over_seeds_covers_what_many_seeds_come_to():
    """Five seeds whose skill differs, on 40 places: 200 made experiments."""
    held, generator = 0, np.random.default_rng(0)
    for repeat in range(200):
        easy = generator.normal(0, 1, 40)
        files = {}
        for seed in range(5):
            skill = generator.normal(0, 0.3)
            km = np.where(easy + skill + generator.normal(0, 0.5, 40) > 0, 0.5, 5000.0)
            files[str(seed)] = columns.Columns([("x", "x", 0.0, 0.0)] * 40, km, np.zeros(40, dtype=bool),
                                               columns.Clusters.of(range(40)), {}, {}, {})
        made = several.seeds(files, 300, repeat)["within_1_km"]
        held += made["low"] <= 0.5 <= made["high"]
    assert 0.91 <= held / 200 <= 0.99


@pytest.mark.parametrize("keys, message", [
    ({"pairs": ["median_km"]}, "pairs=median_km: no measure that is tested"),
    ({"seeds": True, "scores": ["a_scores.json"]}, "needs the scores of two seeds")])
def test_what_cannot_be_tested(three, keys, message):
    with pytest.raises(UserError, match=message):
        compare.run(compare.Config(**{"scores": three, **keys}))


def test_other_rows_are_refused(three):
    write(Path("d.jsonl"), [line(i) for i in range(7)])
    score.run(score.Config("d.jsonl", out="d_scores.json", draws=10))
    with pytest.raises(UserError, match="a has 8 rows and d has 7"):
        compare.run(compare.Config(["a_scores.json", "d_scores.json"], pairs=["geoscore"]))
