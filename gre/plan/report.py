"""The planner's answer: a table or JSON, and what to change when it does not fit."""
import copy
import json
from pathlib import Path

from gre.config import UserError, check_keys
from gre.judge.quality import NUM_GENERATIONS
from gre.plan import recipe as recipes
from gre.plan.memory import GIB, Job, host_bytes, moments, parts, peak, reserve
from gre.plan.recipe import Recipe
from gre.plan.work import work


def report(argv: list[str], stage: str, file: Path, gpus: int, gpu_gib: float, *, as_json: bool) -> int:
    """Print the plan of `CONFIG [key=value …]`; 0 when it fits on each GPU, 1 when it does not."""
    check_keys(recipes.Recipe, argv)
    recipe = recipes.read_recipe(argv)
    job = recipes.job(recipe, stage, file, gpus)
    moment, size = peak(job)
    fits = size <= gpu_gib * GIB
    changes = [] if fits else advice(recipe, stage, file, gpus)
    if as_json:
        print(json.dumps(answer(job, gpu_gib, changes), indent=2))
    else:
        print(table(job, stage, gpus, gpu_gib))
        print("\n".join(verdict(job, moment, gpu_gib, changes)))
    return 0 if fits else 1


def answer(job: Job, gpu_gib: float, changes: list[tuple[str, float]]) -> dict:
    """The plan as numbers: GiB a GPU, FLOPs of a step over all GPUs."""
    moment, size = peak(job)
    done = work(job)
    return {"fits": size <= gpu_gib * GIB, "peak_gib": _gib(size), "gpu_gib": gpu_gib, "peak_moment": moment,
            "parts": {name: _gib(value) for name, value in _shown(job).items()},
            "moments": {name: _gib(value) for name, value in moments(job).items()},
            "host_gib": _gib(host_bytes(job)), "parameters": job.shape.parameters,
            "prompts_per_step": done.prompts, "tokens_per_step": done.tokens,
            "scored_tokens_per_step": done.scored_tokens, "flops_per_step": done.flops,
            "changes": [{"change": change, "peak_gib": _gib(value)} for change, value in changes]}


def table(job: Job, stage: str, gpus: int, gpu_gib: float) -> str:
    """Parts, moments and work, for people."""
    done = work(job)
    lines = [f"{stage}: {job.shape.parameters:,} weights on {gpus} x {gpu_gib:g} GiB, {_held(job)}",
             "", "GiB on each GPU, each part at its largest"]
    lines += [f"  {name:32}{_gib(size):10.2f}" for name, size in _shown(job).items()]
    lines += ["", "GiB on each GPU, by moment"]
    lines += [f"  {name:32}{_gib(size):10.2f}" for name, size in moments(job).items()]
    if host_bytes(job):
        lines += ["", f"GiB of the machine's memory for each GPU{'':3}{_gib(host_bytes(job)):10.2f}"]
    lines += ["", f"one step: at most {done.prompts:,} prompts, {done.tokens:,} tokens, "
                  f"{done.scored_tokens:,} of them scored"]
    total = sum(done.flops.values())
    shares = ", ".join(f"{name} {count / total:.0%}" for name, count in done.flops.items())
    return "\n".join([*lines, f"          {total:.3g} FLOPs: {shares}", ""])


def verdict(job: Job, moment: str, gpu_gib: float, changes: list[tuple[str, float]]) -> list[str]:
    """It fits, or what is largest and what each change alone would make of the peak."""
    size = peak(job)[1]
    if size <= gpu_gib * GIB:
        return [f"fits: {_gib(size):.1f} of {gpu_gib:g} GiB in the {moment}"]
    largest = sorted(_shown(job).items(), key=lambda part: -part[1])[:3]
    lines = [f"does not fit: {_gib(size):.1f} of {gpu_gib:g} GiB in the {moment}; the largest parts are "
             + ", ".join(f"{name} ({_gib(value):.1f})" for name, value in largest)]
    lines += [f"  {change:60}{_gib(value):8.1f} GiB{', fits' if value <= gpu_gib * GIB else ''}"
              for change, value in changes]
    return lines + ([] if changes else ["  no single change lowers it"])


