"""Cues of a chain, marked in its text."""
import re

import pytest

from eval.drawing import cues
from gre.config import UserError
from gre.data.annotations import Indicator
from gre.text.chains import INDICATOR_KINDS


def marks(html: str) -> list[tuple[str, str]]:
    """(kind, what is marked) of every mark."""
    return re.findall(r"<mark class='(?:explicit|implicit)' title='([^']+)'>(.*?)</mark>", html)


def test_known_indicators_are_marked_where_the_chain_has_their_words():
    text = "<think>A **Red  TOWER** & palms. The towers lean.</think>"
    html = cues.marked(text, [Indicator("iconic building", "red tower"), Indicator("climate", "palms"),
                              Indicator("symbol", "tower"), Indicator("language", "kanji")])
    assert html == ("&lt;think&gt;A **<mark class='explicit' title='iconic building'>Red  TOWER</mark>** &amp; "
                    "<mark class='implicit' title='climate'>palms</mark>. The towers lean.&lt;/think&gt;")
    assert cues.marked(text, []) == "&lt;think&gt;A **Red  TOWER** &amp; palms. The towers lean.&lt;/think&gt;"


def test_a_statement_is_marked_only_where_no_words_of_an_indicator_are():
    text = "It is crimson and high. A red tower stands there."
    known = [Indicator("iconic building", "red tower"), Indicator("iconic building", "It is crimson and high."),
             Indicator("iconic building", "A red tower stands there.")]
    assert marks(cues.marked(text, known)) == [("iconic building", "It is crimson and high."),
                                               ("iconic building", "red tower")]


def test_without_indicators_a_list_of_words_is_marked():
    text = "Licence  plates and CYRILLIC signs, a Gothic church by the coast; palms, buses, towering."
    assert marks(cues.marked(text, None)) == [
        ("symbol", "Licence  plates"), ("language", "CYRILLIC"), ("language", "signs"),
        ("architectural style", "Gothic"), ("iconic building", "church"), ("geographical feature", "coast"),
        ("climate", "palms")]
    assert tuple(cues.WORDS) == INDICATOR_KINDS


def test_what_a_model_wrote_stays_text():
    evil = "<script>alert('red tower')</script><mark onclick='x'>"
    html = cues.marked(evil, [Indicator("symbol", "<script>alert"), Indicator("symbol", "red tower'")])
    assert html.count("<") == 4 and "&lt;script&gt;alert" in html  # two marks of ours, opened and closed


def test_indicators_of_a_line_are_checked():
    assert cues.read({}, "row 1") is None and cues.read({"indicators": []}, "row 1") == ()
    with pytest.raises(UserError, match="row 1: field 'indicators': kind is one of"):
        cues.read({"indicators": [{"kind": "<b>", "text": "x"}]}, "row 1")
