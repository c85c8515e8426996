"""Lines of a predictions file, made by hand."""
import json
from pathlib import Path


def line(number: int, lat: float | None = 48.0, text: str | None = None, finished: bool = True, **fields) -> dict:
    """A row whose truth is 48, 2 and whose answer lies on the same meridian: a degree is 111.195 km."""
    said = f"<think>x</think><answer>{lat}, 2.0</answer>" if text is None else text
    return {"id": f"t:{number}", "place": f"place {number}", "image": "x.jpg", "gt_lat": 48.0, "gt_lon": 2.0,
            "text": said, "lat": lat, "lon": None if lat is None else 2.0, "finished": finished, **fields}


def write(path: Path, lines: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in lines))
    return str(path)
