"""Models by their name on the Hugging Face Hub. No torch."""
from collections.abc import Sequence
from pathlib import Path

from gre.config import UserError


def is_name(text: str) -> bool:
    """Whether `text` looks like a name on the Hub, owner/name, and no such folder is here."""
    return text.count("/") == 1 and not text.startswith((".", "/", "~")) and not Path(text).exists()


def fetch(name: str, patterns: Sequence[str]) -> Path:
    """The folder of a model on the Hub with the files that match `patterns`; what is in the cache is not fetched again.

    Raises UserError when the Hub cannot be reached and the cache does not have it, or when it knows no such model.
    """
    from huggingface_hub import snapshot_download  # takes seconds

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{name} is no folder here, is not in the Hub's cache and cannot be fetched ({type(error).__name__}). "
            f"Where there is a network: hf download {name}. Without one: copy that machine's cache (HF_HOME) here, set "
            "HF_HUB_OFFLINE=1, and run the same command; or write model_name_or_path=FOLDER") from error
