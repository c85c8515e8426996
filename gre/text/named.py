"""The one reader of answers by name, in the forms models write them:

    country: France, city: Paris          labels on one line or on several, a name on its label's line or on the next;
                                          in any case, with Markdown's stars, a bullet, `=`, `|` or a dash
    {"country": "France", "city": "Paris"}
    <country>France</country><city>Paris</city>
    | country | city |                    a table whose header holds the labels
    Paris, France                         a line of its own, where the last part is the name of a country; also
                                          Paris (France) and Paris - France

Nothing is guessed: a label that comes with two different names gives none, and so do `unknown`, `n/a` and the prompt's
own placeholder, `[city name]`.
"""
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from gre.text.answers import split_completion

_DECORATION = r"""["'*_` \t]*"""
_REMARK = rf"(?:\([^()\n]{{1,40}}\){_DECORATION}|#?\d[ \t]*)?"  # `city (best guess):`, `city 1:`
_OR = r"(?:[ ]?/[ ]?|[ ]or[ ])(?:region|territory|state|area|town|village|locality|municipality)"  # `city/town:`
LABEL = re.compile(rf"(?<!\w)(?P<label>country|city)(?:\s+name|{_OR})?{_DECORATION}{_REMARK}(?:[:：=|]|[-–—](?=\s))",
                    re.IGNORECASE)
# What stands behind the label, on its line or the next, up to the end of the line or sentence or a label of its own.
_LOCALIZABILITY = re.compile(r"""(?<!\w)localizability["'*_` \t]*(?:[:：=|]|[-–—](?=\s))["'“*_`•>\[(<\s\-–—]*+
                                 (?!(?:country|city)\b)(?P<phrase>(?:[^\n:：=|;"”}.!?]|[.!?](?!\s|$))+)""",
                             re.IGNORECASE | re.VERBOSE)
_LEVEL = r"(?<![\w-])(?:high|medium|moderate|low|negative)(?![\w-])"
_DENIED = re.compile(rf"(?:\b(?:not?|never|hardly|neither|nor)|n['’]t)(?:\W+\w+){{0,3}}\W+{_LEVEL}")
_UNLOCALIZABLE = re.compile(r"\b(?:not |un|non-)localizable\b")
_MEANS = {"moderate": "medium", "none": "negative"}
_AROUND = " \t*_,;.|`\"'“”{}-–—"
_NONE = re.compile(r"unknown|unclear|uncertain|undetermined|unspecified|none|null|n/?a|not sure|[-–—?]*|"
                   r"(?:the |your )?(?:country|city|name)(?: name)?", re.IGNORECASE)
_QUOTED = re.compile(r"""\s*(["'])(?P<name>.*?)\1\s*(?=[,;}\]]|$)""")
_BRACKETED = re.compile(r"[\[<(]([^\[\]<>()]*)[\])>]")
_TAGGED = re.compile(r"<(?P<label>country|city)>(?P<name>[^<>]*)</(?P=label)>", re.IGNORECASE)
_OTHER_LABEL = re.compile(r"""[|,;]\s*["']?[^\W\d_][\w ]{1,20}["']?\s*[:：=]""")  # `, region: Bavaria`
_SENTENCE = re.compile(r"(?<=[^\W\d_]{4})\.\s+(?=[^\W\d_]\S*(?:\s+\S+){2})")  # `Munich. The towers are …`
_IT_IS = re.compile(r"(?:it|this|(?:the|this) (?:country|city|town|place|location)) (?:is|was|(?:appears|seems) to be|"
                    r"(?:could|might|may|must) be) ", re.IGNORECASE)
_GOES_ON = re.compile(r"\s*\n\s*(?=(?:or|and)\b|[/(])", re.IGNORECASE)  # `Paris`, and on the next line `or Lyon`
_BARE = re.compile(r"[^\d\n:;.!?,]{2,60}(?:,[^\d\n:;!?,]{2,40}){1,3}\.?")
_SET_OFF = re.compile(r"[ \t]*\(([^()\n]*)\)(?=\.?$)|[ \t]+[-–—][ \t]+")  # Tokyo (Japan), Tokyo - Japan
_LONGEST_BARE = 200
_LABELS = ("country", "city")
_SAME_SHARE = 0.7  # of the longer name's length, in GLOBE's comparison


class Names(NamedTuple):
    """The names answered with, as written; None where there is none."""

    country: str | None
    city: str | None


def parse_names(text: str) -> Names:
    """The country and the city that a completion answers with; both None where the chain never ends."""
    return Names(*(names[0] if len(names) == 1 else None for names in names_said(text).values()))


def parse_localizability(text: str) -> str | None:
    """What an answer says behind `localizability:`: high, medium (or moderate), low or negative (or none, or not
    localizable), whatever else stands in the phrase; or true, yes, false or no where that is all, for `no` may go on as
    `no signs`. None where no such word is said, two that differ, or one that is denied (`not high`)."""
    said = set()
    for phrase in map(str.lower, localizability_said(text)):
        phrase = _UNLOCALIZABLE.sub("negative", phrase)
        if _DENIED.search(phrase):
            return None
        said.update(re.findall(_LEVEL, phrase))
        if (first := phrase.partition(",")[0]) in ("true", "yes", "false", "no", "none"):
            said.add(first)
    words = {_MEANS.get(word, word) for word in said}
    return words.pop() if len(words) == 1 else None


