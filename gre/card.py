"""The model card of an exported stage: what it was made of and from, how well it does, what it is for and what not."""
import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from gre import manifest
from gre.config import UserError
from gre.manifest import Parent

ASKED = ("stage1", "stage2", "stage3", "globe")  # stages that say where a photo was taken

USES = """## Intended uses
Research on geo-localization; sorting one's own photos; checking where a published photo was taken, by people who verify
the answer. An answer is a guess from what is seen: it comes with reasoning that reads well when it is wrong, too.

## Not to be used
To find out where a person lives, works or is, or to follow anybody; on photos of others without a right to them; as the
only ground of any decision about a person; for targeting of any kind."""


def card(parent: Parent, dtype: str, error: float | None, licence: str, scores: Mapping | None) -> str:
    """The card, Markdown with the Hub's front matter.

    error: of merging an adapter, relative to what it changes; None where nothing was merged. licence: of the base, as
    the Hub spells it; empty: not known. scores: what eval.score wrote about this stage; None: nothing.
    """
    asked = [each["text"] for each in (parent.instructions or {}).get("texts", [])]
    lines = ["---", *([f"license: {licence}"] if licence else []), "library_name: transformers",
             "pipeline_tag: image-text-to-text", "---", "", f"# {parent.stage} of {parent.name}", "",
             f"Exported from a stage whose `model/` has sha256 `{parent.sha256}`. Weights: {dtype}."]
    if error is not None:
        lines += ["", f"It was trained as an adapter in float32 beside frozen weights. Merged into {dtype}, rounding "
                      f"is {error:.2%} of what the adapter changes (relative Frobenius norm, over all layers)."]
    budget = parent.pixel_budget
    lines += ["", f"Its photos had {budget.min_pixels:,} to {budget.max_pixels:,} pixels once they were resized."]
    if asked:
        lines += ["", "It was trained on this question; ask it the same:", "", *(f"> {text}" for text in asked[:1])]
    if asked and parent.stage in ASKED:
        lines += ["", "By gre-suite, from this folder:", "", "```bash",
                  f"gre-locate PHOTO --model . --prompt {shlex.quote(asked[0])} --min-pixels {budget.min_pixels} "
                  f"--max-pixels {budget.max_pixels}", "```"]
    lines += ["", USES, "", "## Stages and data", *made_from(parent), "", "## Scores", *scored(scores), "",
              "## Licence",
              f"Of the base: {licence}." if licence else "That of the base, which this export was not told (licence=).",
              "", "GGUF is not written here, and conversions of this folder are not tested."]
    return "\n".join(lines) + "\n"


def made_from(parent: Parent) -> list[str]:
    """A line for every stage down to the base, as far as their folders are here, with its data."""
    if parent.manifest is None:
        return ["No manifest says what it was trained on."]
    lines, made = [], parent.manifest
    while made is not None:
        data = ", ".join(f"{Path(one['path']).name} (sha256 {one['sha256'][:12]})" for one in made["data"]) or "no file"
        lines.append(f"- {made['stage']}, on {data}, code at {made['commit'][:12]}")
        below, made = made["parent"], _manifest_of(made["parent"])
    return [*lines, f"- from {below['stage']} {below['path']} (sha256 {below['sha256'][:12]})"]


def scored(scores: Mapping | None) -> list[str]:
    """A table of the numbers with their 95 % intervals."""
    if scores is None:
        return ["None were given to this export (scores=)."]
    rows = [f"| {name} | {_shown(name, one['value'])} | {_interval(name, one)} |"
            for name, one in scores["all"]["predictions"].items() if name == "geoscore" or name.startswith("within_")]
    source = scores["files"]["predictions"]["from_scores"]
    return [f"{scores['n']:,} photos of `{Path(source).name}`, {scores['unparsed']['predictions']:,} without an answer "
            f"(counted as wrong); eval.score at {scores['commit'][:12]}.", "", "| | | 95 % interval |", "|---|---|---|",
            *rows]


def read_scores(path: str, parent: Parent) -> dict:
    """What eval.score wrote with out=. Raises UserError for another file, and for the scores of another model."""
    try:
        scores = json.loads(Path(path).read_text(encoding="utf-8"))
        scored(scores)
        model = scores["files"]["predictions"]["made_with"]["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no scores of a prediction file ({type(error).__name__}: {error}): write it with "
                        f"eval.score FILE.jsonl out={path}") from None
    if model.get("sha256") != parent.sha256:
        raise UserError(f"{path} holds the scores of another model ({str(model.get('sha256'))[:12]}) than "
                        f"{parent.name} ({parent.sha256[:12]}): name that stage's, or leave scores= empty")
    return scores


def _manifest_of(below: Mapping) -> dict | None:
    """The manifest of a parent, where its folder is here and holds the very model."""
    file = Path(below["path"]) / manifest.MANIFEST
    made = manifest.read_manifest(file.parent) if file.exists() else None
    return made if made and made["model_sha256"] == below["sha256"] else None


def _shown(name: str, value: float) -> str:
    return f"{value:,.0f}" if name == "geoscore" else f"{value:.1%}"


def _interval(name: str, one: Mapping) -> str:
    return "too few clusters" if one["low"] is None else f"{_shown(name, one['low'])} to {_shown(name, one['high'])}"
