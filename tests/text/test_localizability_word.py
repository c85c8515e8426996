"""The word for localizability in a teacher's answer."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gre.data.reason import LOCALIZABLE
from gre.text.named import localizability_said, parse_localizability


def completion(answer: str) -> str:
    return f"<think>localizability: negative</think><answer>{answer}</answer>"


@pytest.mark.parametrize("answer, word", [
    ("country: Peru\ncity: Lima\nlocalizability: High", "high"), ("**Localizability:** low", "low"),
    ('{"country": "Peru", "localizability": "medium"}', "medium"), ('{"localizability": true, "city": "Lima"}', "true"),
    ("| localizability | high |", "high"), ("localizability - high", "high"), ("Localizability — high", "high"),
    ("localizability = [high]", "high"), ("localizability:\nhigh", "high"), ("localizability:\n\n- **High**\n", "high"),
    ("localizability: very low", "low"), ("localizability: Very High.", "high"), ("localizability: moderate", "medium"),
    ("localizability: not localizable", "negative"), ("localizability: none", "negative"),
    ("localizability: unlocalizable", "negative"), ("localizability: no", "no"), ("localizability: Yes, so", "yes"),
    ("localizability: low. The tower is high.", "low"), ("localizability: high, country: Peru, city: Lima", "high"),
    ('{"localizability": "high", "confidence": "low"}', "high"), ("localizability: low, not many clues", "low"),
    ("localizability: high\nlocalizability: very high", "high"), ("localizability: moderate to medium", "medium")])
def test_the_word_in_a_phrase(answer, word):
    assert parse_localizability(completion(answer)) == word


@pytest.mark.parametrize("answer", [
    "country: Peru", "localizability:", "localizability: it depends", "localizability: highly", "localizability: n/a",
    "localizability: high\nlocalizability: low", "localizability: low to medium", "localizability: medium-high",
    "localizability: high, medium, low or negative", "localizability: high, not localizable",
    "localizability: not high",
    "localizability: isn't very high", "localizability: neither high nor so", "localizability: no signs to read",
    "localizability: high-rise blocks", "localizability:\ncountry: Peru\ncity: High Wycombe",
    "localizability:\n  city - High Wycombe", "localizability:\nconfidence: high", "localizability-high"])
def test_nothing_is_guessed(answer):
    assert parse_localizability(completion(answer)) is None


def test_what_was_said_is_quoted_for_a_message():
    assert localizability_said(completion("localizability: it  depends, I'd say\n**localizability**: *low*")) == [
        "it depends, I'd say", "low"]
    assert localizability_said(completion("city: Lima")) == []


LEVELS = {"high": "high", "medium": "medium", "moderate": "medium", "low": "low", "negative": "negative"}
CASES = st.sampled_from([str.lower, str.upper, str.title])


@given(level=st.sampled_from(sorted(LEVELS)), case=CASES, degree=st.sampled_from(["", "very ", "rather ", "quite "]),
       label=st.sampled_from(["localizability", "Localizability", "**Localizability**", "- localizability"]),
       separator=st.sampled_from([":", ": ", " - ", " – ", " = ", " | ", ":\n", ": \n\n", ": **"]),
       after=st.sampled_from(["", ".", "**", " ", "\n", "\ncity: Low Moor", ", as signs show", " (few signs)"]))
def test_a_level_is_read_however_it_is_set(level, case, degree, label, separator, after):
    assert parse_localizability(completion(f"{label}{separator}{degree}{case(level)}{after}")) == LEVELS[level]


@given(st.text(st.sampled_from("highlowmedatvn not,.:-|\n\"*'") | st.characters(), max_size=60))
def test_whatever_is_said_gives_a_known_word_or_none(said):
    word = parse_localizability(completion(f"localizability:{said}"))
    assert word is None or word in LOCALIZABLE and said.strip()
