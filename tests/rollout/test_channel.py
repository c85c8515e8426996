"""Weights from one process to another through a channel: as they were, as far as they are wanted, or an error."""
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import torch
import torch.distributed as dist

from gre.rollout.vllm.channel import RECEIVER, SENDER, Channel

WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(0.5, dtype=torch.bfloat16), "c": torch.ones(3, 2).T,
           "none": torch.empty(0)}
DIES = """
import os, torch, torch.distributed as dist
from gre.rollout.vllm.channel import RECEIVER, Channel
store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
print(store.port, flush=True)
weights = Channel(store, RECEIVER, torch.device("cpu"), 60.0).receive()
next(weights)
os._exit(1)
"""


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as threads:
        yield threads


@pytest.fixture
def ends(pool):
    """Both ends, of one process."""
    held = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    other = dist.TCPStore("localhost", held.port, is_master=False)
    sender = pool.submit(Channel, other, SENDER, torch.device("cpu"), 30.0)
    return Channel(held, RECEIVER, torch.device("cpu"), 30.0), sender.result()


def test_what_is_sent_arrives_twice_over(ends, pool):
    receiver, sender = ends
    for factor in (1, 3):
        sent = {name: tensor * factor for name, tensor in WEIGHTS.items()}
        sending = pool.submit(sender.send, sent.items())
        found = dict(receiver.receive())
        sending.result()
        assert list(found) == list(sent)
        assert all(found[name].dtype == sent[name].dtype and torch.equal(found[name], sent[name]) for name in sent)


def test_no_more_is_sent_than_is_wanted(ends, pool):
    receiver, sender = ends
    gathered = []

    def weights():
        for item in WEIGHTS.items():
            gathered.append(item[0])
            yield item

    sending = pool.submit(sender.send, weights())
    with closing(receiver.receive()) as taken:
        assert next(taken)[0] == "a"
    sending.result()
    assert gathered == ["a", "b"]  # the second was announced
    sending = pool.submit(sender.send, WEIGHTS.items())
    assert list(dict(receiver.receive())) == list(WEIGHTS)  # and the next time all of them
    sending.result()


@pytest.mark.slow
def test_a_receiver_that_dies_is_an_error_at_once():
    """It holds the store, as a server's worker does."""
    other = subprocess.Popen([sys.executable, "-c", DIES], stdout=subprocess.PIPE, text=True)
    store = dist.TCPStore("localhost", int(other.stdout.readline()), is_master=False)
    sender = Channel(store, SENDER, torch.device("cpu"), 60.0)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="[Cc]onnection"):
        sender.send(WEIGHTS.items())
    assert other.wait() == 1 and time.monotonic() - start < 30
    sender.abort()
