"""What a chain says is not there: its clauses, and whether one of them denies a thing that it names.

A clause ends at punctuation and at words such as but and because. Some turns of phrase are put in plainer words first,
so that one rule reads them all.

    in front       "no", "without", "zero", "free of", "doesn't", "unable to see", "rather than", "unlike", "if there
                   were", "there would be": denies the rest of its clause; over the commas of a list that ends in "or"
                   (no palm trees, churches, or cars); and "unable to see" and "if" over those of any list of a few
                   words an item. It does not deny where the thing would be (no cars on the road), and ends at an
                   "and" that begins a statement of its own (no cars and the road is wide)
    behind         "absent", "missing", "are lacking", "(none)", "are not" at the clause's end, or a negation among the
                   next four words and soon after it a word of seeing: palm trees cannot be seen are denied, a road
                   that is not paved is claimed. Of a list that begins its sentence it denies all: cars, buses, and
                   churches are not visible
    no denial      "not only", "not many", "no doubt", "cannot read", "not far from", "zero degrees", "none of the cars
                   are red"; what an absence of something else suggests
"""
import re
from collections.abc import Sequence

_STOP = r".,;:!?\n()\[\]"
_END = rf"(?= ?(?:[{_STOP}]|$))"
_WORD = r"[\w'-]+"
_ITEM = rf"(?: {_WORD}){{1,3}}"
CLAUSE = re.compile(rf"[{_STOP}]+|\b(?:but|although|though|however|yet|while|whereas|because|since"
                    r"|except|apart from|other than|despite|so(?= (?:the|it|i|we|this)\b)|given(?= (?:the|its|these)\b)"
                    r"|(?<!such )(?<!well )as(?! well))\b")

_UNMARKED = {"aint", "isnt", "arent", "wasnt", "werent", "dont", "doesnt", "didnt", "cant", "couldnt"}
NEGATIONS = _UNMARKED | {"no", "not", "without", "never", "neither", "nor", "none", "cannot", "lack", "lacks",
                         "lacking", "absence", "devoid", "hardly", "nothing"}  # and whatever ends in n't
LIFTED = {"only", "just", "merely", "necessarily", "doubt", "far", "many", "much", "longer", "wonder", "question",
          "matter", "read"}  # "not only palm trees" are palm trees
ABSENT = {"absent", "missing", "nowhere"}

_SEEING = (r"(?:see|spot|find|show|detect|identify|discern|notice|observe|recogni[sz]e|locate|reveal|depict|contain"
           r"|include|display|distinguish|make out|pick out)")
_REACHING = (rf"\b(?:(?:unable|fail(?:s|ed|ing)?) to {_SEEING}"
             rf"|(?<!even )if (?:there|(?:{_WORD} ){{1,4}}?(?:were|had|showed))|had there been|(?<!\w )were there)\b")
IN_FRONT = re.compile(
    rf"{_REACHING}|\bthere would (?:\w+ )?be\b|(?:\bwould|'d) expect\b"
    r"|\bfree (?:of|from)\b|\b(?:absent|missing) (?:is|are|was|were)\b|\brather than\b|\binstead of\b"
    r"|(?<!not )\bunlike\b"
    r"|(?<![\w.,:+-])(?:zero|0)(?= [^\W\d])(?! (?:degrees?|percent|points?|m|km|(?:kilo)?met(?:re|er)s?)\b)")

_NOT = rf"(?:(?:not|never|cannot|hardly|[\w']+n't|{'|'.join(sorted(_UNMARKED))})(?! (?:only|just|merely)\b))"
_BE = r"(?:is|are|was|were)"
_HOLD = "(?:have|show|display|contain|include|carry|bear)"  # the road does not have any visible markings
BEHIND = re.compile(
    rf"(?:{_WORD} ){{0,3}}{_NOT}(?: here| there"
    rf"|(?: (?!{_HOLD}\b){_WORD}){{0,3}}? (?:visible|seen|found|present|shown|evident"
    rf"|(?:appear|exist)(?= in\b| on\b| here\b| anywhere\b|{_END})))\b"
    rf"|(?:{_WORD} ){{0,2}}(?:{_BE} not|(?:is|are|was|were|ai)n'?t){_END}"
    rf"|(?:{_WORD} ){{0,4}}{_BE} (?:\w+ly )?lacking(?: here| entirely| altogether)?{_END}"
    r"|none\b(?! of| the)")

# The end of what a negation is followed by, up to the thing: a place, or a statement of its own
_LOCATED = re.compile(r" (?:on|along|around|in front of|next to|near|behind|beside|above|across)"
                      r" (?:the|its|their)(?: [^\W\d_]+)?$")
_THERE = re.compile(rf"(?:{_BE}|(?:can|could) be) (?:\w+ly )?(?:visible|present|seen|found|shown|there|here)\b")
_BEGINS = {"there", "is", "are", "was", "were", "has", "have", "features", "shows", "many", "several", "numerous"}
_SUBJECT = {"the", "its", "their", "this", "these", "those"}
_VERBS = {"is", "are", "was", "were", "has", "have", "looks", "look", "seems", "seem", "appears", "appear", "suggests",
          "suggest", "indicates", "indicate"}

# Turns of phrase, and what stands for them
NONE = re.compile(r"[\s*]{0,4}[(:?–—-]{1,4}[\s*]{0,4}(?=none\b(?! of| the)|not (?:visible|seen|present|shown)\b)")
ELSEWHERE = re.compile(
    rf"(?P<these>\b(?:(?:this|these|those|such|the (?:style|type|kind)s? of)(?: {_WORD}){{1,4}}?|like (?:this|these)))"
    r" (?:is|are) (?:not|never) (?:\w+ly )?(?:seen|found)(?= in (?:(?:the )?(?:us|usa|uk|united|netherlands)\b"
    r"|(?!(?:the|this|that|these|any|our|view|sight|front|it|here)\b)\w))")
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
    chain = NONE.sub(" ", chain).replace(", such as ", " such as ")
    chain = ELSEWHERE.sub(r"\g<these>", chain)
    chain = DENIED_LIST.sub(lambda match: " without" + match["list"].replace(",", " or"), chain)
    chain = HELD_LIST.sub(lambda match: match[0].replace(",", " or"), chain)
    chain = LISTED.sub(" or", SUGGESTS.sub(r"\1, ", chain))
    return CLAUSE.split(IN_FRONT.sub("without", chain))


def denied(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether a clause says that a thing is not there; before, after: its words around the thing."""
    last = next((at for at in reversed(range(len(before))) if (before[at] in NEGATIONS or before[at].endswith("n't"))
                 and LIFTED.isdisjoint(before[at + 1:at + 2])), None)
    if last is not None and not _ended(before[last:], after):  # what ends the last ends those before it
        return True
    return not ABSENT.isdisjoint(after) or bool(BEHIND.match(" ".join(after)))


def _ended(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether a negation does not reach a thing; before: the words from it to the thing."""
    negation, *between = before
    if negation == "without":  # it stands for `if there were`, too
        return False
    if negation == "none" and between[:1] == ["of"] and len(between) < 4:
        return not _THERE.match(" ".join(after[:4]))
    end = " ".join(between[-6:])
    if _LOCATED.search(end) or negation == "no" and re.search(r" in the$", end):
        return True
    for at, word in enumerate(between):
        first, behind = between[at + 1:at + 2], [*between[at + 2:], *after[:3]]
        if word == "and" and (not _BEGINS.isdisjoint(first) or not _SUBJECT.isdisjoint(first) and (
                "presence" in behind or after[:1] not in (["that"], ["which"]) and not _VERBS.isdisjoint(behind))):
            return True
    return False
