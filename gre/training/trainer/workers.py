"""The processes in which a DataLoader decodes and processes photos while a step is computed."""
import os
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler

import torch
from torch import Tensor


def begin(seed: Callable[[int], None], worker_id: int) -> None:
    """What each does first; seed: Trainer's own beginning.

    It leaves its parent's process group: torchrun sends SIGTERM to a whole group, and a worker that dies of it ends the
    training with an error where the signal asks for a checkpoint (it ends with its parent, which it watches). And it
    sends tensors by value: torch would keep a file open for each, and a step of 128 rows with the one before has more
    of them than a process may open by default.
    """
    os.setsid()
    ForkingPickler.register(Tensor, _by_value)
    seed(worker_id)


def _by_value(tensor: Tensor) -> tuple:
    return torch.from_numpy, (tensor.numpy(),)
