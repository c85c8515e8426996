"""Where the checkout lies, and the base it ships."""
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY_BASE = ROOT / "gre" / "tiny" / "base"
