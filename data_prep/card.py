"""A data card: what a step read, what it left out and why, and what is in the file it wrote. card.json, .txt and .html.

A card is a title and parts: notes, tables, maps and photos. It holds no time and no path but those it is given, so that
the same data have the same card.
"""
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.shards import write_lines
from eval.drawing import tables
from gre.geo import land
from gre.provenance import write_atomically

BANDS, COLUMNS = 45, 90  # of the equal-area cells: 126,000 km² each
_SHADES = " .:-=+*#%@"
_LARGEST_DISC_DEG = 5.0
LISTED = 15  # rows of a long table


@dataclass
class Part:
    """A part of a card. notes: paragraphs; head, rows: a table of text; maps: caption → photos by cell; photos: (data
    URI or empty, caption) each."""

    title: str
    notes: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    maps: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    photos: Sequence[tuple[str, str]] = ()

    def __bool__(self) -> bool:
        return bool(self.notes or self.rows or self.maps or self.photos)


def cells(lat_deg: np.ndarray, lon_deg: np.ndarray) -> np.ndarray:
    """(n,) number of the equal-area cell each point lies in: equal steps of the latitude's sine and of longitude."""
    band = np.minimum((np.sin(np.radians(lat_deg)) + 1) / 2 * BANDS, BANDS - 1).astype(np.int64)
    column = np.minimum((np.asarray(lon_deg) + 180) / 360 * COLUMNS, COLUMNS - 1).astype(np.int64)
    return band * COLUMNS + column


def centre(cell: int) -> tuple[float, float]:
    """Latitude and longitude of a cell's middle, degrees."""
    band, column = divmod(cell, COLUMNS)
    return float(np.degrees(np.arcsin((band + 0.5) / BANDS * 2 - 1))), (column + 0.5) / COLUMNS * 360 - 180


def counted(title: str, counts: Mapping[str, int], what: str, notes: Sequence[str] = ()) -> Part:
    """A table of counts, the most frequent first."""
    rows = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    more = [f"{LISTED} of {len(rows):,}, the most frequent."] if len(rows) > LISTED else []
    return Part(title, [*notes, *more], (what, "rows"), [(name, f"{count:,}") for name, count in rows[:LISTED]])


def write(out: Path, title: str, parts: Sequence[Part], data: Mapping[str, Any], name: str = "card") -> str:
    """Write NAME.txt, .html and, last, .json (`data`); returns the text."""
    shown = text(title, parts)
    out.mkdir(parents=True, exist_ok=True)
    write_lines(out / f"{name}.txt", [shown])
    write_lines(out / f"{name}.html", [html(title, parts)])
    write_atomically(out / f"{name}.json", json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n")
    return shown


def text(title: str, parts: Sequence[Part]) -> str:
    """The card for a terminal."""
    lines = [title, "=" * len(title)]
    for part in filter(None, parts):
        lines += ["", part.title, "-" * len(part.title), *part.notes]
        if part.rows:
            widths = [max(len(str(row[at])) for row in [part.head, *part.rows]) for at in range(len(part.head))]
            for row in [part.head, *part.rows]:
                first, *rest = (str(cell) for cell in row)
                lines.append("  ".join([first.ljust(widths[0]), *(
                    cell.rjust(width) if cell[:1].isdigit() else cell.ljust(width)
                    for cell, width in zip(rest, widths[1:]))]).rstrip())
        for caption, counts in part.maps.items():
            lines += [caption, *_shaded(counts)]
        lines += [caption for _, caption in part.photos]
    return "\n".join(lines) + "\n"


def html(title: str, parts: Sequence[Part]) -> str:
    """The card as a page of its own: no script, no network, all text escaped."""
    style = resources.files("eval.drawing").joinpath("report.css").read_text(encoding="utf-8")
    body = [f"<h1>{escape(title)}</h1>", land.symbol()]
    for part in filter(None, parts):
        body += [f"<h2>{escape(part.title)}</h2>", *(f"<p>{escape(note)}</p>" for note in part.notes)]
        if part.rows:
            body.append(tables.table(part.head, [[escape(str(cell)) for cell in row] for row in part.rows]))
        if part.maps:
            body += ["<div class='grid2'>", *(_map(caption, counts) for caption, counts in part.maps.items()), "</div>"]
        body += [f"<article class='sample'><div>{_picture(uri)}</div><div>{escape(caption)}</div></article>"
                 for uri, caption in part.photos]
    return ("<!doctype html><html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<title>{escape(title)}</title><style>{style}</style></head><body>" + "\n".join(body) + "</body></html>\n")


def _picture(uri: str) -> str:
    return f"<img alt='photo' src='{uri}'>" if uri else "<p class='soft'>cannot be shown</p>"


def _map(caption: str, counts: Mapping[int, int]) -> str:
    """A disc a cell, its area the number of photos."""
    scale = _LARGEST_DISC_DEG / max(counts.values(), default=1) ** 0.5
    discs = "".join(
        f'<circle class="disc near" cx="{lon:.1f}" cy="{-lat:.1f}" r="{max(scale * count ** 0.5, 0.5):.1f}">'
        f'<title>{count:,}</title></circle>' for cell, count in sorted(counts.items()) for lat, lon in [centre(cell)])
    total = f"{sum(counts.values()):,} photos in {len(counts):,} cells"
    return (f'<figure><figcaption>{escape(caption)}<span class="key">{total}</span></figcaption><svg class="map" '
            f'viewBox="-180 -90 360 180" role="img" aria-label="{escape(caption)}"><use href="#world" x="-180" y="-90" '
            f'width="360" height="180"/>{discs}</svg></figure>')


def _shaded(counts: Mapping[int, int]) -> list[str]:
    """The map in letters, 5 degrees wide and 10 high each, darker where more photos are."""
    grid = np.zeros((18, 72))
    for cell, count in counts.items():
        lat, lon = centre(cell)
        grid[min(int((90 - lat) // 10), 17), min(int((lon + 180) // 5), 71)] += count
    shade = np.ceil(np.log1p(grid) / np.log1p(grid.max() or 1) * (len(_SHADES) - 1)).astype(int)
    return ["|" + "".join(_SHADES[at] for at in row) + "|" for row in shade]
