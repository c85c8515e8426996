"""What stands in for the `vllm serve` of GLOBE's reward model: a real HTTP server of its protocol, whose verdicts can
be told by hand. A chain that names a tower is localizable with 0.75, any other with 0.25.

    python -m tests.helpers.reward_server MODEL SETTINGS PORT [DIES_AT]

SETTINGS: what it says of itself, as JSON. DIES_AT: it kills itself with SIGKILL when it is asked that question.
"""
import base64
import io
import json
import math
import os
import signal
import sys
import threading
from collections import Counter
from itertools import count
from pathlib import Path

from PIL import Image
from tokenizers import Tokenizer

from tests.helpers.llm_endpoint import Endpoint

TOWER, OTHER = 0.75, 0.25
PIXELS = 28  # of a side that becomes a token


class RewardModel:
    """Answers a request's body as vLLM does. model: the folder its tokenizer lies in."""

    def __init__(self, model: Path, settings: dict, dies_at: int = 0):
        self.tokenizer, self.settings, self.dies_at = Tokenizer.from_file(f"{model}/tokenizer.json"), settings, dies_at
        self.photo = json.loads((model / "config.json").read_text())["image_token_id"]
        self.questions = count(1)

    def __call__(self, body: dict) -> dict:
        if body.get("method") == "gre_settings":
            return {"results": [self.settings]}
        if next(self.questions) == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        ids, words = body["token_ids"], body["sampling_params"]["logprob_token_ids"]
        (part,) = body["content_parts"]
        width, height = Image.open(io.BytesIO(base64.b64decode(part["url"].partition(",")[2]))).size
        at = ids.index(self.photo)
        yes = TOWER if "tower" in self.tokenizer.decode(ids) else OTHER
        said = {word: self.tokenizer.decode([word]).strip().lower() for word in words}
        forms, chance = Counter(said.values()), {"yes": yes, "no": 1 - yes}
        return {"prompt_token_ids": ids[:at] + [self.photo] * (width // PIXELS * (height // PIXELS)) + ids[at + 1:],
                "choices": [{"index": 0, "weight_versions": [{"version": "default"}],
                             "logprobs": {"content": [{"top_logprobs": [
                                 {"token_id": word, "logprob": math.log(chance[text] / forms[text])}
                                 for word, text in said.items()]}]}}]}


def settings_of(config) -> dict:
    """What a server of a stage's reward model is started with, as scripts/serve.py does it."""
    from gre import manifest
    from gre.models.vlm import load_processor
    from gre.rollout.engines import judge_server
    from gre.training.arguments import weight_dtype

    parent = manifest.verify_parent(config.judge.model_name_or_path, {"localizability"})
    return {"vllm": "0.0", **judge_server(parent, load_processor(parent.model_dir), config.model.max_length,
                                          weight_dtype(config.train, config.model))}


if __name__ == "__main__":
    answer = RewardModel(Path(sys.argv[1]), json.loads(sys.argv[2]), *map(int, sys.argv[4:]))
    with Endpoint(answer, port=int(sys.argv[3])):
        threading.Event().wait()
