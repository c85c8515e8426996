"""python -m eval.score: intervals over clusters of rows, what is withheld, and coverage of a known truth."""
import itertools
import math
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from eval import score
from eval.scoring import columns, coverage, measures
from gre import provenance
from gre.geo import bootstrap, shares
from gre.geo.accuracy import THRESHOLDS_KM
from tests.helpers.prediction_lines import line, write

GOLDEN = Path(__file__).with_name("golden_scores") / "poles_and_date_line.jsonl"


def run(*paths: str, **keys) -> dict:
    return score.run(score.Config(*paths, **{"draws": 500, **keys}))


def test_golden_intervals_are_those_of_all_3125_draws(monkeypatch):
    # Five authors: every draw takes five of them with replacement, each of the 3,125 as likely. 0.6 % is 4 sigma.
    monkeypatch.setattr(bootstrap, "tail", lambda effective: 0.025)
    monkeypatch.setattr(measures, "WITHHELD", 0)  # five authors of 3, 2, 2, 2 and 3 rows are worth 4.8
    monkeypatch.setattr(shares, "RARE", 0)
    charged = [20015.0 if math.isnan(km) else km for km in columns.read(GOLDEN).distance_km.tolist()]
    authors = [charged[0:3], charged[3:5], charged[5:7], charged[7:9], charged[9:12]]
    draws = list(itertools.product(authors, repeat=5))
    drawn = [sum(draw, []) for draw in draws]
    scores = [[5000 * math.exp(-km / 1492.7) * (km < 20015) for km in draw] for draw in drawn]

    def spread(draw) -> float:
        """The standard error of the mean of what some authors hold, the authors' totals being what varies."""
        mean = sum(sum(draw, [])) / len(sum(draw, []))
        return math.sqrt(sum((sum(own) - mean * len(own)) ** 2 for own in draw)) / len(sum(draw, []))

    mean = sum(charged) / len(charged)
    by_spread = [mean - (sum(rows) / len(rows) - mean) * spread(authors) / spread(draw)
                 for draw, rows in zip(draws, drawn) if spread(draw) > 0]  # 5 of 3,125 are one author five times
    expected = {"geoscore": sorted(sum(draw) / len(draw) for draw in scores), "mean_km": sorted(by_spread),
                "median_km": sorted(map(median, drawn))}
    made = run(str(GOLDEN), draws=10_000)["all"]["predictions"]
    for name, values in expected.items():
        values = [min(20016, max(0, value)) for value in values]
        for end, level in (("low", 0.025), ("high", 0.975)):
            assert values[int((level - 0.006) * len(values))] <= made[name][end] * (1 + 1e-9) + 1e-9
            assert made[name][end] * (1 - 1e-9) <= values[int((level + 0.006) * len(values))] + 1e-9


def test_slices_add_up_and_few_clusters_get_no_interval(tmp_path, capsys):
    rows = [line(1, indoor=True), line(2, lat=None, indoor=1), line(3, indoor=0), line(4, lat=49.0)]
    made = run(write(tmp_path / "p.jsonl", rows))
    slices = made["slices"]["indoor"]
    assert {name: block["n"] for name, block in slices.items()} == {"(no label)": 1, "indoor": 2, "outdoor": 1}
    withheld = {"low": None, "high": None}
    assert slices["indoor"]["predictions"]["within_25_km"] == {"value": 0.5, "effective_clusters": 2.0} | withheld
    assert slices["outdoor"]["predictions"]["geoscore"] == {"value": 5000.0, "effective_clusters": 1.0} | withheld
    printed = capsys.readouterr().out
    assert "indoor outdoor: n 1, clusters 1; within 25 km 100.0 % [no interval: 1.0 effective clusters]" in printed
    golden = run(str(GOLDEN))["slices"]["continent"]
    assert {name: (block["n"], block["clusters"]) for name, block in golden.items()} == {
        "(no label)": (8, 3), "Europe": (4, 2)}
    # Europe is bo (22 and 111 km) and cleo (750 and 6672 km).
    assert golden["Europe"]["predictions"]["within_25_km"]["value"] == 0.25
    assert golden["Europe"]["predictions"]["median_km"]["value"] == pytest.approx((111.19508 + 750.010816) / 2)


