"""Questions to an LLM behind any OpenAI-compatible endpoint, each asked once: every reply is kept in a file.

A cache is JSON lines, found by the hash of (model, messages, decoding without its limits of tokens): what was answered
before is never asked again, and a score can be reproduced offline from the file alone. Photos in it are shortened to
their hash. The key comes from the environment and is written nowhere. No torch.
"""
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, Generic, TypeVar

from PIL import Image
from tqdm import tqdm

from gre import http
from gre.config import UserError, option

LIMITS = ("max_tokens", "max_completion_tokens")
PARTS = {"text": "text", "output_text": "text", "thinking": "thinking", "reasoning": "thinking", "refusal": "refusal"}
CUT_OFF = ("length", "max_tokens", "model_length")  # a finish_reason that says so
FILTERED = "content_filter"
FILTER = re.compile(  # in the body of a 400; no word that a wrong setting is told by, such as safety_settings
    r"content[_ ]?(filter|policy|management)|moderation|responsible[_ ]?ai|safety (system|filter|polic|reason)|flagged|"
    r"data_inspection|sensitive (content|information|words)|harmful|inappropriate", re.IGNORECASE)
MAY_FILTER = (400, 403, 422, 451)
_TAGS = re.compile(r"</?(?:think|answer)>", re.IGNORECASE)
LATER = ("reasoning", "refusal", "prompt_tokens", "completion_tokens")  # that earlier versions did not keep
T = TypeVar("T")


@dataclass
class LLMConfig:
    """Which LLM answers, and where."""

    url: str = option("", "OpenAI-compatible endpoint, such as http://localhost:8000/v1; empty: cached replies only")
    model: str = option("", "the LLM's name there")
    key_env: str = option("OPENAI_API_KEY", "environment variable that holds the key; unset: no key is sent")
    decoding: dict[str, Any] = option({"temperature": 0, "max_tokens": 4096},
                                      "fields sent with every question, part of what the cache is searched by; "
                                      "llm.decoding.temperature=null leaves one out")
    concurrency: int = option(16, "questions asked at once")
    tries: int = option(http.TRIES, "times a request is sent while the endpoint is busy or unreachable; pauses double "
                                    "from 0.5 s to 8 s, the server's Retry-After wins")
    attempts: int = option(3, "replies taken to one question until one can be read")
    timeout_s: float = option(300.0, "seconds a request may take")


@dataclass(frozen=True)
class Reply:
    """What the LLM said. finish: the endpoint's finish_reason, "length" where the answer was cut off. reasoning,
    refusal: what the server put beside the text; tokens of prompt and completion as it counts them, None where it does
    not."""

    text: str
    finish: str | None
    reasoning: str = ""
    refusal: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True)
class Completion:
    """One choice of an answer as any server puts it. text: None where there is none, not even an empty one; reasoning,
    refusal: empty without; tokens, prompt_tokens: as the server counts them, None where it does not."""

    text: str | None
    reasoning: str
    refusal: str
    finish: str | None
    tokens: int | None
    prompt_tokens: int | None = None


@dataclass(frozen=True)
class Question(Generic[T]):
    """where: what it is about, for messages. read: the reply's text → its value; ValueError for one of no use."""

    where: str
    messages: Sequence[Mapping]
    read: Callable[[str], T]


