"""An LLM that knows the tiny planet: it finds the planet's things by name in a text and answers what it is asked from
them. It stands in for the endpoint that reads real chains."""
import json

from gre.text import chain_prompts
from gre.tiny.encoders import values
from gre.tiny.places import places

NAMES = {**values(), "place": [place.name for place in places()]}
KINDS = {"building": "background", "flag": "background", "tree": "caption", "sun": "caption", "vehicle": "caption",
         "place": "inference"}


def things(text: str) -> set[tuple[str, str]]:
    """(what it is, its name) of all that the text names."""
    return {(cue, name) for cue, names in NAMES.items() for name in names if name.lower() in text.lower()}


def reader(body: dict) -> str:
    """The reply to any question of eval.chain."""
    instruction, material = (message["content"] for message in body["messages"])
    return json.dumps(_REPLIES[instruction](json.loads(material)))


def sort(material: dict) -> dict:
    def kind(step: str) -> str:
        cues = {cue for cue, _ in things(step)}
        return KINDS["place" if "place" in cues else min(cues)] if cues else "background"
    return {number: kind(step) for number, step in material["steps"].items()}


def indicators(material: dict) -> dict:
    kinds = {"building": "iconic building", "flag": "symbol"}
    found = [{"kind": kinds[cue], "text": name} for cue, name in sorted(things(material["reasoning"])) if cue in kinds]
    return {"indicators": found, "scene": "artificial landscape"}


def match(material: dict) -> dict:
    return {number: [int(other) for other, statement in material["statements"].items() if text in statement]
            for number, text in material["indicators"].items()}


def judge(material: dict) -> dict:
    def agree(steps: dict, others: dict) -> list[int]:
        known = set().union(*map(things, others.values()))
        return [int(number) for number, step in steps.items() if things(step) and things(step) <= known]
    annotated, candidate = material["annotated"], material["candidate"]
    return {"supported": agree(candidate, annotated), "covered": agree(annotated, candidate)}


_REPLIES = {chain_prompts.SORT: sort, chain_prompts.INDICATORS_OF: indicators, chain_prompts.MATCH: match,
            chain_prompts.JUDGE: judge}
