"""The instructions of a file's rows, as a manifest and a prediction file record them. No torch."""
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping

LISTED = 16  # instructions that are spelled out, the most frequent
SHOWN = 60  # characters of an instruction in a message


def record(instructions: Iterable[str]) -> dict:
    """{"distinct", "sha256", "texts": [{"text", "rows"}, …]} of the instructions of rows, one a row.

    texts: the LISTED most frequent, ties in alphabetical order. sha256: of all distinct ones as a JSON array in
    alphabetical order, so that two sets can be compared whatever their size.
    """
    counts = Counter(instructions)
    whole = json.dumps(sorted(counts), ensure_ascii=False).encode()
    listed = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:LISTED]
    return {"distinct": len(counts), "sha256": hashlib.sha256(whole).hexdigest(),
            "texts": [{"text": text, "rows": rows} for text, rows in listed]}


def outside(instructions: Iterable[str], known: Mapping) -> list[str]:
    """The instructions that a record does not list, one a row; none where both are the same set."""
    instructions, listed = list(instructions), {one["text"] for one in known["texts"]}
    if record(instructions)["sha256"] == known["sha256"]:  # the same set, more of it than is listed
        return []
    return [text for text in instructions if text not in listed]


def shown(record: Mapping) -> str:
    """The most frequent instruction of a record, shortened, and how many others there are."""
    others = record["distinct"] - 1
    return short(record["texts"][0]["text"]) + (f" and {others} more" if others else "")


def short(text: str) -> str:
    """An instruction in quotes, cut after SHOWN characters."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")
