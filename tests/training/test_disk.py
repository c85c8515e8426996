"""What a file system does to a training: it cannot let a checkpoint go, or it is full, in a stage as its command starts
it, where this machine lets a mount be made; and who may read what is written."""
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from gre.config import UserError
from gre.rollout.vllm import transfer
from gre.training.trainer import checkpoints
from tests.helpers.paths import ROOT
from tests.helpers.stages import run1

STAGE = [sys.executable, "-m", "stages.stage1", "model_name_or_path=base", "data.path=cot/cot.json", "output_dir=out",
         "train.per_device_batch_size=2", "train.learning_rate=1e-3", "train.save_steps=1"]


def mounted(mount: str, *keys: str) -> subprocess.CompletedProcess:
    """The stage, after a mount that this process alone sees."""
    inside = ["unshare", "--mount", "sh", "-c", f"{mount} && exec \"$@\"", "sh"]
    if subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    return subprocess.run([*inside, *STAGE, *keys], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_removed_ends_no_training(cot):
    """Half a checkpoint of a run before, in which something is mounted, as a file that is open on NFS stays: it cannot
    be removed at the start, nor when there are newer ones, nor at the end."""
    held = Path("out/checkpoints/checkpoint-1/held")
    held.mkdir(parents=True)
    done = mounted(f"mount -t tmpfs tmpfs {held}", "train.max_steps=4")
    assert done.returncode == 0, done.stderr[-3000:]
    line = f"{held.parent} cannot be removed now (Device or resource busy: "
    assert [text.startswith(line) for text in done.stdout.splitlines() if "cannot be removed" in text] == [True] * 4
    assert json.loads(Path("out/manifest.json").read_text())["metrics"]["steps"] == 4
    assert list(Path("out/checkpoints").iterdir()) == [held.parent]


@pytest.mark.slow
@pytest.mark.parametrize("models, free", [(4.0, r"[\d,]{4,}"), (6.0, "0")])
def test_a_full_disk_is_said_with_its_folder_and_what_to_do(cot, models, free):
    """A checkpoint takes a little more than three times its model. The second one's model does not fit, which
    safetensors takes away again; or its optimizer, of which torch says "unexpected pos" and leaves what it wrote."""
    Path("out").mkdir()
    size = int(Path("base/model.safetensors").stat().st_size * models)
    done = mounted(f"mount -t tmpfs -o size={size} tmpfs out", "train.max_steps=4")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    said = re.search("error: .*", done.stderr)[0]  # the progress bar ends after it
    assert re.fullmatch(r"error: out/checkpoints/checkpoint-2 could not be written: its disk is full, or your share of "
                        rf"it \({free} bytes are free\). Free some, and the same command resumes from "
                        r"out/checkpoints/checkpoint-1", said), said


@pytest.mark.parametrize("error, full", [
    (OSError(28, "No space left on device"), True), (OSError(122, "Disk quota exceeded"), True),
    (SafetensorError("Error while serializing: I/O error: Disk quota exceeded (os error 122)"), True),
    (OSError(13, "Permission denied"), False), (RuntimeError("unexpected pos 5 vs 4"), False), (KeyError("a"), False)])
def test_no_other_failure_is_taken_for_a_full_disk(tmp_path, error, full):
    """There is room where this is asked."""
    with pytest.raises(UserError if full else type(error)):
        with checkpoints.saying_that_the_disk_is_full(tmp_path / "checkpoint-2", tmp_path):
            raise error
    assert list(tmp_path.iterdir()) == []


def test_processes_share_the_hashes_of_a_checkpoint(tmp_path):
    """Those of four come together to all; what none of them saw is hashed at the end."""
    for name in "abcdefg":
        (tmp_path / name).write_text(name)
    shares = [checkpoints.share_of_hashes(tmp_path, rank, 4) for rank in range(4)]
    assert [sorted(share) for share in shares] == [["a", "e"], ["b", "f"], ["c", "g"], ["d"]]
    assert shares[3] == {"d": "18ac3e7343f016890c510e93f935261169d9e3f565436429830faf0934f4f8e4"}  # of "d"
    (tmp_path / "late").write_text("x")
    checkpoints.complete(tmp_path, 2, {}, {name: digest for share in shares for name, digest in share.items()})
    assert checkpoints.faults(tmp_path) == []
    (tmp_path / "complete.json").unlink()
    checkpoints.complete(tmp_path, 2, {}, {"d": "0" * 64})  # what a process says is what is written down
    assert checkpoints.faults(tmp_path) == ["d"]


def test_files_that_nfs_keeps_for_a_reader_are_no_part_of_a_checkpoint(tmp_path):
    for name in ("weights", ".nfs000000000001"):
        (tmp_path / name).write_text("x")
    checkpoints.complete(tmp_path, 2, {})
    (tmp_path / ".nfs000000000001").unlink()
    assert checkpoints.faults(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_weights_may_be_read_as_the_umask_says(cot, mask):
    """safetensors writes them for their owner alone."""
    before = os.umask(mask)
    try:
        run1("output_dir=out", "train.max_steps=1", "validation.eval_every=0")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in Path("out/model").iterdir()}
    assert set(modes.values()) == {0o666 & ~mask}, modes


def test_weights_for_a_server_may_be_read_by_its_user(tmp_path):
    transfer.write([("a", torch.ones(2))], tmp_path / "weights")
    (tmp_path / "text").touch()
    assert (tmp_path / "weights/00000.safetensors").stat().st_mode == (tmp_path / "text").stat().st_mode
