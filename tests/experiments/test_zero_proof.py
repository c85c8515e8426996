"""The proof's own work: what counts as equal, which completions are learned from, and that a hanging rank is seen."""
import json
import subprocess
from pathlib import Path

import pytest
import torch

from experiments import zero_proof, zero_rank
from gre.rollout.completion import Completion
from tests.helpers.grpo import four_rows, trainer_of

ONE = {"loss": [0.1, 0.2, 0.3, 0.4], "grad_norm": [1.0, 2.0, 3.0, 4.0], "learned": [["a"]] * 4, "words": [32] * 4,
       "sampled": 32}


@pytest.mark.parametrize(("change", "equal"), [
    ({}, True), ({"loss": [0.1, 0.2, 0.300009, 0.4]}, True), ({"loss": [0.1, 0.2, 0.300011, 0.4]}, False),
    ({"grad_norm": [1.0, 2.0, 3.0, 4.00003]}, True), ({"grad_norm": [1.0, 2.0, 3.0, 4.00005]}, False),
    ({"words": [31, 32, 32, 32]}, False), ({"words": [32, 31, 30, 29]}, True), ({"learned": [["b"]] * 4}, False),
    ({"loss": [0.1, 0.2, 0.3]}, False)])
def test_what_counts_as_equal(change, equal):
    assert zero_proof.compared(ONE, {**ONE, **change})["equal"] is equal


class Rollout:
    """Completes every prompt by one token, its row's number and its place in the group."""

    temperature = 0.5

    def generate(self, model, prompts, num_generations, keys, *, step):
        return [[Completion(torch.tensor([key + add]), True, torch.tensor([-0.1])) for add in range(num_generations)]
                for key in keys]


def test_recorded_completions_are_handed_out_and_counted(tmp_path):
    whole = zero_rank.Recorded(Rollout(), tmp_path, {})
    assert whole.temperature == 0.5
    whole.generate(None, [None] * 2, 2, [5, 8], step=0)
    given = zero_rank.read(tmp_path)
    assert [one.token_ids.tolist() for one in given[0][8]] == [[8], [9]] and given[0][8][1].log_probs.item() == (
        torch.tensor(-0.1).item())
    given[0][8][1] = Completion(torch.tensor([7]), True, torch.tensor([-0.2]))
    (tmp_path / "again").mkdir()
    handed_out = zero_rank.Recorded(Rollout(), tmp_path / "again", given).generate(None, [None], 2, [8], step=0)
    assert [one.token_ids.item() for one in handed_out[0]] == [8, 7]
    line = json.loads((tmp_path / "again/rollouts-0.jsonl").read_text())
    assert line["sampled"] == 2 and line["equal"] == 1


def test_two_processes_get_what_one_has_sampled(tmp_path):
    run, out = Path("runs/r"), tmp_path
    one, two = (zero_proof.command("stage2", run, out / name) for name in ("one", "killed"))
    assert "train.per_device_batch_size=8" in one and "judge.model_name_or_path=runs/r/judge" in one
    assert {"train.per_device_batch_size=4", f"given={out}/one", "--nproc_per_node=2",
            f"train.deepspeed={zero_proof.ROOT}/configs/deepspeed/zero3.json"} <= set(two)
    assert set(one) - {"train.per_device_batch_size=8", f"output_dir={out}/one"} <= set(two)


def test_a_killed_rank_that_is_outlived_shows(tmp_path, monkeypatch):
    """A job whose launcher ends with status 1 and leaves a process behind, and one that hangs."""
    folder = tmp_path / "killed"
    folder.mkdir()
    left = subprocess.Popen(["sleep", "60"])
    try:
        job = f"cd {folder}; echo {left.pid} > pid-0; echo 999999999 > pid-1; touch killed; "
        assert zero_proof.kill(["bash", "-c", job + "exit 1"], folder) | {"seconds_to_the_end": 0} == {
            "status": 1, "seconds_to_the_end": 0, "outlived_by": ["pid-0"]}
        monkeypatch.setattr(zero_proof, "PATIENCE_SECONDS", 0.3)
        with pytest.raises(zero_proof.UserError, match="leaves the job hanging"):
            zero_proof.kill(["bash", "-c", job + "exec sleep 60"], folder)
    finally:
        left.kill()
        left.wait()


def test_the_rows_of_every_pass_are_written_down(tiny_vlm, tmp_path):
    rows = four_rows(tmp_path)
    trainer = trainer_of(tiny_vlm, rows, tmp_path)
    trainer.__class__ = zero_rank.Noting
    trainer.train()
    steps = [json.loads(line) for line in (tmp_path / "learned-0.jsonl").read_text().splitlines()]
    assert [step for step, _ in steps] == [1, 1] and [len(ids) for _, ids in steps] == [2, 2]
    assert sorted(name for _, ids in steps for name in ids) == [row.id for row in rows]
