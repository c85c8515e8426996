"""Build a benchmark of GREval-Bench's kind: `python -m data_prep.greval [CONFIG.yaml] key=value …`.

From photos with coordinates and chains (GRE30K-CoT's form) to the published JSON plus `indicators`, `steps`, `scene`
and `indoor`. In turn, each counted before and after:

    indicators   an LLM lists each chain's geographic indicators; a photo without one is dropped
    seen         indicators whose prompt is less like the photo than `similarity` (CLIP) are dropped, and photos
                 left without one
    faces        photos whose faces cover more than `face_share` are dropped
    reviewed     three reviewers: can country or city be told from this photo alone? Two noes drop it
    key steps    drafted by an LLM that sees photo and true coordinates, corrected by people in OUT/steps.jsonl

Where people are needed the command says what to do and ends; the same command resumes from there. OUT gets
GREval-Bench.json, imgs/, counts.json and dropped.jsonl (which photo fell where, and why). docs/chain_quality.md.
"""
import csv
import json
import shutil
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.greval import drafts, measured, reviews
from data_prep.greval.faces import FaceDetector
from eval.chain import questions
from gre import provenance
from gre.config import REQUIRED, UserError, main, option
from gre.data import annotations
from gre.data.annotations import Indicator
from gre.data.records import BenchRow, CoTRow, DataConfig, read_cot, write_bench
from gre.llm import Client, LLMConfig
from gre.manifest import model_hash
from gre.models.clip import Clip
from gre.text.chains import chain_of


@dataclass
class Config:
    data: DataConfig = option(DataConfig(), "photos, coordinates and chains, in GRE30K-CoT's form")
    out: str = option(REQUIRED, "folder of the benchmark")
    llm: LLMConfig = option(LLMConfig(), "the LLM that reads chains and drafts key steps; it must see photos")
    cache: str = option("", "file of the LLM's replies; empty: OUT/llm.jsonl")
    clip: str = option(REQUIRED, "folder of a CLIP model")
    prompt: str = option("a photo showing {}", "what CLIP compares with the photo; {} is the indicator")
    similarity: float = option(REQUIRED, "least cosine of photo and prompt; the run prints what there is")
    faces: str = option(REQUIRED, "YuNet face detector, an ONNX file")
    face_confidence: float = option(0.9, "score from which a face counts; OpenCV's default")
    face_share: float = option(0.5, "largest share of a photo that faces may cover")
    reviews: str = option("", "CSV of people's answers: sample_id,reviewer,told (yes or no)")
    reviewers: list[str] = option([], "or three LLMs at llm.url to answer instead, by name")
    max_pixels: int = option(1_000_000, "pixels of a photo sent to an LLM, at most")


class Funnel:
    """The photos that are left, in order, and where the others went."""

    def __init__(self, ids: list[str]):
        self.left, self.counts, self.dropped = ids, [], []

    def drop(self, name: str, why: Mapping[str, str]) -> None:
        """Take out the photos that `why` gives a reason for."""
        before = len(self.left)
        self.dropped += [{"sample_id": id, "filter": name, "why": why[id]} for id in self.left if id in why]
        self.left = [id for id in self.left if id not in why]
        self.counts.append({"filter": name, "before": before, "after": len(self.left)})
        print(f"{name}: {before} photos before, {len(self.left)} after")

    def save(self, out: Path) -> None:
        """Write counts.json and dropped.jsonl."""
        provenance.write_atomically(out / "counts.json", json.dumps(self.counts, indent=2) + "\n")
        provenance.write_atomically(out / "dropped.jsonl", "".join(
            json.dumps(line, ensure_ascii=False) + "\n" for line in self.dropped))


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    return {"reads": [config.data.path, config.clip, config.faces, *filter(None, [config.reviews])],
            "writes": [config.cache or f"{config.out}/llm.jsonl", f"{config.out}/GREval-Bench.json"]}


def run(config: Config) -> list[dict]:
    """Go as far as people's work allows; returns the counts. Raises UserError naming file, row and remedy."""
    if bool(config.reviews) == bool(config.reviewers):
        raise UserError("who reviews? Write reviews=FILE.csv (people) or reviewers=[A,B,C] (LLMs)")
    if "{}" not in config.prompt:
        raise UserError(f"prompt={config.prompt!r}: write {{}} where the indicator goes")
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    rows = candidates(config.data)
    chains = {id: chain_of(row.response) for id, row in rows.items()}
    funnel = Funnel(list(rows))
    try:
        client = Client(config.llm, config.cache or out / "llm.jsonl")
        found = {id: reading.indicators for id, reading in zip(rows, client.answers(
            [questions.indicators(f"sample {id}", chain) for id, chain in chains.items()], "indicators"))}
        funnel.drop("indicators", {id: "its chain has no indicator" for id in rows if not found[id]})
        found = _look(config, rows, found, funnel)
        if _review(config, rows, funnel):
            _finish(config, rows, chains, found, funnel, client)
    finally:
        funnel.save(out)
    return funnel.counts


def candidates(data: DataConfig) -> dict[str, CoTRow]:
    """Sample id → row; the id is the photo's name without its ending."""
    rows = read_cot(data)
    if twice := [name for name, count in Counter(row.image.stem for row in rows).items() if count > 1]:
        raise UserError(f"{data.path}: {len(twice)} photos share a name, the first is {twice[0]}; it becomes the "
                        "sample_id. Rename them")
    return {row.image.stem: row for row in rows}


