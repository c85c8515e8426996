"""Where were these photos taken? A web page on this machine: `python -m gre.locate.page --model PATH`."""
import argparse
import re
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from gre.config import UserError
from gre.errors import one_message
from gre.locate.options import as_options
from gre.provenance import public_path

LOCAL = ("127.0.0.1", "localhost", "::1")
TILES = re.compile(r"https?://[\w.-]+(:\d+)?/\S*", re.ASCII | re.IGNORECASE)  # what the page's policy can name
MARKS = {"{z}", "{x}", "{y}", "{r}", "{s}"}  # what Leaflet fills in


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    command = argparse.ArgumentParser(prog="python -m gre.locate.page", description=__doc__.splitlines()[0],
                                      epilog="See docs/use.md.", allow_abbrev=False)
    command.add_argument("--model", required=True, action="append", metavar="PATH", help="a stage's folder, such as "
                         "runs/NAME/stage3; given twice, both are asked, and their answers stand side by side")
    command.add_argument("--samples", type=int, default=1, metavar="N", help="answers to each photo, as of gre-locate "
                         "(default: 1, greedy)")
    command.add_argument("--keep", type=Path, metavar="FOLDER", help="keep corrected photos in FOLDER/imgs, and where "
                         "they were taken in FOLDER/seed.jsonl, as rows to train on; without it nothing is kept")
    command.add_argument("--tiles", default="", metavar="URL", help="map tiles from this address, with {z}, {x} and "
                         "{y}: whoever serves them sees which places are looked at (default: none, the land only)")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone). "
                         "There is no password")
    command.add_argument("--port", type=int, default=7860, help="0: any that is free (default: 7860)")
    command.add_argument("--engine", default="auto", help="as of gre-locate, but auto with two models is "
                         "transformers, as a second vLLM finds no memory on a GPU; only transformers streams")
    command.add_argument("--prompt", default="", help="asked instead of what the models were trained on")
    command.add_argument("--min-pixels", type=int, metavar="N", help="smallest photo of a plain model")
    command.add_argument("--max-pixels", type=int, metavar="N", help="largest photo of a plain model")
    command.add_argument("--max-new-tokens", type=int, default=2048, metavar="N", help="of an answer (default: 2048)")
    return command


def run(arguments: argparse.Namespace) -> None:
    """Load the models and serve until interrupted. Raises UserError."""
    if not find_spec("starlette") or not find_spec("uvicorn"):
        raise UserError("the page needs Starlette and uvicorn: pip install -e '.[page]'")
    if arguments.tiles and (not TILES.fullmatch(arguments.tiles)
                            or not {"{z}", "{x}", "{y}"} <= set(re.findall("{.*?}", arguments.tiles)) <= MARKS):
        raise UserError(f"--tiles {arguments.tiles}: write an address such as "
                        "http://127.0.0.1:8080/{z}/{x}/{y}.png, of one server: a.tile.example, not {s}.tile.example")
    if len(set(arguments.model)) < len(arguments.model):
        raise UserError("--model names the same folder twice: name two checkpoints to compare them")
    listening = _listening(arguments.host, arguments.port)  # before the models, which may take minutes to load
    import uvicorn

    from gre.locate.locator import Locator
    from gre.locate.page.app import Page, application
    from gre.locate.page.corrections import Corrections

    corrections = Corrections(arguments.keep) if arguments.keep else None
    alone = len(arguments.model) == 1  # a vLLM takes nearly all the memory of a GPU, and leaves none for a second
    engine = arguments.engine if alone or arguments.engine != "auto" else "transformers"
    locators = {name: Locator(path, samples=arguments.samples, engine=engine, prompt=arguments.prompt,
                              max_new_tokens=arguments.max_new_tokens, min_pixels=arguments.min_pixels,
                              max_pixels=arguments.max_pixels)
                for name, path in zip(_names(arguments.model), arguments.model)}
    app = application(Page(locators, corrections, arguments.tiles), _called(arguments.host))
    if arguments.host not in LOCAL:
        print(f"WARNING: whoever reaches {arguments.host}:{arguments.port} can use this page: there is no password",
              file=sys.stderr)
    shown = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    print(f"open http://{shown}:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False,
                                  timeout_graceful_shutdown=2)).run(sockets=[listening])


def _called(host: str) -> set[str]:
    """The names by which a page that listens on this address may be addressed."""
    return {"localhost", host} if host in LOCAL else {"localhost", host, socket.gethostname(), socket.getfqdn()}


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise UserError(f"--host {host} --port {port}: cannot be listened on ({error}): name another") from None


def _names(paths: Sequence[str]) -> Sequence[str]:
    """What models are called on the page: without the folders above, as long as that tells them apart."""
    names = [public_path(path) for path in paths]
    return names if len(set(names)) == len(names) else paths


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    arguments = parser().parse_args(argv)
    with one_message():
        try:
            run(arguments)
        except UserError as error:
            raise UserError(as_options(str(error), vars(arguments))) from error
    if "vllm" in sys.modules:
        from gre.leave import leave

        leave()


if __name__ == "__main__":
    main()
