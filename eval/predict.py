"""Answers of one checkpoint, greedy: `python -m eval.predict model=DIR data=FILE out=FILE.jsonl [key=value …]`.

Instead of data=FILE, benchmark.name=Im2GPS3k reads a benchmark (eval/benchmarks/). A stage is then asked what it was
trained on, as its manifest says, unless prompt= asks otherwise (gre/answering/question.py); rows of data= say
themselves what they ask. A plain model folder says neither what it was asked nor how large its photos were: both must
be given.

One row per photo (eval/predictions.py). Interrupted, the same command resumes where it stopped: rows already in the
file are kept, after a check that they come from the same model, data and settings (kept beside it in FILE.json).
Several processes share the work with shard=0/4 … shard=3/4, one GPU or array job each (eval/answering/shards.py); when
all have ended, the command without shard joins their files. Either way the file is the one a single run would have
written. The pixel budget is the checkpoint's own. engine= says who answers (gre/answering/engines.py): transformers,
vLLM, or any OpenAI-compatible endpoint. samples=8 temperature=1.0 answers several times: the answer is the geometric
median of all that can be read (self-consistency), and the line holds every sample. The two controls show the same
questions with other photos: pictures=blank (grey) and pictures=swapped (a photo of another place for every row).
"""
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from eval import predictions
from eval.answering import controls, shards
from eval.answering.asked import answerer, at_endpoint
from eval.answering.endpoint import EndpointConfig
from eval.answering.rows import place_names, read_rows
from eval.benchmarks import reader
from eval.benchmarks.reader import BenchmarkConfig, BenchmarkRow
from eval.predictions import Prediction
from gre import provenance
from gre.answering import engines
from gre.answering.engines import Decoding, Interrupted, Said
from gre.answering.model import on_disk
from gre.answering.several import agreed
from gre.config import REQUIRED, UserError, main, option
from gre.data.images import load_image, picture_size
from gre.data.records import SeedRow

PICTURES = ("own", "blank", "swapped")


@dataclass
class Config:
    model: str = option(REQUIRED, "a stage's folder, a plain Hugging Face model folder, or a name at endpoint.url")
    data: str = option("", "rows to answer, in the form of GRE30K-Seed; or name a benchmark")
    benchmark: BenchmarkConfig = option(BenchmarkConfig(), "the benchmark to answer instead of data")
    prompt: str = option("", "what is asked of each photo of a benchmark, or @FILE that holds it; empty: what the "
                             "stage was trained on")
    out: str = option(REQUIRED, "prediction file, one JSON line per photo")
    image_root: str = option("", "where the rows' photos lie; empty: beside the data file")
    places: str = option("", "JSON lines naming the `place` of each `image`; empty: equal coordinates are one place")
    pictures: str = option("own", f"what the model is shown: {', '.join(PICTURES)}")
    seed: int = option(0, "deals the swapped photos and draws the samples; greedy answers need no other")
    engine: str = option("auto", f"who answers: {', '.join(engines.ENGINES)}")
    endpoint: EndpointConfig = option(EndpointConfig(), "the endpoint that answers")
    samples: int = option(1, "answers to each photo; of several, the geometric median counts")
    temperature: float = option(0.0, "of the samples; 0 is greedy")
    batch_size: int | None = option(None, "photos answered at once; null: 64, with vLLM 512")
    shard: str = option("", "i/n, i from 0: answer this part of the rows, into a file beside out; empty: all rows")
    max_new_tokens: int = option(2048, "tokens of an answer; what is longer is cut and counts as unfinished")
    dtype: str = option("auto", "weights while answering: float32, bfloat16, or auto: as they are on disk")
    min_pixels: int | None = option(None, "smallest photo of a plain model; a stage's is in its manifest")
    max_pixels: int | None = option(None, "largest photo of a plain model; a stage's is in its manifest")
    accept_parent: str = option("verified", "verified, or any: take an unfinished or altered checkpoint")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    data = map(str, reader.files(config.benchmark)) if config.benchmark.name else [config.data]
    out = shards.path(Path(config.out), *shards.parse(config.shard)) if config.shard else config.out
    return {"reads": [config.model, *data, *filter(None, [config.places])], "writes": [str(out)]}