def _look(config: Config, rows: Mapping[str, CoTRow], found: Mapping[str, tuple[Indicator, ...]],
          funnel: Funnel) -> dict[str, tuple[Indicator, ...]]:
    """Sample id → the indicators CLIP sees. Drops photos without one, and faces."""
    clip, faces = Clip(config.clip), FaceDetector(config.faces, config.face_confidence)
    settings = {"clip": model_hash(Path(config.clip)), "prompt": config.prompt,
                "faces": provenance.file_hash(config.faces), "face_confidence": config.face_confidence}
    texts = {id: list(dict.fromkeys(indicator.text for indicator in found[id])) for id in funnel.left}
    seen = measured.measure(Path(config.out) / "measured.jsonl", settings, {id: rows[id].image for id in funnel.left},
                            texts, config.prompt, clip, faces)
    cosines = [cosine for one in seen.values() for cosine in one.similarity.values()]
    if len(cosines) > 1:
        print("similarity of indicators and photos, by tenths:",
              " ".join(f"{tenth:.3f}" for tenth in statistics.quantiles(cosines, n=10)))
    kept = {id: tuple(indicator for indicator in found[id]
                      if seen[id].similarity[indicator.text] >= config.similarity) for id in funnel.left}
    funnel.drop("seen", {id: f"best similarity {max(seen[id].similarity.values()):.3f}" for id in funnel.left
                         if not kept[id]})
    funnel.drop("faces", {id: f"faces cover {seen[id].face_share:.0%}" for id in funnel.left
                          if seen[id].face_share > config.face_share})
    return kept


def _review(config: Config, rows: Mapping[str, CoTRow], funnel: Funnel) -> bool:
    """Drop what two reviewers cannot place; False where people have still to answer."""
    pictures = {id: rows[id].image for id in funnel.left}
    if config.reviewers:
        answers = reviews.ask(pictures, config.reviewers, config.llm,
                              Path(config.cache or Path(config.out) / "llm.jsonl"), config.max_pixels)
    else:
        answers = reviews.read(Path(config.reviews), rows) if Path(config.reviews).exists() else {}
    waiting = [(id, reviews.REVIEWERS - len(answers.get(id, {}))) for id in pictures]
    waiting = [(id, missing) for id, missing in waiting if missing]
    if waiting:
        path = Path(config.out) / "to_review.csv"
        with open(path, "w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("sample_id", "answers_missing", "image"),
                                          *((id, missing, pictures[id]) for id, missing in waiting)])
        print(f"waiting for reviewers: {len(waiting)} photos of {path}. Can country or city be told from the photo "
              f"alone? Write {','.join(reviews.COLUMNS)} (yes or no) lines of {reviews.REVIEWERS} people into "
              f"{config.reviews}, and run the command again")
        return False
    noes = {id: [name for name, told in answers[id].items() if not told] for id in pictures}
    funnel.drop("reviewed", {id: f"cannot be told, say {', '.join(names)}" for id, names in noes.items()
                             if len(names) >= reviews.NOES})
    return True


def _finish(config: Config, rows: Mapping[str, CoTRow], chains: Mapping[str, str],
            found: Mapping[str, tuple[Indicator, ...]], funnel: Funnel, client: Client) -> None:
    """Draft key steps; once people have corrected all of them, write the benchmark."""
    out, path = Path(config.out), Path(config.out) / "steps.jsonl"
    known = drafts.read(path)
    if unknown := [id for id in known if id not in rows]:
        raise UserError(f"{path}: there is no sample {unknown[0]!r}. Correct the id or remove the line")
    missing = {id: rows[id] for id in funnel.left if id not in known}
    drafts.append(path, missing, client.answers(
        [drafts.question(id, row, chains[id], found[id], config.max_pixels) for id, row in missing.items()],
        "key steps"))
    corrected = drafts.read(path)
    if waiting := [id for id in funnel.left if not corrected[id].corrected_by]:
        print(f"waiting for corrections: {len(waiting)} of {len(funnel.left)} photos in {path}, the first is "
              f"{waiting[0]}. Correct indicators, steps and scene, write a name under corrected_by, and run the "
              "command again")
        return
    (out / "imgs").mkdir(exist_ok=True)
    written = []
    for id in funnel.left:
        image = out / "imgs" / rows[id].image.name
        if not image.exists():
            shutil.copyfile(rows[id].image, image)
        written.append(BenchRow(id, image, "\n".join(step.text for step in corrected[id].steps), rows[id].truth))
    write_bench(out / "GREval-Bench.json", written, {
        id: {"indicators": annotations.as_json(corrected[id].indicators),
             "steps": annotations.as_json(corrected[id].steps), "scene": corrected[id].scene,
             "indoor": annotations.indoor(corrected[id].scene)} for id in funnel.left})
    scenes = Counter(corrected[id].scene for id in funnel.left)
    print(f"{out / 'GREval-Bench.json'}: {len(written)} rows;",
          ", ".join(f"{scene} {count}" for scene, count in scenes.most_common()))


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
