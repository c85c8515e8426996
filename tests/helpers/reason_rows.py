"""MP16-Reason rows of coloured pictures: a red one is localizable."""
import json
import random

from tests.helpers.judge_rows import BLUE, RED, picture


def write_reason(folder, count: int, **fields):
    """MP16-Reason rows in their published form, red and blue in turn; `fields` are added to each. Returns the file."""
    rng = random.Random(0)
    (folder / "imgs").mkdir(parents=True)
    lines = []
    for i in range(count):
        red = i % 2 == 0
        colour = tuple(value + rng.randrange(50) for value in (RED if red else BLUE))
        picture(colour).save(folder / "imgs" / f"{i}.png")
        lines.append({"images": [f"imgs/{i}.png"], "response": "It is red.",
                      "__#solution": "<country>France</country><city>Paris</city>",
                      "entities": [{"text": "sign"}, {"text": "red tower" if red else "bus"}],
                      "localizability": "high" if red else "negative", **fields})
    path = folder / "reason.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
