"""Photos with what several models said about each, side by side. What models wrote is escaped."""
import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from types import MappingProxyType

from eval.drawing import cues, worldmap
from eval.drawing.cues import Cues
from eval.predictions import Prediction
from gre.data.images import load_image
from gre.geo.point import NO_ANSWER_KM

THUMBNAIL_PIXELS = 320 * 320


def side_by_side(answers: Mapping[str, Sequence[Prediction]], pictures: Path, indices: Sequence[int],
                 known: Mapping[str, Cues] = MappingProxyType({})) -> str:
    """A card for each of the rows `indices`: the photo, and a column for each model, with the cues of its chain marked.
    answers: model → the same rows. pictures: the folder the rows' images are relative to. known: model → the cues of
    rows whose indicators are known; of the others a list of words is marked (eval/drawing/cues.py)."""
    cards = []
    for index in indices:
        row = next(iter(answers.values()))[index]
        said = "".join(
            f"<div><b>{escape(name)} · {outcome(rows[index])}</b><blockquote class='"
            f"{worldmap.band(rows[index].error_km)}'>"
            f"{cues.marked(rows[index].text, known.get(name, {}).get(row.id))}</blockquote></div>"
            for name, rows in answers.items())
        cards.append(f"<article class='sample'><div><img alt='test photo' src='{data_uri(pictures / row.image)}'>"
                     f"<p class='soft'>{escape(row.place or '')}<br>{row.gt_lat:.2f}, {row.gt_lon:.2f}</p></div>"
                     f"<div class='said'>{said}</div></article>")
    return "".join(cards)


def best_and_worst(rows: Sequence[Prediction], count: int) -> tuple[list[int], list[int]]:
    """Indices of the `count` rows with the least error, and of the `count` with the largest, an unreadable answer
    being the worst; ties keep file order. No row is in both."""
    order = sorted(range(len(rows)), key=lambda at: (
        NO_ANSWER_KM + 1 if rows[at].error_km is None else rows[at].error_km, at))
    best = order[:count]
    return best, order[len(best):][::-1][:count]


def data_uri(path: Path) -> str:
    """A photo as a data URI: decoded and written anew, so that nothing but pixels gets in."""
    buffer = io.BytesIO()
    load_image(path, max_pixels=THUMBNAIL_PIXELS).save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def outcome(row: Prediction) -> str:
    """How far off an answer is, in words."""
    return "no answer" if row.error_km is None else f"{row.error_km:,.0f} km off"