def test_two_authors_of_499_photos_and_one_are_no_two_clusters(tmp_path, capsys):
    rows = [line(i, lat=None if i % 20 == 0 else 48.0, author="a" if i else "b") for i in range(500)]
    made = run(write(tmp_path / "p.jsonl", rows))
    assert made["all"]["predictions"]["within_1_km"] == {"value": 0.95, "low": None, "high": None,
                                                         "effective_clusters": 1.0}
    assert "within 1 km      95.0 % [no interval: 1.0 effective clusters]" in capsys.readouterr().out


@pytest.mark.parametrize("authors, said", [
    (4, "100.0 % [no interval: 4.0 effective clusters]"),
    (5, "100.0 % [47.8 to 100.0, few: 5.0 effective clusters]"),  # 0.025^(1/5)
    (15, "100.0 % [78.2 to 100.0]")])                             # 0.025^(1/15)
def test_few_effective_clusters_are_said(tmp_path, capsys, authors, said):
    run(write(tmp_path / "p.jsonl", [line(i, author=f"a{i % authors}") for i in range(authors)]))
    assert f"within 1 km      {said}" in capsys.readouterr().out


@pytest.mark.parametrize("nobody", ["unknown", "Unknown", " anonymous ", "nan", "-"])
def test_an_author_nobody_knows_is_no_cluster(tmp_path, nobody):
    made = run(write(tmp_path / "p.jsonl", [line(i, author=nobody) for i in range(30)]))
    assert made["clusters"] == {"by": {"place": 30}, "count": 30, "largest": 1}
    assert made["all"]["predictions"]["within_1_km"]["low"] == pytest.approx(0.025 ** (1 / 30))


@pytest.mark.parametrize("n, zero, one", [
    (500, 0.0073506, (0.00005063, 0.0110927)),  # 1 - 0.025^(1/500), and Clopper and Pearson's table entry for 1
    (50, 0.0711217, (0.0005062, 0.1064695)),
    (6, 0.4592581, (0.0042107, 0.6412346))])
def test_a_rare_hit_is_no_certainty(tmp_path, n, zero, one):
    none = run(write(tmp_path / "none.jsonl", [line(i, lat=None) for i in range(n)]))["all"]["predictions"]
    assert (none["within_1_km"]["low"], none["within_1_km"]["high"]) == (0, pytest.approx(zero, rel=1e-4))
    assert none["geoscore"]["high"] == pytest.approx(5000 * zero, rel=1e-4)
    assert none["mean_km"]["low"] == pytest.approx(20015 * (1 - zero), rel=1e-3)
    single = run(write(tmp_path / "one.jsonl", [line(i, lat=None if i else 48.0) for i in range(n)]))
    within = single["all"]["predictions"]["within_1_km"]
    assert (within["low"], within["high"]) == pytest.approx(one, rel=1e-4)
    every = run(write(tmp_path / "all.jsonl", [line(i) for i in range(n)]))["all"]["predictions"]
    assert every["within_1_km"]["low"] == pytest.approx(1 - zero) and every["within_1_km"]["high"] == 1
    assert every["geoscore"]["low"] == pytest.approx(5000 * (1 - zero), rel=1e-3)


def test_two_models_that_answer_alike_may_differ_elsewhere(tmp_path):
    a = write(tmp_path / "a.jsonl", [line(i, lat=None if i % 2 else 48.0) for i in range(100)])
    differ = run(a, a)["all"]["difference"]
    assert differ["within_1_km"]["value"] == 0
    assert (differ["within_1_km"]["low"], differ["within_1_km"]["high"]) == pytest.approx((-0.0362167, 0.0362167))
    assert differ["geoscore"]["high"] == pytest.approx(5000 * 0.0362167, rel=1e-4)  # 1 - 0.025^(1/100) is 0.0362167


