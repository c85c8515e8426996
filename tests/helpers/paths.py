"""Where the checkout lies: tests lie at several depths, and this is written once."""
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
