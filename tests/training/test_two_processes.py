"""What several processes must agree on, run on two of them."""
import re

import pytest

from tests.helpers.two_ranks import said


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_and_both_go_on(stopped_ranks_folder):
    printed = said(stopped_ranks_folder)
    for kind in ("sft", "grpo"):
        for rank in range(2):
            assert f"{kind}: rank {rank} stopped with 143" in printed
            assert f"{kind}: rank {rank} equal" in printed
    assert len(re.findall("stopped at step 5; the same command resumes", printed)) == 2
    assert len(re.findall("resuming from .*checkpoint-5", printed)) == 2
