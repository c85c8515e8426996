"""Chains → numbers, one file's rows at a time: what the LLM says of them, then the encoders.

A kind that the annotation of a photo has and the answer lacks scores 0. A kind that the annotation lacks cannot be
scored for anyone: it is None, and the photo's quality is the mean of the others.
"""
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from eval.chain import measures, questions
from eval.chain.bert import Bert
from gre.config import UserError
from gre.data import annotations, forms
from gre.data.annotations import Indicator, Step
from gre.data.images import load_image
from gre.data.raw import BadRow, DataError
from gre.data.records import BenchRow, DataConfig, Keys, read_bench
from gre.geo.accuracy import GEOSCORE_MAX, geoscore
from gre.llm import Client
from gre.models.clip import BATCH, Clip
from gre.text.chains import BACKGROUND, CAPTION, INFERENCE, chain_of, split_steps


@dataclass(frozen=True)
class Annotated:
    """One photo of the benchmark. None: the file does not say, and it is to be derived."""

    row: BenchRow
    indicators: tuple[Indicator, ...] | None
    steps: tuple[Step, ...] | None
    scene: str | None

    @property
    def where(self) -> str:
        return f"sample {self.row.id}"


@dataclass(frozen=True)
class Quality:
    """The numbers of one chain; what cannot be scored for lack of an annotation is None."""

    quality: float  # GRE's form: mean of background, caption and inference
    grounded: float  # ours: mean of background F1, caption, inference, conclusion and the judge's F1
    conclusion: float  # GeoScore of the answer, as a share of its maximum; 0 without a chain
    background: float | None  # recall of the annotated indicators
    caption: float | None  # mean RefCLIPScore
    inference: float | None  # BERTScore F1, floored at 0
    background_precision: float | None
    judge_precision: float
    judge_recall: float
    judge_f1: float
    step_count: int
    word_count: int


@dataclass(frozen=True)
class Scored:
    """What is known of one answer: its steps, the annotated indicators they name, the statements that name one, each
    under the kind of what it names, its numbers, and steps cut off."""

    steps: tuple[Step, ...]
    named: tuple[Indicator, ...]
    naming: tuple[Indicator, ...]
    numbers: Quality
    cut_off: int


def read(path: str, image_root: str) -> list[Annotated]:
    """The rows of a GREval-Bench file with their optional fields. Raises DataError naming the row and the field."""
    rows = read_bench(DataConfig(path=path, image_root=image_root), Keys("data", "image_root", drop=""))
    found = []
    for row, (number, fields) in zip(rows, forms.rows(Path(path))):
        try:
            found.append(Annotated(row, annotations.indicators(fields), annotations.steps(fields),
                                   annotations.scene(fields)))
        except BadRow as error:
            raise DataError(f"{path}, row {number}: {error}. Repair the field, or leave it out to have it "
                            "derived") from None
    return found


def derive(rows: Sequence[Annotated], client: Client) -> list[Annotated]:
    """The rows with all optional fields: what is absent is derived from `gt_cot` by the LLM.

    Raises UserError for a chain without a step, and one of which no kind could be scored.
    """
    sought = [row for row in rows if row.indicators is None or row.scene is None]
    readings = dict(zip((row.row.id for row in sought), client.answers(
        [questions.indicators(row.where, chain_of(row.row.chain)) for row in sought], "indicators")))
    unsorted = [row for row in rows if row.steps is None]
    steps = dict(zip((row.row.id for row in unsorted), sort(
        [(row.where, chain_of(row.row.chain)) for row in unsorted], client, "annotated steps")))
    found = []
    for row in rows:
        reading = readings.get(row.row.id)
        row = replace(row, indicators=row.indicators if row.indicators is not None else reading.indicators,
                      steps=row.steps or steps[row.row.id], scene=row.scene or reading.scene)
        if not row.indicators and all(step.kind == BACKGROUND for step in row.steps):
            raise UserError(f"{row.where}: its chain has no indicator, no caption and no inference, so nothing can be "
                            "scored. Write its `indicators` and `steps` into the benchmark file")
        found.append(row)
    return found


def sort(chains: Sequence[tuple[str, str]], client: Client, title: str) -> list[tuple[Step, ...]]:
    """The steps of each chain with their kinds; an empty chain has none. chains: (what it is, text)."""
    texts = [split_steps(chain) for _, chain in chains]
    asked = [questions.sort(where, steps) for (where, _), steps in zip(chains, texts)]
    replies = iter(client.answers([question for several in asked for question in several], title))
    kinds = [{text: kind for _ in several for text, kind in next(replies).items()} for several in asked]
    return [tuple(Step(known[text], text) for text in steps) for steps, known in zip(texts, kinds)]


