"""Maps of errors as inline SVG: every answer joined to the truth by the shortest way over the globe.

Projection and land are those of gre/geo/land.py, whose symbol a page needs once.
"""
from collections.abc import Sequence
from html import escape

import numpy as np

from eval.predictions import Prediction
from gre.geo.point import LatLon

BANDS_KM = ((200, "near"), (2500, "mid"), (float("inf"), "far"))  # upper ends, style classes
MAX_ARCS = 600  # more would be a blot
NEAREST_DEG = 40.0  # width of the nearest map: the coasts are no better
STEP_DEG = 6  # one corner of an arc every so many degrees


def legend() -> str:
    """What the colours say."""
    names = ("within 200 km", "within 2500 km", "farther", "no answer")
    styles = [style for _, style in BANDS_KM] + ["none"]
    return "<p class='legend key'>" + "".join(
        f"<span><i class='{style}'></i>{name}</span>" for style, name in zip(styles, names)) + "</p>"


def errors(name: str, rows: Sequence[Prediction]) -> str:
    """A map of one checkpoint's answers, the worst on top; of more than MAX_ARCS rows, that many evenly picked ones."""
    shown = [rows[i * len(rows) // MAX_ARCS] for i in range(MAX_ARCS)] if len(rows) > MAX_ARCS else list(rows)
    shown.sort(key=lambda row: row.error_km or 0)
    parts = {style: [] for _, style in BANDS_KM}
    dots = []
    for row in shown:
        style = band(row.error_km)
        dots.append(_dot(row.truth, style))
        if row.answer is not None:
            parts[style].append(arc(row.truth, row.answer))
    arcs = "".join(f'<path class="arc {style}" d="{"".join(paths)}"/>' for style, paths in parts.items())
    total = f"{len(rows)} photo" + "s" * (len(rows) != 1)
    count = f"{len(shown)} of {total}" if len(shown) < len(rows) else total
    return (f'<figure><figcaption>{escape(name)}<span class="key">{count}</span></figcaption>'
            f'<svg class="map" viewBox="-180 -90 360 180" role="img" aria-label="errors of {escape(name)}">'
            f'<use href="#world" x="-180" y="-90" width="360" height="180"/>{arcs}{"".join(dots)}</svg></figure>')


def pair(truth: LatLon | None, answer: LatLon | None, error_km: float | None) -> str:
    """A map of one row, as near as its points allow: the truth a ring, the answer a dot. error_km: between them."""
    points = [point for point in (truth, answer) if point is not None]
    lon, lat = (np.array([point[axis] for point in points] or [0.0]) for axis in (1, 0))
    width = float(np.clip(2.5 * max(np.ptp(lon), 2 * np.ptp(lat)), NEAREST_DEG, 360)) if points else 360.0
    left = float(np.clip((lon.max() + lon.min()) / 2 - width / 2, -180, 180 - width))
    top = float(np.clip(-(lat.max() + lat.min()) / 2 - width / 4, -90, 90 - width / 2))
    style, radius = band(error_km), width / 90
    drawn = f'<path class="arc {style}" d="{arc(truth, answer)}"/>' if truth and answer else ""
    drawn += "".join(f'<circle class="{name} {style}" cx="{point.lon_deg:.3f}" cy="{-point.lat_deg:.3f}" '
                     f'r="{size:.2f}"/>' for name, point, size in (("truth", truth, radius * 1.6),
                                                                   ("answer", answer, radius)) if point is not None)
    return (f'<svg class="map" viewBox="{left:.2f} {top:.2f} {width:.2f} {width / 2:.2f}" role="img" '
            f'aria-label="truth and answer on a map"><use href="#world" x="-180" y="-90" width="360" height="180"/>'
            f'{drawn}</svg>')


def band(error_km: float | None) -> str:
    """The style class of an error: near, mid, far, or none for no answer."""
    return "none" if error_km is None else next(style for limit, style in BANDS_KM if error_km <= limit)


def arc(start: LatLon, end: LatLon) -> str:
    """SVG path of the great circle from start to end, cut where it crosses the date line.

    Antipodes have no single shortest way; theirs is drawn over a pole.
    """
    a, b = _unit(start), _unit(end)
    angle = float(np.arccos(np.clip(a @ b, -1, 1)))
    side = b - a * (a @ b)
    if np.linalg.norm(side) < 1e-9:  # the same point, or its antipode
        side = np.array([0.0, 0.0, 1.0]) - a * a[2]
    side /= max(float(np.linalg.norm(side)), 1e-12)
    turns = np.linspace(0, angle, 2 + int(np.degrees(angle) / STEP_DEG))[:, None]
    x, y, z = (np.cos(turns) * a + np.sin(turns) * side).T
    lon, lat = np.degrees(np.arctan2(y, x)), np.degrees(np.arcsin(np.clip(z, -1, 1)))
    path = f"M{lon[0]:.1f},{-lat[0]:.1f}"
    for i in range(1, len(lon)):
        if abs(lon[i] - lon[i - 1]) > 180:
            edge = 180 if lon[i - 1] > 0 else -180
            path += f"L{edge},{-lat[i]:.1f}M{-edge},{-lat[i]:.1f}"
        path += f"L{lon[i]:.1f},{-lat[i]:.1f}"
    return path


def _unit(point: LatLon) -> np.ndarray:
    lat, lon = np.radians([point.lat_deg, point.lon_deg])
    return np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def _dot(point: LatLon, style: str) -> str:
    return f'<circle class="{style}" cx="{point.lon_deg:.1f}" cy="{-point.lat_deg:.1f}" r="1.3"/>'
