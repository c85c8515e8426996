"""Checkpoints that can be trusted: complete, unaltered, and of this very run.

    OUTPUT/checkpoints/checkpoint-N/{weights, optimizer, schedule, RNG, state-RANK.json, complete.json}

`complete.json` is written last, after everything else has reached the disk, so its existence means that the checkpoint
is whole. It holds the step, size and sha256 of every file, and what the run is made of: config, parent, data.
"""
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from accelerate import PartialState

from gre.config import UserError
from gre.provenance import file_hash, readable_as_others, to_disk, write_atomically
from gre.training.trainer import identity

MARKER = "complete.json"
LOCK = "lock"
LEFT_OPEN = ".nfs"  # how NFS calls a removed file that a process still reads; it goes when that ends
FULL = (errno.ENOSPC, errno.EDQUOT)


def share_of_hashes(folder: Path, rank: int, ranks: int) -> dict[str, str]:
    """{file: sha256} of the part of a checkpoint's files that falls to a process: 116 GB of a 7B model and its
    optimizer are read by all machines together."""
    paths = _files(folder)[rank::ranks]
    return dict(zip((path.relative_to(folder).as_posix() for path in paths), _hashes(paths), strict=True))


def complete(folder: Path, step: int, run: dict, hashes: Mapping[str, str] = MappingProxyType({})) -> None:
    """Mark a checkpoint as whole. run: what it is made of (gre.training.trainer.identity). hashes: of its files, as far
    as they are known; a file that another machine did not see yet is hashed here."""
    readable_as_others(folder)
    paths = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    for path in (*paths.values(), *{path.parent for path in paths.values()}):
        to_disk(path)
    left = [name for name in paths if name not in hashes]
    known = {**hashes, **dict(zip(left, _hashes([paths[name] for name in left]), strict=True))}
    files = {name: {"bytes": path.stat().st_size, "sha256": known[name]} for name, path in paths.items()}
    write_atomically(folder / MARKER, json.dumps({"step": step, "run": run, "files": files}, indent=1) + "\n")
    to_disk(folder)
    to_disk(folder.parent)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(LEFT_OPEN))


def faults(folder: Path) -> list[str]:
    """The files of a marked checkpoint that are gone or are not what they were when it was marked."""
    try:
        files = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
    except ValueError:
        return [MARKER]
    whole = [name for name, file in files.items()
             if (folder / name).is_file() and (folder / name).stat().st_size == file["bytes"]]
    same = {name for name, digest in zip(whole, _hashes([folder / name for name in whole]), strict=True)
            if digest == files[name]["sha256"]}
    return [name for name in files if name not in same]


def newest(checkpoints: Path, run: dict, accepted: Sequence[str] = ()) -> tuple[Path | None, list[dict]]:
    """(the last whole checkpoint of this run, the changes that were accepted up to it and now), or (None, []).

    What an interrupted save left, and a checkpoint whose files were altered, is removed and said so; then the one
    before serves, from which training comes to the same weights. accepted: what may differ (`identity.check_same`).
    Raises UserError when it belongs to another run.
    """
    for folder in reversed(in_order(checkpoints)):
        altered = faults(folder) if (folder / MARKER).exists() else None
        if altered == []:
            before = json.loads((folder / MARKER).read_text(encoding="utf-8"))["run"]
            new = identity.check_same(folder, before, run, accepted,
                                      f"write another output_dir, or remove {checkpoints}, to start over")
            return folder, [*before.get(identity.CHANGES, []), *({"step": step_of(folder), **each} for each in new)]
        reason = "it was never finished" if altered is None else f"not as it was written: {', '.join(altered)}"
        if remove(folder):
            print(f"{folder} is removed ({reason})", flush=True)
    return None, []


def in_order(checkpoints: Path) -> list[Path]:
    """The checkpoints of a run, by step, whole or not."""
    return sorted((path for path in checkpoints.glob("checkpoint-*") if path.name.split("-")[1].isdigit()), key=step_of)


def step_of(folder: Path) -> int:
    """N of checkpoint-N."""
    return int(folder.name.split("-")[1])


