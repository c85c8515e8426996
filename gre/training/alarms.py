"""What a person should look at while a run goes on: one line in the log, one in OUTPUT/alarms.jsonl."""
import json
from pathlib import Path


def ring(file: str | Path, step: int, alarm: str, message: str) -> None:
    """Print `message` and append it to `file` as {"step", "alarm", "message"}; call it on one rank alone."""
    print(f"ALARM at step {step}, {alarm}: {message}", flush=True)
    with open(file, "a", encoding="utf-8") as lines:
        lines.write(json.dumps({"step": step, "alarm": alarm, "message": message}) + "\n")
