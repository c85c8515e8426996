"""What scoring costs: `python -m bench.score [rows=[3000]] [draws=10000]` from the repository's root.

Made predictions of so many rows (an author for every ten, a scene, one answer in fifty unreadable, chains of 600
letters) are scored by the real command in a process of its own. Measured: CPU seconds, wall seconds and the peak
resident size. Writes and prints docs/results/score_cost.md.
"""
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
PHOTOS_OF_AN_AUTHOR = 10
UNREADABLE = 50  # one answer in so many
CHAIN = "The signs are French and the roofs are grey. " * 14
SCENES = ("indoor", "natural", "urban")


@dataclass
class Config:
    rows: list[int] = option([3_000, 210_000], "sizes to measure, such as rows=[3000,210000]")
    draws: int = option(10_000, "bootstrap draws")
    out: str = option(str(ROOT / "docs" / "results" / "score_cost.md"), "Markdown file for the table")


def made(path: Path, rows: int) -> None:
    """A prediction file of so many rows, the same ones every time."""
    generator = random.Random(0)
    with open(path, "w", encoding="utf-8") as stream:
        for number in range(rows):
            lat, lon = generator.uniform(-60, 70), generator.uniform(-180, 180)
            answer = None if number % UNREADABLE == 0 else (
                min(90.0, lat + generator.gauss(0, 3)), max(-180.0, min(180.0, lon + generator.gauss(0, 3))))
            said = "unknown" if answer is None else f"{answer[0]:.2f}, {answer[1]:.2f}"
            stream.write(json.dumps({
                "id": f"made:{number}", "place": "", "image": f"{number}.jpg", "gt_lat": lat, "gt_lon": lon,
                "text": f"<think>{CHAIN}</think><answer>{said}</answer>", "lat": answer and answer[0],
                "lon": answer and answer[1], "finished": True, "author": f"author {number // PHOTOS_OF_AN_AUTHOR}",
                "scene": SCENES[number % len(SCENES)]}) + "\n")


def measure(path: Path, draws: int) -> tuple[float, float, int]:
    """(CPU seconds, wall seconds, peak resident bytes) of scoring a file."""
    command = [sys.executable, "-m", "eval.score", str(path), f"draws={draws}"]
    start = time.perf_counter()
    process = os.posix_spawn(sys.executable, command, {**os.environ, "OMP_NUM_THREADS": "1"},
                             file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
    _, status, usage = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"{shlex.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - start, usage.ru_maxrss * 1024


def run(config: Config) -> None:
    """Measure, print and write the table."""
    lines = ["# What scoring costs", "",
             f"`{shlex.join(['python', '-m', 'bench.score', *sys.argv[1:]])}`, commit {provenance.commit()}: made "
             f"predictions, {config.draws:,} bootstrap draws over authors with {PHOTOS_OF_AN_AUTHOR} photos each, one "
             "slice field, one thread. CPU seconds are those of the whole command, imports and reading included; wall "
             "seconds depend on what else the machine did.", "",
             "| rows | CPU s | wall s | peak MiB |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for rows in config.rows:
            path = Path(folder) / f"{rows}.jsonl"
            made(path, rows)
            cpu, wall, peak = measure(path, config.draws)
            lines.append(f"| {rows:,} | {cpu:.1f} | {wall:.1f} | {peak / 2**20:,.0f} |")
            print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    print(text, end="")
    provenance.write_atomically(Path(config.out), text)


if __name__ == "__main__":
    main(run, Config, __doc__, lambda config: {"reads": [], "writes": [config.out]})
