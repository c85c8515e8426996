"""Means of what happened since the last log, over all micro-batches and processes."""
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Meter:
    """Collects weighted sums by name; `flush` turns them into means over all processes.

    Every process must add the same names between two flushes.
    """

    def __init__(self):
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.clocked = 0.0  # seconds of all blocks that were timed, ever

    def add(self, name: str, values: Tensor) -> None:
        """Let every entry of `values` count once."""
        self.add_sum(name, values.detach().double().sum().item(), values.numel())

    def add_sum(self, name: str, total: float, count: float = 1.0) -> None:
        """Let `total` be the sum of `count` values."""
        self._sums[name][0] += total
        self._sums[name][1] += count

    def add_numbers(self, numbers: Mapping[str, float]) -> None:
        """Let every number count once, under its name."""
        for name, number in numbers.items():
            self.add_sum(name, number)

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Add the seconds the block takes."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.add_sum(name, seconds)
        self.clocked += seconds

    def state_dict(self) -> dict:
        """The sums since the last flush."""
        return {"sums": dict(self._sums)}

    def load_state_dict(self, state: dict) -> None:
        self._sums.clear()
        self._sums.update(state["sums"])

    def flush(self, accelerator) -> dict[str, float]:
        """{name: mean}, and start anew. A name without values is left out."""
        names = sorted(self._sums)
        if not names:
            return {}
        sums = torch.tensor([self._sums[name] for name in names], dtype=torch.float32, device=accelerator.device)
        sums = accelerator.reduce(sums, reduction="sum").tolist()
        self._sums.clear()
        return {name: total / count for name, (total, count) in zip(names, sums, strict=True) if count}
