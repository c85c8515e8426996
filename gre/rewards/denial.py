"""What a chain says is not there: its clauses, and whether one of them denies a thing that it names.

A clause ends at punctuation and at words such as but and because. Some turns of phrase are put in plainer words first,
so that one rule reads them all.

    in front       "no", "without", "zero", "free of", "doesn't", "unable to see", "rather than", "unlike", "if there
                   were": denies the rest of its clause; over the commas of a list that ends in "or" (no palm trees,
                   churches, or cars); and "unable to see" and "if" over those of any list of a few words an item
    behind         "absent", "missing", "are lacking", "(none)", "are not" at the clause's end, or a negation among the
                   next four words and soon after it a word of seeing: palm trees cannot be seen are denied, a road
                   that is not paved is claimed. Of a list that begins its sentence it denies all: cars, buses, and
                   churches are not visible
    no denial      "not only", "no doubt", "not far from", "zero degrees"; what an absence of something else suggests
"""
import re
from collections.abc import Sequence

_STOP = r".,;:!?\n()\[\]"
_END = rf"(?= ?(?:[{_STOP}]|$))"
_WORD = r"[\w'-]+"
_ITEM = rf"(?: {_WORD}){{1,3}}"
CLAUSE = re.compile(rf"[{_STOP}]+|\b(?:but|although|though|however|yet|while|whereas|because|since"
                    r"|(?<!such )(?<!well )as(?! well))\b")

_UNMARKED = {"aint", "isnt", "arent", "wasnt", "werent", "dont", "doesnt", "didnt", "cant", "couldnt"}
NEGATIONS = _UNMARKED | {"no", "not", "without", "never", "neither", "nor", "none", "cannot", "lack", "lacks",
                         "lacking", "absence", "devoid", "hardly", "nothing"}  # and whatever ends in n't
LIFTED = {"only", "just", "merely", "necessarily", "doubt", "far"}  # "not only palm trees" are palm trees
ABSENT = {"absent", "missing", "nowhere"}

_SEEING = (r"(?:see|spot|find|show|detect|identify|discern|notice|observe|recogni[sz]e|locate|reveal|depict|contain"
           r"|include|display|distinguish|make out|pick out)")
_REACHING = (rf"\b(?:(?:unable|fail(?:s|ed|ing)?) to {_SEEING}"
             rf"|(?<!even )if (?:there|(?:{_WORD} ){{1,4}}?(?:were|had|showed))|had there been|(?<!\w )were there)\b")
IN_FRONT = re.compile(
    rf"{_REACHING}|\bfree (?:of|from)\b|\b(?:absent|missing) (?:is|are|was|were)\b|\brather than\b|\binstead of\b"
    r"|(?<!not )\bunlike\b"
    r"|(?<![\w.,:+-])(?:zero|0)(?= [^\W\d])(?! (?:degrees?|percent|points?|m|km|(?:kilo)?met(?:re|er)s?)\b)")

_NOT = rf"(?:(?:not|never|cannot|hardly|[\w']+n't|{'|'.join(sorted(_UNMARKED))})(?! (?:only|just|merely)\b))"
_BE = r"(?:is|are|was|were)"
BEHIND = re.compile(
    rf"(?:{_WORD} ){{0,3}}{_NOT}(?: here| there|(?: {_WORD}){{0,3}}? (?:visible|seen|found|present|shown|evident"
    rf"|(?:appear|exist)(?= in\b| on\b| here\b| anywhere\b|{_END})))\b"
    rf"|(?:{_WORD} ){{0,2}}(?:{_BE} not|(?:is|are|was|were|ai)n'?t){_END}"
    rf"|(?:{_WORD} ){{0,4}}{_BE} (?:\w+ly )?lacking(?: here| entirely| altogether)?{_END}"
    r"|none\b(?! of| the)")

# Turns of phrase, and what stands for them
NONE = re.compile(r"\s*[(:?–—-]+\s*(?=none\b(?! of| the))")
SUGGESTS = re.compile(rf"\b((?:absence|lack) of [^{_STOP}]*?) (?=(?:suggests|suggested|indicates|indicated|implies"
                      r"|implied|means|meant|hints|points)\b)")
_STARTS = r"(?:^|(?<=[.;:!?\n(])|(?<=\bbut)|(?<=\bwhile)|(?<=though)|(?<=whereas)|(?<=because)|(?<=since))"
_BARE = (rf"(?!(?: {_WORD}){{0,2}} (?:there|{_BE}|has|have|i|we|sees?|shows?|with"
         rf"|but|while|although|though|whereas|because|since)\b){_ITEM}")
_LAST = rf"(?!(?: {_WORD}){{1,4}} (?:that|which|who)\b){_ITEM}"
DENIED_LIST = re.compile(rf"{_STARTS}(?P<list>(?:{_BARE},){{1,9}}(?:{_ITEM},?)?? (?:and|or|nor){_LAST})"
                         rf"(?= (?:{BEHIND.pattern}|(?:{_WORD} ){{0,2}}(?:{'|'.join(sorted(ABSENT))})\b))")
HELD_LIST = re.compile(rf"(?:{_REACHING})[^{_STOP}]*(?:,{_ITEM}(?: (?:and|or){_ITEM})?{_END})+")
# A comma of a list that ends in "or", of ten items at most, of up to three words: no palm trees, churches, or cars
LISTED = re.compile(rf",(?! and\b)(?=(?:{_ITEM},){{0,8}}(?:{_ITEM})?,? n?or\b)")


def clauses(chain: str) -> list[str]:
    """The clauses of a chain in small letters, its denials in plain words."""
    chain = " " + re.sub(r"[^\S\n]+", " ", chain).strip()
    chain = NONE.sub(" ", chain)
    chain = DENIED_LIST.sub(lambda match: " without" + match["list"].replace(",", " or"), chain)
    chain = HELD_LIST.sub(lambda match: match[0].replace(",", " or"), chain)
    chain = LISTED.sub(" or", SUGGESTS.sub(r"\1, ", chain))
    return CLAUSE.split(IN_FRONT.sub("without", chain))


def denied(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether a clause says that a thing is not there; before, after: its words around the thing."""
    for at, word in enumerate(before):
        if (word in NEGATIONS or word.endswith("n't")) and LIFTED.isdisjoint(before[at + 1:at + 2]):
            return True
    return not ABSENT.isdisjoint(after) or bool(BEHIND.match(" ".join(after)))
