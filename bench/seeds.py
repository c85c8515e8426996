"""What seeds and inspect cost a row: `python -m bench.seeds ['rows=[10000,1000000]']` from the repository's root.

Made tables of so many rows (all over the land and sea, one row in fifty broken in one of five ways, one in a hundred
twice) go through `data_prep.seeds pictures=unopened` and the seeds through `data_prep.inspect photos=unopened`, each
command in a process of its own. Measured: wall and CPU seconds, rows a second, peak resident size. Writes and prints
docs/results/seeds_scale.json.
"""
import csv
import json
import os
import random
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from gre import provenance
from gre.config import main, option

ROOT = Path(__file__).resolve().parents[1]
BROKEN = ([0, 0], [95, 10], ["", ""], ["north", 10], [10, 190])


@dataclass
class Config:
    rows: list[int] = option([10_000, 100_000, 1_000_000], "sizes to measure")
    out: str = option(str(ROOT / "docs" / "results" / "seeds_scale.json"), "JSON file for the result")


def made(path: Path, rows: int) -> None:
    """A table of so many rows, the same ones every time."""
    generator = random.Random(0)
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["IMG_ID", "LAT", "LON", "author", "license", "page_url"])
        for number in range(rows):
            place = BROKEN[number // 50 % 5] if number % 50 == 49 else [
                round(generator.uniform(-60, 70), 5), round(generator.uniform(-180, 180), 5)]
            line = [f"4f_a0_{3_000_000_000 + number}.jpg", *place, f"{number // 10}@N01", "CC BY 2.0",
                    f"https://host/{number}"]
            writer.writerows([line, line] if number % 100 == 17 else [line])


def measure(module: str, *arguments: str) -> dict[str, float]:
    """Run a command; raises RuntimeError when it fails."""
    command = [sys.executable, "-m", module, *arguments]
    start = time.perf_counter()
    process = os.posix_spawn(sys.executable, command, {**os.environ, "OMP_NUM_THREADS": "1"},
                             file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
    _, status, usage = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"{shlex.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return {"seconds": round(time.perf_counter() - start, 1), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_mib": round(usage.ru_maxrss / 1024)}


def run(config: Config) -> None:
    sizes = ",".join(map(str, config.rows))
    result: dict = {"command": f"OMP_NUM_THREADS=1 python -m bench.seeds 'rows=[{sizes}]'", "sizes": {},
                    "commit": provenance.commit(), "versions": provenance.versions()}
    for rows in config.rows:
        with tempfile.TemporaryDirectory() as folder:
            made(Path(folder, "made.csv"), rows)
            found = {"seeds": measure("data_prep.seeds", f"table={folder}/made.csv", f"out={folder}/seeds",
                                      "pictures=unopened")}
            card = json.loads(Path(folder, "seeds", "card.json").read_text(encoding="utf-8"))
            found["inspect"] = measure("data_prep.inspect", f"{folder}/seeds/seeds.jsonl", f"out={folder}/card",
                                       "photos=unopened")
        for numbers in found.values():
            numbers["rows_per_second"] = round(rows / numbers["seconds"])
            numbers["rows_per_cpu_second"] = round(rows / numbers["cpu_seconds"])
        result["sizes"][str(rows)] = {**found, "counts": {name: card["counts"][name] for name in ("rows", "faults")}}
        print(json.dumps({rows: found}))
    Path(config.out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(run, Config, __doc__)
