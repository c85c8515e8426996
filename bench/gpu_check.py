"""What scripts/gpu_check.sh runs: each check in a process of its own, so that one that fails or hangs ends alone.

    python bench/gpu_check.py [out=FILE] [commit=HASH]

A kernel passes when its outputs in bfloat16 are at most twice, its gradients three times, as far from SDPA's in float32
as SDPA's own in bfloat16 are: flash-attn's own criterion.
"""
import datetime
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bench.plan_memory import BASE, Case, job, train
from gre.config import expanded
from gre.models.attention import shared_prefix, varlen
from gre.models.packing import Group, Layout, Prompt, pack
from gre.models.shapes import PUBLISHED, Shape
from gre.plan.memory import GIB, peak
from gre.provenance import commit, versions

SECONDS = {"attention": 90, "grpo": 330, "vllm": 150}  # each check's limit; under ten minutes together
MARGIN = 0.95       # of the free memory a step may be predicted to take
SDPA_BOUND = 0.1    # as far as SDPA's own bfloat16 may be from its float32, as a share of the largest entry
BOUND = 0.15        # of the measured peak, within which the planner's shall lie
SEVEN, THREE = (PUBLISHED[f"Qwen/Qwen2.5-VL-{size}-Instruct"] for size in ("7B", "3B"))
SHAPES = {"7B": SEVEN, "3B": THREE, **{f"3B cut to {n} of 36 layers": replace(THREE, layers=n) for n in (18, 6, 1)}}


@dataclass(frozen=True)
class Row:
    """A line of the table: ok, FAILED or skipped, and what was seen."""

    check: str
    result: str
    seen: str


def attention_rows(kernels: dict[str, varlen.Kernel | str], shape: Shape, device: str, layout: Layout) -> list[Row]:
    """Every kernel against SDPA, forward and backward; in place of a kernel that is missing stands why."""
    generator = torch.Generator().manual_seed(0)
    layout, tokens, width = layout.to(device), len(layout.back), shape.hidden // shape.heads
    states = [torch.randn(1, heads, tokens, width, generator=generator).bfloat16()
              for heads in (shape.heads, shape.kv_heads, shape.kv_heads)]
    towards = torch.randn(1, tokens, shape.heads, width, generator=generator).to(device)
    exact, _ = _outcome(shared_prefix.padded, states, towards, layout, torch.float32, device)
    coarse, sdpa_seconds = _outcome(shared_prefix.padded, states, towards, layout, torch.bfloat16, device)
    own = [_distance(ours, reference) for ours, reference in zip(coarse, exact, strict=True)]
    allowed = [times * distance + 1e-5 for times, distance in zip((2, 3, 3, 3), own, strict=True)]
    title = f"attention, heads of {width}:"
    rows = [Row(f"{title} SDPA", "ok" if all(distance <= SDPA_BOUND for distance in own) else "FAILED",
                f"bfloat16 from float32: {_shown(own)}; {1000 * sdpa_seconds:.1f} ms")]
    for name, kernel in kernels.items():
        if isinstance(kernel, str):
            rows.append(Row(f"{title} {name}", "skipped", kernel))
            continue
        attend = partial(shared_prefix.by_segments, kernel=kernel)
        found, seconds = _outcome(attend, states, towards, layout, torch.bfloat16, device)
        far = [_distance(ours, reference) for ours, reference in zip(found, exact, strict=True)]
        right = all(distance <= bound for distance, bound in zip(far, allowed, strict=True))
        rows.append(Row(f"{title} {name}", "ok" if right else "FAILED",
                        f"bfloat16 from SDPA in float32: {_shown(far)}; {1000 * seconds:.1f} ms"))
    return rows


def some_layout(prompt: int, lengths: list[list[int]]) -> Layout:
    """Groups of a prompt of this many tokens, one token more in each, and completions of these lengths."""
    groups = []
    for number, row in enumerate(lengths):
        ids = torch.zeros(prompt + number, dtype=torch.long)
        groups.append(Group(Prompt(ids, ids, torch.zeros(4, 1), torch.tensor([[1, 2, 2]]), ids.expand(3, -1)),
                            [torch.zeros(length, dtype=torch.long) for length in row]))
    return pack(groups, rope_index=None).layout


