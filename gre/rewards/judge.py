"""Judge reward: the judge's P(True) of a chain and its answer."""
from collections.abc import Callable, Sequence

from gre.text.answers import parse_answer


def judge_rewards(completions: Sequence[str], p_true: Callable[[list[int]], Sequence[float]]) -> list[float]:
    """P(True) of each completion; one without a readable answer gets 0 and the judge is not asked.

    p_true: the judge, given the indices of the completions to judge; answers with a probability for each. Its errors
    pass through: a failing judge stops the run and never turns into a reward.
    """
    rewards = [0.0] * len(completions)
    readable = [index for index, text in enumerate(completions) if parse_answer(text) is not None]
    if readable:
        for index, probability in zip(readable, p_true(readable), strict=True):
            rewards[index] = float(probability)
    return rewards
