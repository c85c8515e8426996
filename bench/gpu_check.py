"""What scripts/gpu_check.sh runs: each check in a process of its own, so that one that fails or hangs ends alone.

    python bench/gpu_check.py [out=FILE.md] [commit=HASH]

With out= the rows lie in FILE.json too, as soon as a check has ended: the same command again makes only those that
failed or are missing, as long as the commit is the same.

A kernel passes when its outputs in bfloat16 are at most twice, its gradients three times, as far from SDPA's in float32
as SDPA's own in bfloat16 are: flash-attn's own criterion.
"""
import copy
import datetime
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.plan_memory import BASE, ROOT, Case, job, random_model, train
from gre.config import expanded
from gre.models.attention import shared_prefix, varlen
from gre.models.packing import Group, Layout, Prompt, pack
from gre.models.patches import Patches
from gre.models.shapes import PUBLISHED, Shape
from gre.plan.memory import GIB, peak
from gre.provenance import commit, versions

# Each check's limit, in the order of what matters; under ten minutes together.
SECONDS = {"compiler": 10, "patches": 40, "attention": 60, "grpo": 170, "engine": 200, "update": 110}
GAP = 0.05          # mean distance of vLLM's log-probabilities from the trainer's, both in bfloat16
DENSE_BF16 = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # FLOP/s, by NVIDIA's data sheets
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