def grpo_rows(free: float, shapes: dict[str, Shape], taken_bytes: Callable[[], float],
              on_gpu: bool = True, **changes) -> list[Row]:
    """Two steps of the real trainer, in the first shape that is predicted to fit `free` bytes.

    taken_bytes: () -> bytes that are in use, at most, once it has run. changes: of the case.
    """
    options = {"prompts": 2, "completions": 8, "length": 256, "side": 448, "checkpointing": True, "bf16": True}
    cases = {name: Case(shape, **{**options, **changes}) for name, shape in shapes.items()}
    needed = {name: _predicted(case, on_gpu) for name, case in cases.items()}
    name = next((name for name in cases if needed[name] <= MARGIN * free), None)
    if name is None:
        return [Row("GRPO step", "skipped", ", ".join(f"{name} needs {size / GIB:.1f} GiB" for name, size in
                                                      needed.items()) + f", {free / GIB:.1f} are free")]
    case = cases[name]
    with tempfile.TemporaryDirectory() as folder:
        prompt, patches, log = train(case, folder)
    taken = taken_bytes()
    moment, predicted = peak(job(case, prompt, patches, on_gpu))
    last = [line for line in log if "seconds/update" in line][-1]
    finite = all(torch.tensor(float(last[key])).isfinite() for key in ("loss", "grad_norm"))
    clocks = ", ".join(f"{part} {last[f'seconds/{part}']:.1f} s" for part in ("rollout", "passes", "update"))
    drawn = case.prompts * case.completions * case.length
    return [Row(f"GRPO step, {name}", "ok" if finite else "FAILED",
                f"{case.prompts} x {case.completions} completions of {case.length} tokens: {clocks}; "
                f"{drawn / last['seconds/rollout']:.0f} tokens/s; loss {last['loss']:.3g}, "
                f"gradient norm {last['grad_norm']:.3g}"),
            Row("memory against the planner", "ok" if abs(predicted / taken - 1) <= BOUND else "FAILED",
                f"predicted {predicted / GIB:.1f} GiB ({moment}), measured {taken / GIB:.1f}: "
                f"{predicted / taken:.2f}; within {BOUND:.0%} is asked")]


def _predicted(case: Case, on_gpu: bool) -> float:
    """Bytes, before the prompt is encoded: of about 40 tokens beside the photo."""
    visual = (case.side // 28)**2
    return peak(job(case, visual + 40, 4 * visual, on_gpu))[1]


def vllm_rows() -> list[Row]:
    """The tiny base in vLLM: it starts, and reads the prompt as the trainer does."""
    if importlib.util.find_spec("vllm") is None:
        return [Row("vLLM", "skipped", "not installed")]

    from PIL import Image

    from gre.models.vlm import encode_prompt, load_processor
    from gre.rollout.vllm.start import import_vllm

    started, vllm = time.perf_counter(), import_vllm()
    llm = vllm.LLM(str(BASE), dtype="bfloat16", max_model_len=512, max_num_seqs=64, gpu_memory_utilization=0.3,
                   enforce_eager=True, limit_mm_per_prompt={"image": 1, "video": 0})
    up = time.perf_counter() - started
    processor, image = load_processor(BASE), Image.new("RGB", (112, 112), (90, 120, 200))
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where is this?"}]}]
    text = processor.apply_chat_template(turn, add_generation_prompt=True)
    request = {"prompt": text, "multi_modal_data": {"image": image}}
    started = time.perf_counter()
    outputs = llm.generate([request] * 64, vllm.SamplingParams(temperature=1.0, max_tokens=64, ignore_eos=True, seed=0))
    seconds = time.perf_counter() - started
    same = outputs[0].prompt_token_ids == encode_prompt(processor, "Where is this?", image).input_ids.tolist()
    drawn = sum(len(output.outputs[0].token_ids) for output in outputs)
    return [Row("vLLM", "ok" if same else "FAILED",
                f"up in {up:.0f} s; {drawn / seconds:.0f} tokens/s of the tiny base; prompt ids "
                f"{'are' if same else 'are not'} the trainer's")]


def check(name: str) -> list[Row]:
    """In this process, on the GPU: one of SECONDS' checks."""
    if name == "attention":
        kernels = {}
        for provider, find in varlen.PROVIDERS.items():
            try:
                kernels[provider] = find()
            except ImportError as error:
                kernels[provider] = str(error)
            if torch.cuda.get_device_capability() < varlen.OLDEST_GPU:
                kernels[provider] = "this GPU is older than Ampere: training uses SDPA"
        layout = some_layout(300, [[512, 0, 700, 31], [1, 256, 256, 256]])
        vision = replace(THREE, hidden=THREE.vision_hidden, kv_heads=THREE.heads)  # heads as wide as its tower's
        return [row for shape in (THREE, vision) for row in attention_rows(kernels, shape, "cuda", layout)]
    if name == "grpo":
        free = torch.cuda.mem_get_info()[0]
        return grpo_rows(free, SHAPES, lambda: free - torch.cuda.mem_get_info()[0])  # torch keeps what it once took
    return vllm_rows()


def run(name: str) -> list[Row]:
    """A check in a process of its own; one that breaks or takes too long is a line too."""
    command = [sys.executable, __file__, "--one", name]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS[name])
    except subprocess.TimeoutExpired:
        return [Row(name, "FAILED", f"not finished after {SECONDS[name]} s")]
    if result.returncode:
        print(result.stderr, file=sys.stderr)
        last = (result.stderr.strip() or f"exit status {result.returncode}").splitlines()[-1]
        return [Row(name, "FAILED", last)]
    return [Row(**row) for row in json.loads(result.stdout.splitlines()[-1])]


