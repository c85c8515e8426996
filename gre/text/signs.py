"""Free text as a short line of signs, one for each word, number or mark that matters to a reader of coordinates.

"Latitude: 48.85° N, about 2.35" becomes `A:①N,f②`, with ① and ② standing for two Numbers. Rules about answers are then
short patterns over signs (gre.text.coordinates). One pass over the text; no pattern here can run back over it.

    A latitude   O longitude   P "latitude, longitude"   Q "longitude, latitude"   N S E W letters   n s e w words
    , ; / | & : ( ) . newline   as printed (any bracket is a round one, `=` is `:`, "and" is `&`)   - a dash on its own
    ~ to   b between   f filler (of, about)   # what takes a number (option, no.)   x a measure (confidence)   % a unit
    m minutes and u seconds apart from their number   H hemisphere   h its other keys in JSON (direction, lat_ref)
    _ any other word, and any number that cannot be a coordinate (dates, list numbers, ranges, 5th, A4)
"""
import re
from dataclasses import dataclass

from gre.text import languages, standards
from gre.text.languages import AFTER_ANGLE

MAX_NUMBERS = 6000  # an answer with more numbers than this does not name a place
NUMBER_SIGNS = f"\ue000-{chr(0xE000 + MAX_NUMBERS - 1)}"  # private characters


class Ambiguous(Exception):
    """The text does not say exactly one place."""


@dataclass
class Number:
    """A number as printed, before it is known to be a latitude or a longitude."""

    value: float
    step: float  # what one unit of its last digit is worth; 0.01 for 48.85, 1/60 for 48°51'
    signed: bool
    degree: bool  # marked as an angle
    end: int  # where it ends in the text
    label: str | None = None  # A or O
    hemisphere: str | None = None  # N, S, E or W

    @property
    def whole(self) -> bool:
        """A bare whole number: it may count something other than degrees."""
        return self.step >= 1 and not self.degree

    @property
    def axis(self) -> str | None:
        """lat, lon, or None when nothing says. Raises Ambiguous for a longitude of 5 degrees north."""
        axes = {{"A": "lat", "O": "lon"}.get(self.label), "lat" if self.hemisphere in ("N", "S") else
                "lon" if self.hemisphere else None} - {None}
        if len(axes) > 1:
            raise Ambiguous
        return axes.pop() if axes else None

    @property
    def degrees(self) -> float:
        """Signed degrees. "-33.9° S" repeats itself; "-33.9° N" contradicts itself and raises Ambiguous."""
        if self.hemisphere in ("N", "E") and self.value < 0:
            raise Ambiguous
        return -abs(self.value) if self.hemisphere in ("S", "W") else self.value


_CHARACTERS = str.maketrans({
    **dict.fromkeys("﹣－⁻", "−"), **dict.fromkeys("‐‑‒–", "-"), "―": "—", **dict.fromkeys("º˚∘ᵒ", "°"),
    **dict.fromkeys("′’‘ʹ´", "'"), **dict.fromkeys("″”“„ʺ˝", '"'), "\r": "\n",
    **dict.fromkeys("、،", ","), **dict.fromkeys("。।", "."), "٫": ".", "؛": ";",
    **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if code != 0xFF0D},  # full-width forms
    **dict.fromkeys("\u00a0\u2002\u2003\u2007\u2009\u200a\u202f\u3000", " "),
    **dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\u061c"),  # invisible: deleted
    **dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A))),  # directions of writing
})
_SPELLINGS = {
    "&minus;": "−", "&quot;": '"', "&prime;": "'", "&Prime;": '"', "&#39;": "'",
    "&nbsp;": " ", '\\"': '"', "\\'": "'", "\\,": " ", "\\;": " ", "\\quad": " ", "\\n": "\n",
    "\\text": "", "\\mathrm": "", "\\mathbf": "", "\\textbf": "",
    "^\\prime": "'", "^{\\prime}": "'", "^\\prime\\prime": '"', "^{\\prime\\prime}": '"'}
