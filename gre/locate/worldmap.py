"""Answers on a map of the world: one file, no tiles, no script, nothing fetched. No torch."""
from collections.abc import Sequence
from html import escape
from importlib import resources

from gre.geo import land
from gre.locate.formats import near, scatter
from gre.locate.located import Located


def page(answers: Sequence[Located]) -> str:
    """The whole document: a dot an answer, a small one a sample, and under the map what was said of each photo. Names
    of files need not be text: what is none is written out, as in `\\udcff`."""
    style = resources.files("gre.locate").joinpath("map.css").read_text(encoding="utf-8")
    samples = "".join(_dot(one.latitude, one.longitude, "sample", .5) for answer in answers for one in answer.samples
                      if one.latitude is not None)
    dots = "".join(_dot(answer.latitude, answer.longitude, "answer", 1.3, f"{answer.path or 'photo'}: {near(answer)}")
                   for answer in answers if answer.latitude is not None)
    text = ("<!doctype html><html lang='en'><head><meta charset='utf-8'>"
            "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">"
            "<meta name='viewport' content='width=device-width, initial-scale=1'><title>Where they were taken</title>"
            f"<style>{style}</style></head><body><h1>Where they were taken</h1>{land.symbol()}"
            "<svg class='map' viewBox='-180 -90 360 180' role='img' aria-label='the answers on a map of the world'>"
            f"<use href='#world' x='-180' y='-90' width='360' height='180'/>{samples}{dots}</svg>"
            + "".join(map(_said, answers)) + "</body></html>\n")
    return text.encode("utf-8", "backslashreplace").decode()


def _dot(lat_deg: float, lon_deg: float, style: str, radius: float, title: str = "") -> str:
    return (f"<circle class='{style}' cx='{lon_deg:.2f}' cy='{-lat_deg:.2f}' r='{radius}'>"
            + (f"<title>{escape(title)}</title>" if title else "") + "</circle>")


def _said(answer: Located) -> str:
    where = "no answer" if answer.latitude is None else f"{answer.latitude:.4f}, {answer.longitude:.4f}"
    around = "; ".join(filter(None, [near(answer), scatter(answer)]))
    return (f"<section><h2>{escape(answer.path or 'photo')}</h2><p><b>{where}</b> {escape(around)}</p>"
            f"<blockquote>{escape(answer.reasoning or answer.raw)}</blockquote></section>")
