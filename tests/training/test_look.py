"""What the rows of a stage say: one line of counts, and files that are not what they are taken for."""
import json
import shutil
from pathlib import Path

import pytest

from gre.config import UserError, load
from gre.text.prompts import JUDGE_INSTRUCTION
from gre.training import stage as stages
from stages import judge, stage2_verdict
from tests.helpers.judge_rows import write_rows
from tests.helpers.stages import pictures, run1, run3, write_cot, write_stage

FORM = "<think>A café.</think><answer>{}</answer>"
NEAR, FAR, EXCHANGED, NONE = "48.9, 2.4", "-33.9, 151.2", "2.3, 48.9", "Paris"


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch):
    """No row here needs a model to be judged."""
    monkeypatch.setattr(stages, "load_model", lambda *_, **__: (_ for _ in ()).throw(Loaded))


class Loaded(Exception):
    """The rows passed."""


def respond(*responses: str) -> None:
    """Stage 1's file with these responses."""
    rows = json.loads(Path("cot/cot.json").read_text())[:1] * len(responses)
    Path("cot/cot.json").write_text(json.dumps([
        {**row, "conversations": [row["conversations"][0], {"from": "gpt", "value": response}]}
        for row, response in zip(rows, responses)]))


def test_stage_1_prints_what_its_responses_are_like(cot, capsys):
    respond(*[FORM.format(NEAR)] * 5, "No tags. 48.9, 2.3", FORM.format(NONE), FORM.format("48.9, 2.3 or 40.7, -74.0"),
            FORM.format(FAR), FORM.format(EXCHANGED), "<answer>48.9, 2.3</answer><answer>48.9, 2.3</answer>")
    with pytest.raises(Loaded):
        run1()
    assert capsys.readouterr().out == (
        "cot/cot.json: 2 of 11 responses would earn no format, 2 have no readable answer, 2 lie farther than 2500 km "
        "from the truth (median distance 7 km); 1 say longitude first\n")


@pytest.mark.slow
@pytest.mark.parametrize("response, said", [
    ("The sign is French. 48.9, 2.3", "responses are not of the form <think>"),
    (FORM.format(NONE), "responses have no answer that can be read"),
    (FORM.format("48.9, 2.3 or 40.7, -74.0"), "responses have no answer that can be read"),
    (FORM.format(FAR), "responses answer with a place more than 2500 km from gt_lat, gt_lon"),
    (FORM.format(EXCHANGED), "responses say longitude first. Exchange"),
    (FORM.format("<answer>48.9, 2.3</answer>"), "responses are not of the form"),
    ("True", "responses say True or False, as those of GRE30K-Judge do"),
])
def test_a_file_of_which_most_rows_teach_something_else_is_refused(cot, response, said):
    respond(*[FORM.format(NEAR)] * 2, *[response] * 2)
    with pytest.raises(Loaded):
        run1()
    respond(*[FORM.format(NEAR)] * 2, *[response] * 3)
    with pytest.raises(UserError, match=f"cot.json: 3 of 5 {said}"):
        run1("data.on_bad_row=drop")


def test_verdicts_that_are_asked_for_are_counted_beside(cot, capsys):
    """gre.tiny.form mixes them in, and a file may hold nothing else."""
    rows = json.loads(Path("cot/cot.json").read_text())
    verdict = [{"from": "human", "value": f"<image>\n{JUDGE_INSTRUCTION}\nReasoning: a"},
               {"from": "gpt", "value": "True"}]
    Path("cot/cot.json").write_text(json.dumps([rows[3], *[{**row, "conversations": verdict} for row in rows]]))
    with pytest.raises(Loaded):
        run1()
    assert ("0 of 1 responses would earn no format, 0 have no readable answer, 0 lie farther than 2500 km from the "
            "truth (median distance 44 km); 4 more say True or False when asked the judge's question\n"
            ) in capsys.readouterr().out


def run_judge(*keys):
    judge.run(load(judge.Config, ["output_dir=run/another", "model_name_or_path=base", "data.path=judged/judge.json",
                                  *keys]))


def run_verdict():
    stage2_verdict.run(load(stage2_verdict.Config, ["output_dir=run/verdict", "model_name_or_path=run/stage1",
                                                    "data.path=judged/judge.json", "rollout.max_new_tokens=4"]))


