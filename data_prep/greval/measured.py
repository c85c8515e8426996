"""What the encoders say of each candidate, kept in a file so that an interrupted run goes on where it stopped."""
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from data_prep.greval.faces import FaceDetector
from gre import provenance
from gre.config import UserError
from gre.data.images import load_image
from gre.models.clip import Clip


@dataclass(frozen=True)
class Measured:
    """similarity: text of an indicator → cosine of its prompt and the photo. picture: sha256 of the file."""

    sample_id: str
    picture: str
    similarity: dict[str, float]
    face_share: float


def measure(path: Path, settings: dict, pictures: Mapping[str, Path], texts: Mapping[str, Sequence[str]], prompt: str,
            clip: Clip, faces: FaceDetector) -> dict[str, Measured]:
    """Sample id → its measurements; those in the file at `path` are kept where photo and texts are the same.

    settings: models and prompt; written beside the file. Raises UserError when the file was made with others.
    """
    beside = path.with_suffix(".settings.json")
    if path.exists() and json.loads(beside.read_text(encoding="utf-8")) != settings:
        raise UserError(f"{path} was made with another CLIP, prompt or face detector: delete it or choose another out=")
    provenance.write_atomically(beside, json.dumps(settings, indent=2) + "\n")
    kept = _read(path)
    found = {}
    with open(path, "a", encoding="utf-8") as stream:
        for sample_id in tqdm(pictures, desc="pictures"):
            digest = provenance.file_hash(pictures[sample_id])
            old = kept.get(sample_id)
            if old is None or old.picture != digest or list(old.similarity) != list(texts[sample_id]):
                image = load_image(pictures[sample_id])
                cosines = clip.texts([prompt.format(text) for text in texts[sample_id]]) @ clip.pictures([image])[0]
                old = Measured(sample_id, digest, dict(zip(texts[sample_id], cosines.tolist())), faces.share(image))
                stream.write(json.dumps(asdict(old), ensure_ascii=False) + "\n")
                stream.flush()
            found[sample_id] = old
    return found


def _read(path: Path) -> dict[str, Measured]:
    """The last line of each sample; a last line left half written is cut off."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        path.write_bytes(content[:content.rfind(b"\n") + 1])
    return {line.sample_id: line for line in (Measured(**json.loads(text)) for text in content.split(b"\n")[:-1])}
