"""Our reader of answers and upstream's on the same strings: how many of each kind they read right.

    python -m tests.helpers.compare_readers        prints the table and writes docs/results/answer_reader.md

Right is a place within 1 km of the row's, or no answer where the row has none.
"""
import re
import sys

from gre.geo.point import LatLon, distance_km, valid
from gre.text.answers import parse_answer
from tests.helpers.answer_table import ROWS
from tests.helpers.paths import ROOT

NUMBER = r"-?\d+(?:\.\d*)?"
OUT = ROOT / "docs" / "results" / "answer_reader.md"
COLUMNS = ("ours", "upstream", "upstream, not swapped", "n")


def upstream(completion: str, swapped: bool = True) -> LatLon | None:
    """What GRE's published geo_reward.py takes for the place, written anew from how it behaves.

    Answer tags are demanded. Unquoted `Latitude` and `Longitude` with a number right behind name the two; otherwise the
    first two numbers are taken, whatever they are. Letters, words and the Unicode minus mean nothing. What is found is
    latitude, longitude and is used as longitude, latitude (`swapped`); then what is out of range is dropped.
    """
    tagged = re.search(r"<answer>(.*?)</answer>", completion, re.DOTALL)
    answer = tagged[1] if tagged else ""
    named = [re.search(rf"{label}\s*[:=]?\s*({NUMBER})", answer, re.IGNORECASE) for label in ("latitude", "longitude")]
    found = [match[1] for match in named] if all(named) else re.findall(NUMBER, answer)[:2]
    if len(found) < 2:
        return None
    lat_deg, lon_deg = map(float, reversed(found) if swapped else found)
    return LatLon(lat_deg, lon_deg) if valid(lat_deg, lon_deg) else None


def right(read: LatLon | None, place: tuple[float, float] | None) -> bool:
    if read is None or place is None:
        return read is place
    return distance_km(read, LatLon(*place)) <= 1


def counts(rows: list[tuple]) -> dict[str, int]:
    """How many of these (kind, text, place) rows each reader gets right, and n."""
    total = dict.fromkeys(COLUMNS, 0)
    for _, text, place in rows:
        tagged = text if re.search("think>|answer", text, re.IGNORECASE) else f"<answer>{text}</answer>"
        total["ours"] += right(parse_answer(text), place)
        total["upstream"] += right(upstream(tagged), place)
        total["upstream, not swapped"] += right(upstream(tagged, swapped=False), place)
        total["n"] += 1
    return total


def markdown(rows: list[tuple]) -> str:
    """The counts by kind, then over the rows with a place, without one, and all."""
    groups = {kind: [row for row in rows if row[0] == kind] for kind in dict.fromkeys(kind for kind, _, _ in rows)}
    groups |= {"**all with a place**": [row for row in rows if row[2]],
               "**all without a place**": [row for row in rows if not row[2]], "**all**": rows}
    lines = [f"| kind | {' | '.join(COLUMNS)} |", "|---" + "|---:" * len(COLUMNS) + "|"]
    lines += [f"| {name} | {' | '.join(str(counts(group)[column]) for column in COLUMNS)} |"
              for name, group in groups.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    from gre.manifest import commit, write_atomically  # loads torch, which the tests of this file can do without

    text = f"""# The reader of answers beside upstream's parser
`python -m tests.helpers.compare_readers`, commit {commit()}.

Rows of `tests/helpers/answer_table.py` read right: a place within 1 km, or no answer where there is none. Upstream is
the parser of GRE's published reward, written anew from how it behaves; it demands answer tags, so rows without any tag
were wrapped in them for it. It hands latitude and longitude over in the wrong order; the third column has that put
right. What is no answer is this project's rule (docs/answers.md), and our reader was written with this table in view:
its column says what it is held to, not how it does on new strings.

{markdown(ROWS)}"""
    write_atomically(OUT, text)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
