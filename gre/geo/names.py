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
_BEFORE = ("city of ", "town of ", "municipality of ", "greater ", "metropolitan ", "downtown ", "central ", "the ")
_AFTER = (" city", " town", " municipality", " metropolitan area", " metro area", " metro", " area")


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
    """The folded name without a word that says what kind of place it is: `city of london` → `london`."""
    shorter = [folded.removeprefix(word) for word in _BEFORE if folded.startswith(word)]
    return [name for name in shorter + [folded.removesuffix(word) for word in _AFTER if folded.endswith(word)] if name]


def edits_allowed(folded: str) -> int:
    """How many letters a typo may add, drop, change or swap: none in short names, where another name is near."""
    return 0 if len(folded) < 5 else 1 if len(folded) < 11 else 2
