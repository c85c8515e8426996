"""One spelling for place names, so that written variants of a name compare equal."""
import re
import unicodedata

_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h",
                          "ŋ": "n", "&": " and "})
_DROPPED = re.compile("[\u0300-\u036f.'’‘ʻʼ`´]")  # accents; points and apostrophes inside names: U.S.A., Xi'an
_BREAKS = re.compile(r"[\W_]+")
_SHORT = {"saint": "st", "sankt": "st", "sainte": "ste", "mount": "mt", "fort": "ft"}
ABBREVIATED = {"nyc": "new york city", "sf": "san francisco", "kl": "kuala lumpur"}  # what GeoNames does not carry
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})
# What kind of place it is, folded, in the languages most answers come in; `Ville d'Orléans` loses its apostrophe.
_BEFORE = (
    "the ", "greater ", "metropolitan ", "downtown ", "central ", "city of ", "town of ", "municipality of ",
    "inner city of ", "la ville de ", "ville de ", "ville d", "commune de ", "commune d", "agglomeration de ",
    "metropole de ", "gran ", "la ciudad de ", "ciudad de ", "municipio de ", "area metropolitana de ",
    "region metropolitana de ", "grande ", "a cidade de ", "cidade de ", "cidade do ", "cidade da ", "municipio do ",
    "regiao metropolitana de ", "regiao metropolitana do ", "la citta di ", "citta di ", "comune di ", "die stadt ",
    "stadt ", "landeshauptstadt ", "bundeshauptstadt ", "hauptstadt ", "hansestadt ", "freie und hansestadt ",
    "grossraum ", "gemeente ", "stad ", "miasto ", "mesto ", "kota ", "thanh pho ", "город ", "г ", "місто ", "м ",
    "مدينة ")
_AFTER = (" city", " town", " municipality", " metropolitan area", " metropolitan region", " metro area", " metro",
          " urban area", " area", " region", " bay area", " metropolis", " city center",
          " city centre", " downtown", " kommun", " kommune", " शहर")
LONGEST = 200  # letters of a place's name with what kind it is
_SURE = {"probably", "possibly", "presumably", "likely", "perhaps", "maybe", "most", "very", "quite", ""}
_NEAR = re.compile(r"(?:(?:somewhere|just|the|in|on) )*(?:near|nearby|around|close to|not far from|outside(?: of)?|"
                   r"outskirts of|suburbs? of|vicinity of|surroundings of) (?:the )?(?=\w)", re.IGNORECASE)
_OR_SO = re.compile(r",? (?i:or|and) (?:(?:an?|its|the|another|other|some) )*(?:similar|nearby|surroundings?|vicinity|"
                    r"environs|outskirts|suburbs?|areas?|neighbou?ring|(?:city|town|village|place)(?= (?:in|on)\b))"
                    r"(?: [a-z]+){0,4}?(?: (?:in|on|of) (?:the )?[^\W\d_]+(?: [^\W\d_]+)?)?$")
_LARGER = re.compile(
    r"(?:(?:the|north|south|east|west|central|northern|southern|eastern|western|southeast|northeast|latin) )*"
    r"(?:europe|asia|africa|america|americas|oceania|antarctica|middle east|scandinavia|caribbean|balkans|eu)")


def fold(name: str) -> str:
    """The name in lower case, without accents and punctuation, Saint as st: `St. Étienne` → `st etienne`.

    Letters of other scripts stay as they are. Empty for a name without a letter or digit.
    """
    if name.isascii() and "&" not in name:
        text = name.lower()
    else:
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold().translate(_LETTERS))
    text = _BREAKS.sub(" ", _DROPPED.sub("", text)).strip()
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)  # puts syllables of other scripts together again
    return " ".join(_SHORT.get(word, word) for word in text.split(" "))


def spellings(name: str) -> set[str]:
    """The folded name, and for umlauts also their two-letter form: München → munchen, muenchen."""
    if name.isascii():
        return {fold(name)} - {""}
    composed = unicodedata.normalize("NFC", name)
    digraphs = composed.translate(_UMLAUTS)
    return ({fold(composed)} if digraphs == composed else {fold(composed), fold(digraphs)}) - {""}


def without_kind(folded: str) -> list[str]:
    """The folded name without words that say what kind of place it is, fewest left out first: `the city of london` →
    `city of london`, `london`."""
    found = [folded] if len(folded) <= LONGEST else []
    for name in found:  # grows as it goes
        shorter = [name.removeprefix(word) for word in _BEFORE if name.startswith(word)]
        shorter += [name.removesuffix(word) for word in _AFTER if name.endswith(word)]
        found += [one for one in dict.fromkeys(shorter) if one not in found]
    return found[1:]


def unhedged(name: str) -> str:
    """The name without the words that say how sure somebody is: `Probably Finland`, `Finland (most likely)`, `Helsinki
    or a similar city`."""
    name = _OR_SO.sub("", name)
    words = name.split()
    known = [fold(word) not in _SURE for word in words]
    if all(known) or not any(known):
        return name
    first, last = known.index(True), len(words) - known[::-1].index(True)
    return " ".join(words[first:last]).rstrip(",;(*")


def not_in_but_near(name: str) -> str | None:
    """The place that is near: Lyon of `near Lyon` and of `outskirts of Lyon`; None where no such word begins it."""
    near = _NEAR.match(name.strip())
    return name.strip()[near.end():] if near else None


def larger_than_countries(folded: str) -> bool:
    """Whether this is a continent or a part of one, folded: `south america`."""
    return _LARGER.fullmatch(folded) is not None


def edits_allowed(folded: str) -> int:
    """How many letters a typo may add, drop, change or swap: none in short names, where another name is near."""
    return 0 if len(folded) < 5 else 1 if len(folded) < 11 else 2