class Client:
    """Asks questions and keeps the replies in `cache`. May be used from several threads."""

    def __init__(self, config: LLMConfig, cache: str | Path):
        """Raises UserError for a cache that cannot be read and an llm.url of no use. Nothing is sent here."""
        if not config.model:
            raise UserError("llm.model is empty: name the LLM; with a cache, the one it was made with")
        self.config, self.cache = config, Path(cache)
        self.decoding = {name: value for name, value in config.decoding.items() if value is not None}
        self.replies = _read_cache(self.cache)
        self.endpoint = http.Connection(
            config.url, os.environ.get(config.key_env, ""),
            if_refused=f"Check llm.url, llm.model, llm.decoding and the key in ${config.key_env}",
            if_away=f"What was answered is in {self.cache}: run the command again when the endpoint is back",
        ) if config.url else None
        self.asked = 0  # requests answered by the endpoint, the rest came from the cache
        self.lock = threading.Lock()

    def answers(self, questions: Sequence[Question[T]], title: str) -> list[T]:
        """The value of each question, in order, several asked at once. Raises UserError: see `answer`."""
        with ThreadPoolExecutor(max(1, self.config.concurrency)) as pool:
            running = [pool.submit(self.answer, question) for question in questions]
            try:
                return [future.result() for future in tqdm(running, desc=title, unit="question", disable=not running)]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def answer(self, question: Question[T]) -> T:
        """The value of one question; a reply of no use is sent back with what is wrong, up to `llm.attempts` times.

        Replies are kept once one can be used, so that a bad day of the endpoint is asked again. Where kept ones are of
        no use, as earlier versions left them, they are asked for anew. Raises UserError when none can be used, when one
        is cut off, and as `chat` does.
        """
        try:
            return self._answer(question, known=True)
        except _OfNoUse as error:
            if not error.kept or self.endpoint is None:
                raise
        return self._answer(question, known=False)

    def _answer(self, question: Question[T], known: bool) -> T:
        messages, wrong, reply, new, kept = list(question.messages), "", Reply("", None), [], False
        for _ in range(self.config.attempts):
            reply, line = self.chat(messages, question.where, known)
            new, kept = [*new, line], kept or line is None
            if reply.finish == "length":
                raise _OfNoUse(f"{question.where}: {self.config.model}'s reply was cut off: raise "
                               "llm.decoding.max_tokens", kept)
            try:
                value = question.read(reply.text)
                self._keep([line for line in new if line is not None])
                return value
            except ValueError as error:
                wrong = str(error)
            again = f"This cannot be used: {wrong}. Reply again, with the JSON alone."
            messages += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": again}]
        raise _OfNoUse(f"{question.where}: none of {self.config.attempts} replies of {self.config.model} can be used "
                       f"(the last: {wrong}; it began {reply.text[:120]!r}). Raise llm.attempts, or choose another "
                       "llm.model", kept)

    def knows(self, messages: Sequence[Mapping]) -> bool:
        """Whether the cache answers a conversation."""
        return any(key in self.replies for key in self._asked(messages)[1])

    def _asked(self, messages: Sequence[Mapping]) -> tuple[dict, tuple[str, str]]:
        """(what is asked, the keys that its reply may be kept under). Earlier versions kept a reply under its limit."""
        asked = {"model": self.config.model, "messages": list(messages), "decoding": self.decoding}
        unlimited = {name: value for name, value in self.decoding.items() if name not in LIMITS}
        return asked, (_hash({**asked, "decoding": unlimited}), _hash(asked))

    def reply(self, messages: Sequence[Mapping], where: str) -> Reply:
        """The first reply to a conversation, kept whatever it says. Raises UserError as `chat` does."""
        reply, line = self.chat(messages, where)
        if line is not None:
            self._keep([line])
        return reply

    def chat(self, messages: Sequence[Mapping], where: str, known: bool = True) -> tuple[Reply, dict | None]:
        """(the reply to a conversation, its line for the cache), the latter None for one that is in it.

        known: whether the cache may answer; a reply in it that was not cut off is one to any limit of tokens. Raises
        UserError when the cache lacks it and llm.url is empty, when the endpoint refuses, and when it is still busy or
        unreachable after `llm.tries`.
        """
        asked, keys = self._asked(messages)
        for key in keys:
            if known and key in self.replies:
                return self.replies[key], None
        if self.endpoint is None:
            raise UserError(f"{where}: {self.cache} does not hold {self.config.model}'s reply with decoding "
                            f"{self.decoding}. Set llm.url to ask for it, or name the cache, the llm.model and the "
                            "llm.decoding that were used")
        reply = self.endpoint.post(
            "/chat/completions", {"model": self.config.model, "messages": asked["messages"], **self.decoding}, _reply,
            where=where, tries=self.config.tries, timeout_s=self.config.timeout_s)
        with self.lock:
            self.asked += 1
        return reply, {"key": keys[0], **asked, "messages": [_without_pictures(message) for message in messages],
                       "reply": asdict(reply)}

    def _keep(self, lines: Sequence[dict]) -> None:
        with self.lock:
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            with open(self.cache, "a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            self.replies |= {line["key"]: Reply(**line["reply"]) for line in lines}


class _OfNoUse(UserError):
    """No reply of a question can be used. kept: one of them came from the cache."""

    def __init__(self, message: str, kept: bool):
        super().__init__(message)
        self.kept = kept


def _hash(asked: Mapping) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def picture(image: Image.Image, form: str = "PNG") -> dict:
    """A photo as a part of a message's content, PNG or JPEG."""
    return {"type": "image_url", "image_url": {"url": http.data_uri(image, form)}}


def read_json(text: str) -> Any:
    """The JSON value of a reply, a ``` fence around it taken off. Raises ValueError."""
    text = text.strip()
    if text.startswith("```"):
        text = text.removeprefix("```json").strip("`")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def completion(content: bytes) -> Completion:
    """The first choice of an answer to /chat/completions. Raises ValueError for what is none.

    Content may be text, null, or a list of parts; a chain of thoughts may stand beside it (`reasoning_content` or
    `reasoning`) or be a part of it.
    """
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        parts, refusal = message.get("content"), message.get("refusal")
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        used = body.get("usage") or {}
        tokens, asked = (count if isinstance(count := used.get(f"{which}_tokens"), int) else None
                         for which in ("completion", "prompt"))
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no chat completion ({type(error).__name__}: {error})") from None
    for each in (None if isinstance(parts, list) else parts, refusal, reasoning, finish):
        if not isinstance(each, (str, NoneType)):
            raise ValueError(f"its message is no text but a {type(each).__name__}")
    found = {"text": [], "thinking": [reasoning or ""], "refusal": [refusal or ""]}
    for part in parts if isinstance(parts, list) else [parts] if parts is not None else []:
        kind, text = _part(part)
        found[kind].append(text)
    return Completion("".join(found["text"]) if found["text"] else None, "".join(found["thinking"]),
                      "".join(found["refusal"]), finish, tokens, asked)


def filtered(error: http.Refused, accepted: Sequence[int]) -> bool:
    """Whether a refused request is a refusal to look at its photo."""
    return error.status in accepted or error.status in MAY_FILTER and FILTER.search(error.said) is not None


def in_form(reasoning: str, text: str) -> str:
    """Chain and answer as our models write them, where the server has taken the chain out of the text."""
    if not reasoning or "<think>" in text:
        return text
    chain = _TAGS.sub("", reasoning)
    if not text:
        return f"<think>{chain}"  # cut off in its thoughts
    return f"<think>{chain}</think>" + (text if "<answer>" in text else f"<answer>{text}</answer>")


def _part(part: Any) -> tuple[str, str]:
    """(kind, text) of one part of a message."""
    if isinstance(part, str):
        return "text", part
    kind = part.get("type") if isinstance(part, dict) else None
    inside = part.get("text", part.get(kind)) if kind in PARTS else None
    if isinstance(inside, list):  # Mistral's thinking is a list of parts itself
        inside = "".join(_part(each)[1] for each in inside)
    if not isinstance(inside, str):
        raise ValueError(f"a part of its message is no text but {json.dumps(part)[:80]}")
    return PARTS[kind], inside


def _reply(content: bytes) -> Reply:
    """Raises ValueError for what is no chat completion."""
    said = completion(content)
    text, reasoning, refusal = (each.encode("utf-8", "replace").decode() for each in (  # no file takes half a character
        said.text or "", said.reasoning, said.refusal))
    return Reply(text, said.finish, reasoning, refusal, said.prompt_tokens, said.tokens)


def _without_pictures(message: Mapping) -> dict:
    """The message for the cache file: photos as their hash."""
    if not isinstance(message["content"], list):
        return dict(message)
    return {**message, "content": [
        {"type": "image_url", "sha256": hashlib.sha256(part["image_url"]["url"].encode()).hexdigest()}
        if part["type"] == "image_url" else part for part in message["content"]]}


def _read_cache(path: Path) -> dict[str, Reply]:
    """Hash → reply, a later one in place of an earlier. A last line left half written is cut off."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        path.write_bytes(content[:content.rfind(b"\n") + 1])
    replies: dict[str, Reply] = {}
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            fields = json.loads(line)
            reply = Reply(fields["reply"]["text"], fields["reply"]["finish"])
            replies[fields["key"]] = replace(reply, **{
                name: fields["reply"][name] for name in LATER if name in fields["reply"]})
        except (ValueError, LookupError, TypeError) as error:
            raise UserError(f"{path}, line {number}: no cached reply ({type(error).__name__}: {error}). Delete the "
                            "line; its question will be asked again") from None
    return replies
