"""The cues of a chain, marked in its text: what in the photo points to a place.

Where a photo's geographic indicators are known, they are the cues: annotated in the benchmark's file, or derived by
eval.chain; an indicator is marked where the chain has its words, and else the statement that names it, as eval.chain's
LLM found. Where they are not known, the rule is a list of English words for the eight kinds of the taxonomy
(gre.text.chains), and no claim that the word was used well.
"""
import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape

from gre.config import UserError
from gre.data import annotations
from gre.data.annotations import Indicator
from gre.data.raw import BadRow
from gre.text.chains import INDICATORS

Cues = Mapping[str, Sequence[Indicator]]  # row id → its cues, those that win where two overlap first
WORDS = {  # kind → words, each with its plural in s; a phrase is words with white space between
    "nature landmark": "mountain volcano waterfall glacier canyon gorge cliff fjord geyser lake river island",
    "iconic building": "landmark monument cathedral basilica church mosque minaret temple pagoda shrine castle palace "
                       "tower skyscraper stadium lighthouse windmill bridge statue obelisk",
    "language": "language script alphabet lettering signage sign writing text Cyrillic Arabic Chinese Japanese Korean "
                "Hangul Thai Hebrew Greek Devanagari English French German Spanish Portuguese Italian Russian",
    "symbol": "flag emblem logo symbol cross crescent licence_plate license_plate number_plate road_marking bollard "
              "coat_of_arms banner",
    "geographical feature": "coast coastline beach desert valley hill plain plateau savanna steppe tundra terrain soil "
                            "dune sea ocean sun shadow",
    "architectural style": "architecture facade façade roof balcony brick timber-framed colonial Gothic Baroque "
                           "Art_Deco Ottoman brutalist modernist half-timbered stucco adobe thatched",
    "social characteristic": "traffic left_side right_side vehicle car bus tram taxi rickshaw tuk-tuk scooter "
                             "motorbike bicycle clothing dress uniform market street_food crowd currency",
    "climate": "climate vegetation tropical subtropical temperate polar alpine arid humid Mediterranean snow ice palm "
               "pine birch oak cactus rainforest jungle tree"}
_GROUP = {kind: group for group, kinds in INDICATORS.items() for kind in kinds}


def read(fields: Mapping, where: str) -> tuple[Indicator, ...] | None:
    """The benchmark's own indicators of a prediction line; None where it has none. UserError for what is none."""
    try:
        return annotations.indicators(dict(fields))
    except BadRow as error:
        raise UserError(f"{where}: {error}: predict again, or repair the benchmark's file first") from None


def explained(known: bool, unknown: bool) -> str:
    """What is marked, for the page. known, unknown: whether it shows chains whose indicators are, and such as are not.
    """
    rules = ["the photo's indicators where the chain has their words, and else the statement that names one",
             "English words for the eight kinds of GRE's taxonomy, by a list; a marked word need not have helped"]
    shown = ". Where no indicators are known: ".join(rule for rule, is_used in zip(rules, (known, unknown)) if is_used)
    groups = "; ".join(f"<mark class='{group}'>{group}</mark>: {', '.join(kinds)}"
                       for group, kinds in INDICATORS.items())
    return f"<p class='soft'>Marked: {shown}. {groups}.</p>"


def marked(text: str, cues: Sequence[Indicator] | None) -> str:
    """The text as HTML, escaped, its cues in <mark>. cues: None where they are not known, for the list of words."""
    patterns = _words() if cues is None else [(cue.kind, _phrase(cue.text)) for cue in cues]
    found: list[tuple[int, int, str]] = []
    for kind, pattern in patterns:
        for match in pattern.finditer(text):
            start, end = match.span()
            if start < end and all(end <= other or start >= last for other, last, _ in found):
                found.append((start, end, kind))
    parts, done = [], 0
    for start, end, kind in sorted(found):
        parts += [escape(text[done:start]), f"<mark class='{_GROUP[kind]}' title='{kind}'>", escape(text[start:end]),
                  "</mark>"]
        done = end
    return "".join(parts) + escape(text[done:])


@cache
def _words() -> list[tuple[str, re.Pattern]]:
    return [(kind, re.compile(r"(?<!\w)(?:" + "|".join(
        re.escape(word).replace("_", r"\s+") for word in words.split()) + r")s?(?!\w)", re.IGNORECASE))
            for kind, words in WORDS.items()]


def _phrase(phrase: str) -> re.Pattern:
    """The phrase in a text, any case, and any white space or bold marks where it has white space."""
    return re.compile(r"(?<!\w)" + r"[\s*]+".join(map(re.escape, phrase.split())) + r"(?!\w)", re.IGNORECASE)
