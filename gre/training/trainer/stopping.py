"""A polite end: SIGTERM, Ctrl-C, or SIGUSR1 as Slurm sends it before a time limit, stops a training where it can be
resumed."""
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
STATUS = 128 + signal.SIGTERM  # what a shell says of a command that SIGTERM ended
INTERRUPTED = 128 + signal.SIGINT


class StopSignal:
    """Whether this process was told to stop. It only notes a signal: the trainer looks at the end of a step.

    Repeated signals count once, since a process group and a parent that forwards may both send the same one; but a
    Ctrl-C after any of them ends the process at once.
    """

    def __init__(self):
        self.received = False
        self.status = STATUS

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note the signals while the block runs; before and after it they end the process at once, as ever. One that is
        ignored, as a script's background job ignores Ctrl-C, stays so."""
        before = {number: signal.signal(number, self._note) for number in SIGNALS
                  if signal.getsignal(number) is not signal.SIG_IGN}
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
        if number == signal.SIGINT:
            if self.received:
                raise KeyboardInterrupt
            self.status = INTERRUPTED
            if os.environ.get("RANK", "0") == "0":  # not by print, which a signal may interrupt
                os.write(2, b"stopping after this step, with a checkpoint (Ctrl-C again: at once, without)\n")
        self.received = True
