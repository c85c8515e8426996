"""One place out of free text: the text is cut into a line of signs (gre.text.signs), then read by rules over signs.

Read: decimal pairs, labelled numbers in either order, hemispheres before or after, degrees-minutes-seconds, in any
brackets, JSON or prose. Skipped: list and house numbers, years, distances, percentages, confidences and other numbers
with a unit or a name of their own. A bare pair is latitude, longitude. Two numbers that may or may not be a pair, two
different places, a number out of range: no answer.
"""
import re
from collections.abc import Callable, Iterator

from gre.geo.point import LatLon, valid
from gre.text.signs import NUMBER_SIGNS, Ambiguous, Number, signs

Numbers = dict[str, Number]
N = f"[{NUMBER_SIGNS}]"
SEPARATOR = r"(?:(?:,&|[,;]\n?|[/|&])f?)?"

CONFIDENCE = re.compile(rf"x[:f(]{{0,4}}{N}(?!%)|{N}[%mx]|b[AOf:]{{0,4}}{N}&{N}|{N}~{N}")  # not coordinates
ENUMERATED = re.compile(rf"#({N})")
LABEL_ORDER = re.compile(r"(A[,/&:()]{0,3}O|O[,/&:()]{0,3}A)")
WORDS_BEFORE = re.compile(rf"([ns])({N})([,&]{{0,2}})([ew])({N})")
WORDS_AFTER = re.compile(rf"({N})([ns])([,&]{{0,2}})({N})([ew])")
WORD_AFTER_DEGREES = re.compile(rf"({N})([nsew])")
LETTER = re.compile(rf"(?P<left>[NSEW])[:)]{{0,2}}(?P<after>{N})|(?P<before>{N})\(?(?P<right>[NSEW])\)?")
LOOSE_MINUS = re.compile(rf"([,:(])-({N})")
LABEL = re.compile(rf"(?P<before>{N})\(?(?P<right>[AO])\)?+(?!:)|(?P<left>[AO])[:f()-]{{0,6}}(?P<after>{N})")
ORDERED = re.compile(rf"([PQ])[:,f()-]{{0,6}}({N})({SEPARATOR})({N})")
BULLET = re.compile(rf"(?:^|[\nf])-({N})")
RANGE = re.compile(rf"({N})-({N})")
RUN = re.compile(rf"(?P<house>_?)(?P<run>{N}(?:{SEPARATOR}{N})+)")
TWO_LINES = re.compile(rf"(?:^|\n)({N})\n({N})(?=\n|$)")


def read_place(text: str) -> LatLon | None:
    """The one place that the text names by numbers, or None. Linear in the length of the text."""
    if not re.search(r"\d", text):
        return None
    try:
        line, numbers = signs(text)
        place = _one_place(_label(_drop(line, numbers), numbers), numbers)
    except Ambiguous:
        return None
    return None if place == (0, 0) else place


def _drop(line: str, numbers: Numbers) -> str:
    """Put `_` for numbers that cannot be coordinates: measures, ranges, years, what is option 2 or number 12."""
    if re.search(rf"m:{N}", line):  # {"degrees": 48, "minutes": 51}: not read, and 48 alone would be wrong
        raise Ambiguous
    line = CONFIDENCE.sub("_", line)
    line = ENUMERATED.sub(lambda match: "_" if numbers[match[1]].whole else match[1], line)
    return re.sub(N, lambda match: "_" if numbers[match[0]].whole and abs(numbers[match[0]].value) >= 1000
                  else match[0], line)


