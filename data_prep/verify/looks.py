"""What an LLM that sees the photo says of a chain: can the place be told at all, and is what the chain names there?"""
from collections.abc import Mapping, Sequence

from gre.llm import picture, read_json
from gre.text.chain_prompts import REVIEW, SEEN
from gre.text.instructions import short

Messages = Sequence[Mapping]


def localizable(image) -> Messages:
    return [{"role": "system", "content": REVIEW}, {"role": "user", "content": [picture(image, "JPEG")]}]


def entities(image, chain: str) -> Messages:
    return [{"role": "system", "content": SEEN},
            {"role": "user", "content": [picture(image, "JPEG"), {"type": "text", "text": chain}]}]


def not_localizable(reply: str) -> str:
    """What is wrong, or an empty text. Raises ValueError for a reply that cannot be read."""
    value = read_json(reply)
    if not isinstance(value, dict) or type(value.get("told")) is not bool:
        raise ValueError("expected an object with told, true or false")
    return "" if value["told"] else f"the place cannot be told: {short(str(value.get('why', '')))}"


def seen(reply: str) -> tuple[list[str], list[str]]:
    """The things a chain names that are in the photo, and those that are not. Raises ValueError, too."""
    value = read_json(reply)
    lists = [value.get(name) for name in ("seen", "unseen")] if isinstance(value, dict) else [None]
    if not all(isinstance(one, list) and all(isinstance(text, str) for text in one) for one in lists):
        raise ValueError("expected an object with seen and unseen, lists of text")
    return lists[0], lists[1]


def invented(seen: Sequence[str], unseen: Sequence[str], least: float) -> str:
    """What is wrong, or an empty text. least: share of the named things that must be in the photo."""
    if not seen and not unseen:
        return "names nothing that could be in the photo"
    share = len(seen) / (len(seen) + len(unseen))
    return "" if share >= least else f"{share:.0%} of what it names is there; not {short(', '.join(unseen))}"
