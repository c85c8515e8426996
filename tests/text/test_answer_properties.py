"""What must hold for any text: properties of the reader of answers, tried on random examples.

The suite tries 100 examples a property; `python -m tests.helpers.fuzz_answers` tries 20,000 and times texts of 10 MB.
"""
import pytest

from tests.helpers.answer_properties import PROPERTIES


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda check: check.__name__)
def test_property(holds):
    holds()