def compiler_rows() -> list[Row]:
    """Whether Triton could compile its driver here, as it does at vLLM's start."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return [Row("C compiler", "FAILED", "neither gcc nor clang is here: apt-get install gcc")]
    command = [compiler, "-fsyntax-only", f"-I{sysconfig.get_paths()['include']}", "-xc", "-"]
    result = subprocess.run(command, input="#include <Python.h>\n", capture_output=True, text=True)
    if result.returncode:
        return [Row("C compiler", "FAILED", f"{result.stderr.strip().splitlines()[0]}: apt-get install libpython3-dev")]
    return [Row("C compiler", "ok", f"{compiler} compiles against Python.h")]


def patch_rows(device: str, counts: tuple[int, ...] = (5_120, 20_480), width: int = 1280) -> list[Row]:
    """The vision tower's first layer as it is trained, a matrix product, beside the convolution it stands for: in
    bfloat16, forward and backward. The convolution may be slow, or fail; that is why."""
    torch.manual_seed(0)
    conv = nn.Conv3d(3, width, (2, 14, 14), stride=(2, 14, 14), bias=False)
    product, rows = copy.deepcopy(conv), []
    product.__class__ = Patches
    some = torch.randn(64, 3, 2, 14, 14)
    exact = conv(some).detach()
    conv, product = conv.to(device, torch.bfloat16), product.to(device, torch.bfloat16)
    far = _distance(product(some.to(device, torch.bfloat16)).cpu(), exact)
    for count in counts:
        patches = torch.randn(count, 3, 2, 14, 14, device=device, dtype=torch.bfloat16)
        seen = [f"matrix product {1000 * _seconds(product, patches, device):.2f} ms"]
        try:
            seen.append(f"convolution {1000 * _seconds(conv, patches, device):.2f} ms")
        except RuntimeError as error:
            seen.append(f"convolution fails: {str(error).splitlines()[0]}")
        rows.append(Row(f"patch embedding, {count} patches", "ok" if far < 0.02 else "FAILED",
                        f"{', '.join(seen)}; off by {far:.1e}"))
    return rows


def _seconds(layer: nn.Module, patches: Tensor, device: str) -> float:
    """Of a forward and backward pass, once warm."""
    for _ in range(2):
        started = _now(device)
        layer(patches).sum().backward()
        seconds = _now(device) - started
    return seconds


def engine_rows(shape: Shape, device: str, *, dtype: torch.dtype = torch.bfloat16, length: int = 128,
                at_once: tuple[int, ...] = (16, 64, 128), kv_cache_gib: float = 4.0) -> list[Row]:
    """The training's own engine and a model of random weights: two phases, other weights in the second; its sleep; how
    fast it decodes; how long new weights take."""
    if importlib.util.find_spec("vllm") is None:
        return [Row("vLLM", "skipped", "not installed")]

    from PIL import Image

    from gre.models.scoring import score
    from gre.models.tower import processor_settings
    from gre.models.vlm import banned_tokens, encode_prompt, load_processor
    from gre.rollout.vllm.engine import Engine, VLLMRollout

    processor, model = load_processor(BASE), random_model(shape, device).to(dtype).eval()
    banned = banned_tokens(processor.tokenizer, shape.vocab)
    banned[processor.tokenizer.eos_token_id] = True  # every completion takes its full length
    prompts = [encode_prompt(processor, "Where is this?", Image.new("RGB", (112, 112), (20 * i, 120, 200)))
               for i in range(8)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        engine = Engine(Path(folder), processor_settings(processor), banned, max_length=1024, dtype=dtype,
                        sequences=max(at_once), kv_cache_gib=kv_cache_gib)
        rollout = VLLMRollout(engine, processor.tokenizer.eos_token_id, banned, length)
        for phase in (1, 2):
            before, started = _free(device), _now(device)
            groups = rollout.generate(model, prompts, 2, list(range(8)), seed=0, step=phase)
            seconds = _now(device) - started
            with torch.no_grad():
                scores = score(model, [Group(prompt, [one.token_ids for one in group])
                                       for prompt, group in zip(prompts, groups)], banned=banned)
            sampled = torch.cat([one.log_probs for group in groups for one in group]).to(scores.log_probs.device)
            gap = (scores.log_probs - sampled).abs().mean().item()
            rows.append(Row(f"vLLM, phase {phase}", "ok" if gap < GAP else "FAILED",
                            f"{seconds:.1f} s; log-probabilities differ from the trainer's by {gap:.1e} on average; "
                            f"it keeps {(before - _free(device)) / GIB:.1f} GiB"))
            with torch.no_grad():
                for weight in model.parameters():
                    weight.mul_(1 + 0.05 * torch.randn_like(weight))
        for count in at_once:
            started = _now(device)
            rollout.generate(model, prompts, count // 8, list(range(8)), seed=0, step=3)
            seconds = _now(device) - started
            rows.append(Row(f"vLLM, {count} seeded completions", "ok", f"{count * length / seconds:.0f} tokens/s, with "
                                                                       "waking and new weights"))
        started = _now(device)
        engine.answer(model, [], [], length)
        count = len(list(model.named_parameters(remove_duplicate=False)))
        rows.append(Row("vLLM, new weights", "ok",
                        f"{count} of them, with waking and sleep, in {_now(device) - started:.1f} s"))
    return rows


def _free(device: str) -> int:
    """Bytes of the GPU that nobody holds; torch gives back what it keeps for later."""
    if device != "cuda":
        return 0
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info()[0]


def update_rows(device: str, name: str = "G8") -> list[Row]:
    """bench.update of our side alone: arithmetic a second, and which share that is of what the GPU can."""
    if importlib.util.find_spec("omegaconf") is None:
        return [Row("update", "skipped", "omegaconf is not installed")]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "update.json"
        subprocess.run([sys.executable, "-m", "bench.update", f"device={device}", f"shapes=[{name}]", "sides=[ours]",
                        "rounds=2", "memory=false", f"json={file}"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        rate = json.loads(file.read_text())[name]["our_gflops_per_second"] * 1e9
    gpu = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    most = next((flops for part, flops in DENSE_BF16.items() if part in gpu), None)
    share = f", {rate / most:.0%} of the {gpu}'s dense bfloat16" if most else ""
    return [Row(f"update, {name}", "ok", f"{rate / 1e12:.3g} TFLOP/s{share}")]


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
    return {"compiler": compiler_rows, "patches": partial(patch_rows, "cuda"),
            "engine": partial(engine_rows, THREE, "cuda"), "update": partial(update_rows, "cuda")}[name]()


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


def facts(revision: str, seconds: float) -> dict[str, str]:
    """Where and with what the table was made."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(command, capture_output=True, text=True).stdout.split("\n")[0]
    except FileNotFoundError:
        driver = "not asked (no nvidia-smi)"
    gpu = torch.cuda.get_device_properties(0)
    return {"GPU": f"{gpu.name}, {gpu.total_memory / GIB:.1f} GiB, driver {driver}, CUDA {torch.version.cuda}",
            "date": f"{datetime.date.today()}, {seconds:.0f} s", "commit": revision,
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
    started, revision = time.perf_counter(), given.get("commit") or commit()
    out = Path(expanded(given["out"])) if "out" in given else None
    done = _done(out, revision)
    for name in SECONDS:
        if name in done:
            print(f"{name}: as in {out.with_suffix('.json')}", flush=True)
            continue
        done[name] = run(name)
        print(*(f"{row.check}: {row.result}: {row.seen}" for row in done[name]), sep="\n", flush=True)
        if out:
            said = {name: [vars(row) for row in rows] for name, rows in done.items()}
            out.with_suffix(".json").write_text(json.dumps({"commit": revision, "checks": said}, indent=1) + "\n",
                                                encoding="utf-8")
    rows = [row for name in SECONDS for row in done[name]]
    text = table(rows, facts(revision, time.perf_counter() - started))
    print(text, end="")
    if out:
        out.write_text(text, encoding="utf-8")
    return int(any(row.result == "FAILED" for row in rows))


def _done(out: Path | None, revision: str) -> dict[str, list[Row]]:
    """The checks of this commit that an earlier call has made, without those that failed."""
    if out is None or not out.with_suffix(".json").exists():
        return {}
    before = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    if before["commit"] != revision:
        return {}
    found = {name: [Row(**row) for row in rows] for name, rows in before["checks"].items()}
    return {name: rows for name, rows in found.items() if not any(row.result == "FAILED" for row in rows)}


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
