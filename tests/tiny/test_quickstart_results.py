"""What a finished quickstart must have shown, read from runs/quickstart/results.json.

Skipped where the quickstart has not been run; CI runs it before the tests.
"""
import json

import pytest

from tests.helpers.paths import ROOT

RUN = ROOT / "runs" / "quickstart"


@pytest.fixture(scope="module")
def results():
    if not (RUN / "results.json").exists():
        pytest.skip("no runs/quickstart/results.json: bash scripts/quickstart.sh makes it")
    return json.loads((RUN / "results.json").read_text())


def test_it_ran_on_enough_rows_and_says_what_it_took(results):
    assert results["rows"]["test"] >= 300 and results["rows"]["test_new_places"] >= 100
    assert set(results["seconds"]) == {"world", "stage1", "judge", "stage2", "stage3", "evaluation"}
    assert (RUN / "report.html").stat().st_size > 100_000


def test_the_base_cannot_localize(results):
    base, constant = results["checkpoints"]["base"], results["controls"]["constant"]
    assert base["mean_geoscore"] < constant["mean_geoscore"]


def test_stage1_learns_to_localize_by_looking(results):
    stage1, controls = results["checkpoints"]["stage1"], results["controls"]
    assert stage1["within_km"]["750"] >= 0.60
    assert stage1["mean_geoscore"] >= 2500
    assert stage1["unparsed"] <= 0.02 * stage1["n"]
    assert results["gain"]["stage1_over_constant"]["geoscore"]["low"] > 0
    for control in ("swapped", "blank"):  # about what one constant place earns
        assert controls[control]["mean_geoscore"] < controls["constant"]["mean_geoscore"] + 250


def test_the_judge_looks(results):
    judge = results["judge"]
    assert judge["auc"] >= 0.80
    assert judge["auc"] - judge["auc_swapped_pictures"] >= 0.15


def test_rl_pays(results):
    gain = results["gain"]
    assert gain["stage2_over_stage1"]["judge_reward"]["low"] > 0
    assert gain["stage2_over_stage1"]["geoscore"]["high"] > 0  # not shown worse
    assert gain["stage3_over_stage1"]["geoscore"]["low"] > 0
    assert gain["stage3_over_stage1"]["geoscore"]["mean"] >= 100
