"""The reader's properties on many random examples, and its time on texts of 10 MB.

    python -m tests.helpers.fuzz_answers           20,000 examples a property; writes docs/results/answer_fuzz.md

Fails at the first property that does not hold, and when 10 MB take more than 20 times as long as 1 MB.
"""
import sys
import time
from collections.abc import Callable

from hypothesis import seed, settings

from gre.provenance import commit, write_atomically
from gre.text.answers import parse_answer
from tests.helpers.answer_properties import PROPERTIES
from tests.helpers.paths import ROOT

EXAMPLES = 20_000
LIMIT = 20  # times as long for ten times the text: 10 is linear, 100 quadratic
OUT = ROOT / "docs" / "results" / "answer_fuzz.md"
PIECES = ["1", "1.5, 2.5 ", "[48.85", "48°51'", "1,", "€1", "<answer>", "</answer>a", "word ",
          # with a digit in every 600 characters nothing can be skipped
          "(" * 590 + "5th ", '"' * 590 + "5th ", "°" * 590 + "5th ", "lat: " * 118 + "5th ", "N " * 295 + "5th ",
          "-" * 590 + "5th ", '{"lat": ' * 73 + "5th ", "\\boxed{" * 84 + "5th "]


def tried(check: Callable[[], None]) -> tuple[int, float]:
    """(examples run, seconds) of one property; raises when it does not hold."""
    examples, inner = 0, check.hypothesis.inner_test

    def counted(*args, **kwargs):
        nonlocal examples
        examples += 1
        inner(*args, **kwargs)

    check.hypothesis.inner_test = counted
    start = time.perf_counter()
    seed(0)(settings(max_examples=EXAMPLES, deadline=None, database=None)(check))()
    assert examples >= EXAMPLES, f"only {examples} examples"
    return examples, time.perf_counter() - start


def cpu_seconds(text: str) -> float:
    start = time.process_time()
    parse_answer(text)
    return time.process_time() - start


def main() -> int:
    tested = commit()
    lines = ["| property | examples | seconds |", "|---|---:|---:|"]
    for check in PROPERTIES:
        examples, seconds = tried(check)
        lines.append(f"| {check.__name__.replace('_', ' ')} | {examples:,} | {seconds:.0f} |")
        print(lines[-1], flush=True)
    lines += ["", "| 10 MB of | CPU seconds for 1 MB | for 10 MB | ratio |", "|---|---:|---:|---:|"]
    for piece in PIECES:
        small, large = (piece * (size // len(piece)) + " 48.85, 2.35" for size in (1_000_000, 10_000_000))
        short, long = min(cpu_seconds(small) for _ in range(2)), cpu_seconds(large)
        shown = piece if len(piece) < 20 else f"{piece[:9]}…{piece[-4:]}"
        lines.append(f"| `` {shown} `` | {short:.2f} | {long:.1f} | {long / short:.1f} |")
        print(lines[-1], flush=True)
        if long > LIMIT * short:
            raise AssertionError(f"10 MB of {piece!r} took {long / short:.0f} times as long as 1 MB")
    write_atomically(OUT, "\n".join([
        "# Random texts for the reader of answers",
        f"`python -m tests.helpers.fuzz_answers`, commit {tested}, seed 0. No property failed; no text of 10 MB took",
        f"more than {LIMIT} times as long as 1 MB (10 is linear, 100 quadratic).",
        "", *lines, ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
