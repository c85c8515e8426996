"""All checks of the chains about some photos, each by itself: what it looked at, and what it found wrong.

Every check of the text looks at every chain, so that its count says what it alone would drop; an LLM is asked only
about chains that nothing else speaks against. Chains of region say what the gazetteer says and are not checked.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from data_prep import chains, photos, teachers
from data_prep.chains import Chain
from data_prep.teachers import Line, NoAnswer
from data_prep.verify import looks, place, text
from gre.data.images import load_image
from gre.data.reason import LOCALIZABLE
from gre.geo.places import Gazetteer
from gre.geo.point import distance_km
from gre.llm import Client
from gre.text.chains import chain_of
from gre.text.instructions import short
from gre.text.named import localizability_said, parse_localizability
from gre.text.prompts import PLACE_TEACHER_INSTRUCTION, TEACHER_INSTRUCTION

FILTERS = {
    "form": "not <think>…</think><answer>…</answer> and nothing else",
    "length": "shorter or longer than min_characters and max_characters",
    "language": "not English",
    "coordinates": "the answer's numbers stand in the chain",
    "echo": "words of the instruction",
    "place": "comes to another country, or to no place, by the gazetteer",
    "agreement": "no other teacher's answer lies within agree_km",
    "meaning": "no teacher that agrees on the place gives like reasons (encoder, similarity)",
    "localizable": "the looker, or the teacher itself, says that the place cannot be told from the photo",
    "entities": "the looker does not find what the chain names (seen_share)",
}
UNCHECKED = "unchecked"  # the looker gave no answer, or none that can be read
NEAREST = "nearest"  # another chain of the same photo is as good, and its answer nearer


@dataclass
class Found:
    """What the checks found of one chain. wrong: filter → why, in their order; entities: what it names and the looker
    found in the photo; localizability: the teacher's word for it, where it was asked."""

    chain: Chain
    error_km: float
    checked: set[str] = field(default_factory=set)
    wrong: dict[str, str] = field(default_factory=dict)
    likeness: float | None = None  # to the most alike chain of a teacher that agrees
    entities: tuple[str, ...] = ()

    @property
    def localizability(self) -> str | None:
        return parse_localizability(self.chain.response) if self.chain.kind == chains.NAMED else None

    @property
    def text(self) -> str:
        return chain_of(self.chain.response).strip()

    def note(self, name: str, why: str) -> None:
        self.checked.add(name)
        if why:
            self.wrong[name] = why


