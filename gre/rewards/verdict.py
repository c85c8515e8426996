"""Verdict reward: does the policy's own True or False agree with the label of a Judge row?"""
from collections.abc import Sequence

from gre.rewards.answers import Answers

VERDICTS = {"True": True, "False": False}


def read_verdict(text: str, finished: bool) -> bool | None:
    """The verdict of a completion that is exactly True or False, white space around it aside; None for anything else.

    finished: the model ended the completion itself; one cut at the length limit says nothing.
    """
    return VERDICTS.get(text.strip()) if finished else None


def verdict_reward(text: str, finished: bool, label: bool) -> float:
    """1.0 when the completion's verdict is `label`, 0.0 for the other one and for an unreadable completion."""
    return float(read_verdict(text, finished) is label)


def verdict_rewards(groups: Sequence[Answers]) -> list[list[float]]:
    """The verdict reward of every completion."""
    return [[verdict_reward(text, finished, group.row.label)
             for text, finished in zip(group.texts, group.finished, strict=True)] for group in groups]
