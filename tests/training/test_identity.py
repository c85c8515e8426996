"""What a run is made of: what a killed run may change before it is resumed, freely or when it is asked for."""
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from gre import manifest
from gre.config import UserError
from gre.data.records import CoTRow
from gre.geo.point import LatLon
from gre.rewards.format import format_rewards
from gre.rewards.gps import gps_rewards
from gre.training.trainer import checkpoints, identity
from stages import stage3
from tests.helpers.paths import ROOT
from tests.helpers.resuming import Killed
from tests.helpers.stages import run1, run3, write_stage

STEPS = ["train.max_steps=4", "train.save_steps=1", "train.per_device_batch_size=2"]


def test_what_counts():
    run = identity.made_of(stage3.Config(output_dir="a", model_name_or_path="b"), processes=4, parent="c" * 64)
    assert run["train.learning_rate"] == 1e-6 and run["gps.thetas_km"] == [25.0, 200.0, 750.0, 2500.0]
    assert run["rows_of_a_step"] == 32 and run["processes"] == 4 and run["parent"] == "c" * 64
    assert not {"output_dir", "model_name_or_path", "data.path", "data.cache_gib", "train.save_steps",
                "rollout.batch_size", "judge.batch_size", "train.tokens_per_pass", "model.gradient_checkpointing",
                "train.per_device_batch_size", "rollout.kv_cache_gib", "accept_changes", "handoff"} & run.keys()


def test_rows_count_by_their_content(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        Image.new("RGB", (8, 8), (9, 9, 9)).save(path)
    rows = [CoTRow(f"x:{i}", path, "Where?", "Here.", LatLon(1.0, 2.0)) for i, path in enumerate(paths)]
    made = identity.rows_hash(rows)
    assert identity.rows_hash([replace(rows[0], id="y:7", image=paths[1]), rows[1]]) == made  # names do not count
    assert identity.rows_hash(rows[:1]) != made
    assert identity.rows_hash([replace(rows[0], response="There."), rows[1]]) != made
    assert identity.rows_hash([replace(rows[0], truth=LatLon(1.0, 2.5)), rows[1]]) != made
    Image.new("RGB", (8, 8), (9, 9, 8)).save(paths[1])  # another photo under the same row
    assert identity.rows_hash(rows) != made


def test_a_reward_counts_by_its_code():
    assert identity.code_hash(partial(gps_rewards, [25.0])) == identity.code_hash(gps_rewards)
    assert identity.code_hash(gps_rewards) != identity.code_hash(format_rewards)


def killed_at(monkeypatch, step, run):
    """The run, killed while the checkpoint of this step is completed."""
    complete = checkpoints.complete

    def killing(folder, at, *rest):
        if at == step:
            raise Killed
        complete(folder, at, *rest)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoints, "complete", killing)
        run()


@pytest.mark.slow
def test_what_only_cuts_the_work_may_change(cot, monkeypatch, capsys):
    """After running out of memory: half the batch, twice accumulated, in smaller passes, recomputed; the same rows."""
    run1("output_dir=whole", *STEPS, "seed=1")
    killed_at(monkeypatch, 3, lambda: run1("output_dir=killed", *STEPS, "seed=1"))
    smaller = ["train.per_device_batch_size=1", "train.gradient_accumulation_steps=2", "train.tokens_per_pass=40",
               "model.gradient_checkpointing=true"]
    with pytest.raises(UserError, match=r"rows_of_a_step \(2 there, 1 here\).*be 2 again: the batch may be smaller"):
        run1("output_dir=killed", *STEPS, "seed=1", smaller[0])
    run1("output_dir=killed", *STEPS, "seed=1", *smaller)
    assert "resuming from killed/checkpoints/checkpoint-2" in capsys.readouterr().out
    whole, resumed = ([json.loads(line) for line in Path(name, "metrics.jsonl").read_text().splitlines()]
                      for name in ("whole", "killed"))
    assert [log["step"] for log in resumed] == [1, 2, 3, 4, 4]
    assert [log["loss"] for log in resumed[:4]] == pytest.approx([log["loss"] for log in whole[:4]], rel=1e-5)
    assert manifest.read_manifest(Path("killed"))["made_of"]["changes"] == []


@pytest.mark.slow
def test_a_row_is_left_out_and_a_photo_replaced_when_it_is_asked_for(cot, monkeypatch):
    killed_at(monkeypatch, 3, lambda: run1(*STEPS))
    rows = json.loads(Path("cot/cot.json").read_text())
    Path("cot/cot.json").write_text(json.dumps(rows[:3]))
    refused = r"rows \(\w{12} there, \w{12} here\).*write accept_changes=\[rows\] to go on with what is here"
    with pytest.raises(UserError, match=refused):
        run1(*STEPS)
    Path("cot/cot.json").write_text(json.dumps(rows, indent=1))  # the same rows, written otherwise
    Image.new("RGB", (56, 56), (1, 2, 3)).save("cot/imgs/0.png")
    with pytest.raises(UserError, match=refused):
        run1(*STEPS)
    run1(*STEPS, "accept_changes=[rows]")
    (change,) = manifest.read_manifest(Path("run/stage1"))["made_of"]["changes"]
    assert change["step"] == 2 and change["key"] == "rows" and change["before"] != change["now"]