@dataclass
class Checks:
    """What chains are checked with. encoder, looker: None where that is not checked. several: whether chains of more
    than one teacher are there at all."""

    config: Any
    places: Gazetteer
    several: bool
    encoder: Any
    looker: Line | None

    def photo(self, found: Sequence[Found], said: Sequence[Chain]) -> None:
        """Check the chains about one photo, but for what an LLM or an encoder says. said: all that was said of it."""
        for one in found:
            if one.chain.kind == chains.REGION:
                continue
            one.note("form", text.form(one.chain.response.strip()))
            one.note("length", text.length(one.text, self.config.min_characters, self.config.max_characters))
            one.note("language", text.language(one.text))
            one.note("coordinates", text.coordinates(one.text, one.chain.truth))
            one.note("echo", text.echo(one.text, one.chain.instruction, TEACHER_INSTRUCTION, PLACE_TEACHER_INSTRUCTION))
            one.note("place", place.place(one.text, one.chain.truth, self.places, self.config.near_km))
            if self.several:
                one.note("agreement", "" if self.agreeing(one, said) else self._alone(one, said))
            if one.chain.kind == chains.NAMED:
                words = "; ".join(localizability_said(one.chain.response))
                one.note("localizable", "" if LOCALIZABLE.get(one.localizability) else
                         f"the teacher says {short(words) if words else 'nothing'} of localizability")

    def agreeing(self, one: Found, said: Sequence[Chain]) -> list[Chain]:
        """The chains of other teachers that come to the same place."""
        own = one.chain.answer()
        return [other for other in said if other.kind != chains.REGION and other.teacher != one.chain.teacher
                and (answer := other.answer()) is not None and distance_km(own, answer) <= self.config.agree_km]

    @staticmethod
    def _alone(one: Found, said: Sequence[Chain]) -> str:
        others = [other.teacher for other in said if other.kind != chains.REGION
                  and other.teacher != one.chain.teacher]
        return f"{', '.join(others)} answered another place" if others else "no other teacher has a chain of it"

    def alike(self, pairs: Sequence[tuple[Found, Sequence[Chain]]]) -> None:
        """Compare chains with those of teachers that agree on the place. pairs: (chain, all said of its photo)."""
        if self.encoder is None or not self.several:
            return
        others = [(one, [chain_of(other.response).strip() or "-" for other in self.agreeing(one, said)])
                  for one, said in pairs if one.chain.kind != chains.REGION]
        wanted = sorted({text for one, texts in others for text in (one.text or "-", *texts) if texts})
        if not wanted:
            return
        vectors = dict(zip(wanted, self.encoder.embed(wanted)))
        for one, texts in others:
            if texts:
                one.likeness = max(float(vectors[one.text or "-"] @ vectors[text]) for text in texts)
                one.note("meaning", "" if one.likeness >= self.config.similarity else
                         f"cosine {one.likeness:.3f} to the most alike chain")

    def look(self, found: Sequence[Found], folder: Path, cache: Path) -> None:
        """Ask the looker about the chains that nothing speaks against. folder: of their photos. cache: of replies."""
        if self.looker is None:
            return
        client = Client(self.looker.teacher, cache)
        left = [one for one in found if one.chain.kind != chains.REGION and not one.wrong]

        def told(reply: str) -> tuple[str, Sequence[str]]:
            return looks.not_localizable(reply), ()

        def seen(reply: str) -> tuple[str, Sequence[str]]:
            there, missing = looks.seen(reply)
            return looks.invented(there, missing, self.config.seen_share), there

        # name, what tells its questions apart, question, reader; a question that several chains share is asked once
        kinds: list[tuple[str, Callable, Callable, Callable]] = [
            ("localizable", lambda one: one.chain.image, lambda image, one: looks.localizable(image), told),
            ("entities", lambda one: (one.chain.image, one.text),
             lambda image, one: looks.entities(image, one.text), seen)]
        for name, same, ask, read in kinds:
            asked = [one for one in left if not one.wrong]

            def answer(one: Found, name=name, ask=ask, read=read) -> tuple[str, str, Sequence[str]]:
                image = load_image(photos.file_of(folder, one.chain.image), self.config.max_pixels)
                where = f"photo {one.chain.row}, {name}"
                try:
                    reply = self.looker.reply(client, ask(image, one), where)
                except NoAnswer as error:
                    return UNCHECKED, f"{name}: {teachers.short(str(error))}", ()
                try:
                    return name, *read(reply.text)
                except ValueError as error:
                    return UNCHECKED, f"{name}: {error}: {teachers.short(reply.text, 100)!r}", ()

            first: dict[Any, Found] = {}
            for one in asked:
                first.setdefault(same(one), one)
            replies = dict(zip(first, teachers.at_once(
                [(self.looker.teacher, partial(answer, one)) for one in first.values()], name)))
            for one in asked:
                noted, why, there = replies[same(one)]
                one.note(noted, why)
                one.entities = one.entities or tuple(there)


def keep_nearest(found: Sequence[Found]) -> None:
    """Of the good chains about one photo the nearest answer stays, the first of equals."""
    good = [one for one in found if not one.wrong and one.chain.kind != chains.REGION]
    best = min(good, key=lambda one: one.error_km, default=None)
    for one in good:
        if one is not best:
            one.wrong[NEAREST] = f"{best.chain.teacher}'s answer lies {best.error_km:,.1f} km off, this one's " \
                               f"{one.error_km:,.1f} km"
