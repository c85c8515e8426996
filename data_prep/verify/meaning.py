"""How alike two chains are in what they mean: the cosine of their sentence embeddings. Model by path."""
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

from gre.config import UserError

BATCH = 32


class Encoder:
    """An encoder such as all-MiniLM-L6-v2: a text's embedding is the mean of its tokens', of length 1."""

    def __init__(self, folder: str):
        """Raises UserError when the folder holds no encoder."""
        if not (Path(folder) / "config.json").is_file():
            raise UserError(f"encoder={folder} is no model folder (it has no config.json): name a local copy of a "
                            "sentence encoder, such as all-MiniLM-L6-v2")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            self.model = AutoModel.from_pretrained(folder).eval()
        except (OSError, ValueError) as error:
            raise UserError(f"encoder={folder} cannot be read as an encoder ({str(error).splitlines()[0]})") from None
        self.longest = min(self.tokenizer.model_max_length, self.model.config.max_position_embeddings)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model.to(self.device)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """(number of texts, width), on the CPU; a text is cut off at `longest` tokens."""
        parts = []
        for start in range(0, len(texts), BATCH):
            batch = self.tokenizer(list(texts[start:start + BATCH]), return_tensors="pt", padding=True, truncation=True,
                                   max_length=self.longest).to(self.device)
            hidden = self.model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"].unsqueeze(-1).float()
            mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
            parts.append(torch.nn.functional.normalize(mean, dim=-1).cpu())
        return torch.cat(parts)
