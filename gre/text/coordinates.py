"""One place out of free text: the text is cut into a line of signs (gre.text.signs), then read by rules over signs.

Read: decimal pairs, labelled numbers in either order, hemispheres before or after, degrees-minutes-seconds, in any
brackets, JSON or prose. Skipped: list and house numbers, years, distances, percentages, confidences and other numbers
with a unit or a name of their own. A bare pair is latitude, longitude. Two numbers that may or may not be a pair, two
different places, a number out of range, a hemisphere that cannot be given to a number: no answer. docs/answers.md shows
each form.
"""
import math
import re
from collections.abc import Callable, Iterator

from gre.geo.point import LatLon, valid
from gre.text.signs import NUMBER_SIGNS, Ambiguous, Number, signs

Numbers = dict[str, Number]
N = f"[{NUMBER_SIGNS}]"
SEPARATOR = r"(?:(?:,&|[,;]\n?|[/|&])f?)?"
TO_NUMBER = r"[:f()|\n-]{0,6}"  # what may stand between a label and its number
CLOSE = r"(?=[.,;)\n]|$)"

KEYED_MINUTES = re.compile(rf"({N})(?:,\n?|\n)m:({N})(?:(?:,\n?|\n)u:({N}))?")
CONFIDENCE = re.compile(  # not coordinates: measures, what has a unit, the ends of ranges
    rf"x[:f(]{{0,4}}{N}(?!%)|{N}(?:[%mu]|x(?![:f(]{{0,4}}{N}(?!{SEPARATOR}{N})))"
    rf"|b[AOf:]{{0,4}}{N}&{N}(?:[nsewNSEW]?[,;&]{{0,2}}f?{N}&{N})?|{N}~{N}")
ENUMERATED = re.compile(rf"#({N})")
WRAPPED = re.compile(rf"(?<!{N})(?<!\))_?\(({N})\)([,;/|&]?)_?\(({N})\)(?!{SEPARATOR}\(?{N})")
LABEL_ORDER = re.compile(r"(A[,/&:()|]{0,3}O|O[,/&:()|]{0,3}A)")
WORD_AFTER_LABEL = re.compile(rf"({N})f?([AO])f?([nsew])(?![:(f]{{0,3}}{N})")  # 33.9° latitude south
WORD_BEFORE_LABEL = re.compile(rf"(?<!{N})(?:([nsew])|([NSEW])\.?)([AO])")
WORD_BY_LABEL = re.compile("|".join(
    rf"(?:{label}{TO_NUMBER}{N}(?:\(|,(?=.{CLOSE}))?|{label}[:(]{{0,2}}(?=.[:)]{{0,3}}{N})"
    rf"|{N}\(?(?=.\)?{label}))[{words}]" for label, words in (("A", "ns"), ("O", "ew"))))
WORDS_BEFORE = re.compile(rf"([ns])[:)]{{0,2}}({N})([,&]{{0,2}})([ew])[:)]{{0,2}}({N})")
WORDS_AFTER = re.compile(rf"({N})\(?([ns])\)?([,&]{{0,2}})({N})\(?([ew])")
WORD_AFTER_DEGREES = re.compile(rf"({N})\(?([nsew])\)?(?!f_)")  # not "5 degrees south of Hamburg"
LETTER = re.compile(rf"(?P<left>[NSEW])[:)]{{0,2}}(?P<after>{N})"
                    rf"|(?P<before>{N})(?:\((?=.[)H])|,(?=.{CLOSE}))?(?P<right>[NSEW])\)?(?:\((?i:(?P=right))\))?")
LEFT_OVER = re.compile(rf"[NSEW]{N}|{N}(?:[NSEW]|\(?[nsw]{CLOSE}|\([NSEW]\))")
KEYED = re.compile(rf"({N})\)?,?\n?[hH]:([NSEWnsew])")
LOOSE_MINUS = re.compile(rf"([,:(])-({N})")
LABEL = re.compile(rf"(?P<before>{N})\(?(?P<right>[AO])\)?+(?!:)|(?P<left>[AO]){TO_NUMBER}(?P<after>{N})")
ORDERED = re.compile(rf"([PQ])[:,f()|\n-]{{0,12}}({N})({SEPARATOR})({N})")
ORDER_AFTER = re.compile(rf"({N})({SEPARATOR})({N})\(([PQ])\)")
BULLET = re.compile(rf"(?:^|[\nf])-({N})")
RANGE = re.compile(rf"({N})-({N})")
RUN = re.compile(rf"(?P<house>_?)(?P<run>{N}(?:{SEPARATOR}{N})+)")
TWO_LINES = re.compile(rf"(?:^|\n)({N})\n({N})(?=\n|$)")


