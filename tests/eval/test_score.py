"""python -m eval.score: golden files, hand-worked comparisons, what is written and what is refused."""
import csv
import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from eval import predictions, score
from eval.scoring import columns, reported
from gre.config import ConfigError, UserError, load
from gre.geo import shares
from gre.geo.accuracy import THRESHOLDS_KM
from tests.helpers.paths import ROOT
from tests.helpers.prediction_lines import line, write

GOLDEN = Path(__file__).with_name("golden_scores") / "poles_and_date_line.jsonl"


def run(*paths: str, **keys) -> dict:
    return score.run(score.Config(*paths, **{"draws": 500, **keys}))


def test_golden_scores_at_the_poles_and_the_date_line(capsys):
    # Worked out without haversine. All pairs lie on one meridian or on the equator, so that the distance is an arc in
    # degrees times pi 6371.0088 / 180 = 111.19508023353 km (30 digits, Python's decimal):
    #   golden:1  the north pole under two longitudes       0        0 km
    #   golden:2  179.996 E to 179.996 W on the equator     0.008    0.889561 km
    #   golden:3  179.995 E to 179.996 W                    0.009    1.000756 km, just over 1
    #   golden:4  the south pole to 89.8 S                  0.2     22.239016 km
    #   golden:5  89.5 N to 89.5 N over the pole            1      111.195080 km
    #   golden:6  3 W to 3.745 E on the equator             6.745  750.010816 km, just over 750
    #   golden:7  60 N to 60 N over the pole               60     6671.704814 km
    #   golden:8  to the antipode                         180    20015.114442 km
    #   golden:9, 10  no readable answer                         20015 km by definition
    #   golden:11 180 W to 180 E                            0        0 km
    #   golden:12 22.4 N to the equator                    22.4   2490.769797 km
    arcs = [0, 0.008, 0.009, 0.2, 1, 6.745, 60, 180, None, None, 0, 22.4]
    read = columns.read(GOLDEN)
    for arc, distance in zip(arcs, read.distance_km.tolist()):
        assert math.isnan(distance) if arc is None else distance == pytest.approx(arc * 111.19508023353, abs=1e-6)

    made = run(str(GOLDEN), draws=10_000, rows=12)
    value = {name: estimate["value"] for name, estimate in made["all"]["predictions"].items()}
    assert [value[f"within_{limit}_km"] * 12 for limit in THRESHOLDS_KM] == pytest.approx([3, 5, 6, 6, 8])
    assert value["median_km"] == pytest.approx(430.602948204)       # (111.195080 + 750.010816) / 2
    assert value["mean_km"] == pytest.approx(5841.077023508)        # the twelve above, added and divided
    assert value["geoscore"] == pytest.approx(2798.818167758)       # 5000 exp(-km / 1492.7), to 30 digits
    assert made["n"] == 12 and made["unparsed"] == {"predictions": 2}
    assert made["refused"] == {"predictions": 1}                    # "I cannot tell"; golden:10 holds a number
    assert made["clusters"] == {"by": {"author": 12}, "count": 5, "largest": 3}
    assert made["all"]["clusters"] == 5
    printed = capsys.readouterr().out
    assert "n 12, unparsed 2 (1 refused; 0 cut off), counted as wrong" in printed
    assert "5 clusters (12 rows by author" in printed


def test_two_models_worked_by_hand(tmp_path, capsys):
    # Six single photos. `a` is right on all; `b` is 1 degree off on five of them.
    a = write(tmp_path / "a.jsonl", [line(i) for i in range(6)])
    b = write(tmp_path / "b.jsonl", [line(i, lat=49.0 if i else 48.0) for i in range(6)])
    made = run(a, b, draws=10_000)
    # A draw of six holds k of the five rows: k <= 1 in 0.07 % of draws, k <= 2 in 0.9 %, k = 6 in 33 %. With six
    # clusters the interval begins at the 0.25th percentile: Student's t is 2.57 with 5 degrees of freedom, times
    # the root of 6 / 5. That is 2/6; what six rows can say at all of a share goes further down.
    within = made["all"]["difference"]["within_25_km"]
    low, high = shares.difference(np.array([0, 1, 1, 1, 1, 1]), np.zeros(6), np.ones(6))
    assert within == pytest.approx({"value": 5 / 6, "low": low, "high": 1.0, "effective_clusters": 6.0})
    assert low < 2 / 6 < high
    assert made["all"]["difference"]["median_km"]["value"] == pytest.approx(-111.19508)
    assert made["all"]["difference"]["within_200_km"]["high"] == pytest.approx(1 - 0.025 ** (1 / 6))
    # Five heads in five throws, both ways: 2/32. Holm: two thresholds share 2/32, so 5 x 2/32; the others are at 1.
    expected = dict.fromkeys(("within_1_km", "within_25_km"), 2 / 32) | dict.fromkeys(
        ("within_200_km", "within_750_km", "within_2500_km"), 1.0)
    assert made["p"]["mcnemar"] == pytest.approx(expected)
    assert made["p"]["sign_flip"] == pytest.approx(expected | {"geoscore": 2 / 32, "mean_km": 2 / 32})
    assert made["p"]["holm"] == pytest.approx({name: min(1.0, 5 * p) for name, p in expected.items()})
    assert "exact McNemar: within 1 km 0.0625" in capsys.readouterr().out


