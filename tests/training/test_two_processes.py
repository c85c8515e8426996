"""What several processes must agree on, run on two of them."""
import re

import pytest

from tests.helpers.two_ranks import torchrun


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_and_both_go_on(tmp_path):
    done = torchrun("two_processes", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for kind in ("sft", "grpo"):
        for rank in range(2):
            assert f"{kind}: rank {rank} stopped with 143" in done.stdout
            assert f"{kind}: rank {rank} equal" in done.stdout
    assert len(re.findall("stopped at step 5; the same command goes on", done.stdout)) == 2
    assert len(re.findall("resuming from .*checkpoint-5", done.stdout)) == 2
