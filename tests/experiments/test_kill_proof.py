"""The proof's own work: kills fall, runs are started again, and a stage that does not resume rightly is found out."""
import random
import sys

import pytest

from experiments import kill_proof
from gre.config import UserError, load
from stages import globe

STAND_IN = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[-1].partition("=")[2])
(folder / "checkpoints").mkdir(parents=True, exist_ok=True)
whole = [path for path in folder.glob("checkpoints/*/complete.json")]
step = max([int(path.parent.name.split("-")[1]) for path in whole], default=0)
lines = (folder / "metrics.jsonl").read_text().splitlines()[:step] if step else []
start = step
while step < 6:
    time.sleep(0.05)
    step += 1
    lines.append(json.dumps({"step": step, "loss": 1 / step}))
    (folder / "metrics.jsonl").write_text("".join(line + chr(10) for line in lines))
    checkpoint = folder / f"checkpoints/checkpoint-{step}"
    checkpoint.mkdir(exist_ok=True)
    time.sleep(0.05)
    (checkpoint / "complete.json").touch()
sha256 = str(start) if "forgets" in sys.argv else "same"
(folder / "manifest.json").write_text(json.dumps({"model_sha256": sha256}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("trait", "equal"), [("remembers", True), ("forgets", False)])
def test_killed_runs_are_compared_with_the_one_left_alone(tmp_path, trait, equal):
    command = [sys.executable, "-c", STAND_IN, trait]
    proof = kill_proof.prove("stage1", command, tmp_path, 5, random.Random(0))
    assert len(proof["kills"]) == 5 and proof["equal"] is equal
    assert [kill["signal"] for kill in proof["kills"]] == ["SIGKILL"] * 4 + ["SIGTERM"]
    assert proof["kills"][1]["saving"] and proof["kills"][4]["saving"]
    assert (tmp_path / "stage1" / "killed0").exists() is not equal  # kept to be looked into


def test_every_stage_gets_its_parents(tmp_path):
    lines = kill_proof.commands(tmp_path / "r", tmp_path / "d")
    assert list(lines) == [*kill_proof.STAGES, "globe"]
    assert f"model_name_or_path={tmp_path}/r/stage2" in lines["stage3"] and "grpo.num_iterations=2" in lines["stage3"]
    assert f"judge.model_name_or_path={tmp_path}/r/judge" in lines["stage2"]
    assert f"judge.model_name_or_path={tmp_path}/r/globe/localizability" in lines["globe"]
    settings = load(globe.Config, [*lines["globe"][3:], "output_dir=x"])
    assert all(vars(settings.weights)[name] for name in ("place", "grounding", "localizability"))


def test_globe_is_proven_on_a_reward_model_that_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "q").mkdir(parents=True)
    (tmp_path / "runs" / "q" / "results.json").touch()
    with pytest.raises(UserError, match="run=q arm=names, then arm=localizability"):
        kill_proof.run(kill_proof.Config(run="q", stage="globe"))
