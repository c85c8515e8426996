"""Whether a folder holds a whole model of the kind we train, asked before anything is loaded from it. No torch.

Weights are read from safetensors alone: a pickle runs code when it is opened, and one identity covers all that loads.
"""
import json
from pathlib import Path
from typing import Any

from gre.config import UserError

MODEL_TYPES = {"qwen2_5_vl": "Qwen2.5-VL", "qwen2_vl": "Qwen2-VL", "qwen3_vl": "Qwen3-VL",
               "internvl": "InternVL3 (-hf)"}  # as shown in docs/models.md
REFUSED = {
    "qwen3_vl_moe": "a mixture of experts: packed rows were not held against its router, nor its experts' weights sent",
    "internvl_chat": "its code comes with the folder, and none is run here: take the folder of the same name in -hf",
    "qwen3_5": "its linear attention carries a state from token to token, which completions of one prompt cannot share",
}
INDEX = "model.safetensors.index.json"
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE = "base"  # beside a stage's adapter: the weights it was trained beside
AGAIN = "the download is not whole: fetch it again (hf download NAME --local-dir FOLDER)"
_LFS = b"version https://git-lfs"  # what `git clone` leaves in place of a large file where git-lfs is not installed


def check(folder: Path) -> None:
    """Raise UserError, with what to do, unless `folder` holds a whole model of MODEL_TYPES: config, weights,
    tokenizer and processor. Of the weights only the headers are read."""
    _check_kind(folder)
    config = _json(folder / "config.json")
    if (kind := config.get("model_type")) not in MODEL_TYPES:
        raise UserError(f"{folder} holds a model of type {kind!r}: this code trains and asks "
                        f"{', '.join(MODEL_TYPES.values())} only"
                        + (f", and not that one: {REFUSED[kind]}" if kind in REFUSED else ""))
    if kind == "internvl" and (text := config.get("text_config", {}).get("model_type")) != "qwen2":
        raise UserError(f"{folder} holds an InternVL whose text model is {text!r}: only those of qwen2 can be trained "
                        "here (InternVL3)")
    if quantised := config.get("quantization_config"):
        raise UserError(f"{folder} holds quantised weights ({quantised.get('quant_method')}), which are not trained or "
                        "asked here: name the model that they were made from")
    for path in weight_files(weights_folder(folder)):
        _check_weights(path)
    if holds_adapter(folder):
        _check_weights(folder / ADAPTER_WEIGHTS)
    _check_reading(folder)


def holds_adapter(folder: Path) -> bool:
    """Whether `folder` is a base and an adapter, as a stage that trains with LoRA hands on."""
    return (folder / ADAPTER).exists() and (folder / BASE).is_dir()


def weights_folder(folder: Path) -> Path:
    """Where the weights of a model folder lie: there, or in its base/."""
    return folder / BASE if holds_adapter(folder) else folder


def weight_files(folder: Path) -> list[Path]:
    """The files weights are loaded from. Raises UserError when there are none, or one that the index names is gone."""
    if (folder / INDEX).exists():
        names = _json(folder / INDEX).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise UserError(f"{folder / INDEX} names no weights: {AGAIN}")
        if elsewhere := [name for name in names.values() if Path(name).name != name]:
            raise UserError(f"{folder / INDEX} names weights outside the folder ({elsewhere[0]}), which no identity "
                            "would cover: put them beside the index, and write their names alone")
        files = [folder / name for name in sorted(set(names.values()))]
        if missing := [path.name for path in files if not path.is_file()]:
            raise UserError(f"{folder} lacks {len(missing)} of {len(files)} files of weights ({', '.join(missing)}): "
                            f"{AGAIN}")
        return files
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if pickled := sorted(path.name for path in folder.glob("*.bin")):
        raise UserError(f"{folder} holds weights as pickles ({', '.join(pickled[:2])}), which run code when they are "
                        "opened: save the model as safetensors (save_pretrained does)")
    raise UserError(f"{folder} holds no weights (model.safetensors, or {INDEX} and its files): {AGAIN}")


def _check_kind(folder: Path) -> None:
    """Refuse what is taken for a model and is none."""
    if folder.is_file():
        raise UserError(f"{folder} is a file: name the folder it lies in, {folder.parent}")
    if (folder / "config.json").exists():
        if holds_adapter(folder):
            if not (folder / ADAPTER_WEIGHTS).is_file():
                raise UserError(f"{folder} lacks {ADAPTER_WEIGHTS}: {AGAIN}")
        elif (folder / ADAPTER_WEIGHTS).exists() and _json(folder / ADAPTER).get("base_model_name_or_path") == BASE:
            raise UserError(f"{folder} holds an adapter that a stage handed on, without its {BASE}/: take the whole "
                            "folder of the stage again")
        elif (folder / ADAPTER).exists():
            raise UserError(f"{folder} holds an adapter beside its model (adapter_config.json), and transformers would "
                            "load both: merge the two (peft's merge_and_unload, then save_pretrained), or move the "
                            "adapter's files away")
        return
    if (folder / ADAPTER).exists():
        base = _json(folder / ADAPTER).get("base_model_name_or_path")
        raise UserError(f"{folder} is an adapter without its base model ({base}): merge the two (peft's "
                        "merge_and_unload, then save_pretrained, the processor too) and name that folder")
    raise UserError(f"{folder} holds no model (no config.json): name a stage's folder or a model's")


def _check_weights(path: Path) -> None:
    """A safetensors file says in its first eight bytes how long its header is, and in the header where weights end."""
    size = path.stat().st_size
    with open(path, "rb") as stream:
        first = stream.read(8)
        length = int.from_bytes(first, "little")
        if _LFS.startswith(first) and first:
            raise UserError(f"{path} is a pointer of git-lfs, not the weights: run `git lfs pull` there, or {AGAIN}")
        try:
            header = json.loads(stream.read(length)) if 0 < length <= size - 8 else None
        except ValueError:
            header = None
    if not isinstance(header, dict):
        raise UserError(f"{path} is no safetensors file ({size} bytes): {AGAIN}")
    end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    if size != 8 + length + end:
        raise UserError(f"{path} has {size} bytes and should have {8 + length + end}: {AGAIN}")


def _check_reading(folder: Path) -> None:
    """The files by which texts become tokens and photos become patches."""
    missing = [] if (folder / "tokenizer.json").is_file() else ["tokenizer.json"]
    if not any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
        missing.append("preprocessor_config.json")
    if missing and (folder / "trainer_state.json").exists():
        raise UserError(f"{folder} is a checkpoint of a training that was not finished, without {' and '.join(missing)}"
                        ": run its stage to the end and name the stage's folder, or copy the processor's files of its "
                        "base there")
    if missing:
        raise UserError(f"{folder} lacks {' and '.join(missing)}: {AGAIN}, or save the processor of its base there "
                        "(AutoProcessor.from_pretrained(BASE).save_pretrained(FOLDER))")
    for path in folder.glob("*.json"):
        _json(path)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error}): {AGAIN}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: {AGAIN}")
    return content
