"""What a person should look at while a run goes on: one line on the screen, one in OUTPUT/alarms.jsonl."""
import json
from pathlib import Path

from accelerate import PartialState


def ring(path: Path, step: int, name: str, value: float, meaning: str) -> None:
    """Print an alarm and append it to the file, on the main process."""
    if PartialState().is_main_process:
        print(f"ALARM, step {step}: {name} is {value:.4g}: {meaning}", flush=True)
        with open(path, "a", encoding="utf-8") as lines:
            lines.write(json.dumps({"step": step, "name": name, "value": value, "meaning": meaning}) + "\n")
