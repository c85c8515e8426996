"""What vLLM leaves behind in a process that started it, and how a lost receiver is given up; needs no vLLM."""
import gc
import signal
import subprocess
import sys
import weakref
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from gre.config import UserError
from gre.rollout.vllm.start import settings, unnoticed
from gre.rollout.vllm.transfer import ByBroadcast
from tests.helpers.paths import ROOT


class Model:
    """What reference counts alone do not free."""

    def __init__(self):
        self.itself = self


def test_a_model_that_was_alive_when_vllm_started_is_freed_when_it_is_let_go():
    """vLLM freezes the heap at its start; what is frozen is never looked at again."""
    model = Model()
    left = weakref.ref(model)
    with unnoticed():
        gc.freeze()
    assert gc.get_freeze_count() == 0
    del model
    gc.collect()
    assert left() is None


def test_a_channel_whose_receiver_is_lost_is_given_up():
    """NCCL's kernel would stay on the GPU until its time is up, and hold up the end of the process."""
    calls = []

    def lost(weights):
        raise RuntimeError("Connection closed by peer")

    way = ByBroadcast(torch.device("cpu"))
    way.channel = SimpleNamespace(send=lost, abort=lambda: calls.append("abort"))
    server = SimpleNamespace(url="http://there:8000", receive=lambda: None)
    with pytest.raises(UserError, match="there:8000 was lost while they were sent"):
        way.send(server, [])
    assert calls == ["abort"] and way.channel is None


ENDS = """
import atexit, ctypes, sys, types
from gre.rollout.vllm.start import leave
sys.modules["vllm"] = types.ModuleType("vllm")
libc = ctypes.CDLL(None)
libc.__cxa_atexit(ctypes.cast(libc.abort, ctypes.c_void_p), None, None)
atexit.register(print, "closed")
print("written")
"""


@pytest.mark.slow
def test_a_process_that_has_done_its_work_ends_well_though_its_end_would_abort():
    """As vLLM's memory pools may do when they outlive the interpreter."""
    run = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True)
    assert run([sys.executable, "-c", ENDS]).returncode == -signal.SIGABRT
    result = run([sys.executable, "-c", ENDS + "leave()"])
    assert (result.returncode, result.stdout) == (0, "written\nclosed\n")


@pytest.mark.parametrize("stage", ["stage2", "stage2_verdict", "stage3"])
def test_the_stages_that_sample_end_so(stage):
    last = (ROOT / f"stages/{stage}.py").read_text().splitlines()[-3:]
    assert last[0] == 'if __name__ == "__main__":' and last[1].startswith("    main(") and last[2] == "    leave()"


@pytest.mark.slow
def test_without_vllm_a_process_goes_on():
    code = "from gre.rollout.vllm.start import leave; leave(); print('went on')"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "went on\n"


def test_no_start_of_vllm_is_a_collective_of_all_training_processes():
    """FlashInfer's autotuning is one, on machines that have an nvcc."""
    made = settings({}, torch.tensor([True, False]), max_length=512, dtype=torch.bfloat16)
    assert made["enable_flashinfer_autotune"] is False