def test_a_hit_of_an_author_with_many_photos_says_less_than_one_of_many_authors(tmp_path):
    rows = [line(i, lat=None if i else 48.0) for i in range(500)]
    alone, of_authors = (run(write(tmp_path / "p.jsonl", lines))["all"]["predictions"]["within_1_km"]
                         for lines in (rows, [row | {"author": i // 10} for i, row in enumerate(rows)]))
    assert alone["high"] == pytest.approx(0.0110927, rel=1e-4) and 0.015 < of_authors["high"] < 0.1064695


def test_mcnemar_is_not_given_where_rows_hang_together(tmp_path, capsys):
    a = write(tmp_path / "a.jsonl", [line(i, author="x" if i < 5 else "y") for i in range(6)])
    b = write(tmp_path / "b.jsonl", [line(i, lat=49.0 if i else 48.0, author="x" if i < 5 else "y") for i in range(6)])
    made = run(a, b)
    assert made["p"]["mcnemar"] is None and "no McNemar test" in capsys.readouterr().out
    assert made["p"]["sign_flip"]["within_25_km"] == 0.5  # authors' sums 4 and 1: ++ and -- of four flips are as far
    assert made["clusters"] == {"by": {"author": 6}, "count": 2, "largest": 5}


def test_author_else_place_else_row(tmp_path):
    rows = [line(1, author="x"), line(2, author="x"), line(3, place="p"), line(4, place="p", author=""),
            line(5, place="", author=None), line(6, place="x")]
    read = columns.read(write(tmp_path / "p.jsonl", rows))
    assert read.clusters.index.tolist() == [0, 0, 1, 1, 2, 3]
    assert read.clustered_by == {"author": 2, "place": 3, "row": 1}


@pytest.mark.parametrize("kind, clusters", [("ordinary", 400_000), ("rare hits", 8), ("rare misses", 8)])
def test_the_truth_of_the_made_sets_is_what_many_rows_come_to(kind, clusters):
    repeats = 400_000 // clusters
    sets = [coverage.made_set(kind, np.ones(clusters, dtype=int), np.random.default_rng(seed))[0]
            for seed in range(min(repeats, 4000))]
    distance_km = np.concatenate(sets)
    charged = np.nan_to_num(distance_km, nan=20015)
    truth = coverage.truth(kind, clusters, True)
    for name, km in zip(measures.WITHIN, THRESHOLDS_KM):
        assert truth[name] == pytest.approx((charged <= km).mean(), abs=0.006)
    scored = np.where(np.isnan(distance_km), 0, 5000 * np.exp(-charged / 1492.7))
    assert truth["geoscore"] == pytest.approx(scored.mean(), abs=25)
    assert truth["mean_km"] == pytest.approx(charged.mean(), rel=0.03)
    assert truth["median_km"] == pytest.approx(np.median(charged), rel=0.02)


@pytest.mark.slow
def test_the_intervals_cover_the_truth_and_resampling_rows_does_not(monkeypatch, tmp_path):
    # 60 authors of 8 photos, 200 sets a kind: the standard error of a share of 95 % is 1.5 %.
    # docs/results/bootstrap_coverage.md holds the full run.
    monkeypatch.setattr(coverage, "SETS", {"made": lambda generator: np.full(60, 8)})
    out = tmp_path / "coverage.md"
    config = coverage.Config(out=str(out), repeats=200, row_repeats=40, draws=300)
    found = coverage.all_tried(config, provenance.commit())
    for (_, kind), results in found.items():
        held = np.mean([one["clusters"] for one in results], axis=0)
        assert (held >= 0.91).all() and (kind != "ordinary" or (held[1:] < 1).all()), (kind, held)
    by_rows = np.mean([one["rows"] for one in found["made", "ordinary"] if one["rows"]], axis=0)
    assert (by_rows[1:] <= 0.85).all()  # within 1 km hardly hangs together
    # Interrupted, nothing is tried again: the part holds all, and a torn last line is tried anew.
    part = tmp_path / "coverage.md.part"
    part.write_text("\n".join(part.read_text().split("\n")[:-2]) + "\n[\"made\", ")
    asked, tried = [], coverage.tried
    monkeypatch.setattr(coverage, "tried", lambda *given: asked.append(given[:3]) or tried(*given))
    coverage.run(config)
    assert asked == [("made", "rare misses", range(175, 200))]
    assert "| made, rare hits | geoscore | " in out.read_text() and not part.exists()
