"""Where a chain stands in a text, and how it is split into steps."""
import time

import pytest

from gre.text.chains import chain_of, split_steps


@pytest.mark.parametrize("text, chain", [
    ("<think>A. B.</think><answer>1, 2</answer>", "A. B."),
    ("A. B.</think><answer>1, 2</answer>", "A. B."),     # opened in the prompt
    ("A. B. <answer>1, 2</answer> C.", "A. B.  C."),     # a model without think tags
    ("A. B.", "A. B."),                                  # an annotation
    ("<answer>1, 2</answer>", ""), ("", ""), ("<think></think>48, 2", "")])
def test_chain_of(text, chain):
    assert chain_of(text) == chain


@pytest.mark.parametrize("chain, steps", [
    ("Architecture: red tower. Signs: a flag, Japan. So Tokyo, Japan.",
     ["Architecture: red tower.", "Signs: a flag, Japan.", "So Tokyo, Japan."]),
    ("1. The tower is 3.5 m high.\n2) **Step 2: Signs.** Is it German? Yes!\n", [
        "The tower is 3.5 m high.", "Signs.", "Is it German?", "Yes!"]),
    ("**Architecture:**\n- brick… Houses\n---\nStep 3: done", ["brick…", "Houses", "done"]),
    ("So St. Petersburg, e.g. the U.S. embassy near approx. here.",
     ["So St. Petersburg, e.g. the U.S. embassy near approx. here."]),
    ('A sign says "Halt!" So Germany. (Or Austria.)', ['A sign says "Halt!"', "So Germany.", "(Or Austria.)"]),
    ("东京。日本！ Tokyo", ["东京。", "日本！", "Tokyo"]), ("", []), ("...\n12.5, 3\n", [])])
def test_split_steps(chain, steps):
    assert split_steps(chain) == steps


@pytest.mark.parametrize("piece", ["a. ", "A. ", "*", " ", "1.", '."', "-\n", "步。"])
def test_splitting_is_linear(piece):
    split_steps(piece * 1000)
    started = time.process_time()
    split_steps(piece * 100_000)
    assert time.process_time() - started < 5