def run(config: Config) -> list[Prediction]:
    """Answer every row of `config.data` (or of this shard) not yet answered; returns them in the order of the data.

    Raises UserError for a setting it does not know, a checkpoint that is refused, a bad row, or a file made otherwise.
    """
    if config.pictures not in PICTURES:
        raise UserError(f"pictures is {config.pictures!r}: write one of {', '.join(PICTURES)}")
    decoding = Decoding(config.max_new_tokens, config.samples, config.temperature, config.seed)
    if config.batch_size is not None and config.batch_size < 1:
        raise UserError(f"batch_size is {config.batch_size}: it must be at least 1")
    engine = engines.choose(config.engine, config.endpoint.url)
    pixels = config.min_pixels, config.max_pixels
    model = (at_endpoint(config.model, config.endpoint, *pixels) if engine == "endpoint" else
             on_disk(config.model, config.dtype, *pixels, config.accept_parent))
    rows, data, root, asked = read_rows(config.model, model, data=config.data, image_root=config.image_root,
                                        benchmark=config.benchmark, prompt=config.prompt)
    labels = {row.id: row.labels for row in rows if isinstance(row, BenchmarkRow)}
    places = place_names(rows, config.places)
    shown = controls.deal(places, config.seed) if config.pictures == "swapped" else range(len(rows))

    batch_size = config.batch_size or engines.BATCH[engine]
    batches = [range(start, min(start + batch_size, len(rows))) for start in range(0, len(rows), batch_size)]
    source = {
        "model": model.record, "data_sha256": provenance.file_hash(data), **asked,
        "pictures": config.pictures, "engine": engines.record(engine), "decoding": asdict(decoding),
        "dtype": model.dtype, "pixel_budget": asdict(model.budget),
        **({predictions.ENDPOINTS: [config.endpoint.url]} if engine == "endpoint" else {})}
    out = Path(config.out)
    predictions.check_writable(out, [data, *map(Path, filter(None, [config.places]))])
    if config.shard:
        mine, of = shards.parse(config.shard)
        out, batches = shards.path(out, mine, of), batches[mine::of]
        source |= {"shard": config.shard, "batch_size": batch_size}
    elif not out.exists():
        shards.join(out, source, [row.id for row in rows])
    ids = [rows[index].id for batch in batches for index in batch]
    kept = _kept(out, source)
    predictions.append(out, [])  # where there are more shards than batches, the last ones leave empty files
    if waiting := len(set(ids) - kept):
        for row in rows:  # headers alone: what cannot be shown to a model is said before one is loaded
            picture_size(row.image)

        def keep(said: Mapping[int, Sequence[Said]]) -> None:
            made = [_prediction(rows[index], places[index], root, samples) for index, samples in said.items()
                    if rows[index].id not in kept]
            predictions.append(out, [row for row, _ in made],
                               {row.id: {**labels.get(row.id, {}), **fields} for row, fields in made})
            progress.update(len(made))

        answer = answerer(model, config.endpoint, engine, decoding, batch_size, {row.instruction for row in rows})
        with tqdm(total=len(ids), initial=len(ids) - waiting, desc=out.stem, unit="photo") as progress:
            for indices in batches:
                if all(rows[index].id in kept for index in indices):
                    continue
                # A batch begun before is answered whole: what stands beside a photo can change its last bits. An
                # endpoint is asked photo by photo, and what it said before it failed is kept: it may be paid for.
                asked_now = [index for index in indices if engine != "endpoint" or rows[index].id not in kept]
                images = [load_image(rows[shown[index]].image) for index in asked_now]
                if config.pictures == "blank":
                    images = [controls.blank(image) for image in images]

                try:
                    said = answer([rows[index].instruction for index in asked_now], images, asked_now)
                    keep(dict(zip(asked_now, said)))
                except Interrupted as stopped:
                    keep({asked_now[at]: samples for at, samples in stopped.done.items()})
                    raise stopped.__cause__ from None
    predictions.put_in_order(out, ids)
    return predictions.check_complete(predictions.read(out), ids, str(out))


def _prediction(row: SeedRow, place: str, root: Path, samples: Sequence[Said]) -> tuple[Prediction, dict]:
    """A row's prediction, and what else its line holds: the samples where there are several, a refusal where the engine
    speaks of one.
    """
    point, said, points = agreed(samples)
    fields = {}
    if len(samples) > 1:
        fields["samples"] = [{"text": sample.text, "lat": at and at.lat_deg, "lon": at and at.lon_deg,
                              "finished": sample.finished} for at, sample in zip(points, samples)]
    if point is None and said.refused is not None:
        fields["refused"] = said.refused
        if said.filtered:
            fields["filtered"] = said.filtered
    image = row.image.resolve()
    name = image.relative_to(root) if image.is_relative_to(root) else Path(*image.parts[-2:])
    return Prediction(row.id, place, name.as_posix(), row.truth.lat_deg, row.truth.lon_deg, said.text,
                      point and point.lat_deg, point and point.lon_deg, said.finished), fields


def _kept(out: Path, source: dict) -> set[str]:
    """Ids already answered in `out`. `source` is written beside a new file, and must be the same for an old one."""
    beside = out.with_suffix(".json")
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        provenance.write_atomically(beside, json.dumps(source, indent=2) + "\n")
        return set()
    before = predictions.check_settings(out, source)
    if new := [url for url in source.get(predictions.ENDPOINTS, []) if url not in before]:
        source = {**source, predictions.ENDPOINTS: before + new}
        provenance.write_atomically(beside, json.dumps(source, indent=2) + "\n")
    predictions.drop_torn_line(out)
    return {row.id for row in predictions.read(out)}


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