def answer(true: str, false: str) -> None:
    """Judge rows whose answers depend on their label."""
    write_rows(Path("judged"), 20)
    rows = json.loads(Path("judged/judge.json").read_text())
    for row in rows:
        row["predicted_answer"] = true if row["conversations"][1]["value"] == "True" else false
    Path("judged/judge.json").write_text(json.dumps(rows))


@pytest.mark.parametrize("run", [run_judge, run_verdict])
def test_judge_rows_are_counted_by_their_label(workplace, capsys, run):
    answer(NEAR, FAR)
    with pytest.raises(Loaded):
        run()
    assert ("judged/judge.json: 10 of 20 rows are labelled True, 0 have no readable answer; of those labelled True 0 "
            "lie farther than 2500 km from the truth (median distance 6 km); of those labelled False 10 lie farther "
            "than 2500 km from the truth (median distance 16962 km)\n") in capsys.readouterr().out


@pytest.mark.parametrize("run", [run_judge, run_verdict])
def test_labels_the_wrong_way_round_are_refused(workplace, run):
    answer(FAR, NEAR)
    with pytest.raises(UserError, match="judge.json: 10 of 10 answers labelled True lie more than 2500 km .*labels"):
        run()


@pytest.mark.parametrize("run", [run_judge, run_verdict])
def test_labels_exchanged_between_answers_of_one_continent_are_refused(workplace, run):
    answer("50.1, 8.7", "48.9, 2.4")
    with pytest.raises(UserError, match="judge.json: answers labelled True lie 479 km from gt_lat, gt_lon in the "
                                        "median, those labelled False 6 km: the labels are the wrong way round"):
        run()


@pytest.mark.parametrize("label", ["True", "False"])
def test_one_label_for_all_rows_is_refused(workplace, label):
    answer(NEAR, NEAR)
    rows = json.loads(Path("judged/judge.json").read_text())
    for row in rows:
        row["conversations"][1]["value"] = label
    Path("judged/judge.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=f"judge.json: all of 20 rows are labelled {label}: a judge learns from rows"):
        run_judge()


@pytest.mark.slow
def test_judge_answers_without_numbers_are_said_and_refused_of_most(workplace, capsys):
    answer(NONE, NEAR)
    with pytest.raises(Loaded):
        run_judge()
    assert "10 have no readable answer; of those labelled True none says how far" in capsys.readouterr().out
    shutil.rmtree("judged")
    answer(NONE, NONE)
    with pytest.raises(UserError, match="judge.json: 20 of 20 rows have a predicted_answer in which no coordinates"):
        run_judge()


@pytest.mark.slow
def test_seed_rows_are_counted(workplace, vlm, capsys):
    write_stage(vlm, "stage2", {})
    with pytest.raises(Loaded):
        run3()
    assert "seed/seed.jsonl: 4 rows ask 1 questions about 1 places" in capsys.readouterr().out


@pytest.mark.slow
def test_one_place_for_most_rows_is_refused(workplace, vlm):
    write_stage(vlm, "stage2", {})
    row = json.loads(Path("seed/seed.jsonl").read_text().split("\n")[0])
    rows = [{**row, "gt_lat": 48.9 if i % 3 else 40 + i / 99} for i in range(150)]
    Path("seed/seed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"100 of 150 rows have the very same gt_lat, gt_lon \(48.9, 2.3\)"):
        run3()


@pytest.mark.parametrize("run, said", [
    (run_judge, "is a GRE30K-Seed file .*GRE30K-Judge rows are wanted here"),
    (run_verdict, "is a GRE30K-Seed file .*GRE30K-Judge rows are wanted here")])
def test_a_seed_file_given_to_the_judge_is_named(workplace, run, said):
    Path("judged").mkdir()
    Path("judged/judge.json").write_bytes(Path("seed/seed.jsonl").read_bytes())
    with pytest.raises(UserError, match=said):
        run()


@pytest.mark.slow
def test_other_files_given_to_stages_1_and_3_are_named(workplace, vlm):
    write_stage(vlm, "stage2", {})
    write_rows(Path("judged"), 4)
    with pytest.raises(UserError, match="is a GRE30K-Judge file"):
        run1("data.path=judged/judge.json")
    write_cot(pictures())
    with pytest.raises(UserError, match="is a GRE30K-CoT file"):
        run3("data.path=cot/cot.json")