def test_names_are_matched_exactly_over_the_rows_that_have_one(tmp_path, capsys):
    rows = [line(1, gt_country="Niger", country="Nigeria"), line(2, gt_country="Côte d’Ivoire", country="co\u0302te "
            " D’Ivoire "), line(3, gt_country="Peru", country=None), line(4, gt_country="Peru"),
            line(5, gt_country="", country="France"), line(6, gt_city="Lima")]
    made = run(write(tmp_path / "p.jsonl", rows))
    assert made["names"]["exact"]["country"]["n"] == 4
    assert made["names"]["exact"]["country"]["predictions"]["country_right"]["value"] == 0.25
    assert list(made["names"]["exact"]) == ["country"]  # no row predicts a city: that is not 0 %
    assert "n 4, exact match" in capsys.readouterr().out


@pytest.mark.parametrize("fields, refused", [
    ({"text": "<think>x</think><answer>I'm sorry, I can’t tell.</answer>"}, True),
    ({"text": "<think>It is unknown.</think><answer>Paris, France</answer>"}, False),
    ({"text": "<think>x</think><answer>cannot"}, True),
    ({"text": "<think>x</think><answer>cannot", "finished": False}, False),
    ({"text": "<think>Sorry, I never stop"}, False),
    ({"text": "<answer>Paris</answer>", "refused": True}, True),
    ({"text": "<answer>unknown</answer>", "refused": False}, False)])
def test_a_refusal_is_told_from_what_cannot_be_read(tmp_path, fields, refused):
    made = run(write(tmp_path / "p.jsonl", [line(1), line(2, lat=None, **fields)]))
    assert made["unparsed"] == {"predictions": 1} and made["refused"] == {"predictions": int(refused)}
    assert made["all"]["predictions"]["within_2500_km"]["value"] == 0.5  # wrong either way, and in the denominator


def test_every_number_is_written_as_csv_and_latex_and_every_distance(tmp_path):
    rows = [line(i, lat=None if i == 3 else 48.0 + i, scene="a_b" if i % 2 else "c", gt_country="X", country="X")
            for i in range(20)]
    a = write(tmp_path / "a.jsonl", rows)
    b = write(tmp_path / "b.jsonl", [row | {"lat": 48.0, "lon": 2.0} for row in rows])
    folder = tmp_path / "new" / "t"
    made = run(a, b, tables=str(folder))
    lines = list(csv.DictReader((folder / "scores.csv").open()))
    (one,) = [row for row in lines if (row["group"], row["label"], row["model"], row["measure"]) == (
        "slice scene", "a_b", "difference", "geoscore")]
    block = made["slices"]["scene"]["a_b"]
    assert float(one["value"]) == block["difference"]["geoscore"]["value"] and one["n"] == "10"
    assert {row["group"] for row in lines} == {"all", "slice scene", "name exact"}
    distances = list(csv.DictReader((folder / "distances.csv").open()))
    assert len(distances) == 40 and distances[3] == {
        "model": "predictions", "id": "t:3", "gt_lat": "48.0", "gt_lon": "2.0", "lat": "", "lon": "", "distance_km": "",
        "geoscore": "0.0"}
    assert float(distances[1]["distance_km"]) == pytest.approx(111.19508)
    tex = (folder / "slices.tex").read_text()
    assert r"a\_b & difference & 10 & " in tex and tex.count(r"\\") == 1 + 2 * 3
    assert r"exact & country & other & 20 & 100.0 \% [83.2 to 100.0]" in (folder / "names.tex").read_text()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("wandb") is None, reason="EXTRAS=wandb bash environment.sh")