_SPELLING = re.compile(r"&(?:minus|quot|prime|Prime|\#39|nbsp);|\^(?:\\prime){1,2}|\^\{(?:\\prime){1,2}\}"
                       r"|\\(?:[\"',;]|quad|text(?:bf)?|math(?:rm|bf)|n(?![a-z]))")
_CLOSING_TAG = re.compile(r"</[A-Za-z]\w{0,20}>")
_DEGREE = re.compile(r"&deg;|&\#176;|(?:\{\})?\^\s?\{?\s?(?:\\circ|\\degree|o(?![a-z]))\s?\}?|\\circ|\\degree"
                     r"|(?<![A-Za-z])(?:decimal\s)?deg(?:rees?|s|\.)?(?![A-Za-z])", re.IGNORECASE)
_LABEL = re.compile(r"(?<![^\W\d])(?:(lat|lon|long|lng)\."  # Lat. 48.85, Lat48.85
                    r"|(lat(?:itude)?|lng|lon(?:g(?:itude)?)?)(?=[0-9]{1,3}\.[0-9]))", re.IGNORECASE)
_MINUS = re.compile(r"(?<![^\W_])(?:minus|negative)\s(?=[0-9.])", re.IGNORECASE)
_COMPASS = re.compile(AFTER_ANGLE + r"(?:(nord|norte)|(sud|süd|sur|sul)|(est|este|ost|leste)|(ouest|oeste|ovest))"
                      r"(?![^\W\d])", re.IGNORECASE)
_UNCLEAR = re.compile(AFTER_ANGLE + rf"[{languages.UNCLEAR}](?![^\W\d])")
# The same after a bare number, where a latitude has its letter and no longitude has: 40.4168 N, 3.7038 O.
_UNCLEAR_BARE = re.compile(rf"(?<=[0-9])\s?[{languages.UNCLEAR}](?![^\W\d])")
_LETTER_OF_LATITUDE, _LETTER_OF_LONGITUDE = (re.compile(rf"(?<=[0-9])\s?[{letters}](?![^\W\d])|"
                                                        rf"(?<![^\W\d])[{letters}]\s?(?=[0-9])")
                                             for letters in ("NS", "EW"))
_FAR_FROM_NUMBERS = re.compile(r"(?<!\D)\D{600,}+")
_DECIMAL_COMMA = re.compile(r"(?:(?<![0-9.,])([0-9]{1,3}),(?=[0-9]{1,8}(?:\s?°|\s?[NSEW](?![A-Za-z])))"
                            r"|(?<![0-9.])([0-9]{1,3}),(?=[0-9]{4,8}(?![0-9.])))")
_DMS = re.compile(r"""
    (?:(?<!\w)(?P<letter>[NSEW])\s?|(?<![\w.]))(?P<degrees>[0-9]{1,3})
    (?:\s?d\s?(?P<m>[0-9]{1,2})\s?m(?:\s?(?P<s>[0-9]{1,2}(?:\.[0-9]{1,8})?)\s?s)?(?![a-z0-9])            # 48d51m24s
      |(?P<gap>[:\ -])(?P<minutes>[0-9]{1,2})(?P=gap)(?P<seconds>[0-9]{1,2}(?:\.[0-9]{1,8})?)(?!\.?[0-9])  # 48:51:24 N
       (?(letter)(?![:\ -][0-9])|(?=\s?[NSEW](?![A-Za-z]))))""", re.VERBOSE)

