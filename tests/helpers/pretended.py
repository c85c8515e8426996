"""The cases of tests/bench/test_pretended_cuda.py: python -m tests.helpers.pretended FILE"""
from bench.pretended import device

if __name__ == "__main__":
    device.start_again()

# ruff: noqa: E402
import json
import sys
from dataclasses import replace
from pathlib import Path

from bench.pretended_cuda import RANK, Case, measure
from gre.models.adapter import TEXT_LAYERS
from gre.models.packing import PackedRow
from gre.models.shapes import PUBLISHED
from gre.plan.memory import Batch, Engine, Job

SMALL = {"layers": 2, "vision_depth": 2, "vision_full_attention": 1, "vocab": 16_000}
THREE, SEVEN = (replace(PUBLISHED[f"Qwen/Qwen2.5-VL-{size}-Instruct"], **SMALL) for size in ("3B", "7B"))
ZERO = Engine(zero=0, bf16=True, bucket=0)
ADAPTER = Engine(bf16=True, adapter=THREE.adapter_parameters(RANK, TEXT_LAYERS))
ROWS = Batch(prompts=2, prompt=400, patches=1280, completions=1, length=600, scored=600)
GROUP = Batch(prompts=1, prompt=400, patches=1280, completions=8, length=200, scored=200)
STAGE1 = Job(SEVEN, ZERO, ROWS, accumulation=2, checkpointing=True)
STAGE3 = Job(SEVEN, ZERO, GROUP, accumulation=2, checkpointing=True, sampled=16, reference=2)

CASES = {
    "stage 1": Case(STAGE1),
    "stage 1, A100": Case(STAGE1, capability=(8, 0)),
    "stage 1, autocast, no checkpointing": Case(replace(STAGE1, shape=THREE, engine=Engine(bf16=True),
                                                        checkpointing=False)),
    "stage 1, float32, T4": Case(replace(STAGE1, shape=THREE, engine=Engine()), capability=(7, 5)),
    "judge": Case(replace(STAGE1, batch=replace(ROWS, scored=1)), scored_last=True),
    "stage 2": Case(replace(STAGE3, judge=2, judge_shape=SEVEN), judged=True),
    "stage 3, two updates": Case(STAGE3, iterations=2),
    "stage 3, frozen tower": Case(replace(STAGE3, frozen_vision=True)),
    "stage 3, adapter": Case(replace(STAGE3, shape=replace(THREE, vocab=96_000), engine=ADAPTER, reference=0,
                                     frozen_vision=True)),
    "stage 3, a second adapter": Case(replace(
        STAGE3, shape=replace(THREE, vocab=96_000), reference=0, frozen_vision=True,
        engine=replace(ADAPTER, frozen_adapter=ADAPTER.adapter))),
    "verdict": Case(replace(STAGE3, batch=replace(GROUP, prompt=1000, length=4, scored=4))),
}


def main(file: Path) -> None:
    found = {name: measure(case) for name, case in CASES.items()}
    move = PackedRow.to
    PackedRow.to = lambda self, place: replace(move(self, place), labels=self.labels)  # a tensor is forgotten
    try:
        measure(CASES["stage 1"])
    except RuntimeError as error:
        found["forgotten"] = str(error)
    file.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
