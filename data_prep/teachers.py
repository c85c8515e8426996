"""LLMs that see photos: who they are, whether a photo may be sent there, how fast and at what cost they are asked.

What was asked is kept by gre.llm. Here is what a bill needs: requests a minute, tokens and cost of every answer, and a
ceiling that is not exceeded, whatever is being asked at the same time.
"""
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tqdm import tqdm

from gre.config import UserError, check_least, option
from gre.http import Refused, Unanswered, is_this_machine
from gre.llm import LIMITS, Client, LLMConfig, Reply, filtered

AWAY = 20  # questions in a row without an answer: the endpoint is gone, and asking the others would say so of each
OURS = (401, 403, 404, 405, 407)  # statuses that say nothing about a photo: key, address or model are wrong
T = TypeVar("T")


@dataclass
class Teacher(LLMConfig):
    """An LLM that sees photos."""

    name: str = option("", "what rows call it; empty: its model")
    send_photos: bool = option(False, "photos may leave this machine for url")
    per_minute: float | None = option(None, "requests a minute, at most; null: as fast as it answers")
    price_in: float = option(0.0, "price of a million tokens sent, photo included")
    price_out: float = option(0.0, "price of a million tokens written")

    def __post_init__(self):
        check_least("", self, {"concurrency": 1, "tries": 1, "timeout_s": 0, "price_in": 0, "price_out": 0,
                                        "per_minute": 1e-6})
        self.name = self.name or self.model


class CeilingReached(UserError):
    """The next question might cost more than is left."""


class NoAnswer(UserError):
    """One question has no answer; the others may have. outcome: `refused` or `no answer`."""

    def __init__(self, message: str, outcome: str):
        super().__init__(message)
        self.outcome = outcome


def check(teachers: Sequence[Teacher]) -> None:
    """Raise UserError for teachers that cannot be told apart, an address that holds a secret, and one that photos would
    be sent to without leave."""
    names = [teacher.name for teacher in teachers]
    if not all(names) or len({*names}) < len(names):
        raise UserError(f"teachers are called {', '.join(map(repr, names))}: give each a model, and a name of its own")
    for teacher in teachers:
        parts = urlsplit(teacher.url)
        if not teacher.url:
            raise UserError(f"{teacher.name} has no url: name an OpenAI-compatible address, such as "
                            "http://localhost:8000/v1")
        if parts.scheme not in ("http", "https") or parts.username or parts.password or parts.query:
            raise UserError(f"{teacher.name}: url must look like https://host/v1, without a key or a password in it: "
                            f"the key belongs into the environment variable {teacher.key_env}")
        if not teacher.send_photos and not is_this_machine(parts.hostname or ""):
            raise UserError(f"{teacher.name}: photos would be sent to {parts.hostname}. If they may leave this "
                            "machine, say so with send_photos: true beside its url")


