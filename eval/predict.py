"""Greedy answers of one checkpoint: `python -m eval.predict model=DIR data=FILE out=FILE.jsonl [key=value …]`.

Instead of data=FILE, benchmark.name=Im2GPS3k reads a benchmark (eval/benchmarks.py), and prompt= is what is asked.
A model folder without a manifest says neither what it was asked nor how large its pictures were: both must be given.

One row per picture (eval/predictions.py). Interrupted, the same command goes on where it stopped: rows already in the
file are kept, after a check that they come from the same model, data and settings (kept beside it in FILE.json).
Several processes share the work with shard=0/4 … shard=3/4, one GPU or array job each (eval/shards.py); when all have
ended, the command without shard joins their files. Either way the file is the one a single run would have written.
The pixel budget is the checkpoint's own. The two controls show the same questions with other pictures:
pictures=blank (grey) and pictures=swapped (a picture of another place for every row).
"""
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from eval import benchmarks, controls, predictions, shards
from eval.benchmarks import BenchmarkConfig, BenchmarkRow
from eval.predictions import Prediction
from gre import handoff
from gre.config import REQUIRED, UserError, main, option
from gre.data.images import load_image
from gre.data.records import DataConfig, SeedRow, read_seed
from gre.models import vlm
from gre.rollout.transformers import TransformersRollout
from gre.text.answers import parse_answer
from gre.text.prompts import COT_INSTRUCTION

PICTURES = ("own", "blank", "swapped")
STAGES = (handoff.BASE, "stage1", "stage2", "stage3")


@dataclass
class Config:
    model: str = option(REQUIRED, "a stage's folder, or a plain Hugging Face model folder")
    data: str = option("", "rows to answer, in the form of GRE30K-Seed; or name a benchmark")
    benchmark: BenchmarkConfig = option(BenchmarkConfig(), "the benchmark to answer instead of data")
    prompt: str = option("", "what is asked of each picture of a benchmark, or @FILE that holds it; empty: what our "
                             "stages are trained on")
    out: str = option(REQUIRED, "prediction file, one JSON line per picture")
    image_root: str = option("", "where the rows' pictures lie; empty: beside the data file")
    places: str = option("", "JSON lines naming the `place` of each `image`; empty: equal coordinates are one place")
    pictures: str = option("own", f"what the model is shown: {', '.join(PICTURES)}")
    seed: int = option(0, "deals the swapped pictures; greedy answers need no other")
    batch_size: int = option(64, "pictures answered at once")
    shard: str = option("", "i/n, i from 0: answer this part of the rows, into a file beside out; empty: all rows")
    max_new_tokens: int = option(512, "tokens of an answer; what is longer is cut and counts as unfinished")
    dtype: str = option("float32", "weights while answering: float32 or bfloat16")
    min_pixels: int | None = option(None, "smallest picture of a plain model; a stage's is in its manifest")
    max_pixels: int | None = option(None, "largest picture of a plain model; a stage's is in its manifest")
    accept_parent: str = option("verified", "verified, or any: take an unfinished or altered checkpoint")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    data = map(str, benchmarks.files(config.benchmark)) if config.benchmark.name else [config.data]
    out = shards.path(Path(config.out), *shards.parse(config.shard)) if config.shard else config.out
    return {"reads": [config.model, *data, *filter(None, [config.places])], "writes": [str(out)]}


def run(config: Config) -> list[Prediction]:
    """Answer every row of `config.data` (or of this shard) not yet answered; returns them in the order of the data.

    Raises UserError for a setting it does not know, a checkpoint that is refused, a bad row, or a file made otherwise.
    """
    if config.pictures not in PICTURES:
        raise UserError(f"pictures is {config.pictures!r}: write one of {', '.join(PICTURES)}")
    if config.dtype not in ("float32", "bfloat16"):
        raise UserError(f"dtype is {config.dtype!r}: write float32 or bfloat16")
    parent = handoff.verify_parent(config.model, STAGES, config.accept_parent)
    budget = handoff.child_budget(parent, config.min_pixels, config.max_pixels, config.accept_parent)
    rows, data, root, asked = read_rows(config, parent)
    labels = {row.id: row.labels for row in rows if isinstance(row, BenchmarkRow)}
    places = place_names(rows, config.places)
    shown = controls.deal(places, config.seed) if config.pictures == "swapped" else range(len(rows))

    batches = [range(start, min(start + config.batch_size, len(rows)))
               for start in range(0, len(rows), config.batch_size)]
    source = {
        "model": {"stage": parent.stage, "sha256": parent.sha256}, "data_sha256": handoff.file_hash(data), **asked,
        "pictures": config.pictures, "seed": config.seed, "max_new_tokens": config.max_new_tokens,
        "dtype": config.dtype, "pixel_budget": asdict(budget)}
    out = Path(config.out)
    if config.shard:
        mine, of = shards.parse(config.shard)
        out, batches = shards.path(out, mine, of), batches[mine::of]
        source |= {"shard": config.shard, "batch_size": config.batch_size}
    elif not out.exists():
        shards.join(out, source, [row.id for row in rows])
    ids = [rows[index].id for batch in batches for index in batch]
    kept = _kept(out, source)
    predictions.append(out, [])  # where there are more shards than batches, the last ones leave empty files
    if waiting := len(set(ids) - kept):
        answer = _answerer(parent.model_dir, budget, config)
        with tqdm(total=len(ids), initial=len(ids) - waiting, desc=out.stem, unit="picture") as progress:
            for indices in batches:
                new = [rows[index].id not in kept for index in indices]
                if not any(new):
                    continue
                # A batch begun before is answered whole: what stands beside a picture can change its last bits.
                images = [load_image(rows[shown[index]].image) for index in indices]
                if config.pictures == "blank":
                    images = [controls.blank(image) for image in images]
                said = answer([rows[index].instruction for index in indices], images)
                predictions.append(out, [_prediction(rows[index], places[index], root, *text_and_end)
                                         for index, text_and_end, is_new in zip(indices, said, new) if is_new], labels)
                progress.update(sum(new))
    return predictions.check_complete(predictions.read(out), ids, str(out))


