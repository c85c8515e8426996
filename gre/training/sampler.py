"""The order of prompts in RL."""
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from gre.config import UserError


class StepSampler(Sampler[int]):
    """Shuffled row numbers in whole steps of `prompts_per_step`, each step repeated `repeats` times in a row.

    A step's prompts come back for every update made on its completions. What does not fill a step is left out of the
    epoch; the next one shuffles anew. Raises UserError when the rows do not fill one step.
    """

    def __init__(self, num_rows: int, prompts_per_step: int, repeats: int, seed: int):
        if num_rows < prompts_per_step:
            raise UserError(f"a step takes {prompts_per_step} prompts and the data has {num_rows}: give more rows, or "
                            "lower train.per_device_batch_size or train.gradient_accumulation_steps")
        self.num_rows, self.prompts_per_step, self.repeats, self.seed = num_rows, prompts_per_step, repeats, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Trainer at the beginning of every epoch, so that a resumed run sees the same order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_rows // self.prompts_per_step * self.prompts_per_step * self.repeats

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.num_rows, generator=generator).tolist()
        for start in range(0, self.num_rows - self.prompts_per_step + 1, self.prompts_per_step):
            for _ in range(self.repeats):
                yield from order[start:start + self.prompts_per_step]