def localizability_said(text: str) -> list[str]:
    """The phrase behind each `localizability:` of a completion's answer, as written."""
    return [" ".join(match["phrase"].split()).rstrip(" ,'*_`]>")
            for match in _LOCALIZABILITY.finditer(split_completion(text)[1] or "")]


def names_said(text: str) -> dict[str, list[str]]:
    """All different names (case aside) that a completion answers with, by label: "country" and "city"."""
    answer = (split_completion(text)[1] or "").strip()
    said: dict[str, dict[str, str]] = {label: {} for label in _LABELS}
    for label, name in _json(answer) or _tagged(answer) or _table(answer) or _labelled(answer) or _bare(answer):
        if not _NONE.fullmatch(name):
            said[label].setdefault(name.casefold(), name)
    return {label: list(names.values()) for label, names in said.items()}


def _json(answer: str) -> list[tuple[str, str]]:
    """(label, name) of every object in the text's first JSON value."""
    start = re.search(r"[{\[]", answer)
    if not start:
        return []
    try:
        value, _ = json.JSONDecoder().raw_decode(answer, start.start())
    except (ValueError, RecursionError):
        return []
    return [(label, _clean(name)) for label, name in _fields(value)]


def _fields(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inside in value.items():
            label = key.strip().lower().removesuffix("_name").removesuffix(" name")
            if label in _LABELS and isinstance(inside, (str, list)):
                yield from ((label, name) for name in ([inside] if isinstance(inside, str) else inside)
                            if isinstance(name, str))
            else:
                yield from _fields(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _fields(inside)


def _tagged(answer: str) -> list[tuple[str, str]]:
    """(label, name) of tags, as MP16-Reason's own solutions have them."""
    return [(tag["label"].lower(), _clean(tag["name"])) for tag in _TAGGED.finditer(answer)]


def _table(answer: str) -> list[tuple[str, str]]:
    """(label, name) of the rows of a Markdown table whose header holds both labels."""
    lines = [line.strip().strip("|") for line in answer.split("\n") if "|" in line]
    rows = [[_clean(cell) for cell in line.split("|")] for line in lines if not re.fullmatch(r"[\s|:-]*", line)]
    for at, header in enumerate(rows):
        labels = [cell.lower() for cell in header]
        if all(label in labels for label in _LABELS):
            return [(label, row[labels.index(label)]) for row in rows[at + 1:] for label in _LABELS
                    if len(row) == len(labels)]
    return []


def _labelled(answer: str) -> list[tuple[str, str]]:
    answer = _GOES_ON.sub(" ", answer)
    labels: list[re.Match] = []
    for label in LABEL.finditer(answer):
        if not (labels and _repeats(label, labels[-1]) and re.search(r"\w[ \t]+$", answer[:label.start()])):
            labels.append(label)
    ends = [label.start() for label in labels[1:]] + [None]
    return [(label["label"].lower(), _first_line(answer[label.end():end])) for label, end in zip(labels, ends)]


def _repeats(label: re.Match, before: re.Match) -> bool:
    """Whether two labels are one; the second, behind a word, is a part of the name then: `city: Mexico City - Centro`.
    """
    return label["label"].lower() == before["label"].lower()


def _first_line(text: str) -> str:
    """The name that a label's text begins with."""
    line = text.lstrip(" \t*_,;.|`-–—\r\n").split("\n", 1)[0]
    quoted = _QUOTED.match(line)
    return _clean(quoted["name"] if quoted else _SENTENCE.split(_OTHER_LABEL.split(_IT_IS.sub("", line, 1))[0])[0])


def _bare(answer: str) -> list[tuple[str, str]]:
    """City and country of an answer that is nothing but `Paris, France`."""
    if len(answer) > _LONGEST_BARE:
        return []
    answer = _SET_OFF.sub(lambda match: ", " + (match[1] or ""), answer)
    if not _BARE.fullmatch(answer):
        return []
    from gre.geo.places import gazetteer  # takes half a second, which labels do not need

    city, country = answer.rstrip(".").rsplit(",", 1)
    known = gazetteer(15000).country(_clean(country))
    if known.how not in ("name", "shortened") or re.match(r"(?:or|and)\b", country.strip(), re.IGNORECASE):
        return []
    return [("country", _clean(country)), ("city", _clean(city))]


def _clean(name: str) -> str:
    name = name.strip(_AROUND + "\r\n")
    inside = _BRACKETED.fullmatch(name)  # as the prompt writes its placeholders
    return " ".join((inside[1] if inside else name).split())


def parse_names_as_globe(text: str, untagged: bool = True) -> Names:
    """The names as GLOBE's code reads them, in small letters: from the first <answer> block what follows `country:` and
    `city:` (small letters only) up to the end of the line. untagged: its eval.py takes the whole text where there is no
    such block; its reward takes nothing."""
    block = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    answer = block[1].strip() if block else text if untagged else ""
    said = (re.search(label + r":\s*([^\n]+)", answer) for label in _LABELS)
    return Names(*(match[1].strip().lower() if match else None for match in said))


def same_to_globe(a: str, b: str) -> bool:
    """Whether two names are the same to GLOBE: neither is empty, and one holds the other and has 0.7 of its length."""
    short, long = sorted((a.lower(), b.lower()), key=len)
    return bool(short) and short in long and len(short) / len(long) >= _SAME_SHARE
