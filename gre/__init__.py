"""Geo-localization with reasoning."""

__version__ = "0.1.0"
