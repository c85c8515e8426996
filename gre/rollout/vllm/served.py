"""Rollouts by a `vllm serve` on other GPUs or another machine (scripts/serve.sh starts it; docs/rollouts.md).

Before every phase the first process has the server take the policy's weights, one parameter at a time; then every
process asks for the completions of its own prompts. What could part the sampled policy from the trained one is checked
as for the engine in the training process, and that the tokens were drawn by these very weights: a server that was
started anew in between has others.
"""
from dataclasses import dataclass
from uuid import uuid4

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from gre.models.packing import Prompt
from gre.models.weights import trained_weights
from gre.rollout.completion import Completion
from gre.rollout.vllm.client import Asked, Server, together
from gre.rollout.vllm.sampling import sampling_params
from gre.rollout.vllm.transfer import ByBroadcast, ByFolder

LOWEST_LOG_PROB = -9999.0  # what a server says in place of one that is not finite


@dataclass(frozen=True)
class ServedRollout:
    """Samples completions with a `Server` that is sent the weights of the model that is being trained.

    version: the release of its vLLM. transfer: how weights reach it. dtype: of its weights. banned (V,): words never
    drawn; they are the server's too. batch_size: completions asked for at a time, by each process.
    """

    server: Server
    version: str
    transfer: ByFolder | ByBroadcast
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
        together(self._renew, model, version)
        return version

    def _renew(self, model: nn.Module, version: str) -> None:
        weights = trained_weights(model, self.dtype)
        try:
            if PartialState().is_main_process:
                self.transfer.send(self.server, weights)
                self.server.renew(version)
        finally:
            for _ in weights:  # gathering is an operation of all processes, to the end
                pass


def _completion(choice: dict) -> Completion:
    """A choice of the server, with one log-probability a token."""
    return Completion(torch.tensor(choice["token_ids"]), choice["finish_reason"] == "stop",
                      torch.tensor([one["logprob"] for one in choice["logprobs"]["content"]]))
