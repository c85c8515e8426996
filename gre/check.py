"""Read all that stages will read, before any of it is paid for: configs, parents, every row, every photo.

    python -m gre.check CONFIG [CONFIG …] [key=value …]

A config is named after its stage (stage1.yaml, judge_small.yaml, …). Several are a chain: a model that one of them
makes is to come for the others, which are read after it, as if they started from the base of the chain.
key=value reaches every config that knows the key. Photos found whole are remembered beside each run, which does not
decode them again. Ends with status 2 when something is wrong, after all of it has been said.
"""
import copy
import importlib
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from gre import config as settings
from gre.config import UserError
from gre.data.hashes import photo_hashes
from gre.errors import message_of, one_message
from gre.judge.photos import unseen_rows
from gre.training.arguments import check_deepspeed
from gre.training.inputs import stage_folder, stage_of

ASKED = {"stage2": "judge", "globe": "localizability"}  # stage -> the stage that trains what rewards it


@dataclass(frozen=True)
class Coming:
    """A model that a config before this one will make. base: the folder its chain starts from; pixels: (least, most) of
    a photo, None where the base's are kept; photos: their hashes."""

    stage: str
    base: str
    pixels: tuple[int | None, int | None]
    photos: set[str]


@dataclass
class Chain:
    """What has been read so far, by the folder it will be in."""

    coming: dict[str, Coming] = field(default_factory=dict)

    def check(self, name: str, module: ModuleType, config: Any) -> str:
        """Read what a stage will read; a line about it. Raises UserError for whatever is wrong."""
        as_if, pending = copy.deepcopy(config), []
        if config.train.deepspeed:
            check_deepspeed(settings.shipped(config.train.deepspeed))
            as_if.train.deepspeed = None  # nothing is trained, and DeepSpeed would be set up
        parent = self.coming.get(stage_folder(config.model_name_or_path))
        if parent:
            if parent.stage not in module.PARENTS:
                raise UserError(f"model_name_or_path={config.model_name_or_path} will be a {parent.stage}, and {name} "
                                f"starts from {' or '.join(sorted(module.PARENTS))}")
            pending.append(config.model_name_or_path)
            as_if.model_name_or_path, as_if.accept_parent = parent.base, "any"
            as_if.model.min_pixels = as_if.model.min_pixels or parent.pixels[0]
            as_if.model.max_pixels = as_if.model.max_pixels or parent.pixels[1]
        for section in ("policy", "judge"):
            named = getattr(getattr(config, section, None), "model_name_or_path", None)
            if named and stage_folder(named) in self.coming:
                pending.append(named)
                getattr(as_if, section).model_name_or_path = (
                    self.coming[stage_folder(named)].base if section == "policy" else None)
                as_if.accept_parent = "any"
        made = Coming("stage2" if name == "stage2_verdict" else name, as_if.model_name_or_path,
                      (as_if.model.min_pixels, as_if.model.max_pixels), set())
        self.coming[stage_folder(config.output_dir)] = made  # for the others, whatever is wrong with its own rows
        stage, rows, *rest = module.read(as_if)
        if name in ASKED and (judge := self._judge(name, config)):
            rows = unseen_rows(rows, judge.photos, config.data)
        held_out = rest[0] if name in ASKED.values() else []
        made.photos.update(photo_hashes(row.image for row in (*rows, *held_out)).values())
        return f"{len(rows)} rows can be trained on" + (f"; to come: {', '.join(pending)}" if pending else "")

    def _judge(self, name: str, config: Any) -> Coming | None:
        """The judge to come for a stage: the one it names, or, where it names none, the one of the chain."""
        if config.judge.accept_seen_photos or name == "globe" and not config.weights.localizability:
            return None
        if config.judge.model_name_or_path:
            return self.coming.get(stage_folder(config.judge.model_name_or_path))
        return next((each for each in self.coming.values() if each.stage == ASKED[name]), None)


def run(argv: list[str]) -> int:
    """Check every config of `argv`; the exit status."""
    files = settings.config_files(argv)
    keys = [text for text in argv if not settings.names_file(text)]
    if not files:
        raise UserError("name at least one config: python -m gre.check CONFIG [CONFIG …] [key=value …]")
    loaded, wrong, chain = [], 0, Chain()
    for file in files:
        module = importlib.import_module(f"stages.{stage_of(file)}")  # gre imports nothing above it by name
        known = settings.keys(module.Config)
        loaded.append((file, module, [text for text in keys if text.partition("=")[0] in known]))
    taken = {text for _, _, own in loaded for text in own}
    if unknown := [text for text in keys if text not in taken]:
        raise UserError(f"no stage here takes {unknown[0]}")
    configs = {}
    for file, module, own in loaded:
        try:
            configs[file] = module, settings.load(module.Config, [file, *own])
        except UserError as error:
            wrong += 1
            print(f"{stage_of(file)} ({file}): error: {error}", flush=True)
    for file in in_order({file: config for file, (_, config) in configs.items()}):
        name, (module, config) = stage_of(file), configs[file]
        try:
            said = chain.check(name, module, config)
        except Exception as error:  # the others are checked all the same; a bug keeps its traceback
            message = message_of(error)
            if message is None:
                raise
            wrong += 1
            said = f"error: {message}"
        print(f"{name} ({file}): {said}", flush=True)
    print("everything that will be read is there and whole" if not wrong else
          f"{wrong} of {len(files)} stages would not start")
    return 2 if wrong else 0


def in_order(configs: dict[str, Any]) -> list[str]:
    """The files, each after those whose models it wants; those that want each other stay as they are."""
    left, ordered = dict(configs), []
    while left:
        made = {stage_folder(config.output_dir): file for file, config in left.items()}
        free = [file for file, config in left.items() if not {
            made.get(stage_folder(name), file) for name in _models(config)} - {file}]
        for file in free or list(left):
            ordered.append(file)
            del left[file]
    return ordered


def _models(config: Any) -> list[str]:
    """The models a stage starts from, is measured on or is rewarded by."""
    sections = (config, getattr(config, "policy", None), getattr(config, "judge", None))
    return [name for section in sections if (name := getattr(section, "model_name_or_path", None))]


def main(argv: list[str]) -> None:
    if not argv or {"--help", "-h"} & set(argv):
        print(__doc__.strip())
        raise SystemExit(0 if argv else 2)
    with one_message():
        raise SystemExit(run(argv))


if __name__ == "__main__":
    main(sys.argv[1:])
