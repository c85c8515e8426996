"""A job of two_ranks.py (tests/training/test_bad_rows.py): which photos each of two processes decodes, and which rows
both keep."""
import contextlib
import io
import json
from pathlib import Path

from accelerate import PartialState

from gre.data import photos
from gre.data.images import decode
from gre.data.raw import DataError
from gre.data.records import DataConfig, SeedRow
from gre.geo.point import LatLon
from gre.training.data import usable_rows
from tests.helpers.damaged import DAMAGED, png


def main(folder: Path) -> None:
    """Six rows, of which the second photo (of the second process) and the third (of the first) are damaged."""
    state = PartialState(cpu=True)
    rows = [SeedRow(f"seed:{i}", folder / f"{i}.png", "Where?", LatLon(1, 2)) for i in range(6)]
    if state.is_main_process:
        for i, row in enumerate(rows):
            damaged = {1: "truncated.jpg", 2: "empty.jpg"}.get(i)
            row.image.write_bytes(DAMAGED[damaged][0] if damaged else png((64 + i, 48)))
    state.wait_for_everyone()
    decoded, photos.decode = [], lambda content, path: decoded.append(path.name) or decode(content, path)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        data = DataConfig("seed.jsonl", on_bad_row="drop", dropped_list=str(folder / "dropped.txt"))
        kept = [row.id for row in usable_rows(rows, data, lambda row: 1, 9, folder / "whole_photos.json")]
        try:
            usable_rows(rows, DataConfig("seed.jsonl"), lambda row: 1, 9, folder / "whole_photos.json")
        except DataError as error:
            stopped = str(error)
    photos.decode = decode
    print(json.dumps({"decoded": sorted(decoded), "kept": kept, "stopped": stopped.split(": ")[0],
                      "dropped": said.getvalue().count("dropped 2 bad rows")}))
