"""The steps of a config, one after another: `python -m data_prep.recipe CONFIG [key=value …]`.

CONFIG has a section a step, with the keys of that step's own command, and `steps`, their order:

    seeds → split → distil, regions → judge, cot → verify → inspect     GRE30K's three files (scripts/data/gre30k.sh)
    seeds → distil → cot → verify → reason → inspect                    MP16-Reason (scripts/data/mp16_reason.sh)

All sections are checked before the first step starts, and written to OUT/steps/STEP.yaml: each step is
`python -m data_prep.STEP OUT/steps/STEP.yaml`. A finished step says so and is not done again; killed or stopped at any
moment, the same command goes on. `inspect` has a list `files`, each of which it opens. configs/data/ has examples.
"""
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gre.config import UserError, config_files, expanded, load, names_file, nearest
from gre.errors import one_message
from gre.provenance import write_atomically

STEPS = {"seeds": "data_prep.seeds.__main__", "split": "data_prep.split", "distil": "data_prep.distil",
         "regions": "data_prep.regions", "judge": "data_prep.judge", "cot": "data_prep.cot",
         "verify": "data_prep.verify.__main__", "reason": "data_prep.reason",
         "inspect": "data_prep.inspect.__main__"}
KEYS = ("out", "steps", *STEPS)


def main(argv: Sequence[str]) -> None:
    """Run all steps. Raises UserError naming step, key and remedy."""
    if "--help" in argv or "-h" in argv:
        print(__doc__.strip(), "", "keys: out, steps, and STEP.KEY; `python -m data_prep.STEP --help` shows a step's",
              sep="\n")
        return
    whole = _read(argv)
    todo = _checked(whole)
    if "--dry-run" in argv:
        for name, _, settings, module in todo:
            print(f"{name}:", *(f"  {verb}: {', '.join(paths)}" for verb, paths in module.plan(settings).items()),
                  sep="\n")
        return
    for name, values, settings, module in todo:
        _write(Path(expanded(str(whole["out"]))) / "steps" / f"{name}.yaml", values)
        print(f"\n----- {name} " + "-" * (60 - len(name)), flush=True)
        module.run(settings)


def _read(argv: Sequence[str]) -> dict[str, Any]:
    """The config as plain values, references resolved."""
    import yaml
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    files = config_files(argv)
    if len(files) != 1:
        raise UserError("name one config, such as configs/data/gre30k.yaml")
    given = [text for text in argv if not names_file(text) and not text.startswith("-")]
    if strange := [text for text in argv if text.startswith("-") and text != "--dry-run"]:
        raise UserError(f"{strange[0]} is not an option here: write key=value, --help or --dry-run")
    try:
        whole = OmegaConf.load(files[0])
        if not isinstance(whole, DictConfig):
            raise UserError(f"{files[0]} is not a mapping of keys to values")
        return OmegaConf.to_container(OmegaConf.merge(whole, OmegaConf.from_dotlist(given)), resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise UserError(f"{files[0]}: {str(error).splitlines()[0]}") from None


def _checked(whole: dict[str, Any]) -> list[tuple[str, dict, Any, Any]]:
    """(step, or file of inspect; its keys; its settings; its module), in order. Raises UserError for what a step would
    refuse."""
    if unknown := [key for key in whole if key not in KEYS]:
        raise UserError(f"unknown key {unknown[0]!r}; did you mean {nearest(unknown[0], KEYS)!r}?")
    if strange := [name for name in whole.get("steps") or [] if name not in STEPS]:
        raise UserError(f"steps names {strange[0]!r}: write some of {', '.join(STEPS)}")
    if not whole.get("steps") or not whole.get("out"):
        raise UserError("the config needs out, a folder, and steps, a list")
    todo = []
    for name in whole["steps"]:
        section = whole.get(name)
        if not isinstance(section, dict):
            raise UserError(f"steps names {name}, and the config has no section {name}")
        module = importlib.import_module(STEPS[name])
        for label, values in _settings(name, section):
            with TemporaryDirectory() as folder:
                settings = load(module.Config, [str(_write(Path(folder) / f"{label}.yaml", values))])
            todo.append((label, values, settings, module))
    return todo


def _settings(name: str, section: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(label, keys) of each run of a step: `inspect` looks at several files."""
    if name != "inspect":
        return [(name, section)]
    return [(f"inspect_{Path(file).stem}", {**{key: value for key, value in section.items() if key != "files"},
                                            "data": {"path": file}}) for file in section.get("files") or []]


def _write(path: Path, values: dict[str, Any]) -> Path:
    import yaml

    write_atomically(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    return path


if __name__ == "__main__":
    with one_message():
        main(sys.argv[1:])
