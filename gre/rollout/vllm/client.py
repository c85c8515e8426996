"""A model served by `vllm serve` (scripts/serve.sh starts it), asked in tokens: prompts go out as the trainer has them,
one photo each, and tokens come back with their log-probabilities.

What a server works with is compared with what is needed before it is asked anything, and nothing else ever takes its
place. Whoever reaches it can load weights into it: it is for one's own machines alone. Needs no vLLM on this side.
"""
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from accelerate.utils import gather_object

from gre import http
from gre.config import UserError
from gre.models.packing import Prompt, check_expanded, unexpanded

START_TRIES = 90          # ten minutes, for a server that is still loading its model
UNCHANGED = "default"     # vLLM's name for the weights it was started with
SHOWN = 60                # characters of a setting in a message
RAISED = frozenset({500})  # what a method of ours raises in the server, which would come again
T = TypeVar("T")


class Asked(NamedTuple):
    """A prompt, the fields of vLLM's SamplingParams, and what it is about, for messages."""

    prompt: Prompt
    params: Mapping[str, Any]
    where: str


class Server:
    """url: http://HOST:PORT. timeout_s: seconds an answer may take. model: the name of the adapter that answers beside
    the weights; None: there is none. Every method raises UserError when the server
    refuses, and when it does not answer after some tries."""

    def __init__(self, url: str, timeout_s: float, model: str | None = None):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.port or parts.path.strip("/") or parts.query:
            raise UserError(f"{url!r} is not the address of a server of ours, which looks like http://127.0.0.1:8000")
        self.url, self.timeout_s, self.model = url.rstrip("/"), timeout_s, model
        self.connection = http.Connection(
            url, if_refused="It must be a server that scripts/serve.sh has started with this run's config and keys",
            if_away="Start the server again and run the same command: it resumes from the last checkpoint")

    def check(self, wanted: Mapping[str, Any]) -> str:
        """Wait for the server to come up and compare its settings with these; returns the release of its vLLM."""
        found = self._call("gre_settings", [], "a first question", tries=START_TRIES, timeout_s=60.0)
        wrong = [f"{name} is {_shown(found[name], wanted[name])} there and {_shown(wanted[name], found[name])} here"
                 for name in sorted(found.keys() & wanted.keys()) if found[name] != wanted[name]]
        if wrong:
            raise UserError(f"{self.url} is another server than this run needs: {'; '.join(wrong)}. Start it by "
                            "scripts/serve.sh with the config and the keys of this run")
        return found["vllm"]

    def load(self, folder: str) -> None:
        """Let the server have the weights of a folder it sees too."""
        self._call("gre_load", [folder], "new weights")

    def listen(self) -> int:
        """Open a way for weights on the server's host; its port."""
        return int(self._call("gre_listen", [self.timeout_s], "a way for weights"))  # vLLM makes text of numbers

    def receive(self) -> None:
        """Let the server take the weights that are being sent by that way; asked once, while they are sent."""
        self._call("gre_receive", [self.timeout_s], "new weights", tries=1)

    def renew(self, version: str) -> None:
        """Call the weights it has been given `version`, and have it forget what it computed with others: keys and
        values, and photos seen by the old vision tower."""
        if not self._post("/reset_prefix_cache", {}, "new weights").get("success"):
            raise UserError(f"{self.url} is answering somebody else and keeps what it computed with old weights: one "
                            "run to a server")
        self._post("/reset_encoder_cache", {}, "new weights")
        self._post("/reset_mm_cache", {}, "new weights")
        self._post("/update_weight_version", {"new_version": version}, "new weights")

    def answers(self, asked: Sequence[Asked], at_once: int, version: str | None = UNCHANGED) -> list[list[dict]]:
        """vLLM's choices for every prompt, in order, by the weights called `version`, or by any. at_once: requests at a
        time.

        Raises RuntimeError when the server reads another prompt than the trainer.
        """
        token_ids = [unexpanded(prompt) for prompt, _, _ in asked]
        images = {id(prompt.image): prompt.image for prompt, _, _ in asked}
        with ThreadPoolExecutor(max(1, at_once)) as pool:
            uris = dict(zip(images, pool.map(http.png_uri, images.values())))
            running = [pool.submit(self._answer, one, ids, uris[id(one.prompt.image)], version)
                       for one, ids in zip(asked, token_ids)]
            try:
                return [future.result() for future in running]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _answer(self, asked: Asked, token_ids: list[int], uri: str, version: str | None) -> list[dict]:
        body = {"token_ids": token_ids, "content_parts": [{"type": "image_url", "url": uri}],
                "sampling_params": asked.params, "return_token_ids": True,
                **({"model": self.model} if self.model else {})}
        answer = self._post("/inference/v1/generate", body, asked.where)
        check_expanded(asked.prompt, answer["prompt_token_ids"])
        for choice in answer["choices"]:
            if version and {span["version"] for span in choice["weight_versions"]} != {version}:
                raise UserError(f"{asked.where}: {self.url} does not have the weights it was sent: it was started "
                                "anew, or another run uses it too. Run the same command again: it resumes from the "
                                "last checkpoint")
        return sorted(answer["choices"], key=lambda choice: choice["index"])

    def _call(self, method: str, arguments: list, where: str, **patience) -> Any:
        """What a method of gre.rollout.vllm.worker.Served returns. patience: tries, timeout_s."""
        return self._post("/collective_rpc", {"method": method, "args": arguments}, where, final=RAISED,
                          **patience)["results"][0]

    def _post(self, path: str, body: Mapping, where: str, **how) -> dict:
        return self.connection.post(path, body, _read, where=where, **{"timeout_s": self.timeout_s, **how})


def together(action: Callable[..., T], *args) -> T:
    """What `action` gives on this process. Every process must call it: where one of them has a UserError all raise it,
    since one that stops alone is waited for."""
    value, said = None, None
    try:
        value = action(*args)
    except UserError as error:
        said = str(error)
    failed = [each for each in gather_object([said]) if each]
    if failed:
        raise UserError(failed[0])
    return value


def _read(content: bytes) -> dict:
    return json.loads(content) if content else {}


def _shown(value: Any, other: Any) -> str:
    """A setting for a message; of two mappings, what differs."""
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        value = {name: inner for name, inner in value.items() if inner != other.get(name)}
    return f"{value}"[:SHOWN]
