"""Data sets and base models from the Hugging Face Hub: `python -m data_prep.fetch NAME [key=value …]`.

    python -m data_prep.fetch qwen2.5-vl-7b
    python -m data_prep.fetch mp16-reason revision=COMMIT yes=true

A data set goes into dataset/published/NAME, apart from what data_prep makes of photos, and a model into models/NAME.
Nothing is fetched before commit, licence and sizes were shown and confirmed: by typing yes, or with yes=true. What is
fetched is one commit of the repository, named in full: a branch or a tag may mean something else tomorrow. Every file
is compared with the hash that the Hub lists; OUT/fetched.json, written last, holds repository, commit, licence and the
sha256 of every file. Interrupted, the same command goes on with the files that are not whole; finished, it compares
them again and asks nobody.
"""
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

from tqdm import tqdm

from gre.config import REQUIRED, UserError, main, names_file, option
from gre.provenance import file_hash, write_atomically

RECORD = "fetched.json"
FOLDERS = {"model": "models", "dataset": "dataset/published"}
# Of a model: weights as safetensors, configs, tokenizer, chat template, and what it may be used for. Never a pickle.
OF_A_MODEL = ("*.safetensors", "*.json", "*.jinja", "*.txt", "README.md", "LICENSE*")


@dataclass(frozen=True)
class Source:
    """A repository on the Hub. kind: model or dataset; revision: the commit to take, empty where none is known here;
    terms: what is known of its licence beside what the Hub says."""

    repo: str
    kind: str
    revision: str = ""
    terms: str = ""


_MP16 = "its photos are of MP16-Pro, which is for academic use; each photo is its author's (Flickr)"
# Data sets: the READMEs of github.com/Thorin215/GRE and github.com/lingli1996/GLOBE link to them; they name no commit.
# Qwen's commits are those that other public projects pin. Nothing of this was looked up on the Hub.
SOURCES = {
    "gre30k": Source("Anonymous0515/GRE30K", "dataset", terms=_MP16),
    "greval-bench": Source("Anonymous0515/GREval-Bench", "dataset"),
    "mp16-reason": Source("globe-project/MP16-Reason", "dataset", terms=_MP16),
    "qwen2.5-vl-7b": Source("Qwen/Qwen2.5-VL-7B-Instruct", "model", "cc594898137f460bfe9f0759e9844b3ce807cfb5"),
    "qwen2.5-vl-3b": Source("Qwen/Qwen2.5-VL-3B-Instruct", "model", "66285546d2b821cf421d4f5eb2576359d3770cd3")}


@dataclass
class Config:
    name: str = option(REQUIRED, f"what to fetch: {', '.join(SOURCES)}; `name=` may be left out")
    revision: str = option("", "commit of the repository, all 40 digits; required where none is known here")
    repo: str = option("", "OWNER/NAME on the Hub, where it has moved")
    out: str = option("", "folder; empty: dataset/published/NAME, or models/NAME for a model")
    yes: bool = option(False, "fetch without asking")

    def __post_init__(self):
        self.name = self.name.lower()
        if self.name not in SOURCES:
            raise ValueError(f"name is {self.name!r}: write one of {', '.join(SOURCES)}")
        if self.repo and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repo):
            raise ValueError(f"repo is {self.repo!r}: write OWNER/NAME")
        self.out = self.out or f"{FOLDERS[SOURCES[self.name].kind]}/{self.name}"

    @property
    def source(self) -> Source:
        """What is asked for."""
        known = SOURCES[self.name]
        return Source(self.repo or known.repo, known.kind, self.revision or (known.revision if not self.repo else ""),
                      known.terms)


@dataclass(frozen=True)
class Listed:
    """A file as the Hub lists it. hashed: its sha256, or, of one that git holds itself, git's own hash."""

    path: str
    size_bytes: int
    hashed: str


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    source = config.source
    return {"reads": [f"{source.repo} ({source.kind}), commit {source.revision or 'REVISION'}, from the Hub"],
            "writes": [config.out, f"{config.out}/{RECORD}"]}


def run(config: Config) -> None:
    """Fetch, or compare what was fetched. Raises UserError naming file and remedy."""
    source, out = config.source, Path(config.out)
    if _is_whole(source, out):
        return
    with _hub(source):
        about = _about(source)
        files = _files(source)
    print(described(source, about, files, out), flush=True)
    _confirm(config)
    from huggingface_hub import snapshot_download

    with _hub(source):
        snapshot_download(source.repo, repo_type=source.kind, revision=source.revision, local_dir=out,
                          allow_patterns=[one.path for one in files])
    sha256 = _compared(out, {one.path: one.hashed for one in files})
    write_atomically(out / RECORD, json.dumps({**asdict(source), "licence": about["licence"], "files": {
        one.path: {"bytes": one.size_bytes, "sha256": sha256[one.path]} for one in files}}, indent=2) + "\n")
    for cut_off in (out / ".cache").rglob("*.incomplete"):  # huggingface_hub begins a file anew under another name
        cut_off.unlink()
    print(f"{out}: {len(files):,} files, each as the Hub lists it; their sha256 are in {RECORD}")


