"""The reader of answers by name: `country: France`, `city: Paris`, on one line or on two, as GLOBE asks for them.

Labels count in any case and with Markdown's stars around them. Nothing is guessed: a label that comes with two
different names gives none, and so do `unknown`, `n/a` and the prompt's own placeholder in brackets.
"""
import re
from typing import NamedTuple

from gre.text.answers import split_completion

_LABEL = re.compile(r"\b(?P<label>country|city)\b[*_ \t]*[:：]", re.IGNORECASE)
_AROUND = " \t*_,;.\"'“”"
_NONE = re.compile(r"unknown|unclear|uncertain|undetermined|unspecified|none|n/?a|not sure|[-–—?]*|[\[<(].*[\])>]",
                   re.IGNORECASE)


class Names(NamedTuple):
    """The names answered with, as written; None where there is none."""

    country: str | None
    city: str | None


def parse_names(text: str) -> Names:
    """The country and the city that a completion answers with; both None where the chain never ends."""
    _, answer = split_completion(text)
    said: dict[str, list[str]] = {"country": [], "city": []}
    labels = list(_LABEL.finditer(answer or ""))
    for label, following in zip(labels, [*labels[1:], None]):
        line = answer[label.end():following.start() if following else None].lstrip(_AROUND).split("\n", 1)[0]
        name = " ".join(line.strip(_AROUND).split())
        if not _NONE.fullmatch(name):
            said[label["label"].lower()].append(name)
    return Names(*(names[0] if names and len({name.casefold() for name in names}) == 1 else None
                   for names in (said["country"], said["city"])))


def parse_names_as_globe(text: str) -> Names:
    """The names as GLOBE's eval.py reads them, in small letters: from the first <answer> block, or the whole text
    without one, what follows `country:` and `city:` (small letters only) up to the end of the line."""
    block = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    answer = block[1].strip() if block else text
    said = (re.search(label + r":\s*([^\n]+)", answer) for label in ("country", "city"))
    return Names(*(match[1].strip().lower() if match else None for match in said))