@pytest.mark.slow
def test_more_steps_when_they_are_asked_for(cot, capsys):
    """Of a finished stage whose last checkpoint was kept; what was accepted stays on record."""
    keep = ["train.keep_last_checkpoint=true", "train.lr_scheduler_type=constant", "train.warmup_steps=0"]
    run1("output_dir=gone", *STEPS)
    with pytest.raises(UserError, match=r"train.max_steps \(4 there, 6 here\).*accept_changes=\[train.max_steps\]"):
        run1("output_dir=gone", *STEPS, "train.max_steps=6")
    with pytest.raises(UserError, match="checkpoints were removed when it was: only a stage trained with train.kee"):
        run1("output_dir=gone", *STEPS, "train.max_steps=6", "accept_changes=[train.max_steps]")
    run1("output_dir=whole", *STEPS, "train.max_steps=6", *keep)
    run1("output_dir=longer", *STEPS, *keep)
    run1("output_dir=longer", *STEPS, *keep, "train.max_steps=6", "accept_changes=[train.max_steps]")
    whole, longer = (manifest.read_manifest(Path(name)) for name in ("whole", "longer"))
    assert longer["model_sha256"] == whole["model_sha256"] and longer["metrics"]["steps"] == 6
    assert longer["made_of"]["changes"] == [{"step": 4, "key": "train.max_steps", "before": 4, "now": 6}]
    assert [path.name for path in checkpoints.in_order(Path("longer/checkpoints"))] == ["checkpoint-6"]


def test_what_makes_another_run_is_never_accepted(cot):
    with pytest.raises(UserError, match="accept_changes does not take seed: a run with another one is another run"):
        run1("accept_changes=[seed]")


@pytest.mark.slow
def test_a_rewards_code_changed_between_kill_and_resume(workplace, monkeypatch, vlm):
    write_stage(vlm, "stage2", {})
    killed_at(monkeypatch, 2, lambda: run3("train.save_steps=1"))
    hashed = identity.file_hash
    with monkeypatch.context() as patch:  # as if gre/rewards/gps.py had been edited
        patch.setattr(identity, "file_hash", lambda path: "f" * 64 if str(path).endswith("gps.py") else hashed(path))
        with pytest.raises(UserError, match=r"rewards.gps \(\w{12} there, ffffffffffff here\).*\[rewards.gps\]"):
            run3("train.save_steps=1")
    run3("train.save_steps=1")
    made_of = manifest.read_manifest(Path("run/stage3"))["made_of"]
    assert made_of["rewards.gps"] == hashed(ROOT / "gre/rewards/gps.py") and made_of["changes"] == []
    assert made_of["rewards.format"] == hashed(ROOT / "gre/rewards/format.py")


@pytest.mark.slow
def test_another_number_of_processes_when_it_is_asked_for(cot):
    """One process goes on with what two began: the same rows a step, so that the losses are those of an uninterrupted
    run."""
    run1("output_dir=whole", *STEPS)
    keys = ["output_dir=cut", "model_name_or_path=base", "data.path=cot/cot.json", "train.learning_rate=1e-3", *STEPS,
            "train.per_device_batch_size=1"]
    code = ("import sys; from gre.training.trainer import checkpoints as c; from gre.config import load; from stages "
            "import stage1 as s\nfull = c.complete\ndef complete(folder, step, *rest):\n    full(folder, step, *rest)\n"
            "    if step == 2: raise SystemExit(7)\nc.complete = complete\ns.run(load(s.Config, sys.argv[1:]))\n")
    Path("killed.py").write_text(code)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "killed.py",
                    *keys], env=env, capture_output=True)
    assert [path.name for path in checkpoints.in_order(Path("cut/checkpoints"))] == ["checkpoint-1", "checkpoint-2"]
    alone = [*keys, "train.per_device_batch_size=2"]
    with pytest.raises(UserError, match=r"processes \(2 there, 1 here\).*accept_changes=\[processes\]"):
        run1(*alone)
    run1(*alone, "accept_changes=[processes]")
    whole, resumed = ([json.loads(line) for line in Path(name, "metrics.jsonl").read_text().splitlines()]
                      for name in ("whole", "cut"))
    assert [log["step"] for log in resumed] == [1, 2, 3, 4, 4]
    assert [log["loss"] for log in resumed[:4]] == pytest.approx([log["loss"] for log in whole[:4]], rel=1e-5)
    assert manifest.read_manifest(Path("cut"))["made_of"]["changes"] == [
        {"step": 2, "key": "processes", "before": 2, "now": 1}]
