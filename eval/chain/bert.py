"""BERTScore by the bert-score package, model by path. The extra `chain` of setup.py installs it."""
import json
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from gre.config import UserError


class Bert:
    """A BERTScore without idf weights; `name` is what bert-score asks to be reported, path and versions included."""

    def __init__(self, folder: str, layer: int, baseline: str):
        """folder: an encoder. layer: its layer to compare, from 1. baseline: a file of bert-score's rescale_baseline,
        to rescale with; empty: raw scores.

        Raises UserError when the package or the folder is missing, or the folder lacks that layer.
        """
        try:
            from bert_score import BERTScorer
        except ImportError as error:
            raise UserError(f"bert-score cannot be imported ({error}): install the extra, pip install -e "
                            "'.[chain]'") from None
        try:
            described = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        except OSError:
            raise UserError(f"bert={folder} is no model folder (it has no config.json): name a local copy of an "
                            "encoder, such as roberta-large with bert_layer=17") from None
        if "t5" in folder and described["model_type"] != "t5" or folder.startswith("scibert"):
            raise UserError(f"bert={folder}: bert-score takes a path with t5 in it for a T5, and one that begins with "
                            "scibert for a name of its own: use another path, a link will do")
        if not 1 <= layer <= described.get("num_hidden_layers", layer):
            raise UserError(f"bert_layer={layer}: {folder} has layers 1 to {described['num_hidden_layers']}")
        if baseline and not Path(baseline).is_file():
            raise UserError(f"bert_baseline={baseline}: no such file. Leave it empty for scores that are not rescaled")
        self.scorer = BERTScorer(model_type=folder, num_layers=layer, rescale_with_baseline=bool(baseline),
                                 lang="en" if baseline else None, baseline_path=baseline or None)
        if self.scorer._tokenizer.model_max_length > 10**9:  # the folder does not say; the tokenizer would overflow
            self.scorer._tokenizer.model_max_length = described["max_position_embeddings"]
        self.name = self.scorer.hash.replace(folder, Path(folder).name)

    def f1(self, candidates: Sequence[str], references: Sequence[str]) -> list[float]:
        """BERTScore's F1 of each pair of texts, none of them empty.

        One pair at a time: bert-score fills its batches in the order of a set, and with it the last bits would change
        from run to run.
        """
        return [self.scorer.score([candidate], [reference])[2].item()
                for candidate, reference in tqdm(list(zip(candidates, references)), desc="inferences")]

    def too_long(self, text: str) -> bool:
        """Whether a text is cut off."""
        tokenizer = self.scorer._tokenizer
        return len(tokenizer(text).input_ids) > tokenizer.model_max_length
