"""How well each country is located, as a map and a table: a disc a country, its area the number of photos, its colour
the median error. A photo's country is that of the nearest city of the gazetteer.
"""
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean, median

from eval.drawing import tables, worldmap
from eval.predictions import Prediction
from gre.geo.accuracy import geoscore
from gre.geo.places import gazetteer
from gre.geo.point import NO_ANSWER_KM

CUT = 15000
LARGEST_DISC_DEG = 12  # radius
LISTED = 12  # countries with the most photos


@dataclass(frozen=True)
class Heat:
    """One country. lat_deg, lon_deg: the photo in the middle, by latitude."""

    country: str
    n: int
    lat_deg: float
    lon_deg: float
    median_km: float
    geoscore: float


def by_country(rows: Sequence[Prediction], min_population: int = CUT) -> list[Heat]:
    """Countries with the most photos first; an unreadable answer counts as 20,015 km and GeoScore 0."""
    groups: dict[str, list[Prediction]] = defaultdict(list)
    for row, near in zip(rows, gazetteer(min_population).nearest([row.truth for row in rows])):
        groups[near.country.name].append(row)
    made = []
    for country, own in groups.items():
        middle = sorted(own, key=lambda row: row.gt_lat)[len(own) // 2]
        errors = [NO_ANSWER_KM if row.error_km is None else row.error_km for row in own]
        made.append(Heat(country, len(own), middle.gt_lat, middle.gt_lon, median(errors),
                         fmean(geoscore(row.error_km) for row in own)))
    return sorted(made, key=lambda heat: (-heat.n, heat.country))


def explained() -> str:
    """What the maps and tables show, with the gazetteer's version and cut."""
    return ("<p>A disc a country: its area is the number of photos, its colour the median error. A photo's country "
            f"is that of the nearest city of {escape(str(gazetteer(CUT)))}.</p>" + worldmap.legend())


def band(heat: Heat) -> str:
    """The style of a country's disc."""
    return "none" if heat.median_km == NO_ANSWER_KM else worldmap.band(heat.median_km)


def figure(name: str, heats: Sequence[Heat]) -> str:
    """The map, which needs gre.geo.land.symbol() on its page; the largest discs lie below the small ones."""
    scale = LARGEST_DISC_DEG / max(heat.n for heat in heats) ** 0.5
    discs = "".join(
        f'<circle class="disc {band(heat)}" cx="{heat.lon_deg:.1f}" cy="{-heat.lat_deg:.1f}" '
        f'r="{max(scale * heat.n ** 0.5, 0.8):.1f}"><title>{escape(heat.country)}: {heat.n} photos, median '
        f'{heat.median_km:,.0f} km</title></circle>' for heat in heats)
    return (f'<figure><figcaption>{escape(name)}<span class="key">{len(heats)} countries</span></figcaption>'
            f'<svg class="map" viewBox="-180 -90 360 180" role="img" aria-label="median error by country, '
            f'{escape(name)}"><use href="#world" x="-180" y="-90" width="360" height="180"/>{discs}</svg></figure>')


def table(heats: Sequence[Heat]) -> str:
    """The countries with the most photos, and how many there are where these are not all."""
    more = (f"<p class='soft'>{LISTED} of {len(heats)} countries, those with the most photos.</p>"
            if len(heats) > LISTED else "")
    return more + tables.table(("country", "photos", "median km", "GeoScore"), [
        (escape(heat.country), f"{heat.n:,}", f"{heat.median_km:,.0f}", f"{heat.geoscore:,.0f}")
        for heat in heats[:LISTED]])
