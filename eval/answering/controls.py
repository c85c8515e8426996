"""What an evaluation must beat: a constant answer, a model that sees nothing, a model shown other people's photos."""
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from haversine import haversine_vector
from PIL import Image

from eval.predictions import Prediction
from gre.config import UserError
from gre.geo.accuracy import GEOSCORE_SCALE_KM
from gre.geo.point import LatLon
from gre.text.answers import format_answer

CHUNK = 512  # candidates held against all training rows at once


def best_constant(truths: Sequence[LatLon]) -> LatLon:
    """The coordinate of `truths` (to two decimals) that scores the highest mean GeoScore when given for every row.

    Chosen on training rows, so that the control has seen what the model has seen. Ties go to the first one found.
    """
    if not truths:
        raise UserError("the constant control needs training rows, and there are none")
    rounded = np.round(np.array(truths, dtype=float), 2)  # (n, 2) degrees
    candidates = np.unique(rounded, axis=0)
    totals = np.concatenate([
        np.exp(-haversine_vector(rounded, candidates[at:at + CHUNK], comb=True) / GEOSCORE_SCALE_KM).sum(axis=1)
        for at in range(0, len(candidates), CHUNK)])
    return LatLon(*map(float, candidates[int(totals.argmax())]))


def constant_predictions(rows: Sequence[Prediction], point: LatLon) -> list[Prediction]:
    """The same well-formed answer for every row."""
    text = f"<think>The same for all.</think><answer>{format_answer(point)}</answer>"
    return [replace(row, text=text, lat=point.lat_deg, lon=point.lon_deg, finished=True) for row in rows]


def blank(image: Image.Image) -> Image.Image:
    """A grey photo of the same size: the prompt keeps its length and loses what is to be seen."""
    return Image.new("RGB", image.size, (128, 128, 128))


def deal(places: Sequence[str], seed: int) -> list[int]:
    """For each row the index of the row whose photo it gets: every photo once, never one of the row's own place.

    A random permutation, repaired: a row that drew its own place trades with one where neither place is involved. Such
    a row exists as long as no place has more than half of the rows; otherwise UserError.
    """
    rng = random.Random(f"deal {seed}")
    dealt = list(range(len(places)))
    rng.shuffle(dealt)
    for row, place in enumerate(places):
        if places[dealt[row]] == place:
            others = [other for other in range(len(places)) if place not in (places[other], places[dealt[other]])]
            if not others:
                raise UserError(f"photos cannot be swapped: {place} has more than half of the {len(places)} rows")
            other = rng.choice(others)
            dealt[row], dealt[other] = dealt[other], dealt[row]
    return dealt