def read_place(text: str) -> LatLon | None:
    """The one place that the text names by numbers, or None. Linear in the length of the text."""
    try:
        place = _place(text)
    except Ambiguous:
        return None
    return None if place == (0, 0) else place


def ambiguous(text: str) -> bool:
    """Whether `read_place` gives None because the numbers say more than one place, or contradict each other."""
    try:
        _place(text)
    except Ambiguous:
        return True
    return False


def _place(text: str) -> LatLon | None:
    """The place that the numbers of a text say; None where they say none. Raises Ambiguous."""
    if not re.search(r"\d", text):
        return None
    line, numbers = signs(text)
    return _one_place(_label(_drop(line, numbers), numbers), numbers)


def _drop(line: str, numbers: Numbers) -> str:
    """Put `_` for numbers that cannot be coordinates: measures, ranges, years, what is option 2 or number 12.

    Minutes and seconds under keys of their own join their degrees.
    """
    def joined(match: re.Match) -> str:
        degrees, *parts = (numbers[name] for name in match.groups() if name)
        if not all(number.whole for number in (degrees, *parts[:-1])):
            raise Ambiguous
        if not all(0 <= part.value < 60 for part in parts):
            raise Ambiguous
        value = abs(degrees.value) + sum(part.value / 60 ** power for power, part in enumerate(parts, start=1))
        degrees.value, degrees.degree = math.copysign(value, degrees.value), True
        degrees.step = parts[-1].step / 60 ** len(parts)
        return match[1]

    line = CONFIDENCE.sub("_", KEYED_MINUTES.sub(joined, line))
    if re.search(rf"[mu]:{N}", line):  # {"min": 48.8, "max": 48.9}, and minutes without degrees
        raise Ambiguous
    line = ENUMERATED.sub(lambda match: "_" if numbers[match[1]].whole else match[1], line)
    line = WRAPPED.sub(lambda match: match[0] if all(numbers[match[i]].whole for i in (1, 3))
                       else match[1] + (match[2] or ",") + match[3], line)
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

    def in_order(first: str, between: str, second: str, order: str) -> str:
        axes = "AO" if order == "P" else "OA"
        return label(first, axes[0]) + between + label(second, axes[1])

    line = WORD_AFTER_LABEL.sub(r"\1\3\2", line)
    line = WORD_BEFORE_LABEL.sub(lambda m: m[3] + (m[1] or m[2]).upper(), line)
    line = WORD_BY_LABEL.sub(lambda m: m[0][:-1] + m[0][-1].upper(), line)
    line = WORDS_BEFORE.sub(lambda m: hemisphere(m[2], m[1]) + m[3] + hemisphere(m[5], m[4]), line)
    line = WORDS_AFTER.sub(lambda m: hemisphere(m[1], m[2]) + m[3] + hemisphere(m[4], m[5]), line)
    line = WORD_AFTER_DEGREES.sub(lambda m: hemisphere(m[1], m[2]) if numbers[m[1]].degree else m[0], line)
    line = LETTER.sub(beside(hemisphere), line)
    keyed = KEYED.findall(line)
    if LEFT_OVER.search(line) or len(keyed) not in (0, 2):
        raise Ambiguous
    for name, sign in keyed:
        hemisphere(name, sign)
    line = LOOSE_MINUS.sub(minus, line)
    if len(re.findall(rf"[AO]-{N}", line)) == 1:  # the dash of "latitude - 33.9" may be a sign
        raise Ambiguous
    if any(numbers[name].hemisphere is None for name in BULLET.findall(line)):  # and so may a bullet
        raise Ambiguous
    line = LABEL_ORDER.sub(lambda match: "P" if match[0][0] == "A" else "Q", line)
    line = LABEL.sub(beside(label), line)
    line = ORDERED.sub(lambda m: in_order(m[2], m[3], m[4], m[1]), line)
    line = ORDER_AFTER.sub(lambda m: in_order(*m.groups()), line)
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
    elsewhere = [("n", lat_deg < 0), ("s", lat_deg > 0), ("e", lon_deg < 0), ("w", lon_deg > 0)]
    if not valid(lat_deg, lon_deg) or any(other and f"{word}H" in line for word, other in elsewhere):
        raise Ambiguous  # off the globe, or in another hemisphere than the text says
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
    if bool(first.label) != bool(second.label) and re.search("[AO]", line):  # "Longitude, then latitude: 2.35, 48.85"
        raise Ambiguous
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