def table(rows: list[Row], facts: dict[str, str]) -> str:
    """For people and docs/results."""
    lines = ["# GPU check", "", *(f"- {name}: {value}" for name, value in facts.items()), "",
             "| check | result | seen |", "|---|---|---|"]
    lines += [f"| {row.check} | {row.result} | {row.seen.replace('|', '/')} |" for row in rows]
    return "\n".join(lines) + "\n"


def facts(revision: str | None, seconds: float) -> dict[str, str]:
    """Where and with what the table was made."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(command, capture_output=True, text=True).stdout.split("\n")[0]
    except FileNotFoundError:
        driver = "not asked (no nvidia-smi)"
    gpu = torch.cuda.get_device_properties(0)
    return {"GPU": f"{gpu.name}, {gpu.total_memory / GIB:.1f} GiB, driver {driver}, CUDA {torch.version.cuda}",
            "date": f"{datetime.date.today()}, {seconds:.0f} s", "commit": revision or commit(),
            "versions": ", ".join(f"{name} {version}" for name, version in versions().items())}


def main(argv: list[str]) -> int:
    """The exit status: 1 when something failed or there is no GPU."""
    given = dict(text.partition("=")[::2] for text in argv)
    if unknown := given.keys() - {"out", "commit"}:
        print(f"error: {', '.join(unknown)}: write out=FILE or commit=HASH", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print(f"error: no CUDA GPU is seen by torch {torch.__version__}: this check is for machines with one "
              "(nvidia-smi shows the driver's view)", file=sys.stderr)
        return 1
    started, rows = time.perf_counter(), []
    for name in SECONDS:
        found = run(name)
        rows += found
        print(*(f"{row.check}: {row.result}: {row.seen}" for row in found), sep="\n", flush=True)
    text = table(rows, facts(given.get("commit"), time.perf_counter() - started))
    print(text, end="")
    if "out" in given:
        Path(expanded(given["out"])).write_text(text, encoding="utf-8")
    return int(any(row.result == "FAILED" for row in rows))


def _outcome(attend, states: list[Tensor], towards: Tensor, layout: Layout, dtype: torch.dtype,
             device: str) -> tuple[list[Tensor], float]:
    """([output, gradients of query, key and value], seconds of forward and backward once warm)."""
    leaves = [state.to(device, dtype).requires_grad_() for state in states]
    for _ in range(2):
        started = _now(device)
        output = attend(*leaves, layout)
        gradients = torch.autograd.grad((output.float() * towards).sum(), leaves)
        seconds = _now(device) - started
    return [output.detach(), *gradients], seconds


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _distance(ours: Tensor, reference: Tensor) -> float:
    """The largest difference, as a share of the reference's largest entry."""
    return ((ours.float() - reference).abs().max() / reference.abs().max()).item()


def _shown(distances: list[float]) -> str:
    return f"output {distances[0]:.1e}, gradients {max(distances[1:]):.1e}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps([vars(row) for row in check(sys.argv[2])]))
    else:
        sys.exit(main(sys.argv[1:]))
