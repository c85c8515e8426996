"""A killed run comes to the weights of an uninterrupted one, bit for bit; leaving out a part of that shows."""
import random
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from safetensors.torch import load_file, save_file
from torch.utils.data import BatchSampler
from transformers import Trainer

from gre.config import UserError
from gre.training.sampler import StepSampler
from gre.training.trainer import checkpoints, resumable
from tests.helpers.resuming import KINDS, KillAt, Killed, Remembers, TellAt, lines, six_rows, start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return six_rows(tmp_path_factory.mktemp("imgs"))


@pytest.fixture(scope="module")
def whole(tiny_vlm, rows, tmp_path_factory):
    """kind -> (weights, folder) of an uninterrupted run, trained once."""
    done = {}

    def of(kind):
        if kind not in done:
            folder = tmp_path_factory.mktemp(kind)
            done[kind] = start(kind, tiny_vlm, rows, folder), folder
        return done[kind]
    return of


def assert_same_run(weights, folder, whole):
    assert weights == whole[0]
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert (folder / name).exists() == (whole[1] / name).exists()
        if (folder / name).exists():
            assert lines(folder / name) == lines(whole[1] / name)


CASES = [(kind, step) for kind in KINDS for step in ((1, 3, 4, 6) if kind == "sft" else (3, 6))]


@pytest.mark.parametrize(("kind", "step"), CASES)
def test_a_killed_run_ends_as_an_uninterrupted_one(tiny_vlm, rows, tmp_path, whole, kind, step):
    """Before the first checkpoint, inside the first epoch and the second one, and in the last step."""
    with pytest.raises(Killed):
        start(kind, tiny_vlm, rows, tmp_path, KillAt(step))
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    assert_same_run(start(kind, tiny_vlm, rows, tmp_path), tmp_path, whole(kind))


@pytest.mark.parametrize(("kind", "step", "stops"), [("sft", 1, 1), ("grpo_twice", 3, 4)])
def test_a_signal_stops_where_the_run_can_go_on(tiny_vlm, rows, tmp_path, whole, capsys, kind, step, stops):
    """At once, and with two updates on the same completions after the second one."""
    with pytest.raises(SystemExit) as stopped:
        start(kind, tiny_vlm, rows, tmp_path, TellAt(step))
    assert stopped.value.code == 143
    assert f"stopped at step {stops}; the same command resumes from there" in capsys.readouterr().out
    assert_same_run(start(kind, tiny_vlm, rows, tmp_path), tmp_path, whole(kind))
    assert f"resuming from {tmp_path}/checkpoints/checkpoint-{stops}" in capsys.readouterr().out


