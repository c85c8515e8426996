"""Banned tokens inside vLLM. vLLM loads this file by its name; nothing else imports it, since it needs vLLM."""
import torch
from torch import Tensor
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor


class BannedTokens(LogitsProcessor):
    """Takes the tokens of the engine's additional_config["banned"] from every request, exactly, as the trainer does; a
    logit bias would not, and a list of all allowed tokens would be looked through for every request."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool):
        self.banned = torch.tensor(vllm_config.additional_config["banned"], dtype=torch.long, device=device)

    def apply(self, logits: Tensor) -> Tensor:
        return logits.index_fill_(1, self.banned, -torch.inf)

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """The same for all requests."""
