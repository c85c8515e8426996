"""CLIP by path: how well a text fits a photo."""
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor

from gre.config import UserError

BATCH = 64


class Clip:
    """A CLIP model folder. Embeddings have length 1, so that a product of two is their cosine."""

    def __init__(self, folder: str | Path):
        """Raises UserError when the folder holds no CLIP model, or not all weights its config.json describes."""
        if not (Path(folder) / "config.json").is_file():
            raise UserError(f"{folder} is no model folder (it has no config.json): name a local copy of a CLIP model, "
                            "such as openai/clip-vit-large-patch14")
        try:
            self.processor = CLIPProcessor.from_pretrained(folder)
            self.model, report = CLIPModel.from_pretrained(folder, output_loading_info=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"{folder} cannot be read as a CLIP model ({str(error).splitlines()[0]})") from None
        if faults := {fault: sorted(map(str, names)) for fault, names in report.items()
                      if names and fault != "unexpected_keys"}:  # old folders hold position ids
            raise UserError(f"{folder} does not hold the weights its config.json describes: {faults}")
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model.to(self.device).eval()
        self.longest = self.model.config.text_config.max_position_embeddings

    @torch.no_grad()
    def pictures(self, images: Sequence[Image.Image]) -> Tensor:
        """(number of photos, width), on the CPU."""
        return self._embed(images, lambda batch: self.model.get_image_features(
            **self.processor(images=list(batch), return_tensors="pt").to(self.device)))

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """(number of texts, width), on the CPU; a text is cut off at `longest` tokens (`too_long` tells)."""
        return self._embed(texts, lambda batch: self.model.get_text_features(**self.processor(
            text=list(batch), return_tensors="pt", padding=True, truncation=True,
            max_length=self.longest).to(self.device)))

    def too_long(self, text: str) -> bool:
        """Whether the text does not fit."""
        return len(self.processor.tokenizer(text).input_ids) > self.longest

    def _embed(self, items, features) -> Tensor:
        parts = []
        for start in range(0, len(items), BATCH):
            made = features(items[start:start + BATCH])
            vectors = made if isinstance(made, Tensor) else made.pooler_output
            parts.append(torch.nn.functional.normalize(vectors.float(), dim=-1).cpu())
        return torch.cat(parts) if parts else torch.zeros(0, self.model.config.projection_dim)
