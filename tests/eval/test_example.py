"""The photo that README shows: the one that stage 1 missed by most and stage 3 finds."""
import pytest
from PIL import Image

from eval import predictions
from eval.drawing import example
from eval.predictions import Prediction
from gre.config import UserError, load


def said(number: int, lon: float | None) -> Prediction:
    return Prediction(f"test:{number}", "Quito", f"imgs/{number}.png", 0.0, 0.0, f"<answer>0, {lon}</answer>",
                      None if lon is None else 0.0, lon, True)


def test_the_photo_is_chosen_and_drawn(tmp_path):
    (tmp_path / "test/imgs").mkdir(parents=True)
    for number in range(1, 5):
        Image.new("RGB", (56, 56), (9, 99, 200)).save(tmp_path / f"test/imgs/{number}.png")
    # Missed by 10, 60 and 90 degrees; the last is not found, the one before has no answer at first.
    for name, lons in (("stage1", (10.0, 60.0, None, 90.0)), ("stage3", (0.1, 0.2, 0.0, 90.0))):
        predictions.append(tmp_path / f"predictions/{name}.jsonl", [said(i, lon) for i, lon in enumerate(lons, 1)])
    keys = [f"run={tmp_path}", f"data={tmp_path}", f"out={tmp_path}/page.html"]
    example.run(load(example.Config, keys))
    html = (tmp_path / "page.html").read_text()
    assert "stage1 · 6,672 km off" in html and "stage3 · 22 km off" in html and html.count('class="map"') == 2
    with pytest.raises(UserError, match="no row test:9: the predictions hold test:1 and 3 others"):
        example.run(load(example.Config, [*keys, "row=test:9"]))
