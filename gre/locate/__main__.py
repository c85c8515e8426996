"""Where were these photos taken? From the shell: `python -m gre.locate PHOTO… --model PATH`, or `gre-locate`."""
import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from gre.config import UserError, expanded
from gre.data.raw import DataError
from gre.errors import one_message
from gre.locate import formats, worldmap
from gre.locate.kept import Kept
from gre.locate.located import Located
from gre.locate.options import as_options
from gre.locate.photos import listed
from gre.provenance import write_atomically

FORMATS: dict[str, Callable[[Sequence[Located]], str]] = {
    "json": formats.json_lines, "geojson": formats.geojson, "csv": formats.table, "kml": formats.kml,
    "gpx": formats.gpx}
ENDS = """Exit status: 0 every file was read; 1 some could not be, and are named at the end, the rest is done; 2 a wrong
option, or a model that cannot be used. Answers go to standard output, all else to standard error. See docs/use.md."""


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    command = argparse.ArgumentParser(prog="gre-locate", description=__doc__.splitlines()[0], epilog=ENDS,
                                      allow_abbrev=False)
    command.add_argument("photos", nargs="+", metavar="PHOTO", help="files or folders; - reads names from standard "
                         "input, one a line, or, as `find -print0` writes them, between zero bytes")
    command.add_argument("--model", required=True, metavar="PATH", help="a stage's folder, such as runs/NAME/stage3, "
                         "or a plain model folder with --prompt, --min-pixels and --max-pixels")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_const", dest="form", const="json", help="one object a photo and line: "
                      "path, latitude, longitude, place, radius_km, reasoning, raw; null for no answer")
    for name in list(FORMATS)[1:]:
        form.add_argument(f"--{name}", action="store_const", dest="form", const=name, help=f"{name.upper()}")
    command.add_argument("--samples", type=int, default=1, metavar="N", help="answers to each photo: their geometric "
                         "median counts, and radius_km holds half of them (default: 1, greedy)")
    command.add_argument("--map", type=Path, metavar="FILE.html", help="write a map of the answers too")
    command.add_argument("--out", type=Path, metavar="FILE.jsonl", help="keep every answer in this file as it is made; "
                         "photos that are in it are not asked again")
    command.add_argument("--urls", action="store_true", help="fetch photos named by an http(s) address")
    command.add_argument("--engine", default="auto", help="transformers, vllm, or auto: vLLM on CUDA (default)")
    command.add_argument("--prompt", default="", help="asked instead of what the model was trained on; @FILE holds it")
    command.add_argument("--max-new-tokens", type=int, default=2048, metavar="N", help="of an answer (default: 2048)")
    command.add_argument("--batch-size", type=int, metavar="N", help="photos at once (default: 8, with vLLM 64)")
    command.add_argument("--dtype", default="auto", help="weights: float32, bfloat16, or auto: as on disk (default)")
    command.add_argument("--min-pixels", type=int, metavar="N", help="smallest photo of a plain model")
    command.add_argument("--max-pixels", type=int, metavar="N", help="largest photo of a plain model")
    command.add_argument("--accept-parent", default="verified", metavar="any",
                         help="take an unfinished or altered stage")
    return command


def run(arguments: argparse.Namespace) -> int:
    """Locate and print; returns the exit status. Raises UserError."""
    from gre.locate.locator import Locator  # takes seconds: after the arguments are known to be right

    photos = list(dict.fromkeys(listed(_names(arguments.photos))))  # a file that is named twice is asked once
    if arguments.map:
        _check_map(arguments.map, arguments.out, photos)
    locator = Locator(arguments.model, samples=arguments.samples, engine=arguments.engine, urls=arguments.urls,
                      prompt=_prompt(arguments.prompt), max_new_tokens=arguments.max_new_tokens,
                      batch_size=arguments.batch_size, dtype=arguments.dtype, min_pixels=arguments.min_pixels,
                      max_pixels=arguments.max_pixels, accept_parent=arguments.accept_parent)
    kept = Kept(arguments.out, {
        "model": locator.model.record, "question": locator.question, "decoding": asdict(locator.decoding),
        "pixel budget": asdict(locator.model.budget), "dtype": locator.model.dtype}) if arguments.out else None
    found = dict(kept.answers) if kept else {}
    waiting = [photo for photo in photos if photo not in found]
    faults = []
    with tqdm(total=len(photos), initial=len(photos) - len(waiting), unit="photo", disable=len(photos) == 1) as bar:
        for photo, answer in locator.each(waiting):
            bar.update()
            if isinstance(answer, DataError):
                faults.append(answer)
                continue
            found[photo] = answer
            if kept:
                kept.add([answer])
    answers = [found[photo] for photo in photos if photo in found]
    sys.stdout.write(FORMATS.get(arguments.form, formats.text)(answers))
    _report(answers, faults, arguments.form)
    if arguments.map:
        write_atomically(arguments.map, worldmap.page(answers))
    return 1 if faults else 0


def _check_map(path: Path, out: Path | None, photos: Sequence[str]) -> None:
    """Raise UserError, or OSError where nothing can be written, unless a map may be put there: the shell writes
    `--map *.png` as a photo's name, which a map would replace."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--map {path}: the map is a web page: name a file that ends in .html, before or behind the "
                        "photos")
    if path.is_dir():
        raise UserError(f"--map {path} is a folder: name a file in it")
    taken = {os.path.realpath(photo) for photo in photos} if path.exists() else set()
    if out and os.path.realpath(out) == os.path.realpath(path) or os.path.realpath(path) in taken:
        raise UserError(f"--map {path} would replace a photo, or the answers of --out: name another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):  # whether that folder can be written is known before hours of work
        pass


def _names(photos: Sequence[str]) -> list[str]:
    """The names given, those on standard input in place of `-`."""
    found = []
    for name in photos:
        if name != "-":
            found.append(name)
            continue
        given = sys.stdin.buffer.read()
        found += [os.fsdecode(line) for line in (given.split(b"\0") if b"\0" in given else given.splitlines()) if line]
    if not found:
        raise UserError("no photo is named on standard input")
    return found


def _prompt(prompt: str) -> str:
    return Path(expanded(prompt[1:])).read_text(encoding="utf-8").strip() if prompt.startswith("@") else prompt


def _report(answers: Sequence[Located], faults: Sequence[DataError], form: str | None) -> None:
    """What people should know, on standard error: answers that are none, and files that could not be read."""
    silent = sum(answer.latitude is None for answer in answers)
    if silent and form is not None:
        left_out = ", and no waypoint" if form == "gpx" else ""
        print(f"{silent} of {len(answers)} photos have no answer{left_out}", file=sys.stderr)
    if faults:
        print(f"{len(faults)} of {len(answers) + len(faults)} could not be read:", file=sys.stderr)
        for fault in faults:
            print(f"  {formats.printable(str(fault))}", file=sys.stderr)


def command() -> None:
    """`gre-locate`: ends the process with the command's status."""
    status = main()
    if "vllm" in sys.modules:
        from gre.leave import leave

        leave(status)
    sys.exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    arguments = parser().parse_args(argv)
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # names of files need not be text
    sys.stderr.reconfigure(errors="backslashreplace")
    with one_message():
        try:
            return run(arguments)
        except UserError as error:
            raise UserError(as_options(str(error), vars(arguments))) from error


if __name__ == "__main__":
    command()
