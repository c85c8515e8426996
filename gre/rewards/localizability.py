"""Localizability reward, GLOBE's R_loc: does a reward model think that the place can be told from the picture?

p(yes) / (p(yes) + p(no)) about a picture and a chain, where p sums over the variants of the word that are one token.
"""
from collections.abc import Callable, Sequence
from pathlib import Path

from gre.rewards.answers import Answers
from gre.text.answers import split_completion

PYes = Callable[[list[tuple[Path, str]]], Sequence[float]]


def localizability_rewards(p_yes: PYes, groups: Sequence[Answers]) -> list[list[float]]:
    """What the reward model says about every completion's picture and chain. One without a chain earns 0 and is not
    asked about: the picture alone would earn the same for every completion.

    p_yes: the reward model, given (picture, chain) pairs. Its errors pass through: a failing model stops the run and
    never turns into a reward.
    """
    chains = [[(split_completion(text)[0] or "").strip() for text in group.texts] for group in groups]
    asked = [(group.row.image, chain) for group, own in zip(groups, chains, strict=True) for chain in own if chain]
    said = [float(value) for value in p_yes(asked)] if asked else []
    if len(said) != len(asked):
        raise ValueError(f"the reward model was asked about {len(asked)} chains and gave {len(said)} numbers")
    values = iter(said)
    return [[next(values) if chain else 0.0 for chain in own] for own in chains]
