"""The order of prompts in RL."""
from collections.abc import Iterator, Sequence

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
        for step in self._steps(torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)):
            for _ in range(self.repeats):
                yield from step

    def _steps(self, generator: torch.Generator) -> Iterator[list[int]]:
        """The rows of every step of an epoch."""
        order = torch.randperm(self.num_rows, generator=generator).tolist()
        for start in range(0, self.num_rows - self.prompts_per_step + 1, self.prompts_per_step):
            yield order[start:start + self.prompts_per_step]


class EvenSampler(StepSampler):
    """Steps that hold as many rows labelled True as False; of an odd number one more, of either label in turn.

    An epoch takes the rows of the larger class once. Those of the smaller come again, newly shuffled, when all have
    served; none serves twice in a step. A step is cut into micro-batches and dealt to ranks as it comes: all of it is
    even, a part need not be, and GRPO compares completions within a prompt, so that no part has to be. Raises
    UserError when a class cannot fill its share of a step.
    """

    def __init__(self, labels: Sequence[bool], prompts_per_step: int, repeats: int, seed: int):
        super().__init__(len(labels), prompts_per_step, repeats, seed)
        self.classes = [[row for row, label in enumerate(labels) if label is value] for value in (True, False)]
        share = (prompts_per_step + 1) // 2
        for value, rows in zip((True, False), self.classes, strict=True):
            if len(rows) < share:
                raise UserError(f"a step takes {share} rows labelled {value} and the data has {len(rows)}: give more "
                                "rows, or lower train.per_device_batch_size or train.gradient_accumulation_steps")

    @property
    def num_steps(self) -> int:
        """Steps until the larger class is used up: it serves half of every step, or of every two."""
        return 2 * max(map(len, self.classes)) // self.prompts_per_step

    def __len__(self) -> int:
        return self.num_steps * self.prompts_per_step * self.repeats

    def _steps(self, generator: torch.Generator) -> Iterator[list[int]]:
        half, odd = divmod(self.prompts_per_step, 2)
        shares = [[half + odd * ((step + turn) % 2) for step in range(self.num_steps)] for turn in (1, 0)]
        parts = [_deal(rows, numbers, generator) for rows, numbers in zip(self.classes, shares, strict=True)]
        for true_rows, false_rows in zip(*parts, strict=True):
            yield _shuffled([*true_rows, *false_rows], generator)


def _deal(rows: list[int], shares: list[int], generator: torch.Generator) -> Iterator[list[int]]:
    """`rows` cut into `shares`, in passes: none comes again before all have come, and none twice in a share."""
    left: list[int] = []
    for share in shares:
        if len(left) < share:  # the next pass begins in this share: what ends the last one comes last
            left += [row for row in _shuffled(rows, generator) if row not in left] + left
        yield left[:share]
        left = left[share:]


def _shuffled(rows: list[int], generator: torch.Generator) -> list[int]:
    return [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]
