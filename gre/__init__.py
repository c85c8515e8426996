"""Geo-localization with reasoning: `from gre import Locator`."""
from importlib import import_module

__version__ = "0.1.0"
__all__ = ["Locator", "__version__"]


def __getattr__(name: str):
    """`Locator` on first use: it needs torch, which importing this package does not load."""
    if name == "Locator":
        return import_module("gre.locate.locator").Locator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