def prune(checkpoints: Path, keep: int, best_step: int | None) -> None:
    """Remove all but the last `keep` checkpoints and the one of `best_step`."""
    for folder in in_order(checkpoints)[:-keep]:
        if step_of(folder) != best_step:
            remove(folder)


def remove(folder: Path) -> bool:
    """Remove a checkpoint, its marker first: what an interruption leaves of it counts as unfinished.

    False, and a line, where the file system does not let it go (a file that is open on NFS, say): no training ends for
    that, and the next `prune` tries again.
    """
    with _going_on(f"{folder} cannot be removed now"):
        (folder / MARKER).unlink(missing_ok=True)
        shutil.rmtree(folder)
        return True
    return False


@contextmanager
def _going_on(what: str) -> Iterator[None]:
    """Say what the file system refuses, and go on."""
    try:
        yield
    except OSError as error:
        print(f"{what} ({error.strerror}: {error.filename}); the training goes on without that", flush=True)


@contextmanager
def saying_that_the_disk_is_full(folder: Path, checkpoints: Path) -> Iterator[None]:
    """Raise UserError where what is written into `folder` does not fit: torch's writer says "unexpected pos" then, and
    safetensors and Python each something else. checkpoints: from which the same command resumes."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not _is_full(error, folder):
            raise
        whole = [path for path in in_order(checkpoints) if (path / MARKER).exists()]
        free = shutil.disk_usage(checkpoints).free
        raise UserError(f"{folder} could not be written: its disk is full, or your share of it ({free:,} bytes are "
                        f"free). Free some, and the same command resumes from {whole[-1] if whole else 'the start'}"
                        ) from error


def _is_full(error: Exception, folder: Path) -> bool:
    """Whether a failure to write comes of a full disk. torch's writer does not tell, but leaves no room."""
    if isinstance(error, OSError) and error.errno:
        return error.errno in FULL
    if any(f"os error {number})" in str(error) for number in FULL):  # safetensors, which takes away what it wrote
        return True
    if not isinstance(error, RuntimeError):
        return False
    probe = folder / "room"
    try:
        probe.write_bytes(bytes(2**20))
    except OSError as no_room:
        return no_room.errno in FULL
    finally:
        probe.unlink(missing_ok=True)
    return False


def clear(checkpoints: Path, keep_last: bool) -> None:
    """Remove the checkpoints of a finished stage: they are several times as large as `model/`, which is all that the
    next stage needs. keep_last: but for the last one, from which the stage can be trained longer."""
    folders = in_order(checkpoints)
    for folder in folders[:-1] if keep_last else folders:
        remove(folder)
    with _going_on(f"{checkpoints / LOCK} cannot be removed"):
        (checkpoints / LOCK).unlink()


def lock(folder: Path) -> None:
    """Keep a second process out of a run until this one ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)  # stays open: closing it would free the lock
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise UserError(f"{folder.parent} is being trained by another process: wait for it to end, or stop "
                        "it") from None
    except OSError as error:
        raise UserError(f"{folder / LOCK} cannot be locked ({error.strerror}): write output_dir on a file system with "
                        "locks (Lustre: mounted with flock)") from error


def file_state(path: Path) -> dict[str, int]:
    """The state of a file that lines are added to: its length, once what is in it has reached the disk."""
    if not path.exists():
        return {"bytes": 0}
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())
        return {"bytes": os.fstat(stream.fileno()).st_size}


def cut_back(path: Path, state: dict[str, int]) -> None:
    """Take away what was added to a file after `file_state`, so that a resumed run neither loses nor repeats a line."""
    if not PartialState().is_main_process:
        return
    if (path.stat().st_size if path.exists() else 0) < state["bytes"]:
        raise UserError(f"{path} is shorter than when the checkpoint was written: put it back, or remove the "
                        "checkpoints beside it to start over")
    path.touch()
    os.truncate(path, state["bytes"])


def _hashes(paths: list[Path]) -> list[str]:
    """sha256 of files, some at a time: a 7B model and its optimizer are 116 GB, which one thread reads for minutes."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(file_hash, paths))