@pytest.fixture
def terminal():
    """Ctrl-C means what it does in a terminal; tests may run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_saves_as_a_signal_does(tiny_vlm, rows, tmp_path, whole, capfd, terminal):
    with pytest.raises(SystemExit) as stopped:
        start("sft", tiny_vlm, rows, tmp_path, TellAt(1, signal.SIGINT))
    said = capfd.readouterr()
    assert stopped.value.code == 130 and "stopped at step 1; the same command resumes from there" in said.out
    assert said.err.count("stopping after this step, with a checkpoint (Ctrl-C again: at once, without)\n") == 1
    assert_same_run(start("sft", tiny_vlm, rows, tmp_path), tmp_path, whole("sft"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_a_signal_leaves_at_once(tiny_vlm, rows, tmp_path, terminal, first):
    with pytest.raises(KeyboardInterrupt):
        start("sft", tiny_vlm, rows, tmp_path, TellAt(1, first, signal.SIGINT))
    assert checkpoints.in_order(tmp_path / "checkpoints") == []


def test_repeated_signals_count_once_and_an_ignored_one_stays_ignored(tiny_vlm, rows, tmp_path, terminal):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pytest.raises(SystemExit) as stopped:
        start("sft", tiny_vlm, rows, tmp_path, TellAt(1, signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT))
    assert stopped.value.code == 143


def test_a_run_killed_after_its_last_step_makes_no_other(tiny_vlm, rows, tmp_path, whole):
    start("grpo", tiny_vlm, rows, tmp_path, max_steps=6)
    assert_same_run(start("grpo", tiny_vlm, rows, tmp_path, KillAt(7)), tmp_path, whole("grpo"))


def test_no_checkpoint_changes_the_weights(tiny_vlm, rows, tmp_path, whole):
    assert start("sft", tiny_vlm, rows, tmp_path, save_steps=0) == whole("sft")[0]
    assert checkpoints.in_order(tmp_path / "checkpoints") == []


def test_only_the_newest_checkpoints_and_the_best_stay(whole, tmp_path):
    folder = whole("sft")[1] / "checkpoints"
    assert [path.name for path in checkpoints.in_order(folder)] == ["checkpoint-4", "checkpoint-6"]
    assert not list(folder.rglob("training_args.bin"))
    modes = {path.stat().st_mode for path in folder.rglob("checkpoint-*/*")}
    assert len(modes) == 1  # weights may be read by whoever may read the rest
    for step in (2, 4, 10, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
    checkpoints.prune(tmp_path, keep=1, best_step=4)
    assert [checkpoints.step_of(path) for path in checkpoints.in_order(tmp_path)] == [4, 12]


# What follows leaves out one part of resuming and demands that it shows.


def resumed_at_4(tiny_vlm, rows, folder, kind="sft"):
    with pytest.raises(Killed):
        start(kind, tiny_vlm, rows, folder, KillAt(6))
    return start(kind, tiny_vlm, rows, folder)


@pytest.mark.parametrize("kind", ["sft", "grpo_twice"])
def test_without_the_random_numbers_the_weights_differ(tiny_vlm, rows, tmp_path, whole, monkeypatch, kind):
    monkeypatch.setattr(resumable.ResumableTrainer, "_load_rng_state", lambda *_: None)
    assert resumed_at_4(tiny_vlm, rows, tmp_path, kind) != whole(kind)[0]


def test_restored_after_the_step_s_completions_were_scored_the_random_numbers_are_too_late(tiny_vlm, rows, tmp_path,
                                                                                        whole, monkeypatch):
    """Where Trainer restores them; the passes of `num_iterations` above 1 have drawn dropout by then."""
    monkeypatch.setattr(resumable.ResumableTrainer, "_load_rng_state", Trainer._load_rng_state)
    fetch = Trainer.get_batch_samples
    monkeypatch.setattr(resumable.ResumableTrainer, "get_batch_samples", fetch)
    assert resumed_at_4(tiny_vlm, rows, tmp_path, "grpo_twice") != whole("grpo_twice")[0]


def test_without_the_memory_of_its_parts_the_weights_differ(tiny_vlm, rows, tmp_path, whole, monkeypatch):
    monkeypatch.setattr(Remembers, "load_state_dict", lambda *_: None)
    assert resumed_at_4(tiny_vlm, rows, tmp_path) != whole("sft")[0]


def test_trainers_own_loading_starts_over(tiny_vlm, rows, tmp_path, whole, monkeypatch):
    monkeypatch.setattr(resumable.ResumableTrainer, "_load_from_checkpoint", Trainer._load_from_checkpoint)
    assert resumed_at_4(tiny_vlm, rows, tmp_path) != whole("sft")[0]


def kill_in_save(monkeypatch, step, at):
    """Kill while checkpoint-`step` is written, when the file called `at` would be."""
    save = torch.save

    def save_or_die(thing, path, *args, **kwargs):
        if f"checkpoint-{step}/{at}" in str(path):
            raise Killed
        save(thing, path, *args, **kwargs)
    monkeypatch.setattr(torch, "save", save_or_die)


@pytest.mark.parametrize("at", ["optimizer.pt", "rng_state.pth"])
def test_killed_while_saving(tiny_vlm, rows, tmp_path, whole, monkeypatch, capsys, at):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in_save(patch, 4, at)
        start("sft", tiny_vlm, rows, tmp_path)
    assert_same_run(start("sft", tiny_vlm, rows, tmp_path), tmp_path, whole("sft"))
    printed = capsys.readouterr().out
    assert "checkpoint-4 is removed (it was never finished)" in printed and "checkpoint-2" in printed


def test_a_marker_written_before_the_files_lets_half_a_checkpoint_through(tiny_vlm, rows, tmp_path, monkeypatch):
    whole_save = Trainer._save_checkpoint

    def marked_first(self, model, trial):
        folder = tmp_path / "checkpoints" / f"checkpoint-{self.state.global_step}"
        folder.mkdir(parents=True)
        checkpoints.complete(folder, self.state.global_step, self.run)
        whole_save(self, model, trial)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "_save_checkpoint", marked_first)
        kill_in_save(patch, 4, "optimizer.pt")
        start("sft", tiny_vlm, rows, tmp_path)
    with pytest.raises(FileNotFoundError):
        start("sft", tiny_vlm, rows, tmp_path)


def damage(folder):
    """Turn some bits of the newest checkpoint's weights."""
    newest = checkpoints.in_order(folder / "checkpoints")[-1]
    file = newest / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-4001] ^= 1
    file.write_bytes(content)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tiny_vlm, rows, tmp_path, whole, capsys):
    with pytest.raises(Killed):
        start("sft", tiny_vlm, rows, tmp_path, KillAt(6))
    damage(tmp_path)
    assert_same_run(start("sft", tiny_vlm, rows, tmp_path), tmp_path, whole("sft"))
    assert "checkpoint-4 is removed (not as it was written: model.safetensors)" in capsys.readouterr().out