def score(rows: Sequence[Annotated], chains: Sequence[str], errors_km: Sequence[float | None], client: Client,
          clip: Clip, bert: Bert) -> list[Scored]:
    """The numbers of an answer's chain for each row (with all fields, see `derive`), in the same order. errors_km: of
    the answers, None where one cannot be read."""
    answers = sort([(f"answer to {row.where}", chain) for row, chain in zip(rows, chains)], client, "steps")
    named = _named(rows, answers, client)
    verdicts = _verdicts(rows, answers, client)
    captions = _captions(rows, answers, clip)
    inferences = _inferences(rows, answers, bert)
    scored = []
    for index, (row, steps, chain) in enumerate(zip(rows, answers, chains)):
        stated, precision, recall = named[index], *verdicts[index]
        statements = _of(steps, BACKGROUND)
        background = measures.indicator_recall(stated) if row.indicators else None
        background_precision = measures.statement_precision(stated, statements) if row.indicators else None
        conclusion = geoscore(errors_km[index]) / GEOSCORE_MAX if steps else 0.0
        both = None if background is None else measures.f1(background_precision, background)
        judge_f1 = measures.f1(precision, recall)
        numbers = Quality(
            quality=_mean(background, captions[index], inferences[index]),
            grounded=_mean(both, captions[index], inferences[index], conclusion, judge_f1), conclusion=conclusion,
            background=background, caption=captions[index], inference=inferences[index],
            background_precision=background_precision,
            judge_precision=precision, judge_recall=recall, judge_f1=judge_f1,
            step_count=len(steps), word_count=len(chain.split()))
        cut_off = sum(map(clip.too_long, _of(steps, CAPTION))) + bert.too_long(" ".join(_of(steps, INFERENCE)))
        found = [indicator for indicator, by in zip(row.indicators, stated) if by]
        naming = {number: indicator.kind for indicator, by in zip(row.indicators, stated) for number in sorted(by)}
        scored.append(Scored(steps, tuple(found),
                             tuple(Indicator(kind, statements[number]) for number, kind in sorted(naming.items())),
                             numbers, cut_off))
    return scored


def _mean(*parts: float | None) -> float:
    known = [part for part in parts if part is not None]
    return sum(known) / len(known)


def as_json(row: Annotated, scored: Scored) -> dict:
    """One line of the rows file: the annotation the chain was scored against, and what was found."""
    return {"id": row.row.id, "scene": row.scene, "indicators": annotations.as_json(row.indicators),
            "annotated_steps": annotations.as_json(row.steps), "steps": annotations.as_json(scored.steps),
            "named": annotations.as_json(scored.named), "naming": annotations.as_json(scored.naming),
            **asdict(scored.numbers)}


def _of(steps: Sequence[Step], kind: str) -> list[str]:
    return [step.text for step in steps if step.kind == kind]


def _named(rows: Sequence[Annotated], answers: Sequence[Sequence[Step]], client: Client) -> list[list[frozenset[int]]]:
    """For each row and annotated indicator, which background steps name it; without such steps none is asked for."""
    asked = [index for index, (row, steps) in enumerate(zip(rows, answers))
             if row.indicators and _of(steps, BACKGROUND)]
    replies = dict(zip(asked, client.answers(
        [questions.match(f"answer to {rows[index].where}", [indicator.text for indicator in rows[index].indicators],
                         _of(answers[index], BACKGROUND)) for index in asked], "indicators named")))
    return [replies.get(index, [frozenset()] * len(row.indicators)) for index, row in enumerate(rows)]


def _verdicts(rows: Sequence[Annotated], answers: Sequence[Sequence[Step]],
              client: Client) -> list[tuple[float, float]]:
    """(precision, recall) of each answer's steps as the LLM judges them; 0 and 0 for an empty chain."""
    asked = [index for index, steps in enumerate(answers) if steps]
    replies = dict(zip(asked, client.answers(
        [questions.judge(f"answer to {rows[index].where}", [step.text for step in rows[index].steps],
                         [step.text for step in answers[index]]) for index in asked], "steps judged")))
    return [(len(replies[index].supported) / len(steps), len(replies[index].covered) / len(row.steps)) if steps
            else (0.0, 0.0) for index, (row, steps) in enumerate(zip(rows, answers))]


def _captions(rows: Sequence[Annotated], answers: Sequence[Sequence[Step]], clip: Clip) -> list[float | None]:
    """Mean RefCLIPScore of each answer's captions: 0 without one, None where the annotation has none."""
    found: list[float | None] = []
    for start in tqdm(range(0, len(rows), BATCH), desc="captions"):
        batch = list(zip(rows[start:start + BATCH], answers[start:start + BATCH]))
        pictures = clip.pictures([load_image(row.row.image) for row, _ in batch])
        for (row, steps), picture in zip(batch, pictures):
            said, references = _of(steps, CAPTION), _of(row.steps, CAPTION)
            found.append(None if not references else 0.0 if not said else measures.ref_clip_scores(
                clip.texts(said), picture, clip.texts(references)).mean().item())
    return found


def _inferences(rows: Sequence[Annotated], answers: Sequence[Sequence[Step]], bert: Bert) -> list[float | None]:
    """BERTScore of each answer's inferences, joined to one text, against the annotated ones; 0 and None as above."""
    said = [" ".join(_of(steps, INFERENCE)) for steps in answers]
    wanted = [" ".join(_of(row.steps, INFERENCE)) for row in rows]
    both = [index for index in range(len(rows)) if said[index] and wanted[index]]
    f1 = dict(zip(both, bert.f1([said[index] for index in both], [wanted[index] for index in both])))
    return [max(0.0, f1.get(index, 0.0)) if wanted[index] else None for index in range(len(rows))]
