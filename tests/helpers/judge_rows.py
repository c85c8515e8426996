"""Judge data that can be learned: red pictures are True."""
import json
import random

from PIL import Image

RED, BLUE = (200, 30, 30), (30, 30, 200)


def picture(colour=RED, side=56):
    return Image.new("RGB", (side, side), colour)


def write_rows(folder, count, shuffled=False):
    """Judge rows whose label is the picture's colour: red is True. Returns the data file."""
    rng, rows = random.Random(0), []
    (folder / "imgs").mkdir(parents=True)
    for i in range(count):
        red = i % 2 == 0
        colour = tuple(value + rng.randrange(50) for value in (RED if red else BLUE))
        picture(colour).save(folder / "imgs" / f"{i}.png")
        rows.append({"image": f"images/{i}.png", "gt_lat": 48.86, "gt_lon": 2.35, "predicted_cot": "It is red.",
                     "predicted_answer": "48.9, 2.3", "conversations": [{"from": "human", "value": "<image>\nIs it?"},
                                                                        {"from": "gpt", "value": str(red)}]})
    if shuffled:
        labels = [row["conversations"][1] for row in rows]
        rng.shuffle(labels)
        for row, label in zip(rows, labels, strict=True):
            row["conversations"][1] = label
    (folder / "judge.json").write_text(json.dumps(rows))
    return folder / "judge.json"
