"""Upstream's evaluation scripts: which commands they run. Python and the environment are stand-ins that only speak."""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT


@pytest.fixture
def stand_in(tmp_path) -> Path:
    """A copy of the scripts in a tree whose Python prints its arguments."""
    for folder in ("eval", "eval_bench"):
        shutil.copytree(ROOT / "scripts" / folder, tmp_path / "root/scripts" / folder)
    (tmp_path / "root/environment.sh").write_text("exit 0\n")
    python = tmp_path / "root/.venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/usr/bin/env bash\nprintf "%s|" "$@"; echo\n')
    python.chmod(0o755)
    (tmp_path / "elsewhere").mkdir()
    return tmp_path


def run(stand_in: Path, script: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["bash", str(stand_in / "root" / script), *arguments], cwd=stand_in / "elsewhere",
                          capture_output=True, text=True)


@pytest.mark.parametrize("script, benchmark", [
    ("scripts/eval/eval_img2gps3k.sh", "Im2GPS3k"), ("scripts/eval/eval_gws15k.sh", "GWS15k"),
    ("scripts/eval/eval_im2gps.sh", "Im2GPS"), ("scripts/eval/eval_yfcc4k.sh", "YFCC4k"),
    ("scripts/eval/eval_yfcc26k.sh", "YFCC26k"),
    ("scripts/eval/eval_google_streetview.sh", "Google_StreetView"),
    ("scripts/eval/eval_google_streeview.sh", "Google_StreetView"),  # as GRE's eval.md spells it
    ("scripts/eval/eval_csv.sh", "csv"), ("scripts/eval_bench/eval_greval-bench.sh", "GREval-Bench")])
def test_each_script_predicts_its_benchmark_and_scores_it(stand_in, script, benchmark):
    done = run(stand_in, script, "runs/a/stage3", "batch_size=8", "prompt=Where is it?")
    out = f"eval/output/{benchmark}/a-stage3.jsonl"
    assert done.stdout.splitlines() == [
        f"-m|eval.predict|model=runs/a/stage3|benchmark.name={benchmark}|out={out}|batch_size=8|prompt=Where is it?|",
        f"-m|eval.score|predictions={out}|out={out[:-6]}.scores.json|",
        f'-m|eval.compare|scores=["{out[:-6]}.scores.json"]|page={out[:-6]}.html|'], done.stderr


def test_mp16_reason_test_is_scored_by_name_unless_told_otherwise(stand_in):
    done = run(stand_in, "scripts/eval/eval_mp16_reason.sh", "m", "out=p.jsonl", "score.draws=500")
    assert done.stdout.splitlines() == [
        "-m|eval.predict|model=m|benchmark.name=MP16-Reason-Test|out=p.jsonl|",
        "-m|eval.score|predictions=p.jsonl|out=p.scores.json|answer=names|min_population=15000|draws=500|",
        '-m|eval.compare|scores=["p.scores.json"]|page=p.html|'], done.stderr


@pytest.mark.parametrize("key, message", [
    ("score.answer=name", "answer is 'name': write coordinates or names"),
    ("score.answr=names", "unknown key 'answr'")])
def test_a_key_of_the_scores_that_is_wrong_is_told_before_anything_is_predicted(stand_in, key, message):
    (stand_in / "root/.venv/bin/python").write_text(f'#!/usr/bin/env bash\nexec {sys.executable} "$@"\n')
    done = run(stand_in, "scripts/eval/eval_mp16_reason.sh", "m", key)
    assert done.returncode == 2 and done.stdout == "" and message in done.stderr and "score.KEY=" in done.stderr


CHAIN = ["chain.clip=CLIP", "chain.bert=my models/BERT", "chain.bert_layer=17", "chain.llm.model=L"]


def test_the_chains_of_greval_bench_are_scored_where_their_models_are_named(stand_in):
    done = run(stand_in, "scripts/eval_bench/eval_greval-bench.sh", "m", "out=o/p.jsonl", *CHAIN, "chain.cache=c.jsonl",
               "benchmark.labels=b.json", "benchmark.images=imgs", "batch_size=8")
    chain = ("-m|eval.chain|predictions=o/p.jsonl|out=o/p.chain.json|cache=o/llm.jsonl|data=b.json|image_root=imgs|"
             "clip=CLIP|bert=my models/BERT|bert_layer=17|llm.model=L|cache=c.jsonl|")
    assert done.stdout.splitlines() == [
        "-m|eval.predict|model=m|benchmark.name=GREval-Bench|out=o/p.jsonl|benchmark.labels=b.json|"
        "benchmark.images=imgs|batch_size=8|", chain,
        "-m|eval.score|predictions=o/p.jsonl|out=o/p.scores.json|chain=o/p.chain.json|",
        '-m|eval.compare|scores=["o/p.scores.json"]|page=o/p.html|images=imgs|'], done.stderr


def test_a_key_of_the_chains_that_is_missing_is_told_before_anything_is_predicted(stand_in):
    python = stand_in / "root/.venv/bin/python"
    python.write_text(python.read_text() + '[ "$2" != eval.chain ]\n')
    done = run(stand_in, "scripts/eval_bench/eval_greval-bench.sh", "m", "chain.clip=CLIP")
    assert done.returncode == 2 and done.stdout == "" and "chain.KEY=" in done.stderr


def test_other_benchmarks_have_no_chains_to_score(stand_in):
    done = run(stand_in, "scripts/eval/eval_gws15k.sh", "m", "chain.clip=CLIP")
    assert "eval.chain" not in done.stdout and "|chain.clip=CLIP|" in done.stdout  # eval.predict refuses the key


def test_out_is_taken_and_a_dry_run_scores_nothing(stand_in):
    done = run(stand_in, "scripts/eval/eval_gws15k.sh", "out=p.jsonl", "model=m", "--dry-run")
    assert done.stdout == "-m|eval.predict|model=m|benchmark.name=GWS15k|out=p.jsonl|--dry-run|\n"


def test_a_shard_is_predicted_and_left_for_the_last_command_to_join(stand_in):
    done = run(stand_in, "scripts/eval/eval_gws15k.sh", "m", "out=p.jsonl", "shard=0/4")
    assert done.stdout == "-m|eval.predict|model=m|benchmark.name=GWS15k|out=p.jsonl|shard=0/4|\n"


def test_help_needs_no_model_and_a_run_does(stand_in):
    assert "--help" in run(stand_in, "scripts/eval/eval_gws15k.sh", "--help").stdout
    done = run(stand_in, "scripts/eval/eval_gws15k.sh")
    assert done.returncode == 2 and done.stdout == "" and "MODEL" in done.stderr
