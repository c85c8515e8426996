"""One answer of several samples of a photo (self-consistency)."""
from collections.abc import Callable, Sequence

from gre.answering.engines import Said
from gre.geo.median import geometric_median
from gre.geo.point import LatLon, distance_km
from gre.text.answers import parse_answer


def agreed(samples: Sequence[Said], read: Callable[[str], LatLon | None] = parse_answer
           ) -> tuple[LatLon | None, Said, list[LatLon | None]]:
    """(the answer, the sample whose text stands for it, what each sample answers). read: where a text points.

    The answer of several samples is the geometric median of those that can be read; the text is that of the sample
    nearest to it. Where none can be read there is no answer, and the first sample's text counts.
    """
    points = [read(sample.text) for sample in samples]
    readable = [(point, sample) for point, sample in zip(points, samples) if point is not None]
    if not readable:
        return None, samples[0], points
    if len(samples) == 1:
        return *readable[0], points
    middle = geometric_median([point for point, _ in readable])
    return middle, min(readable, key=lambda pair: distance_km(pair[0], middle))[1], points