def read_rows(config: Config, parent: handoff.Parent) -> tuple[list[SeedRow], Path, Path, dict]:
    """(rows, the file they stand in, the folder of their pictures, what to record about benchmark and prompt)."""
    if bool(config.data) == bool(config.benchmark.name):
        raise UserError("name what is to be answered: either data=FILE or benchmark.name=NAME")
    if config.data:
        if config.prompt:
            raise UserError("prompt= is for benchmarks: the rows of data= say themselves what they ask")
        rows = read_seed(DataConfig(path=config.data, image_root=config.image_root))
        return rows, Path(config.data), Path(config.image_root or Path(config.data).parent).resolve(), {}
    if config.image_root:
        raise UserError("image_root= is for data=FILE: name the pictures of a benchmark with benchmark.images=")
    prompt = read_prompt(config.prompt)
    if parent.stage == handoff.BASE and (not prompt or None in (config.min_pixels, config.max_pixels)):
        raise UserError(f"{config.model} has no manifest that says what it is asked and how large its pictures are: "
                        "write prompt=… min_pixels=… max_pixels=…; both decide the number")
    prompt = prompt or COT_INSTRUCTION
    rows = benchmarks.read(config.benchmark, prompt)
    labels, images = benchmarks.files(config.benchmark)
    return rows, labels, images.resolve(), {"benchmark": benchmarks.record(config.benchmark), "prompt": prompt}


def read_prompt(prompt: str) -> str:
    """The prompt itself, or the content of the file that `@FILE` names."""
    if not prompt.startswith("@"):
        return prompt
    try:
        return Path(prompt[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"prompt={prompt} cannot be read ({error}): name a text file after the @") from None


def place_names(rows: Sequence[SeedRow], sidecar: str) -> list[str]:
    """The place of each row: what intervals resample.

    sidecar: JSON lines with `image` (relative to that file) and `place`. Without one, rows with one and the same
    coordinate are one place. Raises UserError when the sidecar lacks a picture.
    """
    if not sidecar:
        return [f"{row.truth.lat_deg}, {row.truth.lon_deg}" for row in rows]
    folder = Path(sidecar).resolve().parent
    try:
        lines = Path(sidecar).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        named = {(folder / line["image"]).resolve(): line["place"] for line in map(json.loads, lines)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{sidecar} does not name places ({type(error).__name__}: {error}): it needs JSON lines with "
                        "image and place, or leave places= empty") from None
    if unnamed := [row.id for row in rows if row.image.resolve() not in named]:
        raise UserError(f"{sidecar} names no place for {len(unnamed)} pictures, the first is row {unnamed[0]}")
    return [named[row.image.resolve()] for row in rows]


def _answerer(model_dir: Path, budget: vlm.PixelBudget, config: Config):
    """A function from instructions and pictures to (text, finished) pairs."""
    processor = vlm.load_processor(model_dir, budget.min_pixels, budget.max_pixels)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = vlm.load_model(model_dir, dtype=getattr(torch, config.dtype)).to(device).eval()
    tokenizer = processor.tokenizer
    rollout = TransformersRollout(
        end_token_id=vlm.end_token_id(tokenizer), pad_token_id=tokenizer.pad_token_id,
        banned=vlm.banned_tokens(tokenizer, model.config.text_config.vocab_size), max_new_tokens=config.max_new_tokens,
        batch_size=config.batch_size)

    def answer(instructions: Sequence[str], images: Sequence[Image.Image]) -> list[tuple[str, bool]]:
        prompts = [vlm.encode_prompt(processor, *pair) for pair in zip(instructions, images)]
        groups = rollout.generate(model, prompts, 1, keys=list(range(len(prompts))), seed=0, step=0, greedy=True)
        return [(tokenizer.decode(completion.token_ids, skip_special_tokens=True), completion.finished)
                for (completion,) in groups]

    return answer


def _prediction(row: SeedRow, place: str, root: Path, text: str, finished: bool) -> Prediction:
    point = parse_answer(text)
    image = row.image.resolve()
    name = image.relative_to(root) if image.is_relative_to(root) else Path(*image.parts[-2:])
    return Prediction(row.id, place, name.as_posix(), row.truth.lat_deg, row.truth.lon_deg, text,
                      point and point.lat_deg, point and point.lon_deg, finished)


def _kept(out: Path, source: dict) -> set[str]:
    """Ids already answered in `out`. `source` is written beside a new file, and must be the same for an old one."""
    beside = out.with_suffix(".json")
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        handoff.write_atomically(beside, json.dumps(source, indent=2) + "\n")
        return set()
    predictions.check_settings(out, source)
    predictions.drop_torn_line(out)
    return {row.id for row in predictions.read(out)}


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
