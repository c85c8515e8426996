"""The world's land, offline, as rings and as a drawing to put points on.

Land is Natural Earth's at 1:110 million, version 4.1.0, public domain, as world-atlas 2.0.2 packs it
(gre/geo/land-110m.md). The projection is equirectangular: x is the longitude, y minus the latitude, one unit a degree.
"""
import json
from importlib import resources

import numpy as np


def symbol() -> str:
    """The background, to be put into a page once: <svg> with a symbol `world` (graticule and land)."""
    path = "".join(_path(ring) for ring in outlines())
    meridians = "".join(f"M{lon},-90V90" for lon in range(-150, 180, 30))
    parallels = "".join(f"M-180,{-lat}H180" for lat in range(-60, 90, 30))
    return ('<svg class="hidden" aria-hidden="true"><symbol id="world" viewBox="-180 -90 360 180">'
            f'<rect class="sea" x="-180" y="-90" width="360" height="180"/>'
            f'<path class="land" transform="scale(.1)" fill-rule="evenodd" d="{path}"/>'
            f'<path class="graticule" d="{meridians}{parallels}"/></symbol></svg>')


def outlines() -> list[np.ndarray]:
    """Closed rings of land and, even-odd, of holes in it: each (points, 2), degrees east and north.

    Longitudes continue past 180 where a ring crosses the date line; it is listed once for each side of the frame, which
    has to clip it. A ring around a pole is closed along the frame.
    """
    topology = json.loads(resources.files("gre.geo").joinpath("land-110m.json").read_text(encoding="utf-8"))
    scale, translate = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = [np.cumsum(arc, axis=0) * scale + translate for arc in topology["arcs"]]  # stored as steps on a grid
    rings = []
    for polygon in topology["objects"]["land"]["geometries"][0]["arcs"]:
        for indices in polygon:  # ~i is arc i backwards; every arc repeats the last point of the one before it
            ring = np.concatenate([(arcs[i] if i >= 0 else arcs[~i][::-1])[:-1] for i in indices])
            ring = np.concatenate([ring, ring[:1]])
            lon = np.unwrap(ring[:, 0], period=360)
            if abs(lon[-1] - lon[0]) > 180:  # all the way around the pole: Antarctica
                pole = np.copysign(90, ring[0, 1])
                lon, ring = np.append(lon, [lon[-1], lon[0]]), np.append(ring, [[0, pole], [0, pole]], axis=0)
            for turn in (-360, 0, 360):
                if (lon + turn).max() > -180 and (lon + turn).min() < 180:
                    rings.append(np.stack([lon + turn, ring[:, 1]], axis=1))
    return rings


def _path(ring: np.ndarray) -> str:
    """A closed SVG subpath in tenths of a degree. Relative whole numbers halve the page's share of coast."""
    start, *steps = np.diff(np.rint(ring * (10, -10)).astype(int), axis=0, prepend=0).tolist()
    return f"M{start[0]},{start[1]}l" + " ".join(f"{x},{y}" for x, y in steps if x or y) + "Z"
