"""Key steps: an LLM that sees photo and true coordinates drafts them, people correct them in a file.

The file is JSON lines, one photo each:
    {"sample_id", "image", "gt_lat", "gt_lon", "indicators", "steps", "scene", "corrected_by"}
A line counts once a person's name stands under `corrected_by`. Order, kinds and wording are theirs to change; kinds and
scenes are those of gre.text.chains.
"""
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gre.data import annotations, forms, raw
from gre.data.annotations import Indicator, Step
from gre.data.images import load_image
from gre.data.raw import BadRow, DataError
from gre.data.records import CoTRow
from gre.llm import Question, picture, read_json
from gre.text.chain_prompts import KEY_STEPS
from gre.text.coordinates import read_place


@dataclass(frozen=True)
class Draft:
    """The key steps of one photo; corrected_by: empty until a person has read them."""

    sample_id: str
    indicators: tuple[Indicator, ...]
    steps: tuple[Step, ...]
    scene: str
    corrected_by: str = ""


def question(sample_id: str, row: CoTRow, chain: str, indicators: Sequence[Indicator],
             max_pixels: int) -> Question[Draft]:
    """Asks for the key steps and the scene of a photo."""
    material = json.dumps({"latitude": row.truth.lat_deg, "longitude": row.truth.lon_deg, "draft": chain,
                           "indicators": annotations.as_json(indicators)}, ensure_ascii=False)
    seen = picture(load_image(row.image, max_pixels))

    def read(reply: str) -> Draft:
        value = read_json(reply)
        if not isinstance(value, dict):
            raise ValueError("expected an object with steps and scene")
        try:
            return _draft({**value, "sample_id": sample_id, "indicators": annotations.as_json(indicators)})
        except BadRow as error:
            raise ValueError(str(error)) from None
    return Question(f"key steps of sample {sample_id}", [
        {"role": "system", "content": KEY_STEPS},
        {"role": "user", "content": [seen, {"type": "text", "text": material}]}], read)


def append(path: Path, rows: Mapping[str, CoTRow], drafts: Sequence[Draft]) -> None:
    """Add drafts, one for each of `rows` (by sample id), to the file people correct."""
    with open(path, "a", encoding="utf-8") as stream:
        stream.writelines(json.dumps({
            "sample_id": id, "image": str(row.image), "gt_lat": row.truth.lat_deg, "gt_lon": row.truth.lon_deg,
            "indicators": annotations.as_json(draft.indicators), "steps": annotations.as_json(draft.steps),
            "scene": draft.scene, "corrected_by": ""}, ensure_ascii=False) + "\n"
            for (id, row), draft in zip(rows.items(), drafts))


def read(path: Path) -> dict[str, Draft]:
    """Sample id → what the file says. Raises DataError naming file, row and field of what cannot be used."""
    found: dict[str, Draft] = {}
    for number, value in forms.rows(path) if path.exists() else ():
        try:
            draft = _draft(raw.json_object(value))
            if draft.sample_id in found:
                raise BadRow(f"sample {draft.sample_id} comes twice")
        except BadRow as error:
            raise DataError(f"{path}, row {number}: {error}. Correct the row; removed, it is drafted again") from None
        found[draft.sample_id] = draft
    return found


def _draft(row: dict) -> Draft:
    """Raises BadRow, also for a step that gives the coordinates away."""
    indicators, steps, scene = annotations.indicators(row), annotations.steps(row), annotations.scene(row)
    if indicators is None or steps is None or scene is None:
        raise BadRow("indicators, steps and scene must all be there")
    if told := [step.text for step in steps if read_place(step.text) is not None]:
        raise BadRow(f"field 'steps': {told[0]!r} gives coordinates, which nobody sees in a photo")
    name = row.get("corrected_by", "")
    if not isinstance(name, str):
        raise BadRow(f"field 'corrected_by': expected a name, got {raw.shown(name)}")
    return Draft(raw.text(row, "sample_id"), indicators, steps, scene, name.strip())