def test_unchecked_a_damaged_checkpoint_changes_the_weights(tiny_vlm, rows, tmp_path, whole, monkeypatch):
    with pytest.raises(Killed):
        start("sft", tiny_vlm, rows, tmp_path, KillAt(6))
    damage(tmp_path)
    monkeypatch.setattr(checkpoints, "faults", lambda folder: [])
    assert start("sft", tiny_vlm, rows, tmp_path) != whole("sft")[0]


@pytest.mark.parametrize("edit", ["missing", "unexpected"])
def test_a_weight_too_few_or_too_many_is_an_error(tiny_vlm, rows, tmp_path, edit):
    with pytest.raises(Killed):
        start("sft", tiny_vlm, rows, tmp_path, KillAt(4))
    folder = tmp_path / "checkpoints" / "checkpoint-2"
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("o_proj.weight"))
    weights["other.weight"] = weights.pop(name) if edit == "missing" else weights[name].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "complete.json").unlink()
    checkpoints.complete(folder, 2, {"kind": "sft"})
    with pytest.raises(UserError, match="does not hold the weights"):
        start("sft", tiny_vlm, rows, tmp_path)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    folder = tmp_path / "checkpoint-2"
    folder.mkdir()
    (folder / "x").write_text("x")
    run = {"train.learning_rate": 1e-3, "parent": "a" * 64, "thetas": (1, 2)}
    checkpoints.complete(folder, 2, run)
    assert checkpoints.newest(tmp_path, {**run, "thetas": [1, 2]}) == (folder, [])
    with pytest.raises(UserError, match=r"parent \(a{12} there, b{12} here\), train.learning_rate \(0.001 there, 0.002 "
                                        r"here\).*another output_dir, or remove"):
        checkpoints.newest(tmp_path, {**run, "train.learning_rate": 2e-3, "parent": "b" * 64})
    assert folder.exists()


def test_border_raises_save_steps(tiny_vlm, rows, tmp_path, capsys):
    assert KINDS["grpo_twice"](tiny_vlm, rows, tmp_path, save_steps=3).args.save_steps == 4
    assert "checkpoints every 4 steps, not 3" in capsys.readouterr().out


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    code = ("import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX);"
            "print('locked', flush=True); sys.stdin.read()")  # as `lock` does, without importing torch
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match="being trained by another process"):
            checkpoints.lock(tmp_path)
        other.kill()
    checkpoints.lock(tmp_path)


def test_the_sampler_learns_the_epoch_through_every_wrapper():
    """On several processes accelerate puts a shard around the batches, and a resume a skip around that."""
    sampler = StepSampler(8, 2, 1, seed=0)
    batches = SkipBatchSampler(BatchSamplerShard(BatchSampler(sampler, 2, False), 2, 0), 1)
    loader = SimpleNamespace(batch_sampler=batches)
    resumable._Keeper(None).on_epoch_begin(None, SimpleNamespace(epoch=3.0), None, train_dataloader=loader)
    assert sampler.epoch == 3
