"""What the LLM is asked to score a chain, and how its replies are read: numbers refer to numbered lists, from 1.

`read` functions raise ValueError with what is wrong with a reply; the LLM is told and asked again (gre.llm).
"""
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gre.data import annotations
from gre.data.annotations import Indicator
from gre.data.raw import BadRow
from gre.llm import Question, read_json
from gre.text import chain_prompts
from gre.text.chains import STEP_KINDS

SORTED_AT_ONCE = 40  # steps in one question; a chain that repeats itself may have hundreds


@dataclass(frozen=True)
class Reading:
    """What the LLM finds in an annotated chain."""

    indicators: tuple[Indicator, ...]
    scene: str


@dataclass(frozen=True)
class Verdict:
    """Which steps of two chains agree, counted from 0."""

    supported: frozenset[int]  # of the candidate's
    covered: frozenset[int]  # of the annotated ones


def sort(where: str, steps: Sequence[str]) -> list[Question[dict[str, str]]]:
    """Questions for the kind of every step: text → background, caption or inference."""
    texts = list(dict.fromkeys(steps))
    return [_sort(where, texts[start:start + SORTED_AT_ONCE]) for start in range(0, len(texts), SORTED_AT_ONCE)]


def _sort(where: str, texts: Sequence[str]) -> Question[dict[str, str]]:
    def read(reply: str) -> dict[str, str]:
        kinds = _object(reply, _numbered(texts))
        if unknown := [kind for kind in kinds.values() if kind not in STEP_KINDS]:
            raise ValueError(f"{unknown[0]!r} is none of {', '.join(STEP_KINDS)}")
        return {text: kinds[number] for number, text in _numbered(texts).items()}
    return _question(f"{where}, kinds of its steps", chain_prompts.SORT, {"steps": _numbered(texts)}, read)


def indicators(where: str, chain: str) -> Question[Reading]:
    """The geographic indicators and the scene of an annotated chain."""
    def read(reply: str) -> Reading:
        row = _object(reply, ("indicators", "scene"))
        try:
            found, scene = annotations.indicators(row), annotations.scene(row)
        except BadRow as error:
            raise ValueError(str(error)) from None
        if found is None or scene is None:
            raise ValueError("indicators or scene is null")
        return Reading(found, scene)
    return _question(f"{where}, its indicators", chain_prompts.INDICATORS_OF, {"reasoning": chain}, read)


def match(where: str, indicators: Sequence[str], statements: Sequence[str]) -> Question[list[frozenset[int]]]:
    """For each indicator, which statements name it, counted from 0."""
    def read(reply: str) -> list[frozenset[int]]:
        return [_numbers(named, len(statements)) for named in _object(reply, _numbered(indicators)).values()]
    return _question(f"{where}, indicators it names", chain_prompts.MATCH,
                     {"indicators": _numbered(indicators), "statements": _numbered(statements)}, read)


def judge(where: str, annotated: Sequence[str], candidate: Sequence[str]) -> Question[Verdict]:
    """Which candidate steps the annotation supports, and which annotated steps the candidate covers."""
    def read(reply: str) -> Verdict:
        found = _object(reply, ("supported", "covered"))
        return Verdict(_numbers(found["supported"], len(candidate)), _numbers(found["covered"], len(annotated)))
    return _question(f"{where}, its steps judged", chain_prompts.JUDGE,
                     {"annotated": _numbered(annotated), "candidate": _numbered(candidate)}, read)


def _question(where: str, instruction: str, material: Mapping, read: Callable[[str], Any]) -> Question:
    return Question(where, [{"role": "system", "content": instruction},
                            {"role": "user", "content": json.dumps(material, ensure_ascii=False)}], read)


def _numbered(texts: Sequence[str]) -> dict[str, str]:
    return {str(number): text for number, text in enumerate(texts, 1)}


def _object(reply: str, keys: Sequence[str] | Mapping[str, str]) -> dict:
    """A reply that is an object with exactly these keys, in their order."""
    value = read_json(reply)
    if not isinstance(value, dict) or set(value) != set(keys):
        raise ValueError(f"expected an object with the keys {', '.join(keys)}")
    return {key: value[key] for key in keys}


def _numbers(value: Any, count: int) -> frozenset[int]:
    """A list of numbers from 1 to `count`, counted from 0."""
    if not isinstance(value, list) or not all(type(number) is int and 1 <= number <= count for number in value):
        raise ValueError(f"expected a list of whole numbers from 1 to {count}, got {json.dumps(value)[:80]}")
    return frozenset(number - 1 for number in value)
