"""Whether stage2.sh trains a judge first, and by which arguments."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gre.config import UserError, load
from scripts.train.judge_needed import judge_arguments, reward_model_arguments
from stages import judge
from tests.helpers.judge_rows import write_rows
from tests.helpers.paths import ROOT

TINY = str(ROOT / "configs/tiny/stage2.yaml")


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """The current folder, with a stage2.yaml and a judge.yaml."""
    monkeypatch.chdir(tmp_path)
    Path("stage2.yaml").write_text("output_dir: runs/a/stage2\nmodel_name_or_path: runs/a/stage1\n")
    Path("judge.yaml").write_text("output_dir: runs/a/judge\nmodel_name_or_path: runs/a/stage1\n")


def test_a_judge_is_trained_first_unless_one_is_named():
    where = [TINY, "output_dir=nowhere/stage2", "--dry-run"]
    assert judge_arguments(where)[1] == "output_dir=nowhere/judge"
    assert judge_arguments([*where, "judge.model_name_or_path=runs/judge"]) == []
    assert judge_arguments([*where, "judge.model_name_or_path=null"])[1] == "output_dir=nowhere/judge"


def test_it_starts_from_the_policy_that_is_trained_where_its_config_starts_from_the_policy(configs):
    arguments = judge_arguments(["stage2.yaml", "model_name_or_path=runs/b/stage1", "--dry-run"])
    assert arguments == ["judge.yaml", "output_dir=runs/a/judge", "policy.model_name_or_path=runs/b/stage1",
                         "model_name_or_path=runs/b/stage1"]
    Path("judge.yaml").write_text("output_dir: runs/a/judge\nmodel_name_or_path: owner/base\n")
    assert judge_arguments(["stage2.yaml", "model_name_or_path=runs/b/stage1", "--dry-run"]) == arguments[:3]
    Path("stage2.yaml").write_text("output_dir: runs/a/stage2\n")  # it names no policy by itself
    assert judge_arguments(["stage2.yaml", "model_name_or_path=runs/b/stage1", "--dry-run"]) == arguments[:3]


def test_it_is_measured_on_what_stage_2_will_sample(configs):
    """Or stage 2 would refuse it when it has been trained."""
    keys = ["rollout.temperature=0.9", "rollout.max_new_tokens=64", "accept_parent=any"]
    assert judge_arguments(["stage2.yaml", *keys, "--dry-run"])[-3:] == [
        "policy.temperature=0.9", "policy.max_new_tokens=64", "accept_parent=any"]


def test_it_reads_what_stage_2_reads(configs, monkeypatch):
    """A home folder, and a file with = in its path."""
    monkeypatch.setenv("HOME", "/home/me")
    Path("lr=1").mkdir()
    Path("lr=1/stage2.yaml").write_text("output_dir: ~/a/stage2\nmodel_name_or_path: b\n")
    Path("lr=1/judge.yaml").write_text("model_name_or_path: c\n")
    assert judge_arguments(["lr=1/stage2.yaml", "--dry-run"]) == [
        "lr=1/judge.yaml", "output_dir=/home/me/a/judge", "policy.model_name_or_path=b"]


def test_a_judge_that_cannot_be_compared_is_not_picked_up_unasked(configs):
    Path("runs/a/judge").mkdir(parents=True)
    Path("runs/a/judge/manifest.json").write_text("{}")
    with pytest.raises(UserError, match="runs/a/judge holds one: write judge.model_name_or_path=runs/a/judge"):
        judge_arguments(["stage2.yaml", "--dry-run"])


@pytest.mark.slow
def test_the_same_command_finds_the_judge_it_has_trained(workplace, capsys):
    """Stage 2 was stopped after its judge; a judge of other settings is refused by its stage."""
    write_rows(workplace / "judged", 20)
    Path("stage2.yaml").write_text("output_dir: new/stage2\nmodel_name_or_path: run/stage1\n"
                                   "data: {path: seed/seed.jsonl}\n")
    Path("judge.yaml").write_text(json.dumps({
        "output_dir": "new/judge", "model_name_or_path": "run/stage1", "held_out_share": 0.3,
        "data": {"path": "judged/judge.json"},
        "policy": {"data": "seed/seed.jsonl", "max_new_tokens": 4, "num_photos": 2},
        "train": {"max_steps": 1, "per_device_batch_size": 2}}))
    for _ in range(2):
        judge_config = load(judge.Config, judge_arguments(["stage2.yaml"]))
        try:
            judge.run(judge_config)
            weights = Path("new/judge/model/model.safetensors").stat().st_mtime_ns
        except SystemExit as finished:
            assert finished.code == 0
    assert "new/judge holds this very stage, finished: nothing is left to do" in capsys.readouterr().out
    assert Path("new/judge/model/model.safetensors").stat().st_mtime_ns == weights
    Path("judge.yaml").write_text(Path("judge.yaml").read_text().replace('"max_steps": 1', '"max_steps": 2'))
    with pytest.raises(UserError, match="stage in new/judge belongs to a run with other settings: train.max_s"):
        judge.run(load(judge.Config, judge_arguments(["stage2.yaml"])))


def test_the_look_loads_no_torch(configs):
    code = ("import sys; from scripts.train.judge_needed import judge_arguments; "
            "judge_arguments(['stage2.yaml', '--dry-run']); print({'torch', 'transformers'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
                          capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def globe_configs(tmp_path, monkeypatch):
    """The current folder, with a globe.yaml and a localizability.yaml."""
    monkeypatch.chdir(tmp_path)
    Path("globe.yaml").write_text("output_dir: runs/a/globe\nmodel_name_or_path: b\nweights: {localizability: 0.5}\n")
    Path("localizability.yaml").write_text("output_dir: runs/a/localizability\nmodel_name_or_path: b\n")


def test_globes_reward_model_is_trained_first_where_it_weighs_something_and_none_is_named(globe_configs):
    where = ["globe.yaml", "--dry-run"]
    assert reward_model_arguments(where) == ["localizability.yaml", "output_dir=runs/a/localizability",
                                             "model_name_or_path=b"]
    assert reward_model_arguments([*where, "weights.localizability=0"]) == []
    assert reward_model_arguments([*where, "judge.model_name_or_path=runs/rm"]) == []
    assert reward_model_arguments(["output_dir=runs/b/globe", "--dry-run"]) == []  # the shipped one has two rewards
    with pytest.raises(UserError, match="there is no b"):
        reward_model_arguments(["globe.yaml"])


def test_the_reward_model_shares_parent_seed_and_whose_parent_is_accepted(globe_configs):
    """Never the rows: they are RL's, and the reward model may not have seen their photos."""
    keys = ["data.path=my.jsonl", "model_name_or_path=runs/foo/stage1", "seed=7", "accept_parent=any", "--dry-run"]
    assert reward_model_arguments(["globe.yaml", *keys]) == [
        "localizability.yaml", "output_dir=runs/a/localizability", "model_name_or_path=runs/foo/stage1", "seed=7",
        "accept_parent=any"]
    shipped = reward_model_arguments([str(ROOT / "configs/tiny/globe_three.yaml"), *keys])
    assert shipped[2:] == ["model_name_or_path=runs/foo/stage1", "seed=7", "accept_parent=any"]
    Path("localizability.yaml").write_text("output_dir: runs/a/localizability\nmodel_name_or_path: owner/base\n")
    assert reward_model_arguments(["globe.yaml", *keys])[2:] == ["seed=7", "accept_parent=any"]  # a parent of its own


def test_a_reward_model_without_data_is_named_by_its_own_command(globe_configs):
    """data.path=FILE behind globe.sh would be RL's rows."""
    Path("rows.jsonl").touch()
    keys = ["data.path=rows.jsonl", f"model_name_or_path={ROOT / 'gre/tiny/base'}", "seed=7"]
    with Path("localizability.yaml").open("a") as file:
        file.write("data: {path: dataset/mp16_reason/localizability.jsonl}\n")
    with pytest.raises(UserError) as raised:
        reward_model_arguments(["globe.yaml", *keys])
    assert ("data.path: there is no dataset/mp16_reason/localizability.jsonl: put the file there, or write "
            "data.path=FILE (bash scripts/data/mp16_reason.sh configs/data/mp16_reason.yaml makes it)\n"
            ) in str(raised.value)
    assert str(raised.value).endswith(
        "bash scripts/train/localizability.sh localizability.yaml output_dir=runs/a/localizability "
        f"{keys[1]} seed=7 data.path=FILE, then write judge.model_name_or_path=runs/a/localizability")
    assert reward_model_arguments(["globe.yaml", *keys, "--dry-run"])[0] == "localizability.yaml"
