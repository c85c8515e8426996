"""MP16-Reason rows of coloured pictures, every other one of which is localizable."""
import json
import random
from collections.abc import Callable

from tests.helpers.judge_rows import BLUE, RED, picture


def even(i: int) -> bool:
    return i % 2 == 0


def write_reason(folder, count: int, red: Callable[[int], bool] = even,
                 says: Callable[[int], str] = lambda i: "It is red.", **fields):
    """MP16-Reason rows in their published form, of which the first and every other one is localizable; `fields` are
    added to each. red: whether a row's picture is, else it is blue. says: a row's response. Returns the file."""
    rng = random.Random(0)
    (folder / "imgs").mkdir(parents=True)
    lines = []
    for i in range(count):
        colour = tuple(value + rng.randrange(50) for value in (RED if red(i) else BLUE))
        picture(colour).save(folder / "imgs" / f"{i}.png")
        lines.append({"images": [f"imgs/{i}.png"], "response": says(i),
                      "__#solution": "<country>France</country><city>Paris</city>",
                      "entities": [{"text": "sign"}, {"text": "red tower" if red(i) else "bus"}],
                      "localizability": "high" if even(i) else "negative", **fields})
    path = folder / "reason.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