def _label(line: str, numbers: Numbers) -> str:
    """Give each number its hemisphere, label and loose minus sign, and take these signs out of the line."""
    def hemisphere(name: str, sign: str) -> str:
        numbers[name].hemisphere = sign.upper()
        return name

    def label(name: str, sign: str) -> str:
        numbers[name].label = sign
        return name

    def beside(give: Callable[[str, str], str]) -> Callable[[re.Match], str]:
        return lambda match: give(match["before"] or match["after"], match["left"] or match["right"])

    def minus(match: re.Match) -> str:
        number = numbers[match[2]]
        number.value, number.signed = -number.value, True
        return match[1] + match[2]

    def in_order(match: re.Match) -> str:
        first, second = "AO" if match[1] == "P" else "OA"
        return label(match[2], first) + match[3] + label(match[4], second)

    line = WORDS_BEFORE.sub(lambda m: hemisphere(m[2], m[1]) + m[3] + hemisphere(m[5], m[4]), line)
    line = WORDS_AFTER.sub(lambda m: hemisphere(m[1], m[2]) + m[3] + hemisphere(m[4], m[5]), line)
    line = WORD_AFTER_DEGREES.sub(lambda m: hemisphere(m[1], m[2]) if numbers[m[1]].degree else m[0], line)
    line = LETTER.sub(beside(hemisphere), line)
    line = LOOSE_MINUS.sub(minus, line)
    if len(re.findall(rf"[AO]-{N}", line)) == 1:  # the dash of "latitude - 33.9" may be a sign
        raise Ambiguous
    if any(numbers[name].hemisphere is None for name in BULLET.findall(line)):  # and so may a bullet
        raise Ambiguous
    line = LABEL_ORDER.sub(lambda match: "P" if match[0][0] == "A" else "Q", line)
    line = LABEL.sub(beside(label), line)
    line = ORDERED.sub(in_order, line)
    return RANGE.sub(lambda m: m[0] if numbers[m[1]].axis or numbers[m[2]].axis else "_", line)


def _one_place(line: str, numbers: Numbers) -> LatLon | None:
    """The place all pairs and single labelled numbers agree on. Raises Ambiguous when they do not."""
    pairs = [_in_order(first, second, line) for first, second in _pairs(line, numbers)]
    rest = RUN.sub("_", TWO_LINES.sub("_", line))
    halves = [numbers[name] for name in re.findall(N, rest) if numbers[name].axis]
    sure = [half for half in halves if half.label or not half.whole]  # "20 W 34th Street" is no longitude
    halves = sure if sure or pairs else halves
    lats = [lat for lat, _ in pairs] + [half for half in halves if half.axis == "lat"]
    lons = [lon for _, lon in pairs] + [half for half in halves if half.axis == "lon"]
    if not lats or not lons:
        return None
    lat_deg, lon_deg = _agreed(lats), _agreed(lons)
    if not valid(lat_deg, lon_deg):
        raise Ambiguous
    return LatLon.checked(lat_deg, lon_deg)


def _pairs(line: str, numbers: Numbers) -> Iterator[tuple[Number, Number]]:
    """The numbers that stand two by two. Raises Ambiguous for three in a row, unless the first is a house number."""
    for match in RUN.finditer(line):
        run = [numbers[name] for name in re.findall(N, match["run"])]
        if len(run) == 3 and match["house"] and [number.whole for number in run] == [True, False, False]:
            run = run[1:]
        if len(run) == 2 and all(number.whole and not number.axis for number in run) and not set(",;") & set(match[0]):
            continue  # 24/7, 8 of 10
        if len(run) % 2:
            raise Ambiguous
        yield from zip(run[::2], run[1::2])
    for first, second in TWO_LINES.findall(RUN.sub("_", line)):
        yield numbers[first], numbers[second]


def _in_order(first: Number, second: Number, line: str) -> tuple[Number, Number]:
    """(latitude, longitude). One that is named names the other, but only in this order: nothing is swapped on a guess.
    """
    axes = (first.axis, second.axis)
    if axes == ("lon", "lat"):
        return second, first
    if axes[0] in ("lat", None) and axes[1] in ("lon", None) and (any(axes) or "Q" not in line):
        return first, second
    raise Ambiguous


def _agreed(numbers: list[Number]) -> float:
    """The finest of several readings of one coordinate, in degrees; the others must be that value, cut or rounded."""
    finest = min(numbers, key=lambda number: number.step)
    for number in numbers:
        allowed = 0.999 * number.step if number.step > finest.step else 0.0
        difference = abs(number.degrees - finest.degrees)
        if difference and difference >= allowed:
            raise Ambiguous
    return finest.degrees
