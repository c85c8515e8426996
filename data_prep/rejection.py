"""Rejection sampling: of G sampled completions of a photo the one nearest to the truth becomes a row for stage 1.

    python -m data_prep.rejection model=runs/x/stage1 data.path=dataset/gre_seed/gre_seed.jsonl \
        out=dataset/gre_seed/best.json [num_photos=N] [key=value …]

The rows have GRE30K-CoT's form, so that stage 1 trains on them, with `model_name_or_path` the model that wrote them
(`accept_parent=any`): the peer that every RL on the same samples has to beat. An answer by name alone is as far away as
the city it names. A photo none of whose completions is finished, well formed and within `within_km` of the truth gives
no row; such photos are counted. Every batch of photos is kept in OUT.samples.jsonl, and the same command resumes from
there.
"""
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from gre import manifest, provenance
from gre.config import REQUIRED, UserError, main, option
from gre.data.records import CoTRow, DataConfig, SeedRow, read_seed, write_cot
from gre.geo.places import Gazetteer, gazetteer
from gre.models.vlm import load_model, load_processor
from gre.rewards.format import format_reward
from gre.rewards.place import MIN_POPULATION, named_distance_km
from gre.rollout.engines import RolloutConfig, make_rollout
from gre.training.rl import encode


@dataclass
class Config:
    """Keys of rejection sampling."""

    model: str = option(REQUIRED, "the stage's folder that is sampled from")
    data: DataConfig = option(DataConfig, "GRE30K-Seed rows")
    out: str = option(REQUIRED, "JSON file for the chosen rows; the photos must lie under its folder")
    num_photos: int | None = option(None, "photos sampled, drawn with the seed; null: all")
    num_generations: int = option(8, "completions a photo")
    within_km: float = option(750.0, "farthest answer that still makes a row")
    max_length: int = option(4096, "tokens of prompt and completion that vLLM makes room for")
    rollout: RolloutConfig = option(RolloutConfig, "sampling")
    seed: int = option(0, "seed of the draw and of the sampling")
    accept_parent: str = option("verified", "verified, or any: take an unfinished or altered checkpoint")


def run(config: Config) -> None:
    """Sample, choose, write. Raises UserError for samples made otherwise and when no photo gives a row."""
    parent = manifest.verify_parent(config.model, {"stage1", "stage2", "stage3"}, config.accept_parent)
    rows = read_seed(config.data)
    if config.num_photos is not None and config.num_photos > len(rows):
        raise UserError(f"num_photos={config.num_photos} and {config.data.path} has {len(rows)} rows: ask for fewer")
    places = range(len(rows))
    chosen = {place: rows[place] for place in (
        places if config.num_photos is None else random.Random(config.seed).sample(places, config.num_photos))}
    samples = Path(f"{config.out}.samples.jsonl")
    settings = {key: value for key, value in asdict(config).items() if key not in ("model", "data", "out", "within_km")}
    begin(samples, {"model_sha256": parent.sha256, "settings": settings,
                    "data_sha256": provenance.file_hash(Path(config.data.path))})
    said = sample(config, parent, chosen, samples)
    named = gazetteer(MIN_POPULATION)
    best = [best_row(row, said[row.id], config.within_km, named) for row in chosen.values()]
    best = [row for row in best if row is not None]
    if not best:
        raise UserError(f"none of {len(chosen)} photos has a completion within {config.within_km:g} km: sample more "
                        "completions, allow a larger within_km, or sample from a better model")
    write_cot(config.out, best)
    print(f"{config.out}: {len(best)} rows of {len(chosen)} photos with {config.num_generations} completions each; "
          f"{len(chosen) - len(best)} photos without one within {config.within_km:g} km")


def begin(samples: Path, source: dict) -> None:
    """Note what the samples are made of, or raise UserError when those there are made of something else."""
    beside = samples.with_suffix(".json")
    if not samples.exists():
        samples.parent.mkdir(parents=True, exist_ok=True)
        provenance.write_atomically(beside, json.dumps(source, indent=2) + "\n")
    elif json.loads(beside.read_text(encoding="utf-8")) != source:
        raise UserError(f"{samples} holds samples of another model, data file or setting (see {beside}): name another "
                        "out, or remove it")


def read_samples(samples: Path) -> dict[str, list[tuple[str, bool]]]:
    """Row id → its (text, finished) pairs of an earlier run; a half-written last line is cut off."""
    if not samples.exists():
        return {}
    content = samples.read_bytes()
    samples.write_bytes(content[:content.rfind(b"\n") + 1])
    lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").split("\n")[:-1]]
    return {line["id"]: [tuple(pair) for pair in line["completions"]] for line in lines}


def sample(config: Config, parent: manifest.Parent, rows: Mapping[int, SeedRow],
           samples: Path) -> dict[str, list[tuple[str, bool]]]:
    """Completions of the rows, given by their place in the data file: those in `samples` and, added to it, the rest.

    Random numbers follow from a row's place and batches are always cut alike, so a resumed run draws what another
    would have.
    """
    said = read_samples(samples)
    budget = manifest.child_budget(parent, None, None, config.accept_parent)
    processor = load_processor(parent.model_dir, budget.min_pixels, budget.max_pixels)
    model = load_model(parent.model_dir).to("cuda" if torch.cuda.is_available() else "cpu")
    rollout = make_rollout(config.rollout, parent, processor, config.max_length, torch.float32)
    tokenizer = processor.tokenizer
    places, at_once = list(rows), max(1, config.rollout.batch_size // config.num_generations)
    with open(samples, "a", encoding="utf-8") as stream, tqdm(total=len(rows), unit="photo") as progress:
        for start in range(0, len(places), at_once):
            keys = places[start:start + at_once]
            if not all(rows[key].id in said for key in keys):
                prompts = [encode(processor, rows[key]) for key in keys]
                groups = rollout.generate(model, prompts, config.num_generations, keys, seed=config.seed, step=0)
                for key, group in zip(keys, groups, strict=True):
                    said[rows[key].id] = [(tokenizer.decode(one.token_ids, skip_special_tokens=True), one.finished)
                                          for one in group]
                    stream.write(json.dumps({"id": rows[key].id, "completions": said[rows[key].id]},
                                            ensure_ascii=False) + "\n")
                stream.flush()
            progress.update(len(keys))
    return said


def best_row(row: SeedRow, completions: Sequence[tuple[str, bool]], within_km: float,
             named: Gazetteer) -> CoTRow | None:
    """The completion nearest to the truth, the first of equals; None when none is good enough."""
    answers = [(far_km, text) for text, finished in completions if format_reward(text, finished) == 1.0
               and (far_km := named_distance_km(text, row.truth, named)) is not None]
    best_km, text = min(answers, key=lambda pair: pair[0], default=(float("inf"), ""))
    return CoTRow(row.id, row.image, row.instruction, text, row.truth) if best_km <= within_km else None


if __name__ == "__main__":
    main(run, Config, __doc__)
