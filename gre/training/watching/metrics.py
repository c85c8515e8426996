"""The numbers of a run: means between two logs over all micro-batches and processes, and the file they end in."""
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from transformers import TrainerCallback

from gre.config import UserError
from gre.training.trainer.checkpoints import cut_back, file_state


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


class MetricsFile(TrainerCallback):
    """Writes every log to `path` as {"step": …, "loss": …}. A run that starts anew starts the file anew, a resumed one
    continues after the checkpoint's last line.

    Raises UserError on a value that is NaN or infinite, after writing the line (with the value as text).
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero and state.global_step == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("")

    def state_dict(self) -> dict:
        return file_state(self.path)

    def load_state_dict(self, state: dict) -> None:
        cut_back(self.path, state)

    def on_log(self, args, state, control, logs=None, **kwargs):
        broken = {name: str(value) for name, value in logs.items()
                  if isinstance(value, float) and not math.isfinite(value)}
        if state.is_world_process_zero:
            with open(self.path, "a", encoding="utf-8") as lines:
                lines.write(json.dumps({"step": state.global_step, **logs, **broken}) + "\n")
        if broken:
            raise UserError(f"step {state.global_step}: {broken}: lower train.learning_rate, or look into the rows of "
                            "this step")


class StepClock(TrainerCallback):
    """Seconds of every step: `update` from its first micro-batch to the end of its optimizer step, and `rest`, what of
    the time since the step before neither that nor the meter's clocks have: photos, logging, saving, evaluation."""

    def __init__(self, meter: Meter):
        self.meter, self.begin, self.end, self.clocked = meter, 0.0, 0.0, 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        self.end, self.clocked = time.perf_counter(), self.meter.clocked

    def on_step_begin(self, args, state, control, **kwargs):
        self.begin = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        now, before = time.perf_counter(), self.end
        clocked, self.end, self.clocked = self.meter.clocked - self.clocked, now, self.meter.clocked
        self.meter.add_sum("seconds/update", now - self.begin)
        self.meter.add_sum("seconds/rest", self.begin - before - clocked)
