"""What several processes must agree on, run on two of them."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_and_both_go_on(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
               f"{ROOT}/tests/two_processes.py", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stderr[-3000:]
    for kind in ("sft", "grpo"):
        for rank in range(2):
            assert f"{kind}: rank {rank} stopped with 143" in done.stdout
            assert f"{kind}: rank {rank} equal" in done.stdout
    assert len(re.findall("stopped at step 5; the same command goes on", done.stdout)) == 2
    assert len(re.findall("going on from .*checkpoint-5", done.stdout)) == 2
