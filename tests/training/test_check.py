"""python -m gre.check: what is wrong with a chain is said before its first stage is trained."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from gre import check
from tests.helpers.judge_rows import write_rows
from tests.helpers.paths import ROOT
from tests.helpers.stages import pictures, write_cot, write_seeds

pytestmark = pytest.mark.slow


@pytest.fixture
def chain(vlm, tmp_path, monkeypatch):
    """The current folder, with a base, the data of four stages and their configs."""
    monkeypatch.chdir(tmp_path)
    for part in vlm:
        part.save_pretrained("base")
    write_cot(pictures())
    write_seeds(pictures())
    write_rows(Path("judged"), 20)
    seeds = {"data": {"path": "seed/seed.jsonl"}, "rollout": {"max_new_tokens": 6}}
    configs = {
        "stage1": {"model_name_or_path": "base", "data": {"path": "cot/cot.json"}},
        "judge": {"model_name_or_path": "run/stage1", "data": {"path": "judged/judge.json"},
                  "policy": {"model_name_or_path": "run/stage1", "data": "seed/seed.jsonl"}},
        "stage2": {"model_name_or_path": "run/stage1", "judge": {"model_name_or_path": "run/judge"}, **seeds},
        "stage3": {"model_name_or_path": "run/stage2", **seeds}}
    for name, keys in configs.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump({"output_dir": f"run/{name}", **keys}))
    return tmp_path


CONFIGS = ["stage1.yaml", "judge.yaml", "stage2.yaml", "stage3.yaml"]


def said(capsys, *argv):
    status = check.run([*CONFIGS, *argv])
    return status, capsys.readouterr().out


@pytest.mark.parametrize("order", ["trained", "reversed"])
def test_a_whole_chain(chain, capsys, order):
    status, out = said(capsys) if order == "trained" else (check.run(CONFIGS[::-1]), capsys.readouterr().out)
    assert status == 0 and "everything that will be read is there and whole" in out
    assert "stage1 (stage1.yaml): 4 rows can be trained on\n" in out
    assert "stage3 (stage3.yaml): 4 rows can be trained on; to come: run/stage2\n" in out
    assert {path.name for path in Path("run").iterdir()} == {"whole_photos.json"}  # nothing is begun


def test_everything_wrong_is_said_in_one_run(chain, capsys):
    Path("seed/imgs/2.png").write_bytes(Path("seed/imgs/2.png").read_bytes()[:60])
    rows = json.loads(Path("cot/cot.json").read_text())
    del rows[1]["gt_lat"]
    Path("cot/cot.json").write_text(json.dumps(rows))
    status, out = said(capsys)
    assert status == 2 and "4 of 4 stages would not start" in out
    assert "stage1 (stage1.yaml): error: cot/cot.json, row 2: field 'gt_lat' is missing" in out
    assert out.count("2.png") >= 3  # of the judge's measure, stage 2 and stage 3


def test_photos_that_the_judge_will_have_seen(chain, capsys):
    Image.open("judged/imgs/3.png").save("seed/imgs/1.png")
    status, out = said(capsys)
    assert status == 2 and "stage2 (stage2.yaml): error: the judge was trained on the photo of row seed:2" in out
    status, out = said(capsys, "data.on_bad_row=drop")
    assert status == 0 and "stage2 (stage2.yaml): 3 rows can be trained on" in out


def test_a_chain_in_the_wrong_order_and_an_unknown_key(chain, capsys):
    Path("stage3.yaml").write_text(Path("stage3.yaml").read_text().replace("run/stage2", "run/stage1"))
    status, out = said(capsys)
    assert status == 2 and "model_name_or_path=run/stage1 will be a stage1, and stage3 starts from stage2" in out
    with pytest.raises(check.UserError, match="no stage here takes train.lr=1"):
        said(capsys, "train.lr=1")
    Path("stage3.yaml").write_text(Path("stage3.yaml").read_text() + "gps: {theta: 1}\n")
    assert "unknown key 'gps.theta'" in said(capsys)[1]


def test_a_parent_may_be_named_by_its_model(chain, capsys):
    Path("stage3.yaml").write_text(Path("stage3.yaml").read_text().replace("run/stage2", "run/stage2/model"))
    status, out = said(capsys)
    assert status == 0 and "stage3 (stage3.yaml): 4 rows can be trained on; to come: run/stage2/model" in out


def test_places_are_read_too(chain, capsys):
    Path("places.csv").write_text("name,lat,lon\nParis,148.9,2.35\n")
    status, out = said(capsys, "guards.places=places.csv")
    assert status == 2 and out.count("error: places.csv, line 2:") == 2  # stages 2 and 3 watch them


def test_from_the_command_line(chain):
    done = subprocess.run([sys.executable, "-m", "gre.check", "stage1.yaml"], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and "4 rows can be trained on" in done.stdout
    (chain / "base/tokenizer.json").unlink()
    done = subprocess.run([sys.executable, "-m", "gre.check", "stage1.yaml"], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 2 and "model_name_or_path: base lacks tokenizer.json" in done.stdout


def test_what_the_file_system_refuses_is_counted_too_and_a_config_may_lie_in_a_home_folder(chain, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(chain))
    Path("run").touch()
    assert check.run(["~/stage1.yaml", "judge.yaml"]) == 2
    out = capsys.readouterr().out
    assert f"stage1 ({chain}/stage1.yaml): error: {chain}/run: File exists (gre/" in out
    assert "2 of 2 stages would not start" in out
