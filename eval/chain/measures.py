"""The numbers of one chain. A cosine is the product of two embeddings of length 1."""
from collections.abc import Sequence

import torch
from torch import Tensor

CLIP_WEIGHT = 2.5  # Hessel et al. 2021, CLIPScore


def indicator_recall(named: Sequence[frozenset[int]]) -> float:
    """Share of the annotated indicators that a statement names; named: the statements of each."""
    return sum(map(bool, named)) / len(named)


def statement_precision(named: Sequence[frozenset[int]], statements: Sequence[str]) -> float:
    """Share of the statements that name an annotated indicator, each text counted once: said again, it adds nothing.
    0 without statements. named: the indices of the statements that name each indicator."""
    naming = {statements[index] for index in frozenset().union(*named)}
    return len(naming) / len(statements) if statements else 0.0


def ref_clip_scores(captions: Tensor, picture: Tensor, references: Tensor) -> Tensor:
    """RefCLIPScore of each caption (C,), not bounded by 1: the harmonic mean of 2.5 max(cos(caption, photo), 0) and
    the best cosine between caption and a reference, floored at 0 too; 0 where either is.

    captions: (C, width), at least one. picture: (width,). references: (R, width), at least one.
    """
    seen = CLIP_WEIGHT * (captions @ picture).clamp(min=0)
    said = (captions @ references.T).max(dim=1).values.clamp(min=0)
    return torch.where(seen * said > 0, 2 * seen * said / (seen + said).clamp(min=1e-12), 0.0)


def f1(precision: float, recall: float) -> float:
    """Harmonic mean, 0 where both are."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