_TOKEN = re.compile(r"""
  (?P<list>^[ \t>*\#-]{0,6}\(?[0-9]{1,3}[.):](?=\s))
| (?P<other>(?<![0-9.])(?:[0-9]{1,4}([/-])[0-9]{1,2}\3[0-9]{1,4}(?![0-9.])       # dates
    | [0-9]{1,4}:[0-9]{1,4}(?::[0-9]{2})?(?![0-9.:])                            # times, 16:9
    | [0-9]++(?:\.[0-9]++){2,}+                                                 # versions
    | [-+−]?[0-9][0-9.]*+\s?°\s?[CF](?![A-Za-z])                                # temperatures
    | [€£¥]\s?[0-9][0-9.,]*+ | [0-9][0-9.]*+\s?[€£¥]                            # prices
    | [-+−]?[0-9][0-9.]*+(?![NSEW](?![A-Za-z])|[eE][+-][0-9]{1,2}(?![0-9])|e[0-9]{1,2}(?![0-9.]))
      [A-Za-z]++))                                                              # 5th, 10km
| (?P<zoom>map=[0-9.]++/)
| (?P<tolerance>[(\[]\s?(?:±|\+/-)\s?[0-9.]++\s?(?:°|%|k?m)?\s?[)\]]|(?:±|\+/-)\s?[0-9.]++(?:\s?(?:°|%|k?m\b))?)
| (?P<number>(?P<sign>[-+−—])?
    (?P<digits>[0-9]++(?:\.[0-9]++)?|(?<![\w.])\.[0-9]++)(?P<power>[eE][+-][0-9]{1,2}(?![0-9])|e[0-9]{1,2}(?![0-9.]))?
    (?:\.(?=[,;)\]}°]))?
    (?P<degree>\s{0,2}°
      (?:(?:,?\s?(?:and\s)?(?=[0-9.]{1,9}\s?min))?\s{0,2}(?P<minutes>[0-9]++(?:\.[0-9]++)?)\s{0,2}(?:'(?!')|min(?:ute)?s?\b)
        (?:(?:,?\s?(?:and\s)?(?=[0-9.]{1,9}\s?sec))?\s{0,2}(?P<seconds>[0-9]++(?:\.[0-9]++)?)\s{0,2}
          (?:''|"|sec(?:ond)?s?\b))?)?)?)
| (?P<order>POINT(?=\s?\()|["']type["']\s?:\s?["']Point["'])
| (?P<either>(?<![A-Za-z])[NSEW]\s?/\s?[NSEW](?![A-Za-z]))
| (?P<letter>(?<![^\W\d_])[NSEW](?![^\W\d]|'\w)|(?<=°)[nsew](?![A-Za-z])
    |(?<=")[nsew](?=")|(?<=')[nsew](?='))
| (?P<word>[^\W\d_][^\W\d]*+(?:[0-9]\w*+)?)
| (?P<mark>[,;/|&:=()\[\]{}\n.!?%\#−—-])
""", re.VERBOSE | re.MULTILINE)

_MARKS = dict(zip("=[]{}!?−—", ":()()..--"))
_WORDS = {word: sign for sign, words in {
    "&": "and", "~": "to through until", "b": "between", "n": "north northern",
    "s": "south southern", "e": "east eastern", "w": "west western", "H": "hemisphere", "h": "direction dir ref ns ew",
    "A": "lat lats latitude latitudes lattitude φ", "O": "lon lons lng long longitude longitudes λ",
    "P": "latlon latlng latlong", "Q": "lonlat lnglat longlat",
    "f": "a about approx approximately around roughly near nearly circa is are was be of at in the this its it place "
         "location photo picture image point estimated estimate likely value equals equal coordinates coordinate "
         "position gps decimal positive plus",
    "#": "option step candidate guess rank no number house floor route highway road exit line house page figure",
    "x": "confidence certainty probability prob score accuracy radius error uncertainty zoom altitude elevation alt "
         "height heading bearing facing distance population year zip postcode zipcode level",
    "%": "percent km kms kilometer kilometers kilometre kilometres m meter meters metre metres mi mile miles ft feet "
         "cm mm people years hours mph stories storeys floors times million thousand",
    "m": "minute minutes min", "u": "second seconds sec", ".": "equator greenwich",
}.items() for word in f"{words} {languages.WORDS.get(sign, '')}".split()}
_LONGEST_WORD = max(map(len, _WORDS)) + 8  # room for gt_, _deg


