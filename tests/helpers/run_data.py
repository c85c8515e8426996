"""The data folder of a run, as the quickstart makes it."""
import json
from pathlib import Path

from PIL import Image

from gre.data.records import CoTRow, JudgeRow, SeedRow, write_cot, write_judge, write_seed
from gre.geo.point import LatLon

PLACES = {"Paris, France": LatLon(48.86, 2.35), "Tokyo, Japan": LatLon(35.68, 139.69),
          "Lima, Peru": LatLon(-12.05, -77.04)}


def write_data(folder: Path) -> Path:
    """A data folder of 6 test pictures (3 places) and a few training rows."""
    sidecar = []

    def rows(split: str, count: int) -> list[SeedRow]:
        made = []
        for number in range(count):
            place = list(PLACES)[number % 3]
            image = folder / split / "imgs" / f"{number}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (56, 56), (40 * number, 0, 90)).save(image)
            sidecar.append({"image": image.relative_to(folder).as_posix(), "place": place, "split": split,
                            "teacher_error": ["none", "fame"][number % 2] if split == "gre_cot" else None})
            made.append(SeedRow("", image, "Where was this photo taken?", PLACES[place]))
        return made

    cot = [CoTRow("", row.image, row.instruction, "<think>a</think><answer>1, 2</answer>", row.truth)
           for row in rows("gre_cot", 4)]
    write_cot(folder / "gre_cot/gre_cot.json", cot)
    write_judge(folder / "gre_judge/gre_judge.json", [
        JudgeRow("", row.image, "Right?", "chain", "1, 2", True, row.truth) for row in rows("gre_judge", 3)])
    for split, count in (("gre_seed", 5), ("validation", 2), ("test", 6), ("test_new_places", 3)):
        write_seed(folder / split / f"{split}.jsonl", rows(split, count))
    (folder / "truth.jsonl").write_text("".join(json.dumps(line) + "\n" for line in sidecar))
    return folder
