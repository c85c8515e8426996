"""What scripts/train/ready.py refuses before many processes start."""
import importlib.util

import pytest

from gre.config import UserError
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


def test_missing_data_parent_and_deepspeed_config_are_named(ready, tmp_path, here):
    (tmp_path / "rows.json").touch()
    ready.check_paths(["Qwen/Qwen2.5-VL-7B-Instruct", str(tmp_path / "rows.json")], str(tmp_path / "rows.json"))
    with pytest.raises(UserError, match="no data file nowhere.jsonl: put it there or set data.path"):
        ready.check_paths(["nowhere.jsonl"], "nowhere.jsonl")
    with pytest.raises(UserError, match="no model folder runs/none/stage1: train that stage first"):
        ready.check_paths(["runs/none/stage1"], str(tmp_path / "rows.json"))
    arguments = ["configs/tiny/stage1.yaml", f"data.path={tmp_path / 'rows.json'}"]
    ready.check("stage1", 2, 2, 0, arguments)
    with pytest.raises(UserError, match="no DeepSpeed config none.json"):
        ready.check("stage1", 2, 2, 0, [*arguments, "train.deepspeed=none.json"])


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