def signs(text: str) -> tuple[str, dict[str, Number]]:
    """(line of signs, the number behind each number sign). Raises Ambiguous for more than MAX_NUMBERS numbers."""
    text = _tidy(text)
    line: list[str] = [""]
    numbers: dict[str, Number] = {}
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "number":
            sign = _number(token, text, line, numbers)
        elif kind == "word":
            sign = _word(token["word"])
        elif kind == "mark":
            sign = _MARKS.get(token["mark"], token["mark"])
        elif kind == "letter":
            sign = token["letter"].upper()
        else:
            sign = {"list": "_", "other": "_", "order": "Q"}.get(kind, "")
        if sign and not (sign == line[-1] and sign in "_f\n-"):
            line.append(sign)
    return "".join(line), numbers


def _tidy(text: str) -> str:
    """One spelling for every minus, degree sign, quote and space; of a long stretch without digits only its ends."""
    # The x makes another word of one that is cut in two: "flat" must not become "lat".
    text = _FAR_FROM_NUMBERS.sub(lambda match: f"{match[0][:200]}x . x{match[0][-200:]}", text)
    text = languages.latin(standards.plain(text.translate(_CHARACTERS)))
    text = _SPELLING.sub(lambda match: _SPELLINGS[match[0]], text)
    text = _LABEL.sub(r" \1\2 ", _DEGREE.sub("°", _CLOSING_TAG.sub(" ", text)))
    text = _COMPASS.sub(lambda match: " " + "NSEW"[match.lastindex - 1], _MINUS.sub("−", text))
    if _UNCLEAR.search(text) or (_UNCLEAR_BARE.search(text) and _LETTER_OF_LATITUDE.search(text)
                                 and not _LETTER_OF_LONGITUDE.search(text)):
        raise Ambiguous
    return _DMS.sub(_degree_signs, _DECIMAL_COMMA.sub(r"\1\2.", text))


def _degree_signs(match: re.Match) -> str:
    minutes, seconds = match["m"] or match["minutes"], match["s"] or match["seconds"]
    return f"{match['letter'] or ''}{match['degrees']}°{minutes}'" + (f'{seconds}"' if seconds else "")


def _word(word: str) -> str:
    if len(word) > _LONGEST_WORD:
        return "_"
    parts = re.split(r"_|(?<=[a-z])(?=[A-Z])", word)
    if len(parts) > 1:  # gt_lat, lat_deg, lat_lon, estimatedLatitude, latitudeRef
        named = "".join(sign for part in parts if (sign := _WORDS.get(part.lower(), "")) in ("A", "O", "H", "h"))
        if named:
            return "h" if named[-1] in "Hh" else {"AO": "P", "OA": "Q"}.get(named, named[0])
    return _WORDS.get(word.lower(), "_")


def _number(token: re.Match, text: str, line: list[str], numbers: dict[str, Number]) -> str:
    """Note the number and return its sign; `_` for one half of a range or a number hanging on a word by a hyphen."""
    sign, start = token["sign"], token.start()
    before = text[start - 1] if sign and start else ""
    if before == "°" or before == "_" or before.isalnum():
        previous = numbers.get(line[-1])
        if previous is not None and previous.end == start:
            if sign == "—" or not previous.signed:  # 48-49 is a range; +48.85+002.35 (ISO 6709) is a place
                line[-1] = "_"
                return "_"
        elif sign == "—":
            sign = None  # Paris—48.85, 2.35
        elif sign != "−":
            return "_"  # Route-66
    degrees = [float(token[part] or 0) for part in ("digits", "minutes", "seconds")]
    if max(degrees[1:]) >= 60:
        raise Ambiguous
    units = {"seconds": 1 / 3600, "minutes": 1 / 60, "digits": 1.0}
    last, unit = next((token[part], unit) for part, unit in units.items() if token[part])
    power = 10.0 ** int(token["power"][1:]) if token["power"] else 1.0
    value = (degrees[0] + degrees[1] / 60 + degrees[2] / 3600) * power
    step = unit * power * 10.0 ** -min(len(last.partition(".")[2]), 300)
    if len(numbers) >= MAX_NUMBERS:
        raise Ambiguous
    name = chr(0xE000 + len(numbers))
    numbers[name] = Number(-value if sign and sign != "+" else value, step, bool(sign), bool(token["degree"]),
                           token.end())
    return name
