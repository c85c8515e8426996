"""A polite end: SIGTERM, or SIGUSR1 as Slurm sends it before a time limit, stops a training where it can be resumed."""
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
STATUS = 128 + signal.SIGTERM  # what a shell says of a command that SIGTERM ended


class StopSignal:
    """Whether this process was told to stop. It only notes a signal: the trainer looks at the end of a step.

    Repeated signals count once: a process group and a parent that forwards may both send the same one.
    """

    def __init__(self):
        self.received = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note the signals while the block runs; before and after it they end the process at once, as ever."""
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def agreed(self, accelerator) -> bool:
        """Whether any process was told to stop; the same answer on all, who must ask at the same moment."""
        if accelerator.num_processes == 1:
            return self.received
        told = torch.tensor(float(self.received), device=accelerator.device)
        return accelerator.reduce(told, reduction="sum").item() > 0

    def _note(self, number, frame) -> None:
        self.received = True
