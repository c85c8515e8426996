"""docs/formats.md: its examples are read as it says, and it names everything that runs write."""
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from gre.data.records import DataConfig, read_cot, read_judge, read_reason, read_seed, read_taught
from gre.text.prompts import PLACE_INSTRUCTION
from gre.training.watching.completions import read_places
from tests.helpers.paths import ROOT
from tests.helpers.stages import run2, run3

TEXT = (ROOT / "docs/formats.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("number,read", list(enumerate((read_cot, read_judge, read_seed))))
def test_the_examples_are_rows(tmp_path, number, read):
    row = json.loads(EXAMPLES[number])
    path = tmp_path / row["image"].replace("images", "imgs")
    path.parent.mkdir()
    Image.new("RGB", (56, 56)).save(path)
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    (found,) = read(DataConfig(path=str(tmp_path / "rows.json")))
    assert found.image == path and (found.truth.lat_deg, found.truth.lon_deg) == (row["gt_lat"], row["gt_lon"])
    for field in row:
        assert f"`{field}`" in TEXT, field


def test_the_example_of_mp16_reason_is_a_row(tmp_path):
    row = json.loads(EXAMPLES[3])
    path = tmp_path / row["images"][0]
    path.parent.mkdir()
    Image.new("RGB", (56, 56)).save(path)
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    (found,) = read_reason(DataConfig(path=str(tmp_path / "rows.jsonl")))
    assert found.image == path and found.names == ("Peru", "Lima") and found.entities == ("palm tree", "yellow house")
    assert found.localizable and found.truth == (-12.0464, -77.0428) and found.instruction == PLACE_INSTRUCTION
    for field in row:
        assert f"`{field}`" in TEXT, field
    (taught,) = read_taught(DataConfig(path=str(tmp_path / "rows.jsonl")))
    assert taught.response == f"<think>{row['response']}</think><answer>country: Peru\ncity: Lima</answer>"


def test_the_example_of_places_is_read(tmp_path):
    (tmp_path / "places.csv").write_text(re.search(r"```csv\n(.*?)```", TEXT, re.DOTALL)[1])
    assert len(read_places(str(tmp_path / "places.csv"))["Paris"]) == 2


@pytest.mark.slow
def test_every_name_that_stages_write_is_explained(workplace):
    Path("places.csv").write_text("name,lat,lon\nParis,48.8566,2.3522\n")
    watched = ["guards.places=places.csv", "validation.eval_every=1", "validation.data=seed/seed.jsonl",
               "validation.max_new_tokens=4"]
    run2(*watched)
    run3("gps.curriculum.levels_km=[750,25]", *watched)
    cells = re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE)
    explained = {name for cell in cells for name in re.findall("`(.*?)`", cell)}
    for stage in ("stage2", "stage3"):
        folder = Path("run", stage)
        logs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        names = {re.sub(r"^reward/[a-z]+", "reward/NAME", name) for log in logs for name in log} - {"step"}
        assert names - explained == set()
        assert json.loads((folder / "manifest.json").read_text()).keys() <= explained | {"gre", "commit"}
        assert {path.name for path in folder.iterdir()} <= {line.split()[0].rstrip("/") for line in TEXT.split(
            "runs/NAME/STAGE/\n")[1].split("```")[0].splitlines()}