def described(source: Source, about: Mapping[str, str], files: Sequence[Listed], out: Path) -> str:
    """What is about to be fetched. Raises UserError where the disk has no room for it."""
    total = sum(one.size_bytes for one in files)
    missing = sum(one.size_bytes for one in files if not _has_size(out / one.path, one.size_bytes))
    there = next(one for one in (out, *out.absolute().parents) if one.is_dir())
    if missing > (free := shutil.disk_usage(there).free):
        raise UserError(f"{out}: {_size(missing)} are missing and {_size(free)} of that disk are free: write another "
                        "out=, or make room")
    lines = [f"{source.repo} ({source.kind}) at commit {source.revision}, last changed {about['changed']}",
             f"licence: {about['licence']}" + (f"; {source.terms}" if source.terms else ""),
             f"{len(files):,} files, {_size(total)}, of which {_size(missing)} are not in {out} yet; the largest:"]
    return "\n".join(lines + [f"  {_size(one.size_bytes):>10}  {one.path}" for one in sorted(
        files, key=lambda one: -one.size_bytes)[:5]])


def _about(source: Source) -> dict[str, str]:
    """What the Hub says of a commit. Raises UserError for what is not named in full, saying what it is today."""
    from huggingface_hub import HfApi  # takes a moment

    info = HfApi().repo_info(source.repo, repo_type=source.kind, revision=source.revision or None)
    changed = str(info.last_modified.date()) if info.last_modified else "unknown"
    if info.sha != source.revision:
        raise UserError(f"revision={source.revision}: name a commit of {source.repo} in full. "
                        f"{source.revision or 'Its newest'} is {info.sha} today, last changed {changed}: look at "
                        f"{_address(source)}/tree/{info.sha}, and write revision={info.sha}")
    card = info.card_data
    licence = " ".join(str(said) for name in ("license", "license_name", "license_link")
                       if (said := card and card.get(name)) and said != "other")
    access = "; asks who fetches it to accept its terms" if info.gated else ""
    return {"changed": changed, "licence": (licence or "the Hub states none") + access}


def _files(source: Source) -> list[Listed]:
    """The files of a commit that are wanted. Raises UserError where there is none."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    listed = HfApi().list_repo_tree(source.repo, repo_type=source.kind, revision=source.revision, recursive=True)
    files = [Listed(one.path, one.size, one.lfs.sha256 if one.lfs else one.blob_id) for one in listed
             if isinstance(one, RepoFile)
             and (source.kind == "dataset" or any(fnmatch(one.path, wanted) for wanted in OF_A_MODEL))]
    if not files:
        raise UserError(f"{_address(source)}/tree/{source.revision} lists no file that is wanted here")
    return files


def _confirm(config: Config) -> None:
    if config.yes:
        return
    if not sys.stdin.isatty():
        raise UserError("nothing was fetched: write yes=true to fetch this")
    if input(f"Fetch this into {config.out}? Type yes: ").strip().lower() != "yes":
        raise UserError("nothing was fetched")


def _is_whole(source: Source, out: Path) -> bool:
    """Whether all of it was fetched before; said so. Raises UserError for a folder that holds something else."""
    record = out / RECORD
    if not record.exists():
        if out.exists() and any(out.iterdir()) and not (out / ".cache/huggingface").is_dir():
            raise UserError(f"out={out} holds something else: name a new folder")
        return False
    old = json.loads(record.read_text(encoding="utf-8"))
    if old["repo"] != source.repo or source.revision and old["revision"] != source.revision:
        raise UserError(f"out={out} holds {old['repo']} at commit {old['revision']}: name another folder")
    if any(not (out / path).is_file() for path in old["files"]):
        return False
    _compared(out, {path: one["sha256"] for path, one in old["files"].items()})
    print(f"{out}: {old['repo']} at commit {old['revision']} was fetched before, and is whole")
    return True


def _compared(out: Path, hashes: Mapping[str, str]) -> dict[str, str]:
    """The sha256 of files. Raises UserError for one that is missing or has another hash, sha256 or git's."""
    found = {}
    for path, hashed in tqdm(hashes.items(), "comparing", unit="file", delay=2):
        file = out / path
        if not file.is_file():
            raise UserError(f"{file} is missing: run the same command again")
        found[path] = file_hash(file)
        if hashed != (found[path] if len(hashed) == 64 else _git_hash(file)):
            raise UserError(f"{file} is not what was published: delete it, and run the same command again")
    return found


def _git_hash(file: Path) -> str:
    """What git calls a file: sha1 over its length and content."""
    content = file.read_bytes()  # such files are small: git would hold large ones as pointers
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def _hub(source: Source) -> Iterator[None]:
    """What the Hub refuses, or that it cannot be reached, as one message."""
    import httpx2
    from huggingface_hub import constants, errors

    try:
        yield
    except errors.GatedRepoError:
        raise UserError(f"{source.repo} is given to who accepts its terms: accept them at {_address(source)}, log in "
                        "(hf auth login), and run the same command again") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"the Hub shows no {source.kind} {source.repo}: where it has moved, write repo=OWNER/NAME; "
                        "where it is private, log in (hf auth login)") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{source.repo} has no commit {source.revision}: see {_address(source)}/commits/main") from None
    except (httpx2.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of this machine's disk
            raise
        offline = "HF_HUB_OFFLINE is set. " if constants.HF_HUB_OFFLINE else ""
        raise UserError(
            f"{constants.ENDPOINT} does not give {source.repo} ({type(error).__name__}: {str(error).splitlines()[0]}). "
            f"{offline}Run the same command again: whole files are kept. Without a network here, run it where there is "
            "one, and copy its folder") from error


def _address(source: Source) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{'datasets/' if source.kind == 'dataset' else ''}{source.repo}"


def _has_size(path: Path, size_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"


def arguments(argv: Sequence[str]) -> list[str]:
    """A name without a key is `name`."""
    return [f"name={text}" if names_file(text) and not Path(text).is_file() else text for text in argv]


if __name__ == "__main__":
    main(run, Config, __doc__, plan, arguments(sys.argv[1:]))