def advice(recipe: Recipe, stage: str, file: Path, gpus: int) -> list[tuple[str, float]]:
    """(change, peak in bytes) of every single change that lowers the peak, the largest gain first."""
    before = peak(recipes.job(recipe, stage, file, gpus))[1]
    found = [(f"gpus={gpus * times}", gpus * times, {}) for times in (2, 4, 8)]
    found += [(" ".join(f"{key}={_text(value)}" for key, value in change.items()), gpus, change)
              for change in changes(recipe, stage, file)]
    sized = []
    for name, count, change in found:
        try:
            size = peak(recipes.job(_changed(recipe, change), stage, file, count))[1]
        except UserError:  # a photo that no longer fits its row, say: no advice
            continue
        if size < before:
            sized.append((name, size))
    return sorted(sized, key=lambda one: one[1])


def changes(recipe: Recipe, stage: str, file: Path) -> list[dict[str, object]]:
    """Settings that cost less memory, one at a time."""
    train, found = recipe.train, []
    shipped = sorted((file.parent.parent / "deepspeed").glob("*.json"))
    found += [{"train.deepspeed": str(path), "train.bf16": True} for path in shipped]
    if not recipe.model.gradient_checkpointing:
        found.append({"model.gradient_checkpointing": True})
    if not recipe.model.lora.r:
        if not recipe.model.freeze_vision:
            found.append({"model.freeze_vision": True})
        found.append({"model.lora.r": 32, "train.deepspeed": None, "train.bf16": True})
    if train.per_device_batch_size > 1:
        half = train.per_device_batch_size // 2
        found.append({"train.per_device_batch_size": half,
                      "train.gradient_accumulation_steps": train.gradient_accumulation_steps * 2})
    pixels = recipe.model.max_pixels or recipes.find_parent(recipe.model_name_or_path, file).max_pixels
    found.append({"model.max_pixels": pixels // 2})
    if stage in ("stage1", "judge", "localizability"):
        found.append({"model.max_length": recipe.model.max_length // 2})
    else:
        found += [{"rollout.max_new_tokens": recipe.rollout.max_new_tokens // 2}, {"grpo.beta": 0.0},
                  {"grpo.num_generations": max(2, recipe.grpo.num_generations // 2)},
                  {"rollout.batch_size": max(recipe.grpo.num_generations, recipe.rollout.batch_size // 8)}]
        if recipe.rollout.engine != "transformers":
            found += [{"rollout.engine": "transformers"}, {"rollout.kv_cache_gib": recipe.rollout.kv_cache_gib / 2}]
    if stage == "judge":
        found.append({"policy.batch_size": max(NUM_GENERATIONS, recipe.policy.batch_size // 4)})
    return found


def _changed(recipe: Recipe, change: dict[str, object]) -> Recipe:
    new = copy.deepcopy(recipe)
    for key, value in change.items():
        *sections, name = key.split(".")
        owner = new
        for section in sections:
            owner = getattr(owner, section)
        setattr(owner, name, value)
    return new


def _shown(job: Job) -> dict[str, float]:
    """The parts with CUDA's own."""
    whole = reserve(job, peak(job)[1])
    return parts(job) | ({"CUDA and fragmentation": whole} if whole else {})


def _held(job: Job) -> str:
    engine = job.engine
    kind = "without DeepSpeed" if engine.zero is None else f"ZeRO-{engine.zero}"
    both = (("optimizer", engine.offload_optimizer), ("weights", engine.offload_weights))
    offload = [name for name, on in both if on]
    return (kind + (f", {' and '.join(offload)} in the machine's memory" if offload else "")
            + (", bfloat16" if engine.low else ", bfloat16 autocast" if engine.autocast else ", float32")
            + (f", an adapter of {engine.adapter:,} weights" if engine.adapter else "")
            + (", activations recomputed" if job.checkpointing else ""))


def _text(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _gib(size: float) -> float:
    return round(size / GIB, 2)
