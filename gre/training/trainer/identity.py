"""What a run is made of: what a checkpoint and the run that resumes it must have in common.

Where a run lies and what it prints does not count, and neither does how its work is cut into passes and batches:
numbers then differ by rounding alone. How many rows a step has does count, however processes share them. What may
differ when `accept_changes` names it is listed in ACCEPTABLE; it is recorded in later checkpoints and in the manifest.
"""
import dataclasses
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gre.config import UserError
from gre.data.hashes import photo_hashes
from gre.provenance import file_hash

# Where things lie, what is printed, what happens after training. Parent and rows count by their content.
ELSEWHERE = ("output_dir", "model_name_or_path", "accept_parent", "accept_changes", "handoff", "data.",
             "train.save_steps", "train.keep_last_checkpoint", "train.logging_steps", "train.report_to",
             "train.dataloader_num_workers", "judge.model_name_or_path", "judge.url", "validation.data", "policy.",
             "rollout.url", "rollout.weights_dir", "rollout.timeout_s")
CUT = ("rollout.batch_size", "rollout.kv_cache_gib", "judge.batch_size", "train.tokens_per_pass",
       "model.gradient_checkpointing", "train.per_device_batch_size", "train.gradient_accumulation_steps")
ACCEPTABLE = ("processes", "rows", "rewards.", "train.max_steps", "train.num_train_epochs")
CHANGES = "changes"  # what was accepted so far: [{"step", "key", "before", "now"}]


def made_of(config: Any, *, processes: int, **content: str) -> dict[str, Any]:
    """{key: value} of a stage's run. config: resolved; content: sha256 of parent, rows, rewards and the like."""
    flat = dict(_flat(dataclasses.asdict(config), ""))
    train = config.train
    return {**{key: value for key, value in flat.items() if not key.startswith((*ELSEWHERE, *CUT))},
            "rows_of_a_step": train.per_device_batch_size * train.gradient_accumulation_steps * processes,
            "processes": processes, **content}


def rows_hash(rows: Sequence[Any]) -> str:
    """sha256 over what is trained on, in its order: every field of every row, photos by their content. Names of files
    and the numbers of rows in them do not count."""
    digest, hashes = hashlib.sha256(), photo_hashes(row.image for row in rows)
    for row in rows:
        fields = {name: value for name, value in vars(row).items() if name not in ("id", "image")}
        digest.update(json.dumps([hashes[row.image], fields], sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


def code_hash(function: Callable) -> str:
    """sha256 of the file a function, or the class of a callable object, is written in."""
    while isinstance(function, partial):
        function = function.func
    return file_hash(inspect.getsourcefile(function if inspect.isroutine(function) else type(function)))


def check_same(where: str | Path, before: dict, now: dict, accepted: Iterable[str], otherwise: str) -> list[dict]:
    """The accepted changes between two runs' makings, each {"key", "before", "now"}.

    accepted: keys, of ACCEPTABLE. otherwise: what else can be done, for the message. Raises UserError naming what
    differs and is not accepted.
    """
    changes = differences(before, now)
    refused = [change for change in changes if change["key"] not in accepted]
    if not refused:
        return changes
    named = ", ".join(f"{change['key']} ({_shown(change['before'])} there, {_shown(change['now'])} here)"
                      for change in refused)
    ways = []
    if all(change["key"].startswith(ACCEPTABLE) for change in refused):
        ways.append(f"write accept_changes=[{','.join(change['key'] for change in refused)}] to go on with what is "
                    "here, which is recorded")
    if [change["key"] for change in refused] == ["rows_of_a_step"]:
        ways.append("let train.per_device_batch_size x train.gradient_accumulation_steps x processes be "
                    f"{before.get('rows_of_a_step')} again: the batch may be smaller where more are accumulated")
    raise UserError(f"{where} belongs to a run with other settings: {named}. Set them back to resume it; "
                    + "".join(f"{way}; " for way in ways) + otherwise)


def differences(before: dict, now: dict) -> list[dict]:
    """What differs between what two runs are made of, by key."""
    now = json.loads(json.dumps(now))
    return [{"key": key, "before": before.get(key), "now": now.get(key)}
            for key in sorted((before.keys() | now.keys()) - {CHANGES}) if before.get(key) != now.get(key)]


def _shown(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text  # a sha256


def _flat(node: dict, prefix: str):
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
