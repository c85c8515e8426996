"""Format reward: did the completion keep to <think>…</think><answer>…</answer>?"""
import re
from collections.abc import Sequence

from gre.rewards.answers import Answers

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
FORM = re.compile(r"\s*<think>(?P<think>.*)</think>\s*<answer>(?P<answer>.*)</answer>\s*", re.DOTALL)


def format_reward(text: str, finished: bool) -> float:
    """1.0 for exactly one non-empty <think>…</think><answer>…</answer> with nothing but white space outside, else 0.0.

    finished: the model ended the completion itself; one cut at the length limit scores 0.
    """
    match = FORM.fullmatch(text)
    if not finished or match is None or any(text.count(tag) != 1 for tag in TAGS):
        return 0.0
    return float(bool(match["think"].strip()) and bool(match["answer"].strip()))


def format_rewards(groups: Sequence[Answers]) -> list[list[float]]:
    """The format reward of every completion."""
    return [[format_reward(text, finished) for text, finished in zip(group.texts, group.finished, strict=True)]
            for group in groups]
