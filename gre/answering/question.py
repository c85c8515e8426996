"""What a model is asked about the photos of a benchmark, and what a prediction file says about it.

A stage is asked what it was trained on, as its manifest says: asked in other words, a trained model answers far worse.
prompt= asks otherwise, and is recorded.
"""
import sys
from collections.abc import Mapping, Sequence

from gre.config import UserError
from gre.text import instructions
from gre.text.prompts import JUDGE_INSTRUCTION

MANIFEST, PROMPT, DATA = "manifest", "prompt=", "data="  # who says what is asked


def choose(prompt: str, name: str, trained_on: Mapping | None) -> tuple[str, str]:
    """(what is asked about every photo, who says so).

    prompt: what the user wants asked; empty: what the stage was trained on. name: the model, for messages. trained_on:
    of its manifest (`gre.text.instructions.record`). Raises UserError when the manifest names no question about
    places, or several.
    """
    if prompt:
        return prompt, PROMPT
    if trained_on is None:
        raise UserError(f"{name} does not say what it was trained on (it has no manifest, or one from before that was "
                        "recorded): write prompt=…, the instruction of its training rows")
    texts = [one["text"] for one in trained_on["texts"]]
    if texts == [JUDGE_INSTRUCTION]:
        raise UserError(f"{name} was trained to say True or False about given chains, and on no question about places: "
                        "name the stage before it, or write prompt=…")
    if trained_on["distinct"] > 1:
        listed = "".join(f"\n  {instructions.short(one['text'])} ({one['rows']:,} rows)" for one in trained_on["texts"])
        more = trained_on["distinct"] - len(texts)
        raise UserError(f"{name} was trained on {trained_on['distinct']:,} questions: choose the one to ask with "
                        f"prompt='…' or prompt=@FILE. They are{listed}" + (f"\n  and {more:,} more" if more else ""))
    return texts[0], MANIFEST


def record(source: str, asked: Sequence[str], trained_on: Mapping | None) -> dict:
    """What a prediction file's settings say: who chose the questions, which they are, what the manifest says of the
    training, and how many rows ask what it does not list (both None where it says nothing).

    asked: the question of every row.
    """
    untrained = None if trained_on is None else len(instructions.outside(asked, trained_on))
    return {"from": source, **instructions.record(asked), "untrained_rows": untrained, "trained_on": trained_on}


def warn(name: str, data: str, asked: Sequence[str], trained_on: Mapping | None) -> None:
    """Say, in one line, that rows of `data` ask a stage what it was not trained on."""
    if trained_on is not None and (other := instructions.outside(asked, trained_on)):
        print(f"WARNING: {len(other):,} of {len(asked):,} rows of {data} ask what {name} was not trained on: "
              f"{instructions.shown(instructions.record(other))}; it was trained on {instructions.shown(trained_on)}",
              file=sys.stderr, flush=True)