@dataclass
class Spent:
    """What the answers of one teacher took. uncounted: answers whose tokens the endpoint did not count."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0

    def add(self, reply: Reply) -> None:
        self.answers += 1
        self.prompt_tokens += reply.prompt_tokens or 0
        self.completion_tokens += reply.completion_tokens or 0
        self.uncounted += reply.prompt_tokens is None or reply.completion_tokens is None

    def join(self, other: Mapping[str, int]) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + other[field.name])

    def cost(self, teacher: Teacher) -> float:
        return (self.prompt_tokens * teacher.price_in + self.completion_tokens * teacher.price_out) / 1e6


class Purse:
    """What may still be spent. Every question reserves the most it may cost before it is sent."""

    def __init__(self, ceiling: float | None, spent: float):
        self.ceiling, self.spent = ceiling, spent
        self.reserved, self.asking = 0.0, 0  # of questions under way, and how many these are
        self.longest: dict[str, int] = {}  # prompt tokens seen, by teacher: photos of one budget differ little
        self.changed = threading.Condition()

    def reserve(self, teacher: Teacher) -> float:
        """Wait until a question may be paid for. Raises CeilingReached when it never will be."""
        limit = next((teacher.decoding[name] for name in LIMITS if teacher.decoding.get(name)), 0)
        with self.changed:
            price = (self.longest.get(teacher.name, 0) * teacher.price_in + limit * teacher.price_out) / 1e6
            while self.ceiling is not None and self.spent + self.reserved + price > self.ceiling:
                if not self.asking:
                    raise CeilingReached(f"{self.spent:.4f} is spent, and the next question to {teacher.name} may "
                                         f"cost {price:.4f}: ceiling={self.ceiling:g} is reached. What was answered is "
                                         "kept: raise the ceiling and run the same command again")
                self.changed.wait()
            self.reserved += price
            self.asking += 1
            return price

    def settle(self, teacher: Teacher, reserved: float, reply: Reply | None) -> None:
        """Book what an answer took in place of what was reserved. reply: None where there is none."""
        with self.changed:
            self.reserved -= reserved
            self.asking -= 1
            if reply is not None:
                taken = Spent()
                taken.add(reply)
                self.spent += taken.cost(teacher)
                self.longest[teacher.name] = max(self.longest.get(teacher.name, 0), taken.prompt_tokens)
            self.changed.notify_all()


class Line:
    """The way to one teacher: paced, paid for, and given up when it leads nowhere any more."""

    def __init__(self, teacher: Teacher, purse: Purse):
        self.teacher, self.purse = teacher, purse
        self.lock, self.next, self.failed = threading.Lock(), 0.0, 0

    def reply(self, client: Client, messages: Sequence[Mapping], where: str) -> Reply:
        """The reply to a question, which is kept whatever it says; one that was kept before costs nothing.

        Raises NoAnswer where this question has none, and UserError where the teacher itself cannot be asked.
        """
        if client.knows(messages):
            return client.reply(messages, where)
        reserved, reply = self.purse.reserve(self.teacher), None
        try:
            self._wait()
            reply = client.reply(messages, where)
        except Refused as error:
            of_the_photo = filtered(error, ())
            if error.status in OURS and not of_the_photo:
                raise
            why = f"HTTP {error.status} {error.said}"
            raise self._without(error, why, "refused" if of_the_photo else "no answer") from None
        except Unanswered as error:
            raise self._without(error, error.failure, "no answer") from None
        finally:
            self.purse.settle(self.teacher, reserved, reply)
        self.failed = 0
        if self.purse.ceiling is not None and None in (reply.prompt_tokens, reply.completion_tokens):
            raise UserError(f"{self.teacher.name} does not say how many tokens an answer took, so that no ceiling can "
                            "be kept: write ceiling=null")
        return reply

    def _without(self, error: UserError, why: str, outcome: str) -> UserError:
        with self.lock:
            self.failed += outcome == "no answer"
            if self.failed >= AWAY:
                return UserError(f"{self.teacher.name} gave no answer to {self.failed} questions in a row. {error}")
        return NoAnswer(why, outcome)

    def _wait(self) -> None:
        """Until the next request is due."""
        if self.teacher.per_minute is None:
            return
        with self.lock:
            now = time.monotonic()
            due = max(now, self.next)
            self.next = due + 60 / self.teacher.per_minute
        time.sleep(due - now)


def at_once(asked: Sequence[tuple[Teacher, Callable[[], T]]], title: str) -> list[T]:
    """What each function returns, in order; as many at once of each teacher as it takes. Where one raises, those that
    are under way end first: what they bring is kept."""
    pools = {teacher.name: ThreadPoolExecutor(teacher.concurrency) for teacher, _ in asked}
    running = [pools[teacher.name].submit(function) for teacher, function in asked]
    try:
        return [future.result() for future in tqdm(running, desc=title, unit="question", leave=False,
                                                   disable=not running)]
    except BaseException:
        for pool in pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        for pool in pools.values():
            pool.shutdown()


def named(teachers: Sequence[Teacher]) -> list[dict[str, Any]]:
    """What decides the teachers' answers, for a record: no address, no key."""
    return [{"name": one.name, "model": one.model, "decoding": dict(one.decoding)} for one in teachers]


def short(error: str, limit: int = 300) -> str:
    """A failure as a line of a list."""
    return re.sub(r"\s+", " ", error)[:limit]