def test_scores_are_a_run_of_wandb_without_a_network(tmp_path):
    """The command, offline: the run lies on disk as `wandb sync` takes it, with the numbers in its summary."""
    path = write(tmp_path / "p.jsonl", [line(i, lat=None if i == 3 else 48.0) for i in range(20)])
    done = subprocess.run(
        [sys.executable, "-m", "eval.score", path, "draws=50", "report_to=wandb"], capture_output=True, text=True,
        cwd=ROOT, env={**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_PROJECT": "geo",
                       "WANDB_CACHE_DIR": str(tmp_path), "WANDB_CONFIG_DIR": str(tmp_path), "HTTPS_PROXY": "nowhere:9"})
    assert done.returncode == 0, done.stderr
    (log,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    content = log.read_bytes()
    for said in (b"predictions/within_25_km/low", b"predictions/unparsed", b"eval.score", b"no geocoder"):
        assert said in content


def test_what_is_sent_to_wandb(tmp_path):
    rows = [line(i, lat=None if i == 3 else 48.0, scene="a" if i % 2 else "b", finished=i != 3) for i in range(20)]
    flat = reported.flat(run(write(tmp_path / "p.jsonl", rows)))
    assert (flat["n"], flat["predictions/within_25_km"], flat["predictions/unparsed"]) == (20, 0.95, 1)
    assert 0.7 < flat["predictions/within_25_km/low"] < 0.95 < flat["predictions/within_25_km/high"] <= 1
    assert flat["predictions/scene/a/geoscore"] == 4500 and flat["predictions/scene/b/geoscore"] == 5000
    assert flat["predictions/cut_off"] == 1
    one = reported.flat(run(write(tmp_path / "q.jsonl", rows[:2])))
    assert "predictions/geoscore" in one and "predictions/geoscore/low" not in one  # two rows have no interval


def test_reporting_elsewhere_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "p.jsonl", [line(1)])
    with pytest.raises(UserError, match="report_to is 'swanlab': write none or wandb"):
        run(path, report_to="swanlab")
    monkeypatch.setattr(score, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="wandb is not installed: EXTRAS=wandb bash environment.sh installs it"):
        run(path, report_to="wandb")


def test_unread_answers_that_name_a_place_say_what_scores_them(tmp_path, capsys):
    said = ["48.0, 2.0", "<answer>country: Germany\ncity: Munich</answer>", "<answer>city: Paris</answer>", "No idea."]
    write(tmp_path / "p.jsonl", [line(number, None if number else 48.0, text) for number, text in enumerate(said)])
    path = str(tmp_path / "p.jsonl")
    assert run(path)["in_names"] == {"predictions": 2}
    hint = "2 unread answers name a place (answer=names min_population=15000 scores names)"
    assert hint in capsys.readouterr().out
    assert run(path, answer="names", min_population=15000)["in_names"] == {"predictions": 0}
    assert "scores names" not in capsys.readouterr().out


def test_what_was_cut_off_is_counted(tmp_path, capsys):
    rows = [line(1), line(2, lat=None, text="<think>so", finished=False), line(3, finished=False), line(4, lat=None)]
    made = run(write(tmp_path / "p.jsonl", rows), tables=str(tmp_path))
    assert made["cut_off"] == {"predictions": 1}  # row 3 was cut off after its answer
    counted = {row["measure"]: row["value"] for row in csv.DictReader((tmp_path / "scores.csv").open())}
    assert (counted["unparsed"], counted["cut_off"], counted["refused"], counted["filtered"]) == ("2", "1", "0", "0")
    assert "& 2 (0 refused; 1 cut off) \\\\\n" in (tmp_path / "all.tex").read_text()
    assert "unparsed 2 (0 refused; 1 cut off), counted as wrong" in capsys.readouterr().out


def test_a_mark_before_utf8_and_blank_lines_are_no_fault(tmp_path):
    path = tmp_path / "p.jsonl"
    write(path, [line(1), line(2)])
    path.write_text("\ufeff" + path.read_text().replace("\n", "\n\n \n"))
    assert run(str(path))["n"] == 2


@pytest.mark.parametrize("name", ["p.csv", "p.TSV", "p.parquet"])
def test_a_table_is_named_as_one_and_not_read_as_a_config(tmp_path, name):
    path = tmp_path / name
    path.write_text("id,lat,lon\n" + "a=b,1,2\n" * 50)
    with pytest.raises(UserError, match=r"is a table, .*import it with python -m eval.adopt .* out=.*p.jsonl") as told:
        score.run(load(score.Config, predictions.arguments([str(path)])))
    assert len(str(told.value)) < 400


@pytest.mark.slow
def test_a_reader_that_wants_no_more_loses_no_file(tmp_path):
    path, out = write(tmp_path / "p.jsonl", [line(i, scene=f"s{i}") for i in range(90)]), tmp_path / "new" / "s.json"
    command = f"{sys.executable} -m eval.score {path} out={out} draws=20 | head -n 1; exit ${{PIPESTATUS[0]}}"
    shown = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert shown.stdout.count("\n") == 1 and json.loads(out.read_text())["n"] == 90
    assert shown.stderr == "" and shown.returncode in (0, 141)


