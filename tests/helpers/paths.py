"""Where the checkout lies, and the base it ships."""
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY_BASE = ROOT / "gre" / "tiny" / "base"
TWO_RANKS = {f"tests/training/test_{name}.py"  # that read what one pair of processes did
             for name in ("bad_rows", "balance", "ranks_agree", "two_processes", "zero")}
