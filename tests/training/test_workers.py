"""The processes that prepare pictures, as a real DataLoader starts them."""
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from gre.training.trainer import workers
from tests.helpers.paths import ROOT


def rows(count: int) -> list[list[torch.Tensor]]:
    return [[torch.arange(5) + i, torch.full((2, 3), float(i)), torch.tensor([True, False])] for i in range(count)]


def loaded(begin, count: int = 40) -> tuple[list[list[torch.Tensor]], int]:
    """All rows through two processes, held, and how many more files are open then than before."""
    before = len(os.listdir("/proc/self/fd"))
    loader = DataLoader(rows(count), batch_size=None, collate_fn=list, num_workers=2, worker_init_fn=begin)
    held = list(loader)
    return held, len(os.listdir("/proc/self/fd")) - before


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_rows_that_are_held_keep_no_file_open():
    """torch's own way keeps one for each tensor: 640 for a step of 128 rows, where 1,024 may be open."""
    assert loaded(None)[1] >= 3 * 40
    held, opened = loaded(partial(workers.begin, lambda worker_id: None))
    assert opened < 20
    assert all(torch.equal(ours, theirs) for row, other in zip(held, rows(40), strict=True)
               for ours, theirs in zip(row, other, strict=True))
    held[0][0][0] = 7  # like any other tensor


STAGE = [sys.executable, "-m", "stages.stage1", "model_name_or_path=base", "data.path=cot/cot.json",
         "model.max_length=256", "output_dir=run/stage1", "train.max_steps=2", "train.per_device_batch_size=4",
         "train.gradient_accumulation_steps=40", "train.num_train_epochs=999", "train.dataloader_num_workers=2"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_a_stage_needs_few_open_files_and_no_shared_memory(cot):
    """A step of 160 rows, in the real trainer, where a process may open 256 files; and where /dev/shm holds 64 KiB, if
    this machine lets a mount be made."""
    small_shm = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /dev/shm && exec \"$@\"", "sh"]
    may_mount = subprocess.run([*small_shm, "true"], capture_output=True).returncode == 0
    rows = json.loads(Path("cot/cot.json").read_text())
    Path("cot/cot.json").write_text(json.dumps(rows * (-(-160 // len(rows)))))
    done = subprocess.run([*(small_shm if may_mount else []), "sh", "-c", "ulimit -n 256 && exec \"$@\"", "sh", *STAGE],
                          capture_output=True, text=True, timeout=400, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-3000:]


TOLD = """
import os, signal, sys, time
from functools import partial
from torch.utils.data import DataLoader
from gre.training.trainer import workers
from tests.training.test_workers import rows
told = []
signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
begin = partial(workers.begin, lambda worker_id: None) if sys.argv[1] == "ours" else None
loader = iter(DataLoader(rows(40), batch_size=None, collate_fn=list, num_workers=2, worker_init_fn=begin))
next(loader)
time.sleep(1)  # both have begun
os.killpg(0, signal.SIGTERM)
time.sleep(1)
print(len(told), 1 + len(list(loader)))
"""


@pytest.mark.slow
def test_a_signal_to_the_group_is_noted_and_pictures_go_on_coming():
    """As torchrun sends it. Without our beginning the workers die of it, and the training with them."""
    ours, stock = (subprocess.run([sys.executable, "-c", TOLD, whose], capture_output=True, text=True, cwd=ROOT,
                                  start_new_session=True) for whose in ("ours", "stock"))
    assert (ours.returncode, ours.stdout) == (0, "1 40\n"), ours.stderr
    assert stock.returncode != 0 and "RuntimeError: DataLoader worker" in stock.stderr


def test_they_are_seeded_as_trainer_seeds_them_and_leave_the_group(tmp_path):
    def seed(worker_id: int) -> None:
        (tmp_path / str(worker_id)).write_text(str(os.getpgrp()))

    loaded(partial(workers.begin, seed))
    groups = {(tmp_path / str(worker_id)).read_text() for worker_id in range(2)} | {str(os.getpgrp())}
    assert len(groups) == 3  # each has its own
