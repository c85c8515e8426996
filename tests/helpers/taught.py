"""Models taught in seconds; a finished stage that knows three photos, taught from the tiny base."""
import shutil
from pathlib import Path

import torch
from PIL import Image

from gre.models.packing import Group
from gre.models.scoring import score
from gre.models.vlm import encode_prompt, encode_response, load_model, load_processor
from tests.helpers.paths import ROOT
from tests.helpers.stages import write_stage

PLACES = {"paris.png": ((200, 30, 30), "48.86, 2.35"), "tokyo.png": ((30, 200, 30), "35.68, 139.69"),
          "nowhere.png": ((30, 30, 200), "unknown")}


def write_taught(places: dict = PLACES, stage: str = "stage3") -> None:
    """run/STAGE in the current folder, asked "Where is this?", and imgs/ with what it knows; of one photo it says no
    place. places: name of the photo: (its colour, what it answers)."""
    shutil.copytree(ROOT / "gre/tiny/base", "base")
    Path("imgs").mkdir()
    model, processor = load_model("base"), load_processor("base")
    groups = []
    for name, (colour, answer) in places.items():
        image = Image.new("RGB", (56, 56), colour)
        image.save(f"imgs/{name}")
        text = f"<think>A photo of {name}.\nThe colour says it.</think><answer>{answer}</answer>"
        groups.append(Group(encode_prompt(processor, "Where is this?", image), [encode_response(processor, text)]))
    teach(model, groups, 0.01)
    write_stage((model.eval(), processor), stage, {})


def teach(model, groups: list[Group], enough: float, learning_rate: float = 1e-3) -> None:
    """Train a model on completions until the mean loss of a token is below `enough`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    for _ in range(200):
        loss = -score(model, groups).log_probs.mean()
        if loss.item() < enough:
            break
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < enough
