"""Review by people: `python -m data_prep.review FILE name=ANNOTATOR`, then `python -m data_prep.review FILE out=FILE2`.

With name= it serves a page to this machine alone: photo, map, reasoning and answer of a row, with the truth beside;
accept (A), edit (E) or reject (R) it. Every decision is on the disk, in FILE's name with .review.ANNOTATOR.jsonl,
before it is confirmed; started again, the review goes on at the first undecided row. Each annotator has a file of his
own and sees nothing of the others'.

With out= it writes the rows that were kept, edits in place, as a file of the same form in the folder of FILE; beside it
OUT's name with .rejected.jsonl, a line a row that was rejected or is disputed, and a card: how many of what, and how
far annotators agree. FILE is of any kind that docs/formats.md knows.
"""
import socket
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from data_prep.inspect.__main__ import Data, arguments
from data_prep.review import decisions, result, rows
from gre.config import UserError, main, option


@dataclass
class Config:
    data: Data = option(Data, "the file")
    name: str = option("", "annotator: letters, digits, - and _; whose page is served")
    out: str = option("", "file for the rows that were kept, in the folder of FILE, since rows name their photos from "
                      "there")
    port: int = option(8765, "with name=, of the page; 0: any that is free")

    def __post_init__(self):
        if bool(self.name) == bool(self.out):
            raise ValueError("write one of name=ANNOTATOR, to review, and out=FILE, to write what was kept")
        if self.name and not decisions.NAME.fullmatch(self.name):
            raise ValueError(f"name is {self.name!r}: write letters, digits, - and _, 40 at most")
        if self.out and (Path(self.out).suffix not in (".json", ".jsonl")
                         or Path(self.out).resolve().parent != Path(self.data.path).resolve().parent
                         or Path(self.out).resolve() == Path(self.data.path).resolve()):
            raise ValueError(f"out={self.out}: name another .json or .jsonl file in the folder of {self.data.path}")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    path, out = Path(config.data.path), Path(config.out)
    if config.name:
        return {"reads": [str(path)], "writes": [str(decisions.path_of(path, config.name))]}
    return {"reads": [str(path), str(decisions.path_of(path, "NAME"))],
            "writes": [str(out), str(result.rejected_of(out)), str(out.with_name(f"{out.stem}.card.html"))]}


def run(config: Config) -> None:
    """Serve, or write. Raises UserError naming file and remedy."""
    path = Path(config.data.path)
    if config.name and not all(map(find_spec, ("starlette", "uvicorn"))):
        raise UserError("the page needs Starlette and uvicorn: pip install -e '.[page]'")
    kind, items = rows.read(path, config.data.image_root)
    if config.out:
        print(result.write(kind, path, items, Path(config.out)), end="")
        return
    journal = decisions.Journal(decisions.path_of(path, config.name))
    try:
        serve(items, journal, config)
    finally:
        journal.close()
        decided = sum(one.sha256 in journal.latest for one in items)
        print(f"{journal.path}: {decided:,} of {len(items):,} rows are decided", flush=True)


def serve(items: list[rows.Item], journal: decisions.Journal, config: Config) -> None:
    """Serve the page until interrupted."""
    import uvicorn

    from data_prep.review.app import Review, application

    try:
        listening = socket.create_server(("127.0.0.1", config.port))
    except (OSError, OverflowError) as error:
        raise UserError(f"port={config.port} cannot be listened on ({error}): write another, or 0 for any") from None
    review = Review(items, journal, config.name, config.data.path)
    print(f"open http://127.0.0.1:{listening.getsockname()[1]}/?token={review.token}\n(whoever has this address can "
          "read the rows and decide; Ctrl-C ends it)", flush=True)
    uvicorn.Server(uvicorn.Config(application(review), log_level="warning", access_log=False, server_header=False,
                                  timeout_graceful_shutdown=2)).run(sockets=[listening])


if __name__ == "__main__":
    main(run, Config, __doc__, plan, arguments(sys.argv[1:]))
