"""BERTScore by the bert-score package, model by path. The extra `chain` of setup.py installs it."""
import json
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from gre.config import UserError

RAW = "none"
LANGUAGE = "en"  # of the chains


class Bert:
    """A BERTScore without idf weights; `name` is what bert-score asks to be reported, path and versions included."""

    def __init__(self, folder: str, layer: int, baseline: str):
        """folder: an encoder. layer: its layer to compare, from 1. baseline: what to rescale with, see
        `baseline_file`.

        Raises UserError when the package or the folder is missing, or the folder or the baseline lacks that layer.
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
        self.baseline = baseline_file(baseline, folder)
        if self.baseline and not layer < (lines := len(self.baseline.read_text().splitlines()) - 1):
            raise UserError(f"bert_baseline={self.baseline}: its layers are 0 to {lines - 1}, and bert_layer is "
                            f"{layer}: it is of another encoder")
        self.scorer = BERTScorer(model_type=folder, num_layers=layer, rescale_with_baseline=bool(self.baseline),
                                 lang=LANGUAGE, baseline_path=self.baseline and str(self.baseline))
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


def baseline_file(baseline: str, folder: str) -> Path | None:
    """The file with the scores of unrelated texts at each layer, which become 0 by it. None: raw scores.

    baseline: a file, a name of bert-score's own (roberta-large), `none` for raw scores, or empty for bert-score's own
    of the folder's name. Raises UserError where there is none.
    """
    import bert_score

    if baseline == RAW:
        return None
    if Path(baseline).is_file():
        return Path(baseline)
    name = baseline or Path(folder).name
    shipped = Path(bert_score.__file__).parent / "rescale_baseline" / LANGUAGE
    if not (shipped / f"{name}.tsv").is_file():
        own = ", ".join(sorted(file.relative_to(shipped).with_suffix("").as_posix() for file in shipped.rglob("*.tsv")))
        raise UserError(f"bert_baseline={baseline}: no file and none of bert-score's own baselines is called {name}. "
                        f"Name that of the encoder ({own}), or a file; or write bert_baseline={RAW} for raw scores, by "
                        "which unrelated texts agree, too")
    return shipped / f"{name}.tsv"
