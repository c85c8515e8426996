"""What scripts/train/ready.py refuses before many processes start."""
import importlib.util
import re
import subprocess
import sys

import pytest
import yaml

from gre.config import UserError
from gre.training.inputs import stage_of
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def ready():
    spec = importlib.util.spec_from_file_location("ready", ROOT / "scripts/train/ready.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def here(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_everything_that_is_missing_is_said_in_one_message(ready, tmp_path, here):
    (tmp_path / "rows.json").touch()
    arguments = ["configs/tiny/stage3.yaml", f"data.path={tmp_path / 'rows.json'}", "model_name_or_path=gre/tiny/base",
                 "guards.places=null"]
    ready.check("stage3", 2, 2, 0, arguments)
    with pytest.raises(UserError, match="train.deepspeed: there is no none.json: name a DeepSpeed JSON file"):
        ready.check("stage3", 2, 2, 0, [*arguments, "train.deepspeed=none.json"])
    with pytest.raises(UserError) as raised:
        ready.check("stage3", 2, 2, 0, [*arguments, "data.path=gone.jsonl", "model_name_or_path=runs/none/stage2",
                                        "guards.places=gone.csv", "validation.eval_every=5", "validation.data="])
    assert str(raised.value).splitlines() == [
        "4 inputs are missing or not whole",
        "  model_name_or_path: there is no runs/none/stage2: train that stage first, or name another model folder",
        "  data.path: there is no gone.jsonl: put the file there, or write data.path=FILE",
        "  guards.places: there is no gone.csv: put a CSV name,lat,lon there, or set it to null",
        "  validation.data names nothing: put the file there, or write validation.data=FILE"]


@pytest.mark.parametrize("path, hint", [
    ("dataset/gre_cot/gre_cot.json", " (GRE's own files are not distributed here)"),
    ("dataset/regions/gre_cot/gre_cot.json", " (bash scripts/data/gre30k.sh configs/data/regions.yaml makes it)"),
    ("dataset/mp16_reason/mp16_reason_train.jsonl", " (bash scripts/data/mp16_reason.sh configs/data/mp16_reason.yaml "
     "makes it; published rows are dataset/published/mp16-reason/FILE, by python -m data_prep.fetch "
     "mp16-reason revision=COMMIT)"),
    ("dataset/published/mp16-reason/rows.json", " (python -m data_prep.fetch NAME revision=COMMIT writes "
     "dataset/published/NAME)"),
    ("dataset/mine/rows.json", "")])
def test_it_is_said_where_a_file_comes_from(ready, tmp_path, monkeypatch, path, hint):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        ready.check("stage1", 1, 1, 0, ["output_dir=o", f"model_name_or_path={ROOT / 'gre/tiny/base'}",
                                        f"data.path={path}"])
    assert str(raised.value) == f"data.path: there is no {path}: put the file there, or write data.path=FILE{hint}"


@pytest.mark.parametrize("config", ["tiny/globe", "tiny/localizability", "tiny/geor", "geor7b/stage3"])
def test_it_is_said_what_trains_the_parent_of_a_shipped_config(ready, tmp_path, monkeypatch, config):
    """By a config that says so itself and trains it indeed."""
    monkeypatch.chdir(tmp_path)
    file = ROOT / "configs" / f"{config}.yaml"
    with pytest.raises(UserError) as raised:
        ready.check(stage_of(str(file)), 1, 1, 0, [str(file)])
    missing = re.search(r"model_name_or_path: there is no (\S+): train that stage first, or name another model folder "
                        r"\(bash scripts/train/stage1.sh (\S+) trains it\)", str(raised.value))
    head = file.read_text(encoding="utf-8").partition("output_dir")[0]
    assert yaml.safe_load((ROOT / missing[2]).read_text())["output_dir"] == missing[1]
    assert missing[1] in head and missing[2] in head


def test_a_hub_that_cannot_be_reached_is_one_message_among_others(ready, here):
    """No network, and nothing in the cache."""
    with pytest.raises(UserError) as raised:
        ready.check("stage1", 1, 1, 0, ["configs/gre7b/stage1.yaml", "model_name_or_path=owner/no-such-model"])
    assert str(raised.value).startswith("2 inputs are missing or not whole\n"
                                        "  model_name_or_path: owner/no-such-model is no folder")
    assert "hf download owner/no-such-model" in str(raised.value) and "HF_HUB_OFFLINE=1" in str(raised.value)
    assert "data.path: there is no dataset/gre_cot/gre_cot.json" in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("start", [["bash", "scripts/train/stage1.sh"], [sys.executable, "-m", "stages.stage1"]])
def test_it_is_said_however_a_stage_is_started(start, tmp_path):
    done = subprocess.run([*start, "configs/gre7b/stage1.yaml", "model_name_or_path=nowhere/a/b",
                           f"output_dir={tmp_path / 'out'}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-3:] == [
        "error: 2 inputs are missing or not whole",
        "  model_name_or_path: there is no nowhere/a/b: train that stage first, or name another model folder",
        "  data.path: there is no dataset/gre_cot/gre_cot.json: put the file there, or write data.path=FILE (GRE's own "
        "files are not distributed here)"]
    assert not (tmp_path / "out").exists()


def test_what_only_the_checkout_has_is_missing_elsewhere(ready, tmp_path, monkeypatch):
    """But for a DeepSpeed file, which our configs name from the checkout."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        ready.check("stage1", 1, 1, 0, [f"{ROOT}/configs/tiny/stage1.yaml", "data.path=README.md",
                                        "train.deepspeed=configs/deepspeed/zero2.json"])
    assert [line.split(":")[0].strip() for line in str(raised.value).splitlines()] == [
        "2 inputs are missing or not whole", "model_name_or_path", "data.path"]


def test_the_look_loads_no_torch():
    code = ("import sys; sys.argv = ['ready']; import runpy; runpy.run_path('scripts/train/ready.py'); "
            "print({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_it_knows_no_key_that_no_stage_has():
    from gre import config
    from gre.training.inputs import Inputs
    from stages import globe, judge, localizability, stage1, stage2, stage2_verdict, stage3

    stages = (globe, judge, localizability, stage1, stage2, stage2_verdict, stage3)
    known = {key for stage in stages for key in config.keys(stage.Config)}
    assert set(config.keys(Inputs)) <= known


def test_stage_2_looks_before_it_trains_a_judge(here):
    from scripts.train.judge_needed import judge_arguments

    with pytest.raises(UserError, match="data.path: there is no gone.jsonl"):
        judge_arguments(["configs/tiny/stage2.yaml", "model_name_or_path=gre/tiny/base", "data.path=gone.jsonl",
                         "guards.places=null"])


def test_memory_is_the_planner_s(ready, here):
    """Keys that cost no memory (data.path, gps.…) are no concern of the planner's."""
    arguments = ["configs/gre7b/stage3.yaml", "data.path=elsewhere.jsonl", "gps.thetas_km=[25]",
                 "rollout.engine=transformers"]
    ready.check_memory("stage3", 8, 8, 80.0, arguments)
    with pytest.raises(UserError, match=r"GiB are needed in the rollout and a GPU has 45.0.*CHECK_MEMORY=no"):
        ready.check_memory("stage3", 8, 8, 45.0, arguments)
    ready.check_memory("stage3", 8, 8, 45.0, [*arguments, "grpo.beta=0"])


def test_what_offloading_needs_must_be_in_the_machine(ready, here, monkeypatch):
    arguments = ["configs/gre7b/stage1.yaml", "train.deepspeed=configs/deepspeed/zero3_offload.json"]
    pages = {"SC_PAGE_SIZE": 2**12, "SC_PHYS_PAGES": 2**30 // 2**12 * 100}  # 100 GiB; 18 bytes a weight are 139
    monkeypatch.setattr(ready.os, "sysconf", pages.__getitem__)
    with pytest.raises(UserError, match="offloading needs 139 GiB of this machine's memory and it has 100"):
        ready.check_memory("stage1", 8, 8, 80.0, arguments)
    ready.check_memory("stage1", 16, 8, 80.0, arguments)  # two machines of eight halve it