def test_a_number_is_nothing_to_break_scores_down_by(tmp_path, capsys):
    rows = [line(i, locatability=f"{i / 2600:.4f}", scene=f"s{i % 100}") for i in range(101)]
    made = run(write(tmp_path / "p.jsonl", rows), draws=2)
    assert list(made["slices"]) == ["scene"] and len(made["slices"]["scene"]) == 100
    assert "locatability has 101 labels, such as '0.0000': scores are not broken down by it" in capsys.readouterr().err


def test_a_missing_extra_is_told_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("eval.score.find_spec", lambda name: None)
    with pytest.raises(UserError, match="EXTRAS=osv5m bash environment.sh installs it"):
        run(str(tmp_path / "is not there.jsonl"), areas="osv5m")


@pytest.mark.parametrize("rows, keys, message", [
    ([line(1)], {"rows": 2997}, "has 1 rows and the benchmark has 2997"),
    ([], {}, "holds no row"),
    ([line(1)], {"draws": 0}, "draws is 0"),
    ([line(1), line(1)], {}, "row t:1 more than once"),
    ([line(1, lat=90.5)], {}, "line 1 is not a prediction .*90.5"),
    ([line(1) | {"text": None}], {}, "line 1: text is null, and text is wanted"),
    ([line(1) | {"finished": None}], {}, "line 1: finished is null, and true or false is wanted"),
    ([line(1) | {"finished": "false"}], {}, 'line 1: finished is "false", and true or false is wanted'),
    ([line(1) | {"id": None}], {}, "line 1: id is null, and text is wanted"),
    ([line(1) | {"gt_lat": math.nan}], {}, "line 1 is not a prediction .*nan"),
    ([line(1, refused=True)], {}, "row t:1: refused is true and lat, lon hold an answer"),
    ([line(1, locatability=0.7)], {}, "row t:1: locatability is 0.7"),
    ([line(1, gt_city=7, city="x")], {}, "row t:1: gt_city is 7")])
def test_what_cannot_be_scored_is_refused(tmp_path, rows, keys, message):
    with pytest.raises(UserError, match=message):
        run(write(tmp_path / "p.jsonl", rows), **keys)


@pytest.mark.parametrize("out", ["p.json", "./p.jsonl"])
def test_what_was_said_of_the_predictions_is_not_written_over(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"out={out} belongs to .*out=.*p.scores.json"):
        run(write(tmp_path / "p.jsonl", [line(1)]), out=out)


@pytest.mark.parametrize("other, message", [
    ([line(1)], "has 2 rows and .* has 1"),
    ([line(2), line(1)], "predict both on the same data"),
    ([line(1, author="y"), line(2, author="x")], "differ in author"),
    ([line(1, scene="street", author="x"), line(2, author="x")], "differ in scene")])
def test_files_that_do_not_pair_up_are_refused(tmp_path, other, message):
    mine = [line(number, author="x") for number in (1, 2)]
    with pytest.raises(UserError, match=message):
        run(write(tmp_path / "a.jsonl", mine), write(tmp_path / "b.jsonl", other))


def test_what_is_written_says_where_it_comes_from(tmp_path):
    (tmp_path / "p.json").write_text('{"model": {"stage": "stage3"}}')
    out = tmp_path / "deep" / "scores.json"
    made = run(write(tmp_path / "p.jsonl", [line(1), line(2)]), out=str(out))
    assert json.loads(out.read_text()) == made
    assert made["files"]["predictions"]["made_with"] == {"model": {"stage": "stage3"}}
    assert len(made["files"]["predictions"]["sha256"]) == 64 and made["protocol"]["draws"] == 500
    assert set(made["all"]["predictions"]["geoscore"]) == {"value", "low", "high", "effective_clusters"}


def test_the_seed_fixes_everything(tmp_path):
    path = write(tmp_path / "p.jsonl", [line(i, lat=48 + i) for i in range(40)])
    assert run(path, seed=3) == run(path, seed=3)
    assert run(path, seed=3)["all"] != run(path, seed=4)["all"]


def test_the_file_needs_no_key_on_the_command_line(tmp_path):
    config = load(score.Config, predictions.arguments(["p.jsonl", "other=q.jsonl", "draws=7"]))
    assert (config.predictions, config.other, config.draws) == ("p.jsonl", "q.jsonl", 7)
    with pytest.raises(ConfigError, match="no value for predictions"):
        load(score.Config, predictions.arguments([]))
