"""The one reader of model answers: rewards, evaluation and data preparation all ask it where a text points.

    <think>… coordinates here never count …</think><answer>48.8584, 2.2945</answer>   ->  LatLon(48.8584, 2.2945)

Nothing is guessed: what does not say exactly one place is no answer. `python -m gre.text.answers` reads one JSON
string a line from standard input and prints `[lat, lon]` or `null` for each.
"""
import json
import re
import sys

from gre.geo.point import LatLon
from gre.text.coordinates import read_place

_TAG = re.compile(r"<(?P<close>/?)(?P<name>think|answer)>", re.IGNORECASE)


def split_completion(text: str) -> tuple[str | None, str | None]:
    """(think, answer): what is said between <think> and </think>, and what counts as the answer after it.

    think: None without think tags; a chain whose opening tag stood in the prompt starts at the text's beginning.
    answer: what the answer tags hold (several blocks are joined by a blank line; one cut off before </answer> runs to
    the end); without answer tags, all text outside the chain; None when a <think> is never closed.
    """
    thoughts: list[str] = []
    spoken: list[str] = []  # text outside the chain and outside answer tags
    answers: list[str] = []
    tagged_think = tagged_answer = in_think = in_answer = False
    position = 0
    for tag in _TAG.finditer(text):
        piece, position = text[position:tag.start()], tag.end()
        (thoughts if in_think else answers if in_answer else spoken).append(piece)
        opens = not tag["close"]
        if tag["name"].lower() == "think":
            if not opens and not in_think:  # opened in the prompt: all that came before belongs to the chain
                thoughts += spoken + answers
                spoken, answers, tagged_answer = [], [], False
            in_think, in_answer, tagged_think = opens, False, True
        elif not in_think:
            if not opens and not in_answer:  # opened in the prompt
                answers += spoken
                spoken = []
            in_answer, tagged_answer = opens, True
    (thoughts if in_think else answers if in_answer else spoken).append(text[position:])
    think = "\n\n".join(thoughts) if tagged_think else None
    return think, None if in_think else "\n\n".join(answers if tagged_answer else spoken)


def parse_answer(text: str) -> LatLon | None:
    """The place a completion answers with, or None for no answer; linear in the length of the text.

    None too for: a chain that never ends, numbers out of range (nothing is swapped or wrapped), two different places,
    and (0, 0), which is what tools print when they have no answer. gre.text.coordinates says which forms are read.
    """
    _, answer = split_completion(text)
    return None if answer is None else read_place(answer)


def format_answer(point: LatLon, decimals: int = 2) -> str:
    """`lat, lon` in decimal degrees, as an <answer> holds it; the reader reads back exactly what is printed.

    Raises ValueError for a point off the globe, and for one printed as (0, 0), which means no answer.
    """
    lat_deg, lon_deg = (round(value, decimals) + 0.0 for value in LatLon.checked(*point))  # + 0.0: no -0.00
    if lat_deg == lon_deg == 0:
        raise ValueError(f"{point} with {decimals} decimals reads as (0, 0), which means no answer: use more decimals")
    return f"{lat_deg:.{decimals}f}, {lon_deg:.{decimals}f}"


def main() -> int:
    for number, line in enumerate(sys.stdin, start=1):
        try:
            text = json.loads(line)
        except json.JSONDecodeError as error:
            text = error
        if not isinstance(text, str):
            print(f"line {number}: expected one JSON string a line, such as \"48.86, 2.35\"", file=sys.stderr)
            return 1
        print(json.dumps(parse_answer(text)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
