"""What vLLM leaves behind in a process that started it, and how a lost receiver is given up; needs no vLLM."""
import gc
import weakref
from types import SimpleNamespace

import pytest
import torch

from gre.config import UserError
from gre.rollout.vllm.start import settings, unnoticed
from gre.rollout.vllm.transfer import ByBroadcast


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


def test_no_start_of_vllm_is_a_collective_of_all_training_processes():
    """FlashInfer's autotuning is one, on machines that have an nvcc."""
    made = settings({}, torch.tensor([True, False]), max_length=512, dtype=torch.bfloat16)
    assert made["enable_flashinfer_autotune"] is False
