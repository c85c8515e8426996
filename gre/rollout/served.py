"""Rollouts by a `vllm serve` on other GPUs or another machine (scripts/serve.sh starts it; docs/rollouts.md).

Before every phase the first process writes the policy's weights into a folder that the server sees too, one parameter
at a time, and has it load them; then every process asks for the completions of its own prompts. What could part the
sampled policy from the trained one is checked as for the engine in the training process, and that the words were drawn
by these very weights: a server that was started anew in between has others.
"""
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from gre.config import UserError
from gre.models.packing import Prompt
from gre.models.server import Asked, Server, together
from gre.models.weights import full_weights
from gre.rollout.rollout import Completion
from gre.rollout.sampling import sampling_params

SHARD_BYTES = 2**30        # of a file of weights, and of what waits in memory to be written
LOWEST_LOG_PROB = -9999.0  # what a server says in place of one that is not finite


@dataclass(frozen=True)
class ServedRollout:
    """Samples completions with a `Server` that is sent the weights of the model that is being trained.

    version: the release of its vLLM. folder: where weights are left for it. dtype: of its weights. banned (V,): words
    never drawn; they are the server's too. batch_size: completions asked for at a time, by each process.
    """

    server: Server
    version: str
    folder: Path
    dtype: torch.dtype
    end_token_id: int
    banned: Tensor
    max_new_tokens: int
    temperature: float = 1.0
    batch_size: int = 512
    engine = "served"
    exact = False

    def generate(self, model: nn.Module, prompts: list[Prompt], num_generations: int, keys: list[int], *, seed: int,
                 step: int, greedy: bool = False) -> list[list[Completion]]:
        """See `Rollout`. Every process must call it. Greedy log-probabilities are those at temperature 1. UserError, on
        every process, when the server refuses, or does not answer after some tries."""
        if len(keys) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts and {len(keys)} keys: one key per prompt is needed")
        params = sampling_params(keys, num_generations, seed=seed, step=step, temperature=self.temperature,
                                 max_new_tokens=self.max_new_tokens, end_token_id=self.end_token_id, greedy=greedy)
        asked = [Asked(prompt, fields, f"step {step + 1}, row {key + 1}")
                 for prompt, fields, key in zip(prompts, params, keys)]
        version = self._send(model)
        choices = together(self.server.answers, asked, self.batch_size // num_generations, version)
        groups = [[_completion(choice) for choice in group] for group in choices]
        broken = sum(bool((one.log_probs <= LOWEST_LOG_PROB).any()) for group in groups for one in group)
        if broken:
            raise FloatingPointError(f"the log-probabilities of {broken} completions are not finite")
        return [group * num_generations for group in groups] if greedy else groups

    def _send(self, model: nn.Module) -> str:
        """Let the server have the model's weights; what they are called."""
        (version,) = broadcast_object_list([uuid4().hex])
        together(self._write, model)
        together(self._load, version)
        return version

    def _write(self, model: nn.Module) -> None:
        weights = full_weights(model, self.dtype)
        try:
            if PartialState().is_main_process:
                write(weights, self.folder)
        except (OSError, SafetensorError) as error:
            raise UserError(f"the weights for the server cannot be written to {self.folder} ({error}): make room, or "
                            "set rollout.weights_dir") from None
        finally:
            for _ in weights:  # gathering is an operation of all processes, to the end
                pass

    def _load(self, version: str) -> None:
        if PartialState().is_main_process:
            self.server.load(str(self.folder.absolute()), version)
            shutil.rmtree(self.folder)


def write(weights: Iterable[tuple[str, Tensor]], folder: Path) -> None:
    """Write weights as safetensors files into an empty folder, some at a time."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shard, size, number = {}, 0, 0
    for name, tensor in weights:
        shard[name] = tensor.to("cpu", copy=True).contiguous()  # the head may be the embedding: a file wants each apart
        size += tensor.nbytes
        if size >= SHARD_BYTES:
            save_file(shard, folder / f"{number:05}.safetensors")
            shard, size, number = {}, 0, number + 1
    if shard:
        save_file(shard, folder / f"{number:05}.safetensors")


def _completion(choice: dict) -> Completion:
    """A choice of the server, with one log-probability a token."""
    return Completion(torch.tensor(choice["token_ids"]), choice["finish_reason"] == "stop",
                      torch.tensor([one["logprob"] for one in choice["logprobs"]["content"]]))
