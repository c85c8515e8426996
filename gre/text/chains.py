"""Reasoning chains: where one stands in a text, how it is split into steps, and what steps and photos may be called.

GREval-Bench measures a chain step by step: background information (geographic indicators), caption of the photo,
logical inference. The names are GRE's; the rule that splits a chain is ours.
"""
import re

from gre.text.answers import split_completion

BACKGROUND, CAPTION, INFERENCE = STEP_KINDS = ("background", "caption", "inference")
INDICATORS = {"explicit": ("nature landmark", "iconic building", "language", "symbol"),
              "implicit": ("geographical feature", "architectural style", "social characteristic", "climate")}
INDICATOR_KINDS = tuple(kind for kinds in INDICATORS.values() for kind in kinds)
SCENES = {"outdoor": ("natural", "artificial landscape", "agricultural", "industrial", "road traffic"),
          "indoor": ("commercial", "offices", "transportation", "cultural", "medical", "entertainment")}

_ANSWER = re.compile(r"<answer>.*?(?:</answer>|\Z)", re.IGNORECASE | re.DOTALL)
_MARK = re.compile(r"^(?:[\s>#*•–-]{0,12}(?:step\s{0,2})?[0-9]{1,2}[.):](?![0-9])){0,2}[\s>#*•–-]{0,12}", re.IGNORECASE)
_END = re.compile(r"(?<=[.!?…])[\"'”’)\]*]{0,4}\s{1,20}(?=[^\sa-z])|(?<=[。！？])")
_ABBREVIATION = re.compile(
    r"(?:(?<![^\W_])(?:[A-Z]|St|Mt|Mr|Mrs|Ms|Dr|Ave|Rd|Blvd|Sq|No|Nr|approx|ca|cf|vs|e\.g|i\.e|etc|lat|lon|Lat|Lon))\.$")


def chain_of(text: str) -> str:
    """The chain of a completion or an annotation: what is said between the <think> tags, else all outside <answer>."""
    chain, _ = split_completion(text)
    return _ANSWER.sub("", text) if chain is None else chain


def split_steps(chain: str) -> list[str]:
    """The steps of a chain, one a sentence, in order; linear in the length of the text.

    A step ends with its line, and within a line after . ! ? … before white space and no small letter, but not after a
    capital alone or a common abbreviation (St. Petersburg), and after 。！？. List marks ("- ", "2. ", "**Step 3:**")
    are taken off; what holds no letter, and a heading (it ends with a colon), is no step.
    """
    steps = []
    for line in chain.splitlines():
        line = _MARK.sub("", line, count=1)
        start = 0
        for end in _END.finditer(line):
            if not _ABBREVIATION.search(line[max(start, end.start() - 8):end.start()]):
                steps.append(line[start:end.end()])
                start = end.end()
        steps.append(line[start:])
    tidy = (" ".join(step.replace("**", "").split()) for step in steps)
    return [step for step in tidy if any(map(str.isalpha, step)) and not step.endswith((":", "："))]
